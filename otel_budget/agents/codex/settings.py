"""Codex CLI's config.toml and hooks.json. The first is not rewritten: a block of lines is added."""

from __future__ import annotations

import json
import tomllib
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

from otel_budget.agents.codex.hooks import HOOKS
from otel_budget.agents.settings import (
    TIMEOUT,
    Change,
    JsonSettings,
    Telemetry,
    Trap,
    add_hooks,
    asks,
    take_out,
)
from otel_budget.errors import InvalidValueError
from otel_budget.files.json_text import JsonTextError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from otel_budget.agents.settings import Undo, Wanted

NEEDS_NAME: Final = False
THEN: Final = (
    'Start codex once and answer "Trust all and continue": until then it runs none of these hooks, '
    "and says nothing about it."
)
_CONFIG: Final = "config.toml"
_BEGIN: Final = "# >>> otel-budget (otel-budget install codex --remove takes it out)"
_END: Final = "# <<< otel-budget"
_TABLE: Final = "otel"


def files(environ: Mapping[str, str], *, project: bool) -> tuple[str, ...]:
    """Return the files that are written. Raises InvalidValueError for a project's."""
    if project:
        sentence = "Codex CLI takes its telemetry from the user's own configuration alone"
        raise InvalidValueError("--project", HOOKS.name, "", sentence=sentence)
    folder = environ.get("CODEX_HOME") or PurePath(environ.get("HOME", "~"), ".codex")
    return str(PurePath(folder, _CONFIG)), str(PurePath(folder, "hooks.json"))


def added(file: str, text: str | None, wanted: Wanted) -> Change:
    """Return a file with our parts in it. Raises InvalidValueError, JsonTextError."""
    if file.endswith(_CONFIG):
        return _configured(text or "", wanted)
    settings = JsonSettings(text)
    # At the end: Codex knows by their numbers which hooks it was told to trust.
    add_hooks(settings, HOOKS, _entry, lambda kind: asks(HOOKS.name, wanted, kind), at_end=True)
    return settings.change()


def removed(file: str, text: str, undo: Sequence[Undo]) -> Change:
    """Return a file without our parts."""
    if not file.endswith(_CONFIG):
        return take_out(text, undo)
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(f"{_END}\n")
    return Change(before + after if begin and end else text)


def telemetry(data: Mapping[str, Any]) -> Telemetry:
    """Return where telemetry goes: that of its logs, which are what is counted."""
    found: Any = data.get(_TABLE)
    for key in ("exporter", "otlp-http", "endpoint"):
        found = found.get(key) if isinstance(found, dict) else None
    return Telemetry((found,) if isinstance(found, str) else ())


def traps(
    data: Mapping[str, Any], asking: Sequence[str], _environ: Mapping[str, str]
) -> Iterator[Trap]:
    """Yield what is known to go wrong in silence."""
    hooks = data.get("hooks")
    if asking and not (isinstance(hooks, dict) and "state" in hooks):
        yield Trap(
            "hooks",
            "has hooks that it was not told to trust yet",
            'start codex once and answer "Trust all and continue": till then it runs none',
        )


def _configured(text: str, wanted: Wanted) -> Change:
    if not wanted.telemetry:
        return Change(text)
    try:
        there = tomllib.loads(text).get(_TABLE)
    except tomllib.TOMLDecodeError as exc:
        raise JsonTextError(f"is not TOML ({exc}), and is left alone") from exc
    lines = _lines(wanted)
    if there is not None:
        ours = tomllib.loads(lines)[_TABLE]
        if isinstance(there, dict) and all(there.get(k) == v for k, v in ours.items()):
            return Change(text)
        only = "\n  ".join(lines.splitlines()[1:])
        sentence = (
            "it has [otel] already, which a second one would make invalid. Set these two keys "
            f"there yourself, or install with --no-telemetry:\n  {only}"
        )
        raise InvalidValueError("", there, "", sentence=sentence)
    newline = "\r\n" if "\r\n" in text else "\n"
    gap = "" if not text or text.endswith("\n") else newline
    block = f"{_BEGIN}\n{lines}{_END}\n".replace("\n", newline)
    return Change(f"{text}{gap}{block}")


def _lines(wanted: Wanted) -> str:
    """Return the table. Its metrics have no session, and come late: logs tell all that they do."""
    endpoint = json.dumps(f"{wanted.receiver}/v1/logs")  # a basic string of TOML
    return (
        f'[{_TABLE}]\nexporter = {{ otlp-http = {{ endpoint = {endpoint}, protocol = "binary" }} }}'
        '\nmetrics_exporter = "none"\n'
    )


def _entry(command: str) -> dict[str, Any]:
    return {"hooks": [{"type": "command", "command": command, "timeout": TIMEOUT}]}
