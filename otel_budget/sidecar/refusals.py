"""Requests that were refused: each is counted, and the log has a line for each client at times."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from otel_budget.logs.line_budget import LineBudget, Rate
from otel_budget.logs.text import one_line

if TYPE_CHECKING:
    from otel_budget.sidecar.metrics import SidecarMetrics
    from otel_budget.sources.base import Clock

logger = logging.getLogger(__name__)

#: Lines for each reason and client: a client that tries a thousand times a second neither fills the
#: disk nor hides another one that is refused for the same reason.
QUIET: Final = Rate(1, 60.0)
_WORDS: Final = {
    "token": "the token was wrong, or there was none",
    "host": "it asked for another host, as a page in somebody's browser may",
    "malformed": "what it sent is no HTTP request",
    "connections": "there were too many connections: see listen.limits",
    "streams": "it has too many streams open: see listen.limits",
    "nudges": "too many runs ask to be looked at now",
    "request": "its request did not arrive in time",
    "reader": "it did not take up what it was sent",
}


class Refusals:
    """Takes note of refused requests."""

    def __init__(self, metrics: SidecarMetrics, clock: Clock) -> None:
        """Have seen none."""
        self._metrics, self._budget = metrics, LineBudget(clock, about=QUIET)

    def __call__(self, reason: str, client: str) -> None:
        """Count one. client: its address."""
        self._metrics.refused(reason)
        more = self._budget.spend(reason, f"{reason} {client}")
        if more is None:
            return
        since = f" ({more:,} more refused for that since the last such line)" if more else ""
        shown = one_line(client) or "somebody"
        logger.warning("refused %s: %s%s", shown, _WORDS.get(reason, reason), since)
