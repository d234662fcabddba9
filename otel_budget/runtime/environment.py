"""Where the project's own environment variables are read, all of them.

Each has two names: ``OTEL_BUDGET_X``, and without ``OTEL_`` for what is started by a program that
takes every ``OTEL_*`` variable away from what it starts, as Claude Code does from its hooks and its
shell.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_STRIPPED: Final = "OTEL_"


def short_name(name: str) -> str:
    """Return the second name of a variable ``OTEL_BUDGET_X``: ``BUDGET_X``."""
    return name.removeprefix(_STRIPPED)


def setting(name: str, environ: Mapping[str, str] | None = None) -> str | None:
    """Return a variable by its name ``OTEL_BUDGET_X``, else by its second one; None if not set.

    One that is set to nothing is set: it hides the second name. environ: by default the process's.
    """
    found = os.environ if environ is None else environ
    value = found.get(name)
    return found.get(short_name(name)) if value is None else value
