"""The sidecar's own metrics, and the page that shows them.

- Verdicts and their numbers are read from the last tick when they are asked for, so they always
  come from one and the same evaluation. What is unknown or unlimited is absent, never 0.
- Over very many runs a page takes seconds of processor time, and anybody may ask again and again:
  requests that come meanwhile share one page, and after each, none is made for as long as it took.
"""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_left
from collections import Counter
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from otel_budget import semconv
from otel_budget.core.reasons import NO_DATA, Action, Reason
from otel_budget.core.resources import RESOURCES
from otel_budget.ledger.findings import IGNORED_PARENTS, FindingKind
from otel_budget.policy.decision_table import DECISIONS
from otel_budget.runtime.workers import Workers
from otel_budget.sidecar.budget_metrics import BudgetFamilies, bound_runs
from otel_budget.sidecar.forecast_metrics import Forecasts
from otel_budget.sidecar.metric_families import add_number, counter, gauge
from otel_budget.sidecar.tick_result import TickResult
from otel_budget.sources.scheduler import Rests, Scheduler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from prometheus_client.core import Metric as Family

    from otel_budget.core.observation import Observation
    from otel_budget.core.verdict import Verdict
    from otel_budget.sources.base import Clock

#: Upper bounds in seconds: from a scrape on the same host to a slow query over many runs.
TICK_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
#: What is counted by a label is there from the start, at 0: Prometheus sees no increase in a series
#: that begins at 1.
_DECISIONS = tuple((str(action), str(reason)) for action, reason in DECISIONS)
_PUSHED = tuple(
    (signal, outcome) for signal in semconv.PUSH_SIGNALS for outcome in semconv.PUSH_OUTCOMES
)
_COUNTED_SIGNALS = [signal for signal in semconv.PUSH_SIGNALS if signal != "traces"]
_Page = tuple[bytes, str]
#: Seconds a page is rested from at most.
_LONGEST_REST: Final = 10.0
_NOTHING: Final = Reason.SOURCE_ERROR
_NOTHING_DROPPED = dict.fromkeys(semconv.DROP_REASONS, 0)
_NO_RESETS = dict.fromkeys(semconv.RESET_REASONS, 0)


class SidecarMetrics(Collector):
    """Takes note of what the sidecar does, and shows it to Prometheus.

    Notes are taken on the event loop's thread, collection runs in another one.
    """

    def __init__(self, version: str, clock: Clock, subscribers: Callable[[], int]) -> None:
        """Begin with nothing noted. subscribers: returns the number of open streams."""
        self.registry = CollectorRegistry()
        self._version, self._clock, self._subscribers = version, clock, subscribers
        self._lock = Lock()
        self._last = TickResult()
        self._changes = Counter(dict.fromkeys(_DECISIONS, 0))
        self._inconclusive = Counter(dict.fromkeys(map(str, NO_DATA), 0))
        self._buckets = [0] * (len(TICK_BUCKETS) + 1)
        self._tick_seconds = 0.0
        self._vanished = 0
        self._flags: Counter[str] = Counter()
        self._overruns = self._failures = self._run_failures = 0
        self._absent_seconds = 0.0
        self._refused = Counter(dict.fromkeys(semconv.REFUSAL_REASONS, 0))
        self._pushed = Counter(dict.fromkeys(_PUSHED, 0))
        self._pushed_items = Counter(dict.fromkeys(_COUNTED_SIGNALS, 0))
        self._pushed_rejected = self._pushed_items.copy()
        self._source: tuple[str, bool, bool, int] | None = None
        """Its name, whether it answers, whether it was read at all, and how many targets fail."""
        self._unmatched = 0
        self._newest_sample: float | None = None
        self._reload_ok = True
        self._audit_file_up: bool | None = None
        self._suggestion_changes = 0
        self.registry.register(self)

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics for an Accept header: body and content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def note_observation(self, observation: Observation) -> None:
        """Note what a source gave."""
        with self._lock:
            if self._source is not None and self._source[0] != observation.source:
                self._newest_sample = None  # the source was exchanged
            failing = sum(1 for p in observation.problems if p.target and p.reason is _NOTHING)
            self._source = (observation.source, observation.ok, observation.read, failing)
            # Not that there is no target at all: on a quiet night there may be none.
            self._unmatched = sum(1 for target in observation.unmatched if target)
        self.note_samples(observation)

    def note_samples(self, observation: Observation) -> None:
        """Note how new the samples are that a source gave, or that were pushed."""
        samples = [session.sampled_at for session in observation.sessions]
        if samples:
            with self._lock:
                self._newest_sample = max(*samples, self._newest_sample or -math.inf)

    def note_result(self, result: TickResult) -> None:
        """Note what came of a tick."""
        with self._lock:
            self._last = result
            self._flags.update(str(flag.kind) for flag in result.flags)
            self._vanished += len(result.events.vanished)
            self._run_failures += len(result.failures)
            self._suggestion_changes += len(result.suggestions.changes)
            for change in result.changes:
                reason = str(change.verdict.reason)
                self._changes[str(change.verdict.action), reason] += 1
                if change.became_inconclusive:
                    self._inconclusive[reason] += 1

    def note_restored(self) -> None:
        """Note that what was judged so far is known from the storage alone: that it is old means
        that no sidecar ran, and no run became inconclusive.
        """
        with self._lock:
            self._inconclusive = Counter(dict.fromkeys(map(str, NO_DATA), 0))

    def note_tick(self, seconds: float, *, overran: bool) -> None:
        """Note how long a tick took."""
        with self._lock:
            self._buckets[bisect_left(TICK_BUCKETS, seconds)] += 1
            self._tick_seconds += seconds
            self._overruns += overran

    def note_refusal(self, reason: str) -> None:
        """Note a request, or a connection, that was refused."""
        with self._lock:
            self._refused[reason] += 1

    def note_push(self, signal: str, outcome: str, items: int = 0, rejected: int = 0) -> None:
        """Note a request that something was pushed with, and what became of it."""
        with self._lock:
            self._pushed[signal, outcome] += 1
            self._pushed_items[signal] += items
            self._pushed_rejected[signal] += rejected

    def note_absence(self, seconds: float, _now: float) -> None:
        """Note that the process did not run for so long."""
        with self._lock:
            self._absent_seconds += seconds

    def note_failed_tick(self) -> None:
        """Note a tick that raised."""
        with self._lock:
            self._failures += 1

    def note_reload(self, *, ok: bool) -> None:
        """Note how the last reload of the configuration went."""
        with self._lock:
            self._reload_ok = ok

    def note_audit_file(self, ok: bool) -> None:  # noqa: FBT001 - all that is said
        """Note whether the audit log can be written to its file."""
        with self._lock:
            self._audit_file_up = ok

    def collect(self) -> Iterator[Family]:
        """Yield every metric of ``semconv.SIDECAR_METRICS``, from one moment."""
        with self._lock:
            last, verdicts, budgets = self._last, self._last.verdicts, self._last.budgets
            now = self._clock()
            others = [*self._of_counts(), *self._of_the_process()]
        # Not under the lock, for which the event loop would wait: of 100,000 runs it takes seconds.
        yield from self._of_verdicts(verdicts)
        yield from bound_runs((one for one in verdicts if not one.is_over(now)), budgets)
        yield from self._of_budgets(last)
        yield from others

    @staticmethod
    def _of_budgets(last: TickResult) -> Iterable[Family]:
        families = BudgetFamilies()
        for report in last.budgets.values():
            families.add(report)
        families.add_held(last.held, last.holds_refused, last.budgets)
        return families.families

    def _of_verdicts(self, verdicts: Iterable[Verdict]) -> Iterator[Family]:
        action = gauge(semconv.VERDICT)
        info, would = gauge(semconv.VERDICT_INFO), gauge(semconv.VERDICT_WOULD)
        last_calls = gauge(semconv.VERDICT_LAST_CALLS)
        used, remaining = gauge(semconv.USED), gauge(semconv.REMAINING)
        limit, warning = gauge(semconv.EFFECTIVE_LIMIT), gauge(semconv.WARNING_LIMIT)
        forecasts = Forecasts()
        utilization, unjudged = gauge(semconv.UTILIZATION), gauge(semconv.LIMIT_UNJUDGED)
        now = self._clock()
        for verdict in verdicts:
            if verdict.is_over(now):
                continue
            session = verdict.session_id
            action.add_metric((session,), verdict.action is Action.CONTINUE)
            info.add_metric(
                (session, verdict.status, str(verdict.reason), verdict.run_state or ""), 1
            )
            if verdict.wrap_up is not None:
                last_calls.add_metric((session,), verdict.wrap_up.calls)
            if (other := verdict.would) is not None:
                would.add_metric(
                    (session, other.status, other.reason, other.limit_from or ""),
                    other.action is Action.CONTINUE,
                )
            for resource, state in verdict.resources.items():
                labels = (session, resource, RESOURCES[resource].unit)
                add_number(used, labels, state.used)
                add_number(remaining, labels, state.remaining)
                add_number(limit, labels, state.limit)
                add_number(warning, labels, state.warning_at)
                add_number(utilization, labels[:2], state.ratio)
                if state.forecast is not None:
                    forecasts.add(labels[:2], state.forecast)
            for resource in verdict.unjudged:
                unjudged.add_metric((session, resource), 1)
        yield from (action, info, last_calls, would, used, remaining, limit, warning, utilization)
        yield from forecasts.families
        yield unjudged

    def _of_counts(self) -> Iterator[Family]:
        yield _counter(semconv.VERDICT_CHANGES, self._changes)
        yield _counter(semconv.INCONCLUSIVE, _by_one(self._inconclusive))
        yield _counter(semconv.DROPPED_SAMPLES, _by_one({**_NOTHING_DROPPED, **self._last.dropped}))
        yield _counter(semconv.RESETS, _by_one({**_NO_RESETS, **self._last.resets}))
        yield _counter(semconv.CONCURRENT, {(): self._flags[FindingKind.CONCURRENT]})
        second = self._flags[FindingKind.SECOND_TARGET] + self._flags[FindingKind.NAMELESS]
        yield _counter(semconv.SECOND_TARGETS, {(): second})
        yield _counter(semconv.GOING_ON, {(): self._flags[FindingKind.GOES_ON]})
        yield _counter(semconv.RESTART_LOOPS, {(): self._flags[FindingKind.RESTARTS]})
        yield _counter(semconv.ALTERNATING, {(): self._flags[FindingKind.ALTERNATING]})
        ignored = {(str(kind),): self._flags[kind] for kind in IGNORED_PARENTS}
        yield _counter(semconv.IGNORED_PARENTS, ignored)
        yield _counter(semconv.VANISHED_RUNS, {(): self._vanished})
        yield _counter(semconv.TICK_OVERRUNS, {(): self._overruns})
        yield _counter(semconv.TICK_FAILURES, {(): self._failures})
        yield _counter(semconv.RUN_FAILURES, {(): self._run_failures})
        yield _counter(semconv.UNREADABLE_ROWS, {(): self._last.storage.unreadable})
        yield _counter(semconv.UNKEPT_RUNS, {(): self._last.storage.evicted})
        yield _counter(semconv.STORAGE_RENEWALS, {(): self._last.storage.renewals})
        yield _counter(semconv.AUDIT_DROPPED, {(): self._last.storage.audit_dropped})
        yield _counter(semconv.SUGGESTION_CHANGES, {(): self._suggestion_changes})
        yield _counter(semconv.ABSENT_SECONDS, {(): self._absent_seconds})
        yield _counter(semconv.REFUSED_REQUESTS, _by_one(self._refused))
        yield _counter(semconv.PUSHED_REQUESTS, self._pushed)
        yield _counter(semconv.PUSHED_ITEMS, _by_one(self._pushed_items))
        yield _counter(semconv.PUSHED_REJECTED, _by_one(self._pushed_rejected))

    def _of_the_process(self) -> Iterator[Family]:
        yield self._tick_histogram()
        yield from self._of_suggestions()
        up, age = gauge(semconv.SOURCE_UP), gauge(semconv.DATA_AGE)
        failing, delay = gauge(semconv.TARGETS_FAILING), gauge(semconv.SOURCE_DELAY)
        unmatched = gauge(semconv.UNMATCHED_TARGETS)
        if self._source is not None:
            name, ok, read, targets = self._source
            failing.add_metric((name,), targets)
            unmatched.add_metric((name,), self._unmatched)
            delay.add_metric((name,), self._last.lag)
            # Targets without a live run may be gone: on a quiet night all of them are.
            up.add_metric((name,), ok or (read and not any(map(_lives, self._last.verdicts))))
            if self._newest_sample is not None:
                age.add_metric((name,), max(0.0, self._clock() - self._newest_sample))
        yield from (up, failing, unmatched, age, delay)
        yield _single(semconv.SIDECAR_SESSIONS, len(self._last.verdicts))
        now = self._clock()
        over = sum(1 for verdict in self._last.verdicts if verdict.is_over(now))
        yield _single(semconv.EXPIRED_VERDICTS, over)
        yield _single(semconv.STORAGE_SIZE, self._last.storage.size)
        audit_file = gauge(semconv.AUDIT_FILE_UP)
        if self._audit_file_up is not None:
            audit_file.add_metric((), self._audit_file_up)
        yield audit_file
        yield _single(semconv.SUBSCRIBERS, self._subscribers())
        yield _single(semconv.RELOAD_OK, self._reload_ok)
        yield _single(semconv.BUILD_INFO, 1, self._version)

    def _of_suggestions(self) -> Iterator[Family]:
        runs, limits = gauge(semconv.SUGGESTION_RUNS), gauge(semconv.SUGGESTED_LIMIT)
        for workflow, number in self._last.suggestions.runs.items():
            runs.add_metric((workflow,), number)
        for workflow, suggested in self._last.suggestions.limits.items():
            for resource, limit in suggested.items():
                add_number(limits, (workflow, resource, RESOURCES[resource].unit), limit)
        yield from (runs, limits)

    def _tick_histogram(self) -> HistogramMetricFamily:
        total = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip((*TICK_BUCKETS, math.inf), self._buckets, strict=True):
            total += count
            buckets.append(("+Inf" if bound == math.inf else str(bound), total))
        metric = semconv.TICK_DURATION
        family = HistogramMetricFamily(metric.name, metric.help)
        family.add_metric((), buckets, self._tick_seconds)
        return family


def _lives(verdict: Verdict) -> bool:
    return verdict.run_state not in semconv.OVER_STATES


def _single(metric: semconv.Metric, value: float, *labels: str) -> GaugeMetricFamily:
    family = gauge(metric)
    family.add_metric(labels, value)
    return family


def _counter(metric: semconv.Metric, counts: Mapping[Any, float]) -> CounterMetricFamily:
    """Return a counter; counts: by the tuple of its label values."""
    family = counter(metric)
    for labels, count in sorted(counts.items()):
        family.add_metric(labels, count)
    return family


def _by_one(counts: Mapping[str, int]) -> dict[tuple[str, ...], int]:
    return {(label,): count for label, count in counts.items()}


class MetricsPage:
    """Makes the page."""

    def __init__(self, metrics: SidecarMetrics) -> None:
        """Make none yet."""
        self._metrics = metrics
        self._threads = Workers("metrics")
        rests = Rests(times=1.0, most=_LONGEST_REST)
        self._turns: Scheduler[_Page | Exception] = Scheduler(self._make, rests=rests)

    async def page(self, accept: str) -> _Page:
        """Return all metrics for an Accept header: body and content type."""
        # By what it comes to: a client can make up any number of headers.
        answer = self._turns.next(choose_encoder(accept)[1])
        await asyncio.wait([answer])
        found = answer.result()
        if isinstance(found, Exception):
            raise found
        return found

    async def _make(self, content_type: str) -> _Page | Exception:
        try:
            return await self._threads.run(self._metrics.exposition, content_type)
        except Exception as exc:  # noqa: BLE001 - the caller gets it
            return exc
