"""Gemini CLI's settings.json: telemetry, and hooks.

It takes hooks from nowhere else, so ``otel-budget run`` needs them there, too. Where the user named
no sidecar they ask only the one of such a run, and its telemetry is left to the run.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

from otel_budget.agents.gemini_cli.hooks import HOOKS
from otel_budget.agents.launching import HOOK_VARIABLE
from otel_budget.agents.settings import (
    TIMEOUT,
    JsonSettings,
    Telemetry,
    add_hooks,
    asks,
    take_out,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otel_budget.agents.settings import Change, Trap, Undo, Wanted

NEEDS_NAME: Final = True
THEN: Final = "It holds for sessions that are started from now on."
_ONLY_IN_A_RUN: Final = f'[ -z "${HOOK_VARIABLE}" ] || '
_ELSEWHERE: Final = (
    "its telemetry goes there. Take it out, or have what listens there send metrics and logs on to "
    "{} and install with --no-telemetry"
)
_UNNAMED: Final = (
    "no sidecar is named: the hooks ask one only in `otel-budget run -- gemini …`, which turns the "
    "telemetry on as well. For every session: --sidecar URL"
)


def files(environ: Mapping[str, str], *, project: bool) -> tuple[str, ...]:
    """Return the file that is written."""
    home = environ.get("GEMINI_CLI_HOME") or environ.get("HOME", "~")
    return (str(PurePath("" if project else home, ".gemini/settings.json")),)


def added(_file: str, text: str | None, wanted: Wanted) -> Change:
    """Return the file with our parts in it. Raises InvalidValueError, JsonTextError."""
    settings = JsonSettings(text)
    if not wanted.is_named:
        settings.notes.append(_UNNAMED)
    if wanted.telemetry:
        _add_telemetry(settings, wanted)
    prefix = "" if wanted.is_named else _ONLY_IN_A_RUN
    add_hooks(settings, HOOKS, _entry, lambda kind: asks(HOOKS.name, wanted, kind, prefix=prefix))
    return settings.change()


def removed(_file: str, text: str, undo: Sequence[Undo]) -> Change:
    """Return the file without our parts."""
    return take_out(text, undo)


def telemetry(data: Mapping[str, Any]) -> Telemetry:
    """Return where telemetry goes."""
    there = data.get("telemetry")
    if not isinstance(there, dict) or there.get("enabled") is not True:
        return Telemetry(())
    endpoint = there.get("otlpEndpoint")
    return Telemetry((endpoint,) if isinstance(endpoint, str) else ())


def traps(
    _data: Mapping[str, Any], _asking: Sequence[str], _environ: Mapping[str, str]
) -> tuple[Trap, ...]:
    """Return what is known to go wrong in silence: nothing of its settings."""
    return ()


def _add_telemetry(settings: JsonSettings, wanted: Wanted) -> None:
    way_out = _ELSEWHERE.format(wanted.receiver)
    settings.refuse_other(("telemetry", "otlpEndpoint"), wanted.receiver, way_out)
    settings.refuse_other(("telemetry", "outfile"), "", way_out)
    ours = {"enabled": True, "target": "local", "otlpEndpoint": wanted.receiver,
            "otlpProtocol": "http"}  # fmt: skip
    for name, value in reversed(ours.items()):
        settings.put(("telemetry", name), value)
    if settings.value("telemetry", "logPrompts") is None:
        settings.put(("telemetry", "logPrompts"), value=False)


def _entry(command: str) -> dict[str, Any]:
    hook = {"type": "command", "name": "otel-budget", "command": command, "timeout": TIMEOUT * 1000}
    return {"matcher": "*", "hooks": [hook]}
