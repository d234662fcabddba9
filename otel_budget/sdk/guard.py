"""Whether a run may go on: its own limits from exact counts, and the sidecar's verdict on top.

The guard is asked before every operation, so it keeps watermarks: counts, money and a moment below
which no status can have changed and the answer is known without asking policy again. Everything
else (the verdict, warnings once per change, waking those who wait) happens when one is crossed, the
sidecar speaks, or the limits change.
"""

from __future__ import annotations

import logging
import math
import threading
from dataclasses import replace
from decimal import Decimal
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from otel_budget import semconv
from otel_budget.core.exceeded import BudgetExceeded
from otel_budget.core.reasons import Action, Reason
from otel_budget.core.resources import COUNTED, FURTHER
from otel_budget.core.verdict import LimitStatus, Verdict
from otel_budget.logs.logger import logger
from otel_budget.policy.bounds import OWN, bounds_in, stricter
from otel_budget.policy.briefing import briefing_of
from otel_budget.policy.families import stopped_below
from otel_budget.policy.format import amounts, describe
from otel_budget.policy.outdated import is_graceful, redecide, relaxed
from otel_budget.policy.reserve import Reserved, forbids_wrap_up, larger, within
from otel_budget.policy.status import SEVERITY, check
from otel_budget.sdk.engagement import sidecar_lost, unjudged
from otel_budget.sdk.local_evaluation import LocalEvaluation
from otel_budget.sdk.outbox import Outbox
from otel_budget.sdk.phase_counters import plus
from otel_budget.sdk.run_record import OUTGROWN
from otel_budget.sdk.watermarks import CROSSED, SidecarWatermarks, Watermarks, reached
from otel_budget.sdk.wrap_ups import WrapUps

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_budget.core.forecast import Forecast
    from otel_budget.core.limits import ResourceLimits
    from otel_budget.core.quantities import Number
    from otel_budget.core.uncertainty import UsageUncertainty
    from otel_budget.core.verdict import LimitCheckResult, ResourceState
    from otel_budget.core.wrap_up import WrapUp
    from otel_budget.policy.briefing import Briefing
    from otel_budget.policy.their_limits import TheirLimits
    from otel_budget.sdk.below import Below
    from otel_budget.sdk.clock import Clock
    from otel_budget.sdk.kinship import Kinship
    from otel_budget.sdk.phase_counters import Further
    from otel_budget.sdk.run_record import Report, RunRecord
    from otel_budget.sdk.sidecar_client.lease import Lease
    from otel_budget.sdk.wrap_ups import OpenBlock, Used

#: The moment of a mark is early by so many times what a float of its size can tell apart: the
#: difference of two moments is rounded, and the marks must never come after the limit.
_ROUNDING = 8
_NOTHING_APART: Final[Mapping[str, Number]] = MappingProxyType({})
_SEVERITY = {**SEVERITY, LimitStatus.INCONCLUSIVE: 1}


class Guard:
    """Own limits and the sidecar's verdict, for one run.

    It has at most 30 attributes of its own, as many as CPython keeps in one table for all objects
    of a class: with more, each question takes some 5 % longer.
    """

    family: Kinship | None = None
    """The run's place among those of its process; most have none."""
    wrap_ups: WrapUps | None = None
    """Its last calls after a stop in time, once it made some."""
    no_room: tuple[Verdict, object] | None = None
    """What its last call was refused with, for want of room though the run may go on, and what
    limited the run then."""

    def __init__(
        self,
        record: RunRecord,
        clock: Clock,
        *,
        lease: Lease | None,
        stop_without_sidecar: bool,
        on_status: Callable[[str, ResourceState], None],
        on_change: Callable[[Verdict], None],
        nudge: Callable[[], None],
    ) -> None:
        """Begin with every watermark crossed, so that the first question is looked into.

        on_status: a resource's status changed. on_change: the verdict's action or reason changed.
        Both are called without a lock held, one at a time and in the order of what happened.
        nudge: asks the sidecar to look at the run now; returns at once.
        """
        self._record, self._clock, self._lease = record, clock, lease
        self._stop_without_sidecar = stop_without_sidecar
        self._on_status, self._on_change = on_status, on_change
        self._own_watermarks, self._sidecar_watermarks = CROSSED, SidecarWatermarks(record, nudge)
        self.local = LocalEvaluation(record)
        self._lock = threading.RLock()  # reentrant for signal handlers, like the record's
        self._outbox = Outbox()
        self._statuses: dict[str, LimitStatus] = {}
        self._announced: tuple[Action, str] = (Action.CONTINUE, Reason.WITHIN_LIMITS)
        self.listeners: set[Callable[[], None]] = set()
        """Called, from any thread, when the verdict or the watermarks may have changed."""
        self.withdrawn: Report | None = None
        """The report after which the run said that it does not know how far it is."""
        self.told_to_stop = False
        """The run's last question was answered with stop."""
        # Counts of this process at which some status changes next.
        self.tokens_watermark = self.api_calls_watermark = -1
        self.cost_watermark = Decimal(-1)
        self.further_watermarks: Further = dict.fromkeys(FURTHER, -1)
        self.unpriced_watermark = -1
        """API calls at which one without a price changes a status, stops the run, or is said."""
        self.api_calls_mark = self.unpriced_mark = -1
        """The same two, or the number of calls at which their next sample is due, if that is lower:
        what is looked at when a call was counted."""
        self.said_unpriced = False
        """A limit on cost was said not to hold for calls without a model."""
        self._marks = CROSSED
        """The same, with what is counted below the run."""
        self.standing: Verdict | None = None
        """The verdict, if it is a stop; as of the last look."""
        self._uncertainty: UsageUncertainty | None = None
        # Monotonic seconds until which the verdict stays the "continue" it is, unless a count
        # crosses its watermark: for any progress from ``unchanged_from`` on, and for an unknown one
        # or not.
        self.unchanged_until = -math.inf
        self.unchanged_from, self.unchanged_if_unknown = 0.0, True

    @property
    def progress(self) -> float | None:
        """What the run reported since a count last crossed its watermark; None for unknown."""
        report = self._record.report
        return None if report is None or report is self.withdrawn else report[0]

    def check(self) -> LimitCheckResult:
        """Hold the run's own counts against its own limits. Forecasts nothing."""
        self._heed()
        local = self.local
        bounds = local.reserved(None).bounds if local.keeps_calls else local.bounds
        return check(local.used(), bounds, local.uncertainty())

    def check_with_forecast(self) -> LimitCheckResult:
        """Do the same, and say what is left until each limit."""
        result = self.check()
        return replace(result, resources=self.local.foreseen(result.resources))

    def verdict(self, progress: float | None) -> Verdict:
        """Return the stricter of the run's own verdict and the sidecar's. Changes nothing.

        While the run wraps up it may go on, as far as that is allowed.
        """
        return self._wrapping_up(self._judged(progress))

    def _wrapping_up(self, judged: Verdict) -> Verdict:
        ups = self.wrap_ups
        if ups is None or ups.block is None:
            return judged
        reached = any(amount <= 0 for amount in self.left().values())
        return ups.applied_to(judged, ends=reached or self._is_revoked())

    def _is_revoked(self) -> bool:
        """Tell whether the sidecar says by now that the run may make no last calls."""
        theirs = None if self._lease is None else self._lease.current()
        if theirs is None or theirs.should_continue or self._is_outdated(theirs, self.progress):
            return False
        return forbids_wrap_up(theirs) and not (self._lease and self._lease.binding_in())

    def _judged(self, progress: float | None) -> Verdict:
        """Return the same without its last calls."""
        verdict = self._stricter(progress)
        ups = self.wrap_ups
        return verdict if ups is None else ups.judged(verdict, self._limits_behind)

    def _stricter(self, progress: float | None) -> Verdict:
        self._heed()
        theirs = None if self._lease is None else self._lease.current()
        own = self.local.verdict(progress, self._clock.time(), self._their_limits())
        if self.family is not None:
            own = self._in_family(own, self.family)
        if self._lease is None:
            return own
        if theirs is None:
            lost = self._stop_without_sidecar and own.should_continue and self._lease.is_lost()
            if lost:
                return sidecar_lost(own, self._lease)
            return unjudged(own, self._lease) if own.should_continue else own
        if not theirs.should_continue and not self._is_outdated(theirs, progress):
            return own if self._lease.binding_in() else self._stopped_by(theirs, own)
        worse = _SEVERITY[theirs.status] > _SEVERITY[own.status]
        return theirs if own.should_continue and theirs.should_continue and worse else own

    def _stopped_by(self, theirs: Verdict, own: Verdict) -> Verdict:
        """Return what stops a run that the sidecar stops. The run's own stop goes first, but with
        no last calls that the sidecar does not allow.
        """
        if own.should_continue:
            return self._with_allowance(theirs)
        return replace(own, wrap_up=None) if forbids_wrap_up(theirs) else own

    def _in_family(self, own: Verdict, family: Kinship) -> Verdict:
        own = stopped_below(own, family.above())
        if own.wrap_up is None:
            return own
        return replace(own, wrap_up=within(own.wrap_up, family.left_above()))

    def _with_allowance(self, theirs: Verdict) -> Verdict:
        """Return a sidecar's stop with what may still be used by now: it knows what was scraped."""
        allowed = theirs.wrap_up
        if forbids_wrap_up(theirs) or (allowed is None and not self.local.last_calls().pace.calls):
            return theirs if allowed is None else replace(theirs, wrap_up=None)
        here = self.local.allowance(self._their_limits())
        if allowed is not None and here is not None:  # of how large a call is, both know a part
            here = within(larger(allowed, here), self.left())
        if here is not None and self.family is not None:
            here = within(here, self.family.left_above())
        return theirs if here == allowed else replace(theirs, wrap_up=here)

    def _their_limits(self) -> TheirLimits | None:
        """Return what the sidecar's verdict in force limits; None: there is none in force."""
        in_force = self._lease is not None and self._lease.is_in_force()
        return self._sidecar_watermarks.limits if in_force else None

    def left(self) -> dict[str, Number]:
        """Return per resource the least that is left: of own limits, ceilings and budgets."""
        return self.local.left(self._their_limits())

    def _limits_behind(self, stop: Verdict) -> object:
        """Return what would have to be other limits for a stop not to hold any more."""
        own, theirs = self.local.limits, self._their_limits()
        if theirs is None or stop.origins == {OWN}:
            return own
        return own, theirs.named()

    def begin_wrap_up(self) -> OpenBlock | None:
        """Allow the run its last calls; None if it may go on. Raises BudgetExceeded."""
        verdict = self.reconsider(self.progress)
        with self._lock:
            ups = self.wrap_ups or WrapUps()
            if ups.block is not None:
                judged = self._judged(self.progress)
                message = f"{judged.message}; it wraps up already, in a block that is still open"
                stop = replace(judged, action=Action.STOP, message=message, wrap_up=None)
                raise BudgetExceeded(self.foreseen(stop))
            if verdict.should_continue:
                verdict = self._refused_last() or verdict
            if verdict.should_continue:
                return None
            self.told_to_stop = True
            if verdict.wrap_up is None:
                raise BudgetExceeded(self.foreseen(verdict))
            self.wrap_ups = ups
            limits = self._limits_behind(verdict)
            block = ups.begin(verdict, verdict.wrap_up, limits, self._record)
        self.reconsider(self.progress)
        self.wake()
        return block

    def refused(self, stop: Verdict) -> None:
        """Take note that a call was refused: not one more of its size fits."""
        self.no_room = stop, self._limits_behind(stop)

    def _refused_last(self) -> Verdict | None:
        """Return what the last call was refused with, as of now; None: it may be another by now."""
        if self.no_room is None:
            return None
        stop, limits = self.no_room
        self.no_room = None
        if limits != self._limits_behind(stop):
            return None
        return replace(stop, wrap_up=self.allowance())

    @property
    def wraps_up(self) -> bool:
        """True while it makes its last calls."""
        return self.wrap_ups is not None and self.wrap_ups.block is not None

    def end_wrap_up(self, block: OpenBlock) -> Used:
        """Put the stop back; return what was used meanwhile."""
        with self._lock:
            ups = self.wrap_ups = self.wrap_ups or WrapUps()
            used = ups.end(block)
        self.told_to_stop = not self.reconsider(self.progress).should_continue
        self.wake()
        return used

    def answered(self, verdict: Verdict) -> Verdict:
        """Take note of what the run was told."""
        self.told_to_stop = self.wraps_up or not verdict.should_continue
        return verdict

    def refusal(self, verdict: Verdict) -> BudgetExceeded:
        """Return what is raised for a call that may not be made."""
        if self.wrap_ups is not None and self.wrap_ups.block is not None:
            self.wrap_ups.block.refused = True
        return BudgetExceeded(self.foreseen(verdict))

    def _heed(self) -> None:
        """Hold the run to an operator's limits in place of its own, while the sidecar says so."""
        theirs = None if self._lease is None else self._lease.current()
        with self._lock:
            if not self.local.heed(theirs):
                return
            limits = amounts({name: bound.limit for name, bound in self.local.bounds.items()})
        heeds, level = self.local.heeds_operator, logging.INFO
        words = "an operator's limits hold" if heeds else "its own limits hold again"
        if not heeds and theirs is None:
            level, words = logging.WARNING, f"without a sidecar {words}"
        self._outbox.add(
            [
                partial(
                    logger.log, level, "run %r: %s: it is limited to %s",
                    self._record.session_id, words, limits or "nothing",
                )
            ]
        )  # fmt: skip

    def now(self) -> float:
        """Return monotonic seconds, by the clock of the run."""
        return self._clock.monotonic()

    def may_go_on(self) -> bool:
        """Tell, at once, that the run may go on; False: it has to be looked into."""
        progress = self.progress
        if progress is None:
            return self.unchanged_if_unknown and self.now() < self.unchanged_until
        return progress >= self.unchanged_from and self._clock.monotonic() < self.unchanged_until

    def limits_in_force(self, apart: Mapping[str, Number] = _NOTHING_APART) -> dict[str, Number]:
        """Return all that limits the run, by its own counts: also the ceilings and budgets that the
        sidecar's verdict in force names, and while it wraps up what it may use for that.

        apart: what is held then by calls from before, which use none of it.
        """
        bounds = self.local.held_to(self._their_limits())
        limits = {name: limited.limit for name, limited in bounds.items()}
        ups = self.wrap_ups
        if ups is None or ups.block is None:
            return limits
        most, used, record = ups.block.marks(), self.local.used(), self._record
        left: dict[str, Number] = {
            semconv.TOKENS: most.tokens - record.tokens,
            semconv.API_CALLS: most.api_calls - record.api_calls,
            semconv.COST: plus(most.cost, record.cost_usd.copy_negate()),
        }
        for name, allowed in left.items():
            now, held = used[name], apart.get(name, 0)
            more = plus(allowed, held) if isinstance(allowed, Decimal) else allowed + held  # type: ignore[arg-type,operator] # both are of one resource
            total = plus(now, more) if isinstance(now, Decimal) else now + more  # type: ignore[operator,arg-type] # both are of one resource
            limits[name] = min(total, limits.get(name, total))
        return limits

    @property
    def last_calls(self) -> int:
        """How many calls are kept back from ordinary ones: none once the run wraps up."""
        return 0 if self.wraps_up else self.local.limits.wrap_up_calls

    def allowance(self) -> WrapUp | None:
        """Return what last calls may use by now; None: nothing."""
        found = self.local.allowance(self._their_limits())
        if found is None or self.family is None:
            return found
        return within(found, self.family.left_above())

    def foreseen(self, verdict: Verdict) -> Verdict:
        """Return a verdict of the run's own with its forecast; the sidecar's has one already."""
        if verdict.sequence is not None:
            return verdict
        return replace(verdict, resources=self.local.foreseen(verdict.resources))

    def forecast(self) -> dict[str, Forecast]:
        """Return what is left of each limited resource, by the run's own counts.

        The limit is the stricter of the run's own and the one that the sidecar's verdict names.
        """
        theirs = None if self._lease is None else self._lease.current()
        bounds = self.local.bounds
        if theirs is not None:
            bounds = stricter(bounds, bounds_in(theirs))
        return self.local.forecast(bounds)

    def briefing(self) -> Briefing:
        """Return what a model is to know of what is left: of own limits, ceilings and budgets."""
        verdict, local = self.verdict(self.progress), self.local
        return briefing_of(
            local.foreseen(local.status(self._their_limits())),
            kept=local.limits.wrap_up_calls,
            last=verdict.wrap_up,
            stopped=not verdict.should_continue,
        )

    def reconsider(self, progress: float | None) -> Verdict:
        """Look at everything again: set the watermarks, warn of what changed, wake those who wait.

        progress: what the run reports, None for unknown.
        """
        if self.family is not None:
            self.family.look_above()
        with self._lock:
            verdict, news = self._look_once(progress)
            while self._crossed():  # by another thread, between the look and the new marks
                verdict, more = self._look_once(progress)
                news = news or more
            block = None if self.wrap_ups is None else self.wrap_ups.block
            if block is not None and block.goes_on is not verdict.should_continue:
                block.goes_on, news = verdict.should_continue, True
        if news:
            self.wake()
        self._outbox.deliver()
        return verdict

    def _look_once(self, progress: float | None) -> tuple[Verdict, bool]:
        """Look once; return the verdict, and whether there is news. Hold the lock."""
        local = self.local
        self._heed()
        used, self._uncertainty = local.used(), local.uncertainty()
        self._forget_outgrown_progress()
        self._sidecar_watermarks.look()
        theirs = self._their_limits()
        reserved = local.reserved(theirs) if local.keeps_calls else Reserved(local.bounds)
        bounds = local.reserved(None).bounds if local.keeps_calls else local.bounds
        result = check(used, bounds, self._uncertainty)
        news: list[Callable[[], None]] = [
            partial(self._warn, resource, state) for resource, state in self._status_news(result)
        ]
        judged = self._judged(progress)
        if judged.should_continue and self.wrap_ups is not None:
            self.wrap_ups.forget()
        lost = judged.reason == Reason.SIDECAR_LOST and self._record.closed_at is not None
        self.standing = None if judged.should_continue or lost else judged
        self._set_watermarks(used, result, judged, reserved)
        if (judged.action, judged.reason) != self._announced:
            self._announced = (judged.action, judged.reason)
            news.append(partial(self._on_change, self.foreseen(judged)))
        self._outbox.add(news)
        return self._wrapping_up(judged), bool(news)

    def _crossed(self) -> bool:
        record = self._record
        return (
            record.tokens >= self.tokens_watermark
            or record.api_calls >= self.api_calls_watermark
            or record.cost_usd >= self.cost_watermark
            or (self.further_watermarks and reached(self.further_watermarks, record.further))
            or (
                (self.local.price_stops or self.local.usage_stops)
                and self._uncertainty != self.local.uncertainty()
            )
        )

    def sample_call(self) -> bool:
        """Take the sample of the calls that is due; tell whether a watermark is crossed, too."""
        record = self._record
        with record.lock:
            paused_at = record.paused_at
            now = self._clock.awake() if paused_at is None else paused_at
            record.calls.take(record, now - record.paused_seconds)
            self._set_call_marks()
        return self.local.keeps_calls or self._crossed()  # with each sample the reserve changes

    def receive(self, verdict: Verdict) -> None:
        """Take in a verdict of the sidecar, which the lease has by now."""
        with self._lock:
            self._sidecar_watermarks.renew(verdict, self.local.used())
        self.reconsider(self.progress)
        for listener in tuple(self.listeners):
            listener()  # an order may matter to who waits, though the run must stop anyway

    def watermark_crossed(self) -> None:
        """Take note that a count has crossed its watermark.

        A progress reported before that says nothing about now: deciding by it would interrupt a run
        that is nearly done, a moment before it says so.
        """
        if self._record.closed_at is not None:
            logger.warning(
                "run %r: an operation was recorded after close(): it is in the run's "
                "report and metrics, but not in the totals of the process", self._record.session_id,
            )  # fmt: skip
        with self._lock:
            self._forget_outgrown_progress()
        self.reconsider(self.progress)

    def resume_from(self, progress: float | None) -> None:
        """Begin with the progress of a checkpoint: as of what was used then, or outgrown."""
        self._record.report = OUTGROWN if progress is None else (progress, *OUTGROWN[1:])

    def _forget_outgrown_progress(self) -> None:
        """Forget a progress from before a count crossed a line. Hold the lock."""
        report = self._record.report
        if report is None or report is OUTGROWN:
            return
        at, further = report[1:], self._record.further_at_report
        marks = (self._own_watermarks, self._sidecar_watermarks.present)
        below = self._record.below
        then = marks if below is None else [m.less(below.at(report)) for m in marks]
        crossed = any(
            m.crossed_by(self._record) and not before.reached_by(*at, further)
            for m, before in zip(marks, then, strict=True)
        )
        if crossed or self.local.has_outgrown(at, further):
            self._record.report = OUTGROWN

    def ended(self) -> None:
        """Take note that the run is over: what is still recorded is to be noticed."""
        with self._lock:
            self.tokens_watermark = self.api_calls_watermark = self.unpriced_watermark = -1
            self.further_watermarks = dict.fromkeys(FURTHER, -1)
            with self._record.lock:
                self._set_call_marks()
            self.unchanged_until = -math.inf
        self.wake()

    def wake(self) -> None:
        """Wake everyone who waits, to look again."""
        for listener in tuple(self.listeners):
            listener()
        if self.family is not None:
            self.family.wake_children()

    def add_below(self, more: Below) -> None:
        """Count what a run below this one has used; ``check_below`` comes next."""
        record = self._record

        def add() -> None:
            if record.below is not None:
                record.below.add(more, record.report)
            self._set_marks()

        record.exclusively(add)

    def check_below(self) -> None:
        """Look at everything again if what was counted below the run crossed a watermark."""
        if self._crossed():
            with self._lock:
                self._forget_outgrown_progress()
            self.reconsider(self.progress)

    def is_due(self) -> bool:
        """Tell whether time alone may have changed the verdict since the last look."""
        return self._clock.monotonic() >= self.unchanged_until

    def update_limits(self, limits: ResourceLimits) -> None:
        """Judge by other limits from now on."""
        with self._lock:
            self._record.take_limits(limits)
            self.local.use_limits(limits)
        self.reconsider(self.progress)
        self.wake()

    def unpaused(self) -> None:
        """Take note that the active time goes on: if it is limited, a line lies ahead again."""
        if semconv.ACTIVE_DURATION in self.local.bounds:
            self.reconsider(self.progress)
            self.wake()

    def next_change_in(self) -> float | None:
        """Return the seconds until the passing of time alone may change the verdict, or None."""
        moment = self.next_change_at()
        return None if moment is None else max(0.0, moment - self._clock.monotonic())

    def next_change_at(self) -> float | None:
        """Return when the passing of time alone may change the verdict, by the clock; or None."""
        moments = list(self.local.crossings(self._clock.monotonic(), self._their_limits()))
        if self.wrap_ups is not None and self.wrap_ups.block is not None:
            moments += self.wrap_ups.block.moments()
        above = None if self.family is None else self.family.change_above_at()
        if above is not None:
            moments.append(above)
        if self._lease is not None:
            theirs = self._lease.current()
            stops = theirs is not None and not theirs.should_continue
            if self._stop_without_sidecar or stops or self.local.heeds_operator:
                left = self._lease.binding_in() or self._lease.left()
                moments.append(self._clock.monotonic() + left)
        return min(moments, default=None)

    def _is_outdated(self, theirs: Verdict, progress: float | None) -> bool:
        """Tell whether the sidecar would not say stop, if it knew of the run what the run knows.

        That is how far it is, and which limits of its own it has by now. Where a count has crossed
        a line since the run last said how far it is, the sidecar's word on that is as old.
        """
        if relaxed(theirs, self.local.bounds):
            return True
        if theirs.reason == Reason.WRAP_UP and not self.local.keeps_calls:
            return True
        if progress is None:
            return self._record.report is OUTGROWN and is_graceful(theirs)
        return redecide(theirs, progress, self._record.limits.completion_threshold)

    def _status_news(self, result: LimitCheckResult) -> list[tuple[str, ResourceState]]:
        news = []
        for resource, state in result.resources.items():
            if state.status is not self._statuses.get(resource, LimitStatus.OK):
                news.append((resource, state))
            self._statuses[resource] = state.status
        return news

    def _set_watermarks(
        self,
        used: dict[str, Number],
        result: LimitCheckResult,
        verdict: Verdict,
        reserved: Reserved,
    ) -> None:
        # First of all: once the marks are those after a limit, no count crosses one any more, and
        # another thread that still took the old answer for granted would go on and on.
        self.unchanged_until = -math.inf
        self.local.looks += 1

        def ahead(resource: str) -> Number | None:
            limited = self.local.bounds.get(resource)
            if limited is None or used[resource] >= limited.limit:
                return None
            return limited.warning_at if used[resource] < limited.warning_at else limited.limit

        totals = {name: ahead(name) for name in COUNTED if name in used}
        self._own_watermarks = Watermarks.of(totals, self._record.carried)
        self._marks = self._own_watermarks.and_of(self._sidecar_watermarks.present)
        if reserved.lines:  # no progress is outgrown at these
            ahead_of = {n: line for n, line in reserved.lines.items() if used.get(n, line) < line}
            self._marks = self._marks.and_of(Watermarks.of(ahead_of, self._record.carried))
        with self._record.lock:
            self._set_marks()
        theirs = None if self._lease is None else self._lease.current()
        # A sidecar's stop that gave way to the progress is back when the progress is unknown again.
        held_back = self.told_to_stop or (theirs is not None and not theirs.should_continue)
        if held_back or not verdict.should_continue:
            return
        if result.status is LimitStatus.OK:
            self.unchanged_from, self.unchanged_if_unknown = 0.0, True
        elif verdict.progress is None:
            self.unchanged_from, self.unchanged_if_unknown = math.inf, True
        else:
            self.unchanged_from, self.unchanged_if_unknown = (
                self._record.limits.completion_threshold,
                False,
            )
        moment = self.next_change_at()
        self.unchanged_until = math.inf if moment is None else self._surely_before(moment)

    def _set_marks(self) -> None:
        """Set the counts of the run itself at which a status changes. Hold the record's lock."""
        marks, below = self._marks, self._record.below
        if below is not None:
            marks = marks.less(below)
        if self.wrap_ups is not None and self.wrap_ups.block is not None:
            marks = marks.and_of(self.wrap_ups.block.marks().beyond(self._record))
        self.tokens_watermark, self.api_calls_watermark, self.cost_watermark = marks[:3]
        self.further_watermarks = marks.further
        unsaid = self.local.price_unheld and not self.said_unpriced
        at_once = self.local.price_stops or unsaid
        self.unpriced_watermark = -1 if at_once else self.api_calls_watermark
        self._set_call_marks()

    def _set_call_marks(self) -> None:
        """Set the marks from the watermarks and the samples of the calls. Hold the record's lock:
        a watermark that another thread lowers is seen here, or its marks are set after these.
        """
        due, mark, unpriced = (
            self._record.calls.next_at, self.api_calls_watermark, self.unpriced_watermark
        )  # fmt: skip
        self.api_calls_mark = due if due < mark else mark  # noqa: FURB136 - takes a third of min()
        self.unpriced_mark = due if due < unpriced else unpriced  # noqa: FURB136 - the same

    def _surely_before(self, moment: float) -> float:
        """Return a moment just before, at which no rounding can have reached a mark."""
        largest = max(abs(moment), abs(self._record.began_at), abs(moment - self._record.began_at))
        return moment - _ROUNDING * math.ulp(largest)

    def _warn(self, resource: str, state: ResourceState) -> None:
        level = logging.INFO if state.status is LimitStatus.OK else logging.WARNING
        words = (self._record.session_id, state.status, describe(resource, state))
        logger.log(level, "run %r: %s: %s", *words)
        self._on_status(resource, state)
