"""Presets from YAML: those that come with the package, and the user's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final

from otel_budget.errors import InvalidValueError
from otel_budget.files.yaml_file import YamlFile, dotted, meant
from otel_budget.presets.model import Preset
from otel_budget.presets.parser import PresetError, preset_from

_EXTENDS: Final = "extends"
_NO_NAME: Final = re.compile(r"[^A-Za-z0-9_]+")
_SUFFIXES: Final = (".yaml", ".yml")


@cache
def shipped() -> Mapping[str, Preset]:
    """Return the presets of the package, by name."""
    return {name: preset_from(name, data) for name, data in _shipped_data().items()}


def preset(given: object, own: Mapping[str, Mapping[str, object]] | None = None) -> Preset:
    """Return the preset of a name, or of a mapping as docs/presets.md has it.

    own: presets of the user by name, as mappings. Raises PresetError.
    """
    if isinstance(given, str):
        return preset_from(given, _named(given, own or {}, ()))
    name, mapping = _whole(given, own or {}, ())
    return preset_from(name, mapping)


def own_presets(given: object) -> Mapping[str, Mapping[str, object]]:
    """Check the ``presets:`` of a configuration, and return them as they are.

    Raises PresetError, its path beginning with the name of the preset that is wrong.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise PresetError((), given, "a mapping of names to presets")
    for name, mapping in given.items():
        if name in _shipped_data():
            sentence = (
                f"is the name of a preset that is there: take another, and {_EXTENDS}: {name}"
            )
            raise PresetError((str(name),), name, "", sentence=sentence)
        try:
            _, whole = _whole(mapping, given, (str(name),))
            preset_from(str(name), whole)
        except PresetError as exc:
            raise exc.below(str(name)) from exc
    return given


def preset_of_file(path: Path) -> Preset:
    """Return the preset that a YAML file holds; the file's name is its own.

    Raises ConfigFileError, or InvalidValueError with file and line.
    """
    file = YamlFile.read(path)
    name = _NO_NAME.sub("_", path.stem).strip("_")[:40]
    try:
        _, whole = _whole(file.data, {}, ())
        return preset_from(name, whole)
    except PresetError as exc:
        raise InvalidValueError(
            dotted(exc.at), exc.value, exc.allowed, where=file.where(*exc.at),
            sentence=exc.sentence + likely(exc),
        ) from exc  # fmt: skip


def preset_of_argument(text: str) -> Preset:
    """Return the preset a command line names: one of the package, or a YAML file."""
    if text.endswith(_SUFFIXES) or "/" in text:
        return preset_of_file(Path(text))
    try:
        return preset(text)
    except PresetError as exc:
        raise InvalidValueError(
            "--preset", text, exc.allowed, sentence=exc.sentence + likely(exc)
        ) from exc


def likely(exc: PresetError) -> str:
    """Return what to add to a refusal of an unknown key or name: one that looks like it, if any."""
    return meant(str(exc.value), exc.known) if exc.known else ""


@cache
def _shipped_data() -> Mapping[str, Mapping[str, object]]:
    folder = files("otel_budget.presets") / "data"
    found = {}
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name.endswith(".yaml"):
            text = entry.read_text(encoding="utf-8")
            found[entry.name.removesuffix(".yaml")] = YamlFile.parse(text, entry.name).data
    return found


def _whole(
    given: object, own: Mapping[str, object], seen: tuple[str, ...]
) -> tuple[str, Mapping[str, object]]:
    """Return a name for a preset without one, and all its keys.

    A key of the preset replaces the same key of the one it extends.
    """
    if not isinstance(given, Mapping):
        raise PresetError((), given, "the name of a preset, or a mapping of keys")
    base = given.get(_EXTENDS)
    if base is None:
        return "own", given
    if not isinstance(base, str):
        raise PresetError((_EXTENDS,), base, "the name of a preset")
    try:
        whole = dict(_named(base, own, seen))
    except PresetError as exc:
        raise exc.below(_EXTENDS) from exc
    return base, {**whole, **{key: value for key, value in given.items() if key != _EXTENDS}}


def _named(name: str, own: Mapping[str, object], seen: tuple[str, ...]) -> Mapping[str, object]:
    if name in _shipped_data():
        return _shipped_data()[name]
    if name not in own:
        known = (*sorted(own), *_shipped_data())
        sentence = f"there is no preset {name!r}; there are {', '.join(known)}"
        raise PresetError((), name, "", sentence=sentence, known=known)
    if name in seen:
        raise PresetError((), name, "", sentence=f"preset {name!r} extends itself")
    return _whole(own[name], own, (*seen, name))[1]
