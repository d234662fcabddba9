"""A run evaluated by its own counts: what it used, what of that is unknown, what follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from otel_budget import semconv
from otel_budget.core.forecast import NO_FORECAST, Forecast
from otel_budget.core.resources import FURTHER, TIMES
from otel_budget.core.uncertainty import UsageUncertainty
from otel_budget.ledger.call_pace import CallPace
from otel_budget.policy.bounds import Bound, bounds_of, replaced_in, stricter, with_others
from otel_budget.policy.forecast import completion_possible, forecast_of
from otel_budget.policy.outdated import is_outgrown
from otel_budget.policy.outlook import OwnOutlook, with_forecasts
from otel_budget.policy.reserve import GRACEFUL, LastCalls, allowance
from otel_budget.policy.status import remaining_of, run_status
from otel_budget.policy.unknown_usage import OnUnknown
from otel_budget.policy.verdicts import verdict_from_usage
from otel_budget.sdk.below import Below, together
from otel_budget.sdk.phase_counters import plus

if TYPE_CHECKING:
    from collections.abc import Iterator
    from decimal import Decimal

    from otel_budget.core.limits import ResourceLimits
    from otel_budget.core.quantities import Number
    from otel_budget.core.verdict import ResourceState, Verdict
    from otel_budget.core.wrap_up import WrapUp
    from otel_budget.policy.bounds import Bounds
    from otel_budget.policy.reserve import Reserved
    from otel_budget.policy.their_limits import TheirLimits
    from otel_budget.sdk.phase_counters import Further
    from otel_budget.sdk.run_record import RunRecord


#: What is kept back, and what it follows from.
_Reserved = tuple["LastCalls", "TheirLimits | None", "Bounds", "Reserved"]
_NOTHING_BELOW: Final = Below()
_NOTHING_REPLACED: Final[Mapping[str, Bound | None]] = MappingProxyType({})


class LocalEvaluation:
    """One run's counts against its own limits. Decides nothing: that is policy's."""

    def __init__(self, record: RunRecord) -> None:
        """Judge by the record's limits."""
        self._record = record
        self._replaced: Mapping[str, Bound | None] = _NOTHING_REPLACED
        self.looks = 0
        """How often it was looked at, with what may have changed."""
        self.use_limits(record.limits)

    def use_limits(self, limits: ResourceLimits) -> None:
        """Judge by other limits from now on."""
        self.limits = limits
        self.bounds = with_others(bounds_of(limits), self._replaced)
        self._last_calls: tuple[object, LastCalls] | None = None
        """Of the newest sample of the calls."""
        self._reserved: dict[bool, _Reserved] = {}
        """What follows from that, without and with the sidecar's limits."""
        self.on_unknown = OnUnknown(limits.on_unpriced, limits.on_unknown_usage)
        stopped_by = self.on_unknown.stopped_by
        self.price_stops = stopped_by(UsageUncertainty(unpriced_calls=1), self.bounds) is not None
        """True if a call without a price stops the run."""
        self.keeps_calls = limits.wrap_up_calls > 0
        """True if calls are kept back for the run's end."""
        self.price_unheld = semconv.COST in self.bounds and not self.price_stops
        """True if a limit on cost does not hold for a call without a price."""
        self.usage_stops = (
            stopped_by(UsageUncertainty(unknown_usage_calls=1), self.bounds) is not None
        )
        """True if a call of unknown usage stops the run."""

    @property
    def heeds_operator(self) -> bool:
        """True while an operator's limits hold in place of the run's own."""
        return bool(self._replaced)

    def heed(self, theirs: Verdict | None) -> bool:
        """Let an operator's limits take the place of the run's own; tell whether that changed any.

        theirs: the sidecar's verdict in force, which says which do. None: the run's own hold.
        """
        names = theirs is not None and theirs.own_limits_replaced
        if not names and not self._replaced:
            return False  # as it is with nearly all runs
        replaced = _NOTHING_REPLACED if theirs is None else replaced_in(theirs)
        if replaced == self._replaced:
            return False
        self._replaced = replaced
        self.use_limits(self.limits)
        return True

    def used(self, bounds: Bounds | None = None) -> dict[str, Number]:
        """Return what the run used of each resource, over all its incarnations.

        Of the active time only if it is limited. bounds: in place of the run's own limits.
        """
        record, carried = self._record, self._record.carried
        with record.lock:
            record.settle()
            used: dict[str, Number] = {
                semconv.DURATION: record.duration(),
                semconv.TOKENS: carried.tokens + record.tokens,
                semconv.API_CALLS: carried.api_calls + record.api_calls,
                semconv.COST: plus(carried.cost_usd, record.cost_usd),
            }
            if semconv.ACTIVE_DURATION in (self.bounds if bounds is None else bounds):
                used[semconv.ACTIVE_DURATION] = record.active()
            used = {**used, **self._further(record.further)} if record.further else used
            return used if record.below is None else together(used, record.below)

    def _further(self, counted: Further) -> dict[str, Number]:
        """Return what the run used of further resources. counted: by this process."""
        carried = self._record.carried
        return {
            name: getattr(carried, FURTHER[name].usage_key) + number
            for name, number in counted.items()
        }

    def has_outgrown(self, counts: tuple[int, int, Decimal], further: Further) -> bool:
        """Tell whether a line of the limits lies between these counts and those of now.

        counts: tokens, API calls and cost that this process had at some time; further: what it
        had of further resources.
        """
        carried, used = self._record.carried, self.used()
        tokens, calls, cost = counts
        at: dict[str, Number] = {
            semconv.TOKENS: carried.tokens + tokens,
            semconv.API_CALLS: carried.api_calls + calls,
            semconv.COST: plus(carried.cost_usd, cost),
            **self._further(further),
        }
        below = self._record.below
        if below is not None:
            at = together(at, below.at(self._record.report))
        return is_outgrown(at, used, self.bounds)

    def crossings(self, now: float, theirs: TheirLimits | None = None) -> Iterator[float]:
        """Yield when times cross a line: monotonic seconds, of which ``now`` are the present ones.

        A run that is paused, or over, has no active time to come. theirs: as for ``verdict``.
        """
        record = self._record
        kept = self.reserved(theirs).lines if self.keeps_calls else {}
        duration = self._marks_of(semconv.DURATION, kept)
        if duration:
            passed = record.duration()
            for mark in duration:
                if passed < mark:
                    yield record.began_at + mark
        active = self._marks_of(semconv.ACTIVE_DURATION, kept) if record.is_active else ()
        if active:
            passed = record.active()
            for mark in active:
                if passed < mark:
                    yield now + (mark - passed)

    def _marks_of(self, time: str, lines: Mapping[str, Number]) -> tuple[float, ...]:
        """Return at how many seconds of a time another verdict may hold."""
        limited, line = self.bounds.get(time), lines.get(time)
        marks = () if limited is None else (float(limited.warning_at), float(limited.limit))
        return marks if line is None else (*marks, float(line))

    def forecast(self, bounds: Bounds) -> dict[str, Forecast]:
        """Return what is left of each limited resource; of a run that is over nothing is told."""
        forecasts = dict.fromkeys(bounds, NO_FORECAST)
        record = self._record
        with record.lock:  # for the pace goes on with the run
            if record.closed_at is not None:
                return forecasts
            used, pace, now = self.used(bounds), record.pace(), record.active()
            for name, limited in bounds.items():
                if name in used:
                    remaining = remaining_of(used[name], limited.limit)
                    if record.below is None or name in TIMES:
                        forecasts[name] = forecast_of(name, remaining, pace, now)
        return forecasts

    def foreseen(self, resources: Mapping[str, ResourceState]) -> Mapping[str, ResourceState]:
        """Return resources with what is left of each limited one; of a run that is over nothing."""
        record = self._record
        with record.lock:
            if record.closed_at is not None:
                return resources
            outlook = OwnOutlook(record.pace(), record.active())
            if record.below is None:
                return with_forecasts(resources, outlook)
            # What its own calls are like says nothing of those below it.
            times = {name: state for name, state in resources.items() if name in TIMES}
            return {**resources, **with_forecasts(times, outlook)}

    def completion_possible(self, progress: float | None) -> bool | None:
        """Tell whether the rest fits in every limit; None when that cannot be told."""
        record = self._record
        with record.lock:
            if record.below is not None:
                return None
            pace = record.pace()
            return completion_possible(self.used(), self.bounds, progress, self.uncertainty(), pace)

    def uncertainty(self) -> UsageUncertainty:
        """Return what is not known of that."""
        record, carried = self._record, self._record.carried
        with record.lock:
            below = record.below or _NOTHING_BELOW
            return UsageUncertainty(
                carried.unpriced_calls + record.unpriced_calls + below.unpriced_calls,
                carried.unknown_usage_calls
                + record.unknown_usage_calls
                + below.unknown_usage_calls,
                carried.estimated_calls + record.estimated_calls + below.estimated_calls,
            )

    def verdict(
        self, progress: float | None, now: float, theirs: TheirLimits | None = None
    ) -> Verdict:
        """Return the run's own verdict. now: Unix time.

        theirs: what the sidecar's verdict in force limits: last calls must fit in that, too.
        """
        keeps = self.last_calls() if self.keeps_calls else None
        verdict = self._verdict(progress, now, theirs, keeps)
        if keeps is None and not verdict.should_continue and verdict.reason in GRACEFUL:
            verdict = self._verdict(progress, now, theirs, self.last_calls())
        if not self._record.below:
            return verdict
        return replace(verdict, message=verdict.message + "; with the use of its descendants")

    def _verdict(
        self,
        progress: float | None,
        now: float,
        theirs: TheirLimits | None,
        last_calls: LastCalls | None,
    ) -> Verdict:
        bounds = self.bounds
        if theirs is not None and last_calls is not None and last_calls.calls:
            bounds = stricter(bounds, theirs.ceilings())
        used = self.used(bounds)
        return verdict_from_usage(
            self._record.session_id,
            used,
            bounds,
            progress=progress,
            completion_threshold=self.limits.completion_threshold,
            started_at=self._record.started_at,
            uncertainty=self.uncertainty(),
            on_unknown=self.on_unknown,
            now=now,
            last_calls=last_calls,
            shared=theirs.budgets(used) if theirs is not None and last_calls is not None else (),
        )

    def last_calls(self) -> LastCalls:
        """Return what is known by now of the calls that are kept back."""
        record = self._record
        with record.lock:  # for the pace goes on with the run
            newest, known = record.calls.newest, self._last_calls
            if known is None or known[0] is not newest or newest is None:
                pace = CallPace.of_kept(record.pace().kept())
                known = newest, LastCalls(self.limits.wrap_up_calls, pace)
                self._last_calls = known
            return known[1]

    def reserved(self, theirs: TheirLimits | None) -> Reserved:
        """Return all that limits the run, by its own counts, with what is kept back of it.

        A ceiling of which nothing is kept back yet has its line where it is itself.
        """
        last, known = self.last_calls(), self._reserved.get(theirs is None)
        if (
            known is not None
            and known[0] is last
            and known[1] is theirs
            and known[2] is self.bounds
        ):
            return known[3]
        found = last.reserve(self.held_to(theirs))
        if theirs is not None:
            ceilings = {name: bound.limit for name, bound in theirs.ceilings().items()}
            found = found._replace(lines={**ceilings, **found.lines})
        self._reserved[theirs is None] = last, theirs, self.bounds, found
        return found

    def held_to(self, theirs: TheirLimits | None) -> Bounds:
        """Return all that limits the run, by its own counts: with ceilings and budgets."""
        if theirs is None:
            return self.bounds
        return stricter(stricter(self.bounds, theirs.ceilings()), theirs.pooled())

    def left(self, theirs: TheirLimits | None) -> dict[str, Number]:
        """Return per resource the least that is left of all that limits the run."""
        bounds = self.held_to(theirs)
        used = self.used(bounds)
        return {n: remaining_of(used[n], b.limit) for n, b in bounds.items() if n in used}

    def status(self, theirs: TheirLimits | None) -> Mapping[str, ResourceState]:
        """Return every resource held against the least of all that limits the run."""
        bounds = self.held_to(theirs)
        return run_status(self.used(bounds), bounds, self.uncertainty()).resources

    def allowance(self, theirs: TheirLimits | None) -> WrapUp | None:
        """Return what the run's last calls may use as of now; None: nothing."""
        calls, pace = self.last_calls()
        return allowance(calls, pace, self.left(theirs))
