"""Records to metric families. The numbers are the counts themselves; nothing is derived twice."""

from __future__ import annotations

from contextlib import ExitStack
from decimal import Decimal
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

from otel_budget import semconv
from otel_budget._version import __version__
from otel_budget.core.resources import BASIC, FURTHER, RESOURCES
from otel_budget.sdk.metrics.run_group import shown
from otel_budget.sdk.phase_counters import Counts, plus, summed
from otel_budget.sdk.run_record import RunRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from otel_budget.core.resources import Resource

_Key = tuple[str, str]
_BASIC = tuple(RESOURCES[name] for name in BASIC)
_TOTALS = (
    *((row.counter, row.usage_key) for row in _BASIC if row.counter is not None),
    (semconv.UNPRICED_CALLS, "unpriced_calls"),
    (semconv.UNKNOWN_USAGE_CALLS, "unknown_usage_calls"),
    (semconv.ESTIMATED_CALLS, "estimated_calls"),
)
_Value = float | int | None
"""Of one metric and one record; None: it has no series."""


def _oldest(values: Sequence[_Value]) -> _Value:
    return values[0]


def _newest(values: Sequence[_Value]) -> _Value:
    return values[-1]


class PerRun(NamedTuple):
    """How one metric of a run is read, and what it is where the run has several records."""

    metric: semconv.Metric
    read: Callable[[RunRecord], _Value]
    merge: Callable[[list[Any]], _Value]
    """Of the values of all records of the run, the oldest first."""


#: The metrics of a run without labels of their own. A new one is a line here, and its declaration
#: in semconv.
PER_RUN: Final = (
    PerRun(semconv.CHECKPOINTS, attrgetter("checkpoints"), sum),
    PerRun(semconv.CHECKPOINT_FAILURES, attrgetter("checkpoint_failures"), sum),
    PerRun(semconv.DURATION_SECONDS, RunRecord.duration, max),
    PerRun(semconv.ACTIVE_SECONDS, RunRecord.active, max),
    PerRun(semconv.SESSION_START, attrgetter("started_at"), min),
    PerRun(semconv.INCARNATION_START, attrgetter("process_began_at"), min),
    PerRun(semconv.FOLLOWS_COMPLETED, lambda one: one.follows_completed or None, _oldest),
    PerRun(semconv.LAST_CHECKPOINT, attrgetter("last_checkpoint_at"), _newest),
    PerRun(semconv.SIDECAR_REACHABLE, attrgetter("sidecar_reachable"), _newest),
    PerRun(semconv.SIDECAR_JUDGED, lambda one: one.is_judged and one.is_judged(), _newest),
)
_AT_PROGRESS = tuple(row.at_progress for row in _BASIC if row.at_progress is not None)
_PARTS = (
    (semconv.PHASE_TOKENS, semconv.TOKEN_TYPE, "input", "input_tokens"),
    (semconv.PHASE_TOKENS, semconv.TOKEN_TYPE, "output", "output_tokens"),
    (semconv.PHASE_TOKENS, semconv.TOKEN_TYPE, semconv.UNSPECIFIED, "unspecified_tokens"),
    (semconv.PHASE_TOKEN_DETAILS, semconv.DETAIL, "cache_read", "cache_read_tokens"),
    (semconv.PHASE_TOKEN_DETAILS, semconv.DETAIL, "cache_write", "cache_write_tokens"),
    (semconv.PHASE_TOKEN_DETAILS, semconv.DETAIL, "reasoning", "reasoning_tokens"),
)


class _Families:
    """One family for each metric of a session, to be filled run by run."""

    def __init__(self) -> None:
        self.by_name: dict[str, Metric] = {}
        self.samples: dict[str, list[Sample]] = {}
        for metric in (*semconv.SESSION_METRICS, semconv.BUILD_INFO):
            family = Metric(metric.name.removesuffix("_total"), metric.help, metric.kind)
            self.by_name[metric.name] = family
            self.samples[metric.name] = family.samples

    def put(self, metric: semconv.Metric, labels: dict[str, str], value: float) -> None:
        self.samples[metric.name].append(Sample(metric.name, labels, value))


def session_families(groups: Sequence[Sequence[RunRecord]]) -> Iterator[Metric]:
    """Yield the families of all runs. Each group holds the records of one session id."""
    families = _Families()
    for records in groups:
        with ExitStack() as locks:
            for record in records:
                locks.enter_context(record.lock)
                record.settle()
            counters_by_phase = _counts_by_phase(records)
            _totals(families, records, summed(counters_by_phase.values()))
            _breakdown(families, records[0].session_id, counters_by_phase)
            _run_metrics(families, records)  # a state that says "over" goes with the last counts
            _limits(families, records)  # and so does a progress
    families.put(semconv.BUILD_INFO, {semconv.VERSION: __version__}, 1.0)
    yield from (family for family in families.by_name.values() if family.samples)


def _totals(families: _Families, records: Sequence[RunRecord], counts: Counts) -> None:
    sid = {semconv.SESSION_ID: records[0].session_id}
    for metric, field in _TOTALS:
        families.put(metric, sid, float(getattr(counts, field)))
    # The first record began the group: what a later one carried over is the first one's own count.
    carried = records[0].carried
    for row in _BASIC:
        labels = {**sid, semconv.RESOURCE: row.name, semconv.UNIT: row.unit}
        families.put(semconv.CARRIED_OVER, labels, float(getattr(carried, row.usage_key)))
    for row in further_shown(records):
        labels = {**sid, semconv.RESOURCE: row.name, semconv.UNIT: row.unit}
        families.put(semconv.CARRIED_OVER, labels, float(getattr(carried, row.usage_key)))
        if row.counter is not None:
            families.put(row.counter, sid, float(counts.further.get(row.name, 0)))
    if carried.active_seconds:
        labels = {**sid, semconv.RESOURCE: semconv.ACTIVE_DURATION, semconv.UNIT: "seconds"}
        families.put(semconv.CARRIED_OVER, labels, carried.active_seconds)


def _breakdown(
    families: _Families, session_id: str, counters_by_phase: Mapping[_Key, Counts]
) -> None:
    """Break the totals down; a part that is 0 has no series."""
    put = families.put
    for (phase, model), counts in counters_by_phase.items():
        base = {
            semconv.SESSION_ID: session_id,
            semconv.PHASE: phase,
            semconv.MODEL: model,
        }
        for metric, label, value, field in _PARTS:
            if total := getattr(counts, field):
                put(metric, {**base, label: value}, float(total))
        failed = counts.failed_api_calls
        for outcome, calls in (("ok", counts.api_calls - failed), ("error", failed)):
            if calls:
                put(semconv.PHASE_API_CALLS, {**base, semconv.OUTCOME: outcome}, float(calls))
        if counts.cost_usd:
            put(semconv.PHASE_COST, base, float(counts.cost_usd))
    _further_by_phase(families, session_id, counters_by_phase)


def _further_by_phase(
    families: _Families, session_id: str, counters_by_phase: Mapping[_Key, Counts]
) -> None:
    """Break further resources down by phase; they are of no model."""
    sums: dict[tuple[str, str], int] = {}
    for (phase, _), counts in counters_by_phase.items():
        for name, number in counts.further.items():
            sums[name, phase] = sums.get((name, phase), 0) + number
    for (name, phase), number in sums.items():
        metric = FURTHER[name].by_phase
        if metric is not None:
            labels = {semconv.SESSION_ID: session_id, semconv.PHASE: phase}
            families.put(metric, labels, float(number))


def further_shown(records: Sequence[RunRecord]) -> list[Resource]:
    """Return the further resources that a run counts, or limits."""
    return [row for name, row in FURTHER.items() if any(name in r.further for r in records)]


def _sum(values: Iterable[int | Decimal]) -> int | Decimal:
    total: int | Decimal = 0
    for value in values:
        total = plus(Decimal(total), value) if isinstance(value, Decimal) else total + value
    return total


def _counts_by_phase(records: Sequence[RunRecord]) -> dict[_Key, Counts]:
    """Return what each phase and model has: read once, so that the parts sum up to the totals."""
    counters_by_phase: dict[_Key, Counts] = {}
    for record in records:
        for key, counters in list(record.counters_by_phase.items()):
            known = counters_by_phase.get(key)
            counters_by_phase[key] = (
                counters.read() if known is None else known.and_of(counters.read())
            )
    return counters_by_phase


def _run_metrics(families: _Families, records: Sequence[RunRecord]) -> None:
    """Show what a run says about itself: the table above, and its labels and state."""
    sid = {semconv.SESSION_ID: records[0].session_id}
    for metric, read, merge in PER_RUN:
        # One record is the most usual.
        value = read(records[0]) if len(records) == 1 else merge([read(one) for one in records])
        if value is not None:
            families.put(metric, sid, float(value))
    current, waiting_since = shown(records).state, shown(records).waiting_since
    if waiting_since is not None:
        families.put(semconv.WAITING_SINCE, sid, waiting_since)
    families.put(semconv.SESSION_INFO, {**sid, **_whose(records[-1])}, 1.0)
    for state in semconv.SESSION_STATES:
        families.put(semconv.SESSION_STATE, {**sid, semconv.STATE: state}, float(state == current))


def _whose(record: RunRecord) -> dict[str, str]:
    """Return the labels that say whose a run is, and whose descendant."""
    if record.parent is None:
        return record.labels
    return {**record.labels, semconv.PARENT_SESSION_ID: record.parent}


def _progress(families: _Families, sid: dict[str, str], records: Sequence[RunRecord]) -> bool:
    """Show the smallest progress, if each that goes on reports one, and the counts it is of.

    Of several, those that each had when it spoke: what was used since is never taken for older.
    """
    live = [r.report for r in _live(records)]
    told = [report for report in live if report is not None and report[0] is not None]
    if not told or len(told) < len(live):
        return False
    over = [r for r in records if r.closed_at is not None] if len(records) > len(live) else []
    families.put(semconv.PROGRESS, sid, min(report[0] for report in told if report[0] is not None))
    counts = [report[1:] for report in told] + [(r.tokens, r.api_calls, r.cost_usd) for r in over]
    for metric, each in zip(_AT_PROGRESS, zip(*counts, strict=True), strict=True):
        families.put(metric, sid, float(_sum(each)))
    used = [r.further_at_report for r in _live(records)] + [r.further for r in over]
    for row in further_shown(records):
        if row.at_progress is not None:
            number = sum(further.get(row.name, 0) for further in used)
            families.put(row.at_progress, sid, float(number))
    return True


def _live(records: Sequence[RunRecord]) -> Sequence[RunRecord]:
    return [r for r in records if r.closed_at is None] or records[-1:]


def _limits(families: _Families, all_records: Sequence[RunRecord]) -> None:
    """Show what judges the run; where records differ, the strictest of each."""
    records = _live(all_records)
    sid = {semconv.SESSION_ID: records[0].session_id}
    every, put = [record.limits for record in records], families.put
    if all(record.limits_from_outside for record in records):
        put(semconv.LIMITS_FROM_OUTSIDE, sid, 1.0)
    optional = 0
    for row in RESOURCES.values():
        limited = [limits for limits in every if row.limit_of(limits) is not None]
        if not limited:
            continue
        optional += 1
        named = {**sid, semconv.RESOURCE: row.name}
        limit = min(row.limit_of(limits) for limits in limited)
        put(semconv.LIMIT, {**named, semconv.UNIT: row.unit}, float(limit))
        put(semconv.WARNING_THRESHOLD, named, min(row.threshold_of(limits) for limits in limited))
    put(semconv.COMPLETION_THRESHOLD, sid, max(limits.completion_threshold for limits in every))
    saving = [record.limits.checkpoint_interval for record in records if record.saves]
    if saving:
        put(semconv.CHECKPOINT_INTERVAL, sid, min(saving))
    kept_back = max(limits.wrap_up_calls for limits in every)
    if kept_back:
        optional += 1
        put(semconv.WRAP_UP_CALLS, sid, float(kept_back))
    optional += _progress(families, sid, all_records)
    put(semconv.OPTIONAL_SERIES, sid, float(optional))
