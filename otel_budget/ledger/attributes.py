"""A run's attributes, put together from several readings, targets and processes.

The rule: what is missing never loosens anything. What a reading leaves out is taken from the one
before, and of processes that cannot be put in order the stricter value counts. Labels are neither
strict nor loose: those of one reading go together, and of several processes the newest says them.

A store of metrics may lose a series without a word, so an absence alone lifts no limit. It does
where the run exports how many series of the kind it has, and as many are there; or where the limit
is exported as infinite.

A second target of one process may be another way to it, or a page that makes up its name. It may
tighten what the first one reports, and loosens nothing: of those that were seen lately the stricter
value counts, and the earliest beginning. The process has ended when one of them reports so and none
was seen later that reports otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from typing import Any, Final, NamedTuple, TypeVar

from otel_budget import semconv
from otel_budget.core.observation import RunAttributes, is_handed_over
from otel_budget.core.quantities import Number

N = TypeVar("N", float, Number)


def filled(newer: RunAttributes, older: RunAttributes, *, whole: bool) -> RunAttributes:
    """Return the newer attributes, with what they leave unsaid taken from the older ones.

    whole: False if something of the newer ones is known to be missing.
    """
    if whole and _all_said(newer, older):
        return newer  # as it is with most runs at every sample
    stated = whole and newer.optional_series == newer.optional_shown
    merged: dict[str, object] = {}
    for name, new, old in zip(RunAttributes._fields, newer, older, strict=True):
        if isinstance(new, Mapping):
            merged[name] = {**(old or {}), **new}  # type: ignore[dict-item] # both are mappings
        else:
            merged[name] = old if new is None else new
    limits = newer.limits if stated else {**older.limits, **newer.limits}
    merged["limits"] = {key: limit for key, limit in limits.items() if limit != math.inf}
    if stated:
        merged["progress"] = newer.progress
        merged["wrap_up_calls"] = newer.wrap_up_calls
    merged["labels"] = older.labels if newer.labels is None else newer.labels
    if newer.labels is not None:  # both are said together, and no parent is said by its absence
        merged["parent"] = newer.parent
    if newer.state is not None:
        merged["waiting_since"] = newer.waiting_since
    attributes = RunAttributes(**merged)  # type: ignore[arg-type] # each value is of its own field's type
    return newer if attributes == newer else attributes


def begun_with(stated: RunAttributes, before: RunAttributes) -> RunAttributes:
    """Return the attributes of the process before that hold beside the first ones of a new process.

    None do, unless the new one says that it has more to say than is seen of it.
    """
    lost = stated.optional_series is not None and stated.optional_series > stated.optional_shown
    return before._replace(progress=None) if lost else RunAttributes()


def _all_said(newer: RunAttributes, older: RunAttributes) -> bool:
    """Tell, at once, that newer attributes leave nothing unsaid that older ones say."""
    return (
        newer.limits is older.limits
        and newer.thresholds is older.thresholds
        and newer.optional_series == older.optional_series
        and (newer.state is not None or older.state is None)
        and (newer.progress is not None or older.progress is None)
        and (newer.started_at is not None or older.started_at is None)
        and (newer.duration is not None or older.duration is None)
        and (newer.active is not None or older.active is None)
        and (newer.labels is not None or (older.labels is None and older.parent is None))
        and (newer.completion_threshold is not None or older.completion_threshold is None)
        and (newer.wrap_up_calls is not None or older.wrap_up_calls is None)
        and (newer.limits_from_outside is not None or older.limits_from_outside is None)
    )


def strictest(one: RunAttributes, other: RunAttributes) -> RunAttributes:
    """Return the attributes that hold where two processes report some, in whatever order.

    A run is over when both say so.
    """
    states = (one.state, other.state)
    pick = min((one, other), key=progress_order)
    return RunAttributes(
        started_at=_one_of(max, one.started_at, other.started_at),
        incarnation_at=_one_of(max, one.incarnation_at, other.incarnation_at),
        carried_over=_each(max, one.carried_over, other.carried_over),
        limits=_each(min, one.limits, other.limits),
        thresholds=_each(min, one.thresholds, other.thresholds),
        completion_threshold=_one_of(max, one.completion_threshold, other.completion_threshold),
        progress=_one_of(min, one.progress, other.progress),
        duration=_one_of(max, one.duration, other.duration),
        unpriced_calls=_one_of(max, one.unpriced_calls, other.unpriced_calls),
        unknown_usage_calls=_one_of(max, one.unknown_usage_calls, other.unknown_usage_calls),
        estimated_calls=_one_of(max, one.estimated_calls, other.estimated_calls),
        optional_series=_one_of(max, one.optional_series, other.optional_series),
        active=_one_of(max, one.active, other.active),
        progress_tokens=pick.progress_tokens,
        progress_api_calls=pick.progress_api_calls,
        progress_cost=pick.progress_cost,
        progress_further=pick.progress_further,
        follows_completed=_one_of(min, one.follows_completed, other.follows_completed),
        state=min(states, key=_liveliness),
        idle_after=_one_of(max, one.idle_after, other.idle_after),
        labels=min(one.labels, other.labels, key=labels_order),
        parent=min(one.parent, other.parent, key=_parent_order),
        wrap_up_calls=_one_of(max, one.wrap_up_calls, other.wrap_up_calls),
        waiting_since=_one_of(min, one.waiting_since, other.waiting_since),
        limits_from_outside=_both(one.limits_from_outside, other.limits_from_outside),
    )


def progress_order(attributes: RunAttributes) -> tuple[Any, ...]:
    """Return what sorts attributes: the least progress first, then that of the least use."""
    return (
        math.inf if attributes.progress is None else attributes.progress,
        *(
            -1.0 if used is None else used
            for used in (
                attributes.progress_tokens,
                attributes.progress_api_calls,
                attributes.progress_cost,
            )
        ),
        attributes.progress_further is not None,
        sorted((attributes.progress_further or {}).items()),
    )


#: States of a run that has not ended, the liveliest first.
_LIVE: Final = (semconv.RUNNING, semconv.WAITING, semconv.PAUSED, None)


def _liveliness(state: str | None) -> tuple[int, str]:
    """Put states in order: what runs before what waits, is paused, says nothing, and has ended."""
    if state in semconv.ENDED_STATES:
        return len(_LIVE), state or ""
    return (_LIVE.index(state), "") if state in _LIVE else (_LIVE.index(None), state or "")


def labels_order(labels: Mapping[str, str] | None) -> tuple[bool, list[tuple[str, str]]]:
    """Put labels in one order, whatever order they come in; those that are not said are last."""
    return labels is None, sorted((labels or {}).items())


def _parent_order(parent: str | None) -> tuple[bool, str]:
    """Put parents in one order: of two that contradict each other, one that is named holds."""
    return parent is None, parent or ""


def _one_of(
    choose: Callable[[Iterable[float]], float], one: float | None, other: float | None
) -> float | None:
    known = [value for value in (one, other) if value is not None]
    return choose(known) if known else None


def _both(one: float | None, other: float | None) -> float | None:
    """Return what both permit."""
    return None if one is None or other is None else min(one, other)


def _each(
    choose: Callable[[N, N], N], one: Mapping[str, N], other: Mapping[str, N]
) -> dict[str, N]:
    merged = dict(one)
    for key, value in other.items():
        merged[key] = choose(merged[key], value) if key in merged else value
    return merged


#: Targets, or samples of one that contradict each other, that are heard at most.
REPORTS_MOST = 8


class TargetReport(NamedTuple):
    """What one target says. Times in seconds on the reader's own clock."""

    at: float
    """When the sample it comes from was taken."""
    attributes: RunAttributes
    began_at: float | None
    timed: bool
    whole_at: float = 0.0
    """When the newest sample was taken of which nothing was missing."""
    ended_at: float | None = None
    """When it was first seen to say that the run has ended, if it does."""

    def follow(self, before: TargetReport | None) -> TargetReport:
        """Return it as what the same target says after something else."""
        report = self
        if before is not None and not report.whole_at:
            report = report._replace(whole_at=before.whole_at)
        if self.attributes.state not in semconv.ENDED_STATES:
            return report
        known = None if before is None else before.ended_at
        return report._replace(ended_at=self.at if known is None else known)


#: Seconds within which a page is read that was made before the run handed over its end.
_READ_WITHIN = 10.0


def _goes_on(report: TargetReport, since: float, last: TargetReport | None) -> bool:
    """Tell whether a report shows that a run goes on that is said to have ended.

    since: when that was said first. last: what the run handed over as its last word. A page that
    was made before it, and read just after, is no news: by its own clock the run is no older there.
    """
    if report.ended_at is not None or report.at <= since:
        return False
    if last is None or last.ended_at is None or report.at > last.ended_at + _READ_WITHIN:
        return True
    lasted, ended = report.attributes.duration, last.attributes.duration
    return lasted is None or ended is None or lasted > ended


def reported_together(by_place: Mapping[str, TargetReport], silence: float) -> TargetReport:
    """Return what they say together. silence: seconds after which one does not count any more."""
    reports = by_place.values()
    newest = max(report.at for report in reports)
    since = max(report.whole_at for report in reports) - silence
    fresh = [report for report in reports if report.at >= since]
    last = next((r for place, r in by_place.items() if is_handed_over(place)), None)
    attributes = reduce(strictest, (report.attributes for report in fresh))
    ended = [report for report in fresh if report.ended_at is not None]
    since = min((report.ended_at or 0.0 for report in ended), default=newest)
    if ended and not any(_goes_on(report, since, last) for report in fresh):
        attributes = attributes._replace(
            state=min(report.attributes.state or "" for report in ended)
        )
    beginnings = [report.began_at for report in fresh if report.began_at is not None]
    timed = any(report.timed for report in fresh)
    return TargetReport(newest, attributes, min(beginnings, default=None), timed)
