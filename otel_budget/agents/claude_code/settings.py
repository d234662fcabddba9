"""Claude Code's settings.json: telemetry by ``env``, hooks, and a status line.

The hooks are commands, not of its type ``http``: only a command can see that the session belongs to
``otel-budget run``, which brings hooks of its own, and can say that the sidecar is away.
"""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

from otel_budget.agents.claude_code.hooks import HOOKS
from otel_budget.agents.launching import otlp_environment, own_endpoints
from otel_budget.agents.settings import (
    MARK,
    TIMEOUT,
    JsonSettings,
    Telemetry,
    Trap,
    add_hooks,
    asks,
    is_ours,
    status_line,
    take_out,
)
from otel_budget.files.json_text import without_member

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from otel_budget.agents.base import EventKind
    from otel_budget.agents.settings import Change, Undo, Wanted

NEEDS_NAME: Final = False
THEN: Final = "It holds for sessions that are started from now on."
#: Claude Code takes OTEL_* away from its hooks; a run's id has a second name.
_NOT_IN_A_RUN: Final = '[ -n "$BUDGET_RUN" ] || '
_ON: Final = ("env", "CLAUDE_CODE_ENABLE_TELEMETRY")
_EXPORTER: Final = "OTEL_METRICS_EXPORTER"
_SHORT, _LONG = "BUDGET_SIDECAR_URL", "OTEL_BUDGET_SIDECAR_URL"
_STRIPPED: Final = re.compile(r"\$\{?OTEL_")
_ELSEWHERE: Final = (
    "its telemetry goes there. Take it out, or have what listens there send metrics and logs on to "
    "{} and install with --no-telemetry"
)
#: Seconds between two looks of the status line.
_REFRESH: Final = 2


def files(environ: Mapping[str, str], *, project: bool) -> tuple[str, ...]:
    """Return the file that is written."""
    if project:
        return (".claude/settings.json",)
    folder = environ.get("CLAUDE_CONFIG_DIR") or PurePath(environ.get("HOME", "~"), ".claude")
    return (str(PurePath(folder, "settings.json")),)


def added(_file: str, text: str | None, wanted: Wanted) -> Change:
    """Return the file with our parts in it. Raises InvalidValueError, JsonTextError."""
    settings = JsonSettings(text)
    if wanted.telemetry:
        _add_telemetry(settings, wanted)
    add_hooks(settings, HOOKS, _entry, lambda kind: _command(wanted, kind))
    if wanted.status_line:
        if settings.value("statusLine") is None:
            line = {"type": "command", "command": status_line(wanted), "refreshInterval": _REFRESH}
            settings.put(("statusLine",), line)
        else:
            settings.notes.append("a status line is set already, and stays")
    return settings.change()


def removed(_file: str, text: str, undo: Sequence[Undo]) -> Change:
    """Return the file without our parts."""
    settings = JsonSettings(text)
    if is_ours(settings.value("statusLine")):
        text = without_member(text, ("statusLine",))
    return take_out(text, [one for one in undo if one.path != ("statusLine",)])


def telemetry(data: Mapping[str, Any]) -> Telemetry:
    """Return where telemetry goes."""
    environ = _environ(data)
    is_on = environ.get(_ON[1], "").lower() in ("1", "true")
    return Telemetry(own_endpoints(environ) if is_on else (), _is_shown(environ))


def traps(
    data: Mapping[str, Any], asking: Sequence[str], environ: Mapping[str, str]
) -> Iterator[Trap]:
    """Yield what is known to go wrong in silence."""
    own = _environ(data)
    if _is_shown(own) and "otlp" not in own[_EXPORTER]:
        yield Trap(
            "telemetry",
            "shows its metrics at one port",
            "a second session at the same time finds it taken, exports nothing, and says nothing: "
            f"push them instead (`otel-budget install {HOOKS.name}`)",
        )
    is_lost = _LONG in environ and _SHORT not in environ
    ours = [command for command in asking if not command.endswith(MARK)]
    if any(_STRIPPED.search(one) or (is_lost and "://" not in one) for one in ours):
        yield Trap(
            "hooks",
            "has a hook that takes its sidecar from an OTEL_… variable",
            f"it takes those away from its hooks: use {_SHORT}, or --url",
            is_broken=True,
        )


def _environ(data: Mapping[str, Any]) -> dict[str, str]:
    there = data.get("env")
    return {str(k): str(v) for k, v in there.items()} if isinstance(there, dict) else {}


def _is_shown(environ: Mapping[str, str]) -> bool:
    return "prometheus" in environ.get(_EXPORTER, "")


def _add_telemetry(settings: JsonSettings, wanted: Wanted) -> None:
    environ = _environ(settings.data)
    way_out = _ELSEWHERE.format(wanted.receiver)
    for name, value in environ.items():
        if own_endpoints({name: value}):
            settings.refuse_other(("env", name), wanted.receiver, way_out)
    clean = {k: v for k, v in environ.items() if v != wanted.receiver}
    for name, value in reversed(otlp_environment(clean, wanted.receiver).items()):
        if name.endswith("_PROTOCOL"):
            settings.refuse_other(("env", name), value, "the receiver takes http/protobuf")
        if not name.endswith(("_INTERVAL", "_DELAY")) or name not in environ:
            settings.put(("env", name), value)
    settings.put(_ON, "1")


def _command(wanted: Wanted, kind: EventKind) -> str:
    return asks(HOOKS.name, wanted, kind, prefix=_NOT_IN_A_RUN)


def _entry(command: str) -> dict[str, Any]:
    return {"hooks": [{"type": "command", "command": command, "timeout": TIMEOUT}]}
