"""Which coding agents are known: each package in this folder is one, and its name is the agent's.

Commands and URLs spell it with hyphens: ``claude_code`` is ``claude-code``.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Final, cast

from otel_budget import agents

if TYPE_CHECKING:
    from types import ModuleType

    from otel_budget.agents.base import AgentHooks
    from otel_budget.agents.launching import Launcher
    from otel_budget.agents.settings import AgentSettings

#: In every agent's package, and in no other folder.
_MARK: Final = "hooks.py"


def names() -> tuple[str, ...]:
    """Return all agents that are known, sorted."""
    # Not by pkgutil: what it imports is a quarter of what an agent waits for at a hook.
    found = {
        folder.name.replace("_", "-")
        for path in agents.__path__
        for folder in os.scandir(path)
        if os.path.exists(os.path.join(folder.path, _MARK))  # noqa: PTH110, PTH118 - so is pathlib
    }
    return tuple(sorted(found))


def hooks_of(name: str) -> AgentHooks | None:
    """Return the hooks of an agent; None if it is not known."""
    if name not in names():
        return None
    return cast("AgentHooks", _part(name, "hooks").HOOKS)


def launcher_of(name: str) -> Launcher:
    """Return how an agent of ``names`` is started."""
    return cast("Launcher", _part(name, "launch"))


def settings_of(name: str) -> AgentSettings:
    """Return what is written to the settings of an agent of ``names``."""
    return cast("AgentSettings", _part(name, "settings"))


def _part(name: str, part: str) -> ModuleType:
    return import_module(f"{agents.__name__}.{name.replace('-', '_')}.{part}")
