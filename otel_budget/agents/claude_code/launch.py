"""How Claude Code is started: telemetry by environment, hooks by ``--settings``.

Of two ``--settings`` Claude Code takes the last alone, so the user's own are merged into ours. The
variables stand in them, too: there they win over an ``env`` of the user's settings files.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from otel_budget.agents.claude_code.hooks import EVENTS
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
        _add_hooks(settings, request.hook_url)
    headless = has_flag(arguments, "-p", "--print")
    return Launch(
        arguments=(_SETTINGS, json.dumps(settings, separators=(",", ":")), *arguments),
        environment=environment,
        hooks=hooks,
        hooks_end=hooks,
        interactive=request.on_terminal and not headless,
        shows_reason=not headless,
        notes=tuple(notes),
    )


def resume_command(session: str) -> str:
    """Return the command line that takes up a session."""
    return f"claude --resume {session}"


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


def _add_hooks(settings: dict[str, Any], url: str) -> None:
    hooks = settings.setdefault("hooks", {})
    if not isinstance(hooks, dict):
        raise InvalidValueError(_SETTINGS, "hooks", "a mapping of events, as Claude Code wants it")
    ours = {"hooks": [{"type": "http", "url": url, "timeout": _TIMEOUT}]}
    for event in EVENTS:
        known = hooks.get(event)
        hooks[event] = [*(known if isinstance(known, list) else ()), ours]
