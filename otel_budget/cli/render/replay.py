"""What a replay gives as text for people: a line for each stop, and what came of all runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_budget.core import verdict_json
from otel_budget.core.budget import Mode
from otel_budget.core.resources import RESOURCES
from otel_budget.policy.format import amount, amounts, rest_of
from otel_budget.replay.budget_use import stops_of
from otel_budget.replay.changes import VerdictChange

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otel_budget.core.quantities import Number
    from otel_budget.replay.budget_use import BudgetUse
    from otel_budget.replay.changes import ForecastAt, Found
    from otel_budget.replay.summary import Summary

_BAR: Final = 24
_SHADOW: Final = str(Mode.SHADOW)
_FULL, _EMPTY = "█", "░"
#: Unix seconds below which a trace counts from its own beginning: a year.
_DATED: Final = 31_536_000


def found_text(found: Found) -> str | None:
    """Return what to say of something new; None of a verdict that lets a run begin."""
    if not isinstance(found, VerdictChange):
        return _forecast(found)
    verdict = found.verdict
    origin = "" if verdict.limit_from is None else f" [{verdict.limit_from}]"
    if verdict.should_continue and verdict.limit_from is None:
        return None
    return f"{_time(found.at)}  {verdict.session_id}{origin}: {verdict.message}"


def summary_text(summary: Summary, *, keep_going: bool) -> str:
    """Return what came of all runs, with a bar where a share is said."""
    point = summary.point
    lines = ["", _runs(summary), _stops(summary)]
    rows = [(name, point.used[name], whole) for name, whole in point.recorded.items() if whole]
    width = max([len(RESOURCES[name].title) for name, _, _ in rows], default=0)
    if not keep_going:
        lines += [_used(name, used, whole, width) for name, used, whole in rows]
    else:
        late = summary.overshoot
        lines += [_overshoot(name, whole, late.get(name), width) for name, _, whole in rows]
    if point.resolved:
        kept, share = point.resolved_kept, point.kept_share or 0.0
        lines.append(
            f"resolved runs kept: {kept:,} of {point.resolved:,}  {_bar(share)} {share:.1%}"
        )
    return "\n".join([*lines, *_shared(summary), *_doubts(summary)])


def _shared(summary: Summary) -> list[str]:
    """Return what shared budgets came to, and what would have been stopped by what is in shadow."""
    stopped, would = (by.get("limit_from", {}) for by in (summary.stopped_by, summary.would_stop))
    lines = [_budget(each, stopped, would) for each in summary.budgets]
    if would:
        lines.append(
            f"would have been told to stop, were nothing in shadow: {sum(would.values()):,} "
            f"({_counts(summary.would_stop['reason'])}; by the limit of {_counts(would)})"
        )
    return lines


def _budget(use: BudgetUse, stopped: Mapping[str, int], would: Mapping[str, int]) -> str:
    shadow = f", would have stopped {stops_of(use.name, would):,}" if use.mode == _SHADOW else ""
    groups = f" of {use.groups:,} groups" if use.groups > 1 else ""
    windows = f"{use.windows:,} window{'' if use.windows == 1 else 's'}{groups}"
    return (
        f"budget {use.name}: {amounts(use.used)} in {windows}, {use.exhausted:,} exhausted; "
        f"stopped {stops_of(use.name, stopped):,}{shadow}"
    )


def open_runs_text(session_ids: Sequence[str]) -> str:
    """Return the warning about runs that have no end."""
    first, many = session_ids[0], len(session_ids)
    if many == 1:
        return f"run '{first}' has no end: it counts as open"
    return f"{many:,} runs have no end, '{first}' first: they count as open"


def _runs(summary: Summary) -> str:
    still = f", {summary.open_runs:,} of them without an end" if summary.open_runs else ""
    began, ended = summary.began_at, summary.ended_at
    over = "" if began is None or ended is None else f", {_time(began)} to {_time(ended)}"
    runs = summary.point.runs
    return f"{runs:,} run{'' if runs == 1 else 's'}{still}{over}"


def _stops(summary: Summary) -> str:
    if not summary.stopped:
        return "none of them would have been told to stop"
    reasons, origins = (_counts(summary.stopped_by[key]) for key in ("reason", "limit_from"))
    cut = summary.point.cut
    before = "" if cut == summary.stopped else f", {cut:,} before their end"
    return f"told to stop: {summary.stopped:,}{before} ({reasons}; by the limit of {origins})"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in counts.items())


def _used(name: str, used: Number, whole: Number, width: int) -> str:
    share = float(used) / float(whole)
    saved: Number = whole - used  # type: ignore[operator] # of one resource
    return (
        f"{RESOURCES[name].title:{width}}  {_bar(share)} {share:6.1%} used: "
        f"{amount(name, used)} of {amount(name, whole)}, {amount(name, saved)} saved"
    )


def _overshoot(name: str, whole: Number, late: Number | None, width: int) -> str:
    share = 0.0 if late is None else float(late) / float(whole)
    after = "nothing" if late is None else amount(name, late)
    return (
        f"{RESOURCES[name].title:{width}}  {_bar(share)} {share:6.1%} overshoot: {after} of "
        f"{amount(name, whole)} after a stop"
    )


def _doubts(summary: Summary) -> list[str]:
    """Return what makes the figures less than sure."""
    lines = []
    if summary.unknown_usage_calls:
        lines.append(f"calls of unknown usage: {summary.unknown_usage_calls:,}; tokens at least")
    if summary.unpriced_calls:
        lines.append(f"calls without a price: {summary.unpriced_calls:,}; cost at least")
    if summary.inconclusive:
        lines.append(f"verdicts for want of good data: {summary.inconclusive:,}")
    if summary.dropped:
        lines.append(f"samples refused: {_counts(summary.dropped)}")
    return lines


def _forecast(found: ForecastAt) -> str:
    left = rest_of(found.forecast) or "what is left cannot be told"
    at = f"{found.share * 100:.12g}% of its limit on {RESOURCES[found.resource].noun} used"
    return f"{_time(found.at)}  {found.session_id}: {at}: {left}"


def _bar(share: float) -> str:
    full = round(min(1.0, max(0.0, share)) * _BAR)
    return _FULL * full + _EMPTY * (_BAR - full)


def _time(at: float) -> str:
    return f"{at:.1f} s" if abs(at) < _DATED else verdict_json.timestamp(at)
