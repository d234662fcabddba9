"""How Gemini CLI is started: telemetry by environment; hooks only where they are installed.

It takes no hooks from the environment, and none from a file that is not the user's own settings.
Those that ``otel-budget install`` writes there ask what the environment names, and nothing else.
"""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from otel_budget.agents.launching import (
    HOOK_VARIABLE,
    RESOURCE_ATTRIBUTES,
    Launch,
    has_flag,
    merged_attributes,
)

if TYPE_CHECKING:
    from otel_budget.agents.launching import Request

TITLE: Final = "Gemini CLI"
PROGRAMS: Final = ("gemini",)
PACKAGES: Final = ("@google/gemini-cli",)
_NOT_INSTALLED: Final = (
    "Gemini CLI has no hooks of otel-budget in its settings: this run is ended by a signal, up to "
    "10 s after it crosses a limit, which is how often Gemini CLI tells what it used. With hooks "
    "(otel-budget install gemini-cli) it is ended before its next call"
)


def launch(request: Request) -> Launch:
    """Return what is started."""
    hooks = request.hooks and _installed(request)
    headless = has_flag(request.arguments, "-p", "--prompt") or not request.on_terminal
    return Launch(
        arguments=request.arguments,
        environment={
            "GEMINI_TELEMETRY_ENABLED": "true",
            "GEMINI_TELEMETRY_TARGET": "local",
            "GEMINI_TELEMETRY_OTLP_ENDPOINT": request.receiver,
            "GEMINI_TELEMETRY_OTLP_PROTOCOL": "http",
            "GEMINI_TELEMETRY_OUTFILE": "",
            "GEMINI_TELEMETRY_LOG_PROMPTS": "false",
            "GEMINI_TELEMETRY_TRACES_ENABLED": "false",
            "GEMINI_CLI_NO_RELAUNCH": "true",  # the launcher would ignore every signal
            RESOURCE_ATTRIBUTES: merged_attributes(
                request.environ.get(RESOURCE_ATTRIBUTES, ""), request.attributes
            ),
        },
        hooks=hooks,
        hooks_end=hooks,
        hooks_count=hooks,
        interactive=not headless,
        lag=11.0,
        notes=() if hooks or not request.hooks else (_NOT_INSTALLED,),
        resume=("gemini", "--resume", "latest"),
    )


def _installed(request: Request) -> bool:
    """Tell whether hooks of ours are in the user's or the project's settings."""
    home = request.environ.get("GEMINI_CLI_HOME") or request.environ.get("HOME") or ""
    for folder in (home, "."):
        try:
            settings = json.loads(request.read_file(str(PurePath(folder, ".gemini/settings.json"))))
        except (OSError, ValueError, RecursionError):
            continue  # no such file, or one that Gemini CLI complains of itself
        hooks = settings.get("hooks") if isinstance(settings, dict) else None
        if hooks and HOOK_VARIABLE in json.dumps(hooks):
            return True
    return False
