"""The sidecar's own ``/metrics``, made in a thread of its own.

Over very many runs that takes seconds of processor time, and anybody may ask again and again: those
who ask meanwhile share one page, and after each it is not made for as long as it took.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from prometheus_client.exposition import choose_encoder

from otel_budget.runtime.workers import Workers
from otel_budget.sources.turns import Rests, Turns

if TYPE_CHECKING:
    from otel_budget.sidecar.metrics import SidecarMetrics

_Page = tuple[bytes, str]
#: Seconds a page is rested from at most.
_LONGEST_REST = 10.0


class MetricsPage:
    """Makes the page."""

    def __init__(self, metrics: SidecarMetrics) -> None:
        """Make none yet."""
        self._metrics = metrics
        self._threads = Workers("metrics")
        rests = Rests(times=1.0, most=_LONGEST_REST)
        self._turns: Turns[_Page | Exception] = Turns(self._make, rests=rests)

    async def page(self, accept: str) -> _Page:
        """Return all metrics for an Accept header: body and content type."""
        # By what it comes to: there are as many headers as somebody makes up.
        answer = self._turns.next(choose_encoder(accept)[1])
        await asyncio.wait([answer])
        found = answer.result()
        if isinstance(found, Exception):
            raise found
        return found

    async def _make(self, content_type: str) -> _Page | Exception:
        try:
            return await self._threads.run(self._metrics.exposition, content_type)
        except Exception as exc:  # noqa: BLE001 - whoever asked gets it
            return exc
