"""How Codex CLI is started: telemetry and hooks by ``-c``, no background server for a session."""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from otel_budget.agents.codex.hooks import EVENTS
from otel_budget.agents.launching import (
    HOOK_VARIABLE,
    INTERVAL_MS,
    RESOURCE_ATTRIBUTES,
    Launch,
    has_flag,
    merged_attributes,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_budget.agents.launching import Request

TITLE: Final = "Codex CLI"
PROGRAMS: Final = ("codex",)
PACKAGES: Final = ("@openai/codex", "@openai/codex-linux-x64")
_TRUSTED: Final = "trusted_hash"
_BYPASS: Final = "--dangerously-bypass-hook-trust"
#: Ways to start it that are no session on the terminal.
_EXEC: Final = ("exec", "e", "review")
_OTHERS: Final = (
    "login", "logout", "mcp", "mcp-server", "app-server", "completion", "apply", "a", "cloud",
    "features", "sandbox", "debug", "help", "update", "plugin", "doctor",
)  # fmt: skip
#: Flags in front of it that take a value.
_WITH_VALUE: Final = (
    "-c", "--config", "-m", "--model", "-p", "--profile", "-C", "--cd", "-s", "--sandbox", "-a",
    "--ask-for-approval", "-i", "--image", "--add-dir", "--enable", "--disable", "--remote",
    "--local-provider",
)  # fmt: skip
#: Seconds; SessionEnd is given 3 at most by Codex itself.
_TIMEOUT: Final = 5
_UNTRUSTED: Final = (
    "Codex runs no hooks that it was not told to trust: this run is ended by a signal, without a "
    "last answer. Install them (otel-budget install codex) and trust them once, or use "
    "--trust-hooks, which lets all hooks run that are configured"
)


def launch(request: Request) -> Launch:
    """Return what is started."""
    arguments = request.arguments
    kind = _kind(arguments)
    added = [*_config(f"otel.exporter={_exporter(request.receiver)}")]
    added += _config('otel.metrics_exporter="none"')  # nameless, and late: logs tell all of it
    installed, is_trusted = _installed(request)
    bypass = request.trust_hooks or _BYPASS in arguments
    notes: list[str] = []
    hooks = request.hooks and (bypass or (installed and is_trusted))
    if request.hooks and bypass:
        added += [] if _BYPASS in arguments else [_BYPASS]
    if hooks and not installed:
        added += [part for event in EVENTS for part in _config(_hook(event, request.hook_command))]
    if request.hooks and not hooks:
        notes.append(_UNTRUSTED)
    interactive = kind == "" and request.on_terminal
    if kind == "" and "--no-daemon" not in arguments:
        added.append("--no-daemon")  # else the first session's environment is that of all others
    return Launch(
        arguments=(*added, *arguments) if kind not in _OTHERS else arguments,
        environment={
            "OTEL_BLRP_SCHEDULE_DELAY": str(INTERVAL_MS),
            RESOURCE_ATTRIBUTES: merged_attributes(
                request.environ.get(RESOURCE_ATTRIBUTES, ""), request.attributes
            ),
        },
        hooks=hooks,
        interactive=interactive,
        shows_reason=False,
        lag=0.5,
        notes=tuple(notes),
        resume=_resume(kind, arguments),
    )


def _resume(kind: str, arguments: tuple[str, ...]) -> tuple[str, ...]:
    """Return the command line that takes up the session, the last one of the folder."""
    if kind in _OTHERS or has_flag(arguments, "--ephemeral"):
        return ()
    return ("codex", "exec", "resume", "--last") if kind in _EXEC else ("codex", "resume", "--last")


def _installed(request: Request) -> tuple[bool, bool]:
    """Tell whether hooks of ours are in the user's hooks.json, and whether Codex trusts them.

    They ask what the environment names, so they serve this run as well.
    """
    home = request.environ.get("CODEX_HOME") or str(
        PurePath(request.environ.get("HOME") or "~", ".codex")
    )
    path = str(PurePath(home, "hooks.json"))
    try:
        if HOOK_VARIABLE not in request.read_file(path):
            return False, False
        config = request.read_file(str(PurePath(home, "config.toml")))
    except (OSError, ValueError):
        return False, False
    return True, f'"{path}:' in config and _TRUSTED in config


def _kind(arguments: tuple[str, ...]) -> str:
    """Return the subcommand; empty for a session on the terminal."""
    at = 0
    while at < len(arguments):
        argument = arguments[at]
        if argument == "--":
            return ""
        if not argument.startswith("-"):
            return argument if argument in _EXEC + _OTHERS else ""
        at += 2 if argument in _WITH_VALUE else 1
    return ""


def _config(setting: str) -> Iterator[str]:
    yield "-c"
    yield setting


def _exporter(receiver: str) -> str:
    endpoint = json.dumps(f"{receiver}/v1/logs")  # a basic string of TOML
    return f'{{otlp-http={{endpoint={endpoint},protocol="binary"}}}}'


def _hook(event: str, command: str) -> str:
    return (
        f'hooks.{event}=[{{hooks=[{{type="command",command={json.dumps(command)},'
        f"timeout={_TIMEOUT}}}]}}]"
    )
