"""Whether a run may go on: its own limits from exact counts, and the sidecar's verdict on top.

The guard is asked before every operation, so it keeps marks: counts, money and a moment below which
no status can have changed and the answer is known without asking policy again. Everything else (the
verdict, warnings once per change, waking those who wait) happens when a mark is crossed, the
sidecar speaks, or the limits change.
"""

from __future__ import annotations

import logging
import math
import threading
from typing import TYPE_CHECKING

from otel_budget import semconv
from otel_budget.model.verdict import Action, LimitStatus, Reason, Verdict
from otel_budget.policy.evaluate import SEVERITY, bounds_of, check, describe
from otel_budget.policy.judge import judge_session, redecide

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_budget.enforcement.lease import Lease
    from otel_budget.instrumentation.clock import Clock
    from otel_budget.instrumentation.record import SessionRecord
    from otel_budget.model.limits import ResourceLimits
    from otel_budget.model.usage import Number
    from otel_budget.model.verdict import LimitCheckResult, ResourceState

logger = logging.getLogger("otel_budget")

_SEVERITY = {**SEVERITY, LimitStatus.INCONCLUSIVE: 1}


class Guard:
    """Own limits and the sidecar's verdict, for one run."""

    def __init__(
        self,
        record: SessionRecord,
        clock: Clock,
        *,
        lease: Lease | None,
        stop_without_sidecar: bool,
        on_status: Callable[[str, ResourceState], None],
        on_change: Callable[[Verdict], None],
    ) -> None:
        """Begin with every mark crossed, so that the first question is looked into.

        on_status: a resource's status changed. on_change: the verdict's action or reason changed.
        Both are called without a lock held.
        """
        self._record, self._clock, self._lease = record, clock, lease
        self._stop_without_sidecar = stop_without_sidecar
        self._on_status, self._on_change = on_status, on_change
        self.bounds = bounds_of(record.limits)
        self._lock = threading.Lock()
        self._statuses: dict[str, LimitStatus] = {}
        self._announced: tuple[Action, str] = (Action.CONTINUE, Reason.WITHIN_LIMITS)
        self.listeners: set[Callable[[], None]] = set()
        """Called, from any thread, when the verdict or the marks may have changed."""
        self.progress: float | None = None
        """What the run reported since a count last crossed its mark; None for unknown."""
        # Counts of this incarnation at which some status changes next.
        self.tokens_mark = self.api_calls_mark = self.cost_mark = -1.0
        # Monotonic seconds until which the verdict is "continue" unless a count crosses its mark.
        self.calm_until = -math.inf

    def used(self) -> dict[str, Number]:
        """Return what the run used of each resource, over all its incarnations."""
        record, carried = self._record, self._record.carried
        with record.lock:
            return {
                semconv.DURATION: record.duration(),
                semconv.TOKENS: carried.tokens + record.tokens,
                semconv.API_CALLS: carried.api_calls + record.api_calls,
                semconv.COST: carried.cost_usd + record.cost_usd,
            }

    def check(self) -> LimitCheckResult:
        """Hold the run's own counts against its own limits."""
        self.reconsider(self.progress)
        return check(self.used(), self.bounds)

    def verdict(self, progress: float | None) -> Verdict:
        """Return the stricter of the run's own verdict and the sidecar's. Changes nothing."""
        own = judge_session(
            self._record.session_id,
            self.used(),
            self.bounds,
            progress=progress,
            completion_threshold=self._record.limits.completion_threshold,
            started_at=self._record.started_at,
            now=self._clock.time(),
        )
        if self._lease is None or not own.should_continue:
            return own
        theirs = self._lease.current()
        if theirs is None:
            lost = self._stop_without_sidecar and self._clock.monotonic() >= self._lease.until
            return _sidecar_lost(own) if lost else own
        if not theirs.should_continue and not self._is_outdated(theirs, progress):
            return theirs
        worse = _SEVERITY[theirs.status] > _SEVERITY[own.status]
        return theirs if theirs.should_continue and worse else own

    def reconsider(self, progress: float | None) -> Verdict:
        """Look at everything anew: set the marks, warn of what changed, wake those who wait.

        progress: what the run reports, None for unknown.
        """
        with self._lock:
            used = self.used()
            result = check(used, self.bounds)
            news = self._status_news(result)
            verdict = self.verdict(progress)
            self._set_marks(used, result, verdict)
            announce = (verdict.action, verdict.reason) != self._announced
            self._announced = (verdict.action, verdict.reason)
        for resource, state in news:
            self._warn(resource, state)
        if announce:
            self._on_change(verdict)
        if announce or news:
            self.wake()
        return verdict

    def crossed(self) -> None:
        """Take note that a count has crossed its mark.

        A progress reported before that says nothing about now: deciding by it would interrupt a run
        that is nearly done, a moment before it says so.
        """
        if self.tokens_mark >= 0:  # else nobody has looked yet, and nothing was crossed
            self.progress = None
        self.reconsider(self.progress)

    def wake(self) -> None:
        """Tell everybody who waits to look again."""
        for listener in tuple(self.listeners):
            listener()

    def update_limits(self, limits: ResourceLimits) -> None:
        """Judge by other limits from now on."""
        with self._lock:
            self._record.limits = limits
            self.bounds = bounds_of(limits)
        self.reconsider(self.progress)
        self.wake()

    def next_change_in(self) -> float | None:
        """Return the seconds until the passing of time alone may change the verdict, or None."""
        now, moments = self._clock.monotonic(), []
        limited = self.bounds.get(semconv.DURATION)
        if limited is not None:
            duration = self._record.duration()
            moments = [
                self._record.began_at + float(mark)
                for mark in (limited.warning_at, limited.limit)
                if duration < mark
            ]
        if self._lease is not None:
            theirs = self._lease.current()
            if self._stop_without_sidecar or (theirs is not None and not theirs.should_continue):
                moments.append(self._lease.until)
        return max(0.0, min(moments) - now) if moments else None

    def _is_outdated(self, theirs: Verdict, progress: float | None) -> bool:
        """Tell whether the run is further by now than the sidecar knew when it said stop."""
        if progress is None:
            return False
        return redecide(theirs, progress, self._record.limits.completion_threshold)

    def _status_news(self, result: LimitCheckResult) -> list[tuple[str, ResourceState]]:
        news = []
        for resource, state in result.resources.items():
            if state.status is not self._statuses.get(resource, LimitStatus.OK):
                news.append((resource, state))
            self._statuses[resource] = state.status
        return news

    def _set_marks(
        self, used: dict[str, Number], result: LimitCheckResult, verdict: Verdict
    ) -> None:
        def ahead(resource: str, carried: Number) -> float:
            limited = self.bounds.get(resource)
            if limited is None or used[resource] >= limited.limit:
                return math.inf
            below = used[resource] < limited.warning_at
            return (limited.warning_at if below else limited.limit) - carried  # type: ignore[operator,return-value]

        carried = self._record.carried
        self.tokens_mark = ahead(semconv.TOKENS, carried.tokens)
        self.api_calls_mark = ahead(semconv.API_CALLS, carried.api_calls)
        self.cost_mark = ahead(semconv.COST, carried.cost_usd)
        self.calm_until = -math.inf
        if result.status is LimitStatus.OK and verdict.should_continue:
            seconds = self.next_change_in()
            self.calm_until = self._clock.monotonic() + (math.inf if seconds is None else seconds)

    def _warn(self, resource: str, state: ResourceState) -> None:
        level = logging.INFO if state.status is LimitStatus.OK else logging.WARNING
        words = (self._record.session_id, state.status, describe(resource, state))
        logger.log(level, "session %s: %s: %s", *words)
        self._on_status(resource, state)


def _sidecar_lost(own: Verdict) -> Verdict:
    """Return a stop for want of a sidecar, for a run that asked for it."""
    return Verdict(
        session_id=own.session_id,
        action=Action.STOP,
        status=LimitStatus.INCONCLUSIVE,
        reason=Reason.SIDECAR_LOST,
        message="the sidecar's lease has run out and on_sidecar_loss is 'stop': stop",
        resources=own.resources,
        evaluated_at=own.evaluated_at,
        progress=own.progress,
        headroom=own.headroom,
        decision_id=own.decision_id,
    )
