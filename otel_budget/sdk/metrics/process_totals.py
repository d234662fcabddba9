"""What all runs of this process used, low in cardinality: for "by team this week".

Observable OpenTelemetry instruments: they cost nothing when an operation is recorded and go out
through whatever reader the application has (Prometheus, OTLP). A run that is over leaves its counts
in the sums here, so the counters never drop.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import defaultdict, deque
from decimal import Decimal
from typing import TYPE_CHECKING

from opentelemetry import metrics
from opentelemetry.metrics import Observation

from otel_budget import semconv
from otel_budget._version import __version__
from otel_budget.core.owner_labels import OWNER_LABELS
from otel_budget.core.resources import FURTHER
from otel_budget.sdk.metrics.label_cap import MAX_OWNERS, LabelCap
from otel_budget.sdk.phase_counters import plus
from otel_budget.sdk.run_counters import FOLDED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from opentelemetry.metrics import CallbackOptions, Meter

    from otel_budget.sdk.phase_counters import Counts
    from otel_budget.sdk.run_record import RunRecord

Key = tuple[tuple[str, str], ...]
Sums = dict[str, dict[Key, int | Decimal]]
Series = tuple[semconv.Metric, dict[str, str], int | Decimal]
"""Metric, labels and value."""


class ProcessUsage:
    """Sums over the runs that are over, and the runs that are not."""

    def __init__(self) -> None:
        self._registered = False
        self.reset()

    def reset(self) -> None:
        """Forget all runs, and who holds the lock. The instruments stay."""
        self._lock = threading.RLock()  # reentrant for signal handlers, like the records'
        self._own = {semconv.SERVICE_INSTANCE_ID: uuid.uuid4().hex[:16]}
        self.since = time.time_ns()
        """Nanoseconds since the Unix epoch: when it began to count."""
        self._cap, self._full = LabelCap(FOLDED), False
        self._bases: set[Key] = set()
        self._live: dict[int, RunRecord] = {}
        self._retired: Sums = _no_sums()
        self._ending: deque[RunRecord] = deque()
        self._adding = False

    def add(self, record: RunRecord) -> None:
        """Count a run from now on."""
        with self._lock:
            self._live[id(record)] = record

    def retire(self, record: RunRecord) -> None:
        """Keep what a run used; the record itself is no longer needed.

        A run that ends in the middle of that, in a signal handler, is added after it.
        """
        with self._lock:
            if self._live.pop(id(record), None) is None:
                return
            self._ending.append(record)
            while self._ending and not self._adding:
                self._adding = True
                try:
                    self._sum(self._ending.popleft(), self._retired)
                finally:
                    self._adding = False

    def sums(self, metric: semconv.Metric) -> list[tuple[dict[str, str], int | Decimal]]:
        """Return labels and sum of each series of one of the usage metrics."""
        with self._lock:
            total = _no_sums()
            for name, rows in self._retired.items():
                total[name].update(rows)
            for record in self._live.values():
                self._sum(record, total)
        return [(dict(key), value) for key, value in total[metric.name].items()]

    @property
    def instance(self) -> str:
        """Tells this process from others."""
        return self._own[semconv.SERVICE_INSTANCE_ID]

    def series(self) -> Iterator[Series]:
        """Yield all that the instruments show, for where there is nothing that reads them."""
        for metric in semconv.USAGE_METRICS:
            for labels, value in self.sums(metric):
                yield metric, {**self._own, **labels}, value
        for label, count in list(FOLDED.items()):
            yield semconv.FOLDED_LABELS, {semconv.LABEL: label}, count

    def instruments(self, meter: Meter | None = None) -> None:
        """Make the OpenTelemetry instruments, once."""
        with self._lock:
            if self._registered:
                return
            self._registered = True
        meter = meter or metrics.get_meter(semconv.SCOPE_NAME, __version__)
        for metric in semconv.USAGE_METRICS:
            meter.create_observable_counter(
                metric.otel_name, [self._callback(metric)], metric.otel_unit, metric.help
            )
        folded = semconv.FOLDED_LABELS
        meter.create_observable_counter(
            folded.otel_name, [_observe_folded], folded.otel_unit, folded.help
        )

    def _callback(
        self, metric: semconv.Metric
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_options: CallbackOptions) -> Iterable[Observation]:
            return [
                Observation(float(v) if isinstance(v, Decimal) else v, {**self._own, **labels})
                for labels, v in self.sums(metric)
            ]

        return observe

    def _sum(self, record: RunRecord, into: Sums) -> None:
        admit = self._cap.admit
        labels = record.labels.items()
        own = tuple(
            (label, admit(label, value)) for label, value in labels if label in OWNER_LABELS
        )
        with record.lock:
            record.settle()
            for (_, model), counters in list(record.counters_by_phase.items()):
                base = (*own, (semconv.MODEL, admit(semconv.MODEL, model)))
                _add(counters.read(), self._bounded(base), into)
            if record.wrap_ups or record.limits.wrap_up_calls:
                owner = self._bounded((*own, (semconv.MODEL, semconv.UNSPECIFIED)))[:-1]
                for outcome in semconv.WRAP_UP_OUTCOMES:  # at 0, too, as of calls
                    number = record.wrap_ups.get(outcome, 0)
                    into[semconv.WRAP_UPS.name][*owner, (semconv.OUTCOME, outcome)] += number

    def _bounded(self, base: Key) -> Key:
        """Return labels as they are, or all of them as ``other`` where they are too many."""
        if base in self._bases or len(self._bases) < MAX_OWNERS:
            self._bases.add(base)
            return base
        if not self._full:
            self._full = True
            self._cap.count(semconv.MODEL)
        return tuple((label, semconv.OTHER) for label, _ in base)


def _add(counts: Counts, base: Key, into: Sums) -> None:
    for token_type in ("input", "output", semconv.UNSPECIFIED):
        if tokens := getattr(counts, f"{token_type}_tokens"):
            into[semconv.USAGE_TOKENS.name][*base, (semconv.TOKEN_TYPE, token_type)] += tokens
    failed = counts.failed_api_calls
    for outcome, calls in (("ok", counts.api_calls - failed), ("error", failed)):
        if calls:
            into[semconv.USAGE_API_CALLS.name][*base, (semconv.OUTCOME, outcome)] += calls
    for detail in ("cache_read", "cache_write", "reasoning"):
        if tokens := getattr(counts, f"{detail}_tokens"):
            into[semconv.USAGE_TOKEN_DETAILS.name][*base, (semconv.DETAIL, detail)] += tokens
    if counts.cost_usd:
        costs = into[semconv.USAGE_COST.name]
        costs[base] = plus(Decimal(costs[base]), counts.cost_usd)
    _add_further(counts, base[:-1], into)  # of no model: that is the last of the labels
    if counts.api_calls:  # at 0, too: Prometheus sees no increase in a series that begins at 1
        into[semconv.USAGE_UNPRICED_CALLS.name][base] += counts.unpriced_calls
        into[semconv.USAGE_UNKNOWN_CALLS.name][base] += counts.unknown_usage_calls


def _add_further(counts: Counts, owner: Key, into: Sums) -> None:
    for name, number in counts.further.items():
        metric = FURTHER[name].by_process
        if metric is not None:
            into[metric.name][owner] += number


def _no_sums() -> Sums:
    return {metric.name: defaultdict(int) for metric in semconv.USAGE_METRICS}


def _observe_folded(_options: CallbackOptions) -> Iterable[Observation]:
    return [Observation(count, {semconv.LABEL: label}) for label, count in list(FOLDED.items())]
