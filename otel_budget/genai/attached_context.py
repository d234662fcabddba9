"""OpenTelemetry contexts that are taken back safely, in whatever order and place.

Generators are left in another order than they were entered, and in another context: OpenTelemetry
would log a traceback, or make a context the current one again that is over.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from opentelemetry import context as otel_context

if TYPE_CHECKING:
    from opentelemetry.context import Context

_NEWEST: ContextVar[AttachedContext | None] = ContextVar("otel_budget_attached", default=None)


class AttachedContext:
    """A context that is the current one until it is detached, and what was attached since."""

    def __init__(self, context: Context) -> None:
        """Make a context the current one."""
        self.over = False
        self._before = _NEWEST.set(self)
        self._token = otel_context.attach(context)

    def detach(self) -> None:
        """Make the one before it the current one, once all that was attached since is over."""
        self.over = True
        newest = _NEWEST.get()
        while newest is not None and newest.over and newest.taken_back():
            newest = _NEWEST.get()

    def taken_back(self) -> bool:
        """Take it back; False in another context than it was attached in."""
        try:
            _NEWEST.reset(self._before)
        except (ValueError, RuntimeError):  # there is nothing to take back here, or not any more
            return False
        otel_context.detach(self._token)
        return True
