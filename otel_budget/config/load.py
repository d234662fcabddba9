"""Build a configuration from a file or from flags, or refuse it with everything that is wrong."""

from __future__ import annotations

import typing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ValidationError

from otel_budget.config import flags
from otel_budget.config.budgets import OF_ONE_RUN
from otel_budget.config.schema import NO_SOURCE, SidecarConfig
from otel_budget.config.section import RefusedKey
from otel_budget.config.sources import wrong_number_of_sources
from otel_budget.config.windows import AT, unquoted
from otel_budget.errors import InvalidConfigError, InvalidValueError
from otel_budget.files.yaml_file import THE_KEYS, KeyPath, YamlFile, dotted, meant
from otel_budget.presets.loader import likely
from otel_budget.presets.parser import PresetError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from os import PathLike

    from pydantic_core import ErrorDetails

_ALLOWED: Final = {
    "model_type": "a mapping of keys",
    "model_attributes_type": "a mapping of keys",
    "dict_type": "a mapping of keys",
    "tuple_type": "a list",
}
#: Keys that mean nothing where they stand, by their path without the numbers of lists.
_OUT_OF_PLACE: Final[Mapping[KeyPath, str]] = {
    ("resource_limits", "checkpoint_interval"): (
        "is not for the sidecar: how often a run writes checkpoints belongs to the run's own "
        "resource_limits"
    ),
    ("resource_limits", "wrap_up_calls"): (
        "is not for the sidecar: how many calls a run keeps back for its end belongs to the run's "
        "own resource_limits; what it keeps back holds for the sidecar's limits, too"
    ),
    **{("budgets", "limits", key): sentence for key, sentence in OF_ONE_RUN.items()},
}
#: What flags do not give as a whole, and what is said then; {} is what was given instead.
_SECTIONS_OF_FLAGS: Final[Mapping[KeyPath, tuple[str, str]]] = {
    ("source",): ("", "give one of --target/--file-sd, --prometheus{}"),
    ("listen",): (
        "--listen",
        (
            "other hosts may reach {}, and nothing asks who they are: give --read-token-file, or, "
            "if you want that, --allow-unauthenticated"
        ),
    ),
}


@dataclass(frozen=True, slots=True)
class _Mistake:
    """Something that is wrong, before its place is put into words."""

    keys: KeyPath
    value: object
    allowed: str
    sentence: str = ""
    """As in InvalidValueError."""

    def error(self, key: str, where: str = "") -> InvalidValueError:
        return InvalidValueError(key, self.value, self.allowed, where=where, sentence=self.sentence)


#: Stands for the source of a file that has none, where nothing is read from any.
_NO_SOURCE: Final[Mapping[str, object]] = {"source": {"otlp": {"address": "127.0.0.1:0"}}}


def load(
    path: str | PathLike[str], *, check_storage: bool = False, needs_source: bool = True
) -> SidecarConfig:
    """Read a configuration file.

    check_storage: also refuse a storage that could not be opened; nothing is created or opened.
    needs_source: False where nothing is read from it: a file without one is fine then, one that is
    there is checked as always.
    Raises ConfigFileError for a file that cannot be read or is not YAML, InvalidConfigError with
    all problems, each with file, line and key, for one that says what is not allowed.
    """
    try:
        file = YamlFile.read(path)
    except InvalidValueError as exc:  # a key that is there twice
        raise InvalidConfigError(str(path), [exc]) from exc
    folder = Path(path).parent

    def problem(mistake: _Mistake) -> InvalidValueError:
        return mistake.error(dotted(mistake.keys), file.where(*mistake.keys))

    context: dict[str, object] = {"folder": folder, "check_storage": check_storage}
    data = file.data
    if not needs_source and "source" not in data:
        data, context[NO_SOURCE] = {**_NO_SOURCE, **data}, True
    return _build(data, context, str(path), problem, _unquoted_times(file))


def from_flags(given: Mapping[str, object]) -> SidecarConfig:
    """Build a configuration out of command line flags; relative paths are taken as they are.

    given: flag of the table, as ``--max-tokens``, to its value, as a file would have it. Raises
    InvalidConfigError with all problems, each with its flag.
    """
    config = _build(flags.as_sections(given), {"folder": Path()}, "", _problem_of_flags)
    if unheeded := flags.unheeded(given):
        sentence = "it is about what is read: give it with --target, --file-sd or --prometheus"
        problems = [InvalidValueError(f, given[f], "", sentence=sentence) for f in unheeded]
        raise InvalidConfigError("", problems)
    return config


def _problem_of_flags(mistake: _Mistake) -> InvalidValueError:
    if mistake.keys in _SECTIONS_OF_FLAGS:
        flag, sentence = _SECTIONS_OF_FLAGS[mistake.keys]
        given: object = mistake.value
        if mistake.keys == ("source",):
            given = ", not both" if mistake.value else ", --otlp"
        return replace(mistake, sentence=sentence.format(given)).error(flag)
    return mistake.error(flags.flag_of(mistake.keys) or dotted(mistake.keys))


def _build(
    data: Mapping[str, object],
    context: Mapping[str, object],
    path: str,
    problem: Callable[[_Mistake], InvalidValueError],
    found_before: Sequence[_Mistake] = (),
) -> SidecarConfig:
    try:
        config = SidecarConfig.model_validate(data, context=dict(context))
    except ValidationError as exc:
        mistakes = [*found_before, *(_mistake(error) for error in exc.errors())]
        source = data.get("source")
        if isinstance(source, dict) and all(m.keys != ("source",) for m in mistakes):
            # A section is checked as a whole only if all in it is right; do not wait for that.
            found = wrong_number_of_sources(source)
            mistakes[:0] = [_of_refusal(("source",), found)] if found is not None else []
        raise InvalidConfigError(path, [problem(mistake) for mistake in mistakes]) from exc
    if found_before:
        raise InvalidConfigError(path, [problem(mistake) for mistake in found_before])
    return config


def _unquoted_times(file: YamlFile) -> list[_Mistake]:
    """Find times of day without quotes that YAML read as text: 06:00 is, 10:00 is a number.

    A file that is right by the hour it names would be wrong after the next edit.
    """
    budgets = file.data.get("budgets")
    places = [
        ("budgets", index, "window", AT)
        for index in range(len(budgets) if isinstance(budgets, list) else 0)
    ]
    return [
        _Mistake(keys, text, "", unquoted(text))
        for keys in places
        if (text := file.plain_text(*keys)) is not None
    ]


def _mistake(error: ErrorDetails) -> _Mistake:
    keys = error["loc"]
    refusal = error.get("ctx", {}).get("error")
    if isinstance(refusal, InvalidValueError):
        return _of_refusal(keys, refusal)
    if error["type"] == "extra_forbidden":
        # The key, not its value: what is under a key that we do not know may be a secret.
        allowed = _known_keys(keys)
        return _Mistake(
            keys,
            keys[-1],
            allowed,
            _OUT_OF_PLACE.get(_names(keys)) or f"is not a key here; there are {allowed}",
        )
    if error["type"] == "missing":
        return _Mistake(keys, None, "a value", "is missing")
    return _Mistake(keys, error["input"], _ALLOWED.get(error["type"], error["msg"]))


def _names(keys: KeyPath) -> tuple[str, ...]:
    """Return the keys without the numbers of lists."""
    return tuple(key for key in keys if isinstance(key, str))


def _of_refusal(keys: KeyPath, refusal: InvalidValueError) -> _Mistake:
    if isinstance(refusal, PresetError):  # checked as a whole
        sentence = refusal.sentence + likely(refusal)
        return _Mistake((*keys, *refusal.at), refusal.value, refusal.allowed, sentence)
    below = refusal.at if isinstance(refusal, RefusedKey) else ()
    return _Mistake((*keys, *below), refusal.value, refusal.allowed, refusal.sentence)


def _known_keys(keys: KeyPath) -> str:
    """Name the keys that are known beside an unknown one, and the one that was probably meant."""
    section: type[BaseModel] = SidecarConfig
    for key in _names(keys[:-1]):
        section = _section(section.model_fields[key].annotation) or section
    known = list(section.model_fields)
    return THE_KEYS + ", ".join(known) + meant(str(keys[-1]), known)


def _section(annotation: Any) -> type[BaseModel] | None:
    """Return the section inside an annotation such as ``tuple[Section, ...] | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inside = (_section(part) for part in typing.get_args(annotation))
    return next((found for found in inside if found is not None), None)
