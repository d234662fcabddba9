"""How Claude Code is started: telemetry by environment, hooks by ``--settings``.

Of two ``--settings`` Claude Code takes the last alone, so the user's own are merged into ours. The
variables stand in them, too: there they win over an ``env`` of the user's settings files.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from otel_budget.agents.claude_code.hooks import COMMANDS_ONLY, EVENTS
from otel_budget.agents.launching import (
    RESOURCE_ATTRIBUTES,
    Launch,
    endpoint_notes,
    has_flag,
    merged_attributes,
    otlp_environment,
)
from otel_budget.errors import InvalidValueError

if TYPE_CHECKING:
    from otel_budget.agents.launching import Request

TITLE: Final = "Claude Code"
PROGRAMS: Final = ("claude",)
PACKAGES: Final = ("@anthropic-ai/claude-code", "@anthropic-ai/claude-code-linux-x64")
_SETTINGS: Final = "--settings"
#: With these Claude Code runs no hooks.
_WITHOUT_HOOKS: Final = ("--bare", "--safe-mode")
#: With these it names its session itself, or goes on with one; and with this it keeps none.
_GOES_ON: Final = (
    "--session-id", "--resume", "-r", "--continue", "-c", "--fork-session", "--from-pr",
    "--teleport",
)  # fmt: skip
_NOT_KEPT: Final = "--no-session-persistence"
#: Seconds that a hook may take: more than the sidecar waits for what was just used.
_TIMEOUT: Final = 5


def launch(request: Request) -> Launch:
    """Return what is started. Raises InvalidValueError for ``--settings`` that cannot be read."""
    arguments, given = _without_settings(request.arguments)
    settings = _settings(given, request)
    environment = otlp_environment(request.environ, request.receiver) | {
        "CLAUDE_CODE_ENABLE_TELEMETRY": "1",
        RESOURCE_ATTRIBUTES: merged_attributes(
            request.environ.get(RESOURCE_ATTRIBUTES, ""), request.attributes
        ),
    }
    own = settings.get("env") if isinstance(settings.get("env"), dict) else {}
    settings["env"] = {**(own or {}), **environment}
    notes = list(endpoint_notes(request.environ))
    off = [flag for flag in _WITHOUT_HOOKS if has_flag(arguments, flag)]
    hooks = request.hooks and not off
    if request.hooks and off:
        notes.append(f"with {off[0]} Claude Code runs no hooks: it is ended by a signal")
    if hooks:
        _add_hooks(settings, request)
    headless = has_flag(arguments, "-p", "--print")
    named, resume = _session(arguments, request)
    return Launch(
        arguments=(_SETTINGS, json.dumps(settings, separators=(",", ":")), *named, *arguments),
        environment=environment,
        hooks=hooks,
        hooks_end=hooks,
        interactive=request.on_terminal and not headless,
        shows_reason=not headless,
        notes=tuple(notes),
        resume=resume,
    )


def _session(arguments: list[str], request: Request) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return flags that name a new session, and the command line that takes the session up."""
    if has_flag(arguments, _NOT_KEPT):
        return (), ()
    if has_flag(arguments, *_GOES_ON):
        return (), ("claude", "--continue")
    if not request.new_session:
        return (), ()
    return ("--session-id", request.new_session), ("claude", "--resume", request.new_session)


def _without_settings(arguments: tuple[str, ...]) -> tuple[list[str], str | None]:
    """Return the arguments without ``--settings``, and the value of the last of them."""
    rest: list[str] = []
    found: str | None = None
    at = 0
    while at < len(arguments):
        argument = arguments[at]
        if argument == "--":
            return rest + list(arguments[at:]), found
        if argument == _SETTINGS and at + 1 < len(arguments):
            found = arguments[at + 1]
            at += 1
        elif argument.startswith(f"{_SETTINGS}="):
            found = argument.partition("=")[2]
        else:
            rest.append(argument)
        at += 1
    return rest, found


def _settings(given: str | None, request: Request) -> dict[str, Any]:
    """Return the user's own ``--settings``, from JSON or a file. Raises InvalidValueError."""
    if given is None:
        return {}
    allowed = "JSON, or a file with JSON: it is merged with the hooks of otel-budget"
    try:
        text = given if given.lstrip().startswith("{") else request.read_file(given)
        settings = json.loads(text)
    except (OSError, ValueError, RecursionError) as exc:
        raise InvalidValueError(_SETTINGS, given, f"{allowed} ({exc})") from exc
    if not isinstance(settings, dict):
        raise InvalidValueError(_SETTINGS, given, allowed)
    return settings


def _add_hooks(settings: dict[str, Any], request: Request) -> None:
    hooks = settings.setdefault("hooks", {})
    if not isinstance(hooks, dict):
        raise InvalidValueError(_SETTINGS, "hooks", "a mapping of events, as Claude Code wants it")
    by_http = {"type": "http", "url": request.hook_url, "timeout": _TIMEOUT}
    by_command = {"type": "command", "command": request.hook_command, "timeout": _TIMEOUT}
    for event in EVENTS:
        command = event in COMMANDS_ONLY or not request.hook_url
        ours = {"hooks": [by_command if command else by_http]}
        known = hooks.get(event)
        hooks[event] = [*(known if isinstance(known, list) else ()), ours]
