"""The last state of runs that have ended, as text: what their page shows of them, less the phases.

It is for a sidecar, which judges no phase, and is to fit into a request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import generate_latest
from prometheus_client.registry import Collector

from otel_budget import semconv
from otel_budget.sdk.metrics.families import session_families

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client.metrics_core import Metric

    from otel_budget.sdk.run_record import RunRecord

#: Names of families, as a collector has them.
_LEFT_OUT: Final = frozenset(
    metric.name.removesuffix("_total")
    for metric in (*semconv.SESSION_METRICS, semconv.BUILD_INFO)
    if semconv.PHASE in metric.labels or metric is semconv.BUILD_INFO
)


class _Runs(Collector):
    def __init__(self, runs: Sequence[Sequence[RunRecord]]) -> None:
        self._runs = runs

    def collect(self) -> Iterator[Metric]:
        yield from (one for one in session_families(self._runs) if one.name not in _LEFT_OUT)


def text_of(runs: Sequence[Sequence[RunRecord]]) -> bytes:
    """Return runs in the text format of Prometheus; each item holds the records of one."""
    return generate_latest(_Runs(runs))
