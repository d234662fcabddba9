"""One run's life: what starts when it is first used, what is written, what happens at its end.

Held apart from the monitor, so that a run whose monitor is gone can still be closed properly.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Final

from opentelemetry import trace

from otel_budget import semconv
from otel_budget.core.budget import Mode
from otel_budget.core.exceeded import BudgetExceeded
from otel_budget.core.reasons import Reason
from otel_budget.genai import attribution
from otel_budget.genai.call_tracker import CALL_TRACKER
from otel_budget.logs.logger import logger
from otel_budget.sdk import summary, tracing
from otel_budget.sdk.checkpoints.run_checkpoints import RunCheckpoints
from otel_budget.sdk.engagement import Engagement
from otel_budget.sdk.guard import Guard
from otel_budget.sdk.lifecycle import autostart
from otel_budget.sdk.lifecycle.at_exit import AT_EXIT, LEFT_BEHIND
from otel_budget.sdk.metrics.collector import RUNS
from otel_budget.sdk.metrics.last_scrape import LAST_SCRAPE
from otel_budget.sdk.metrics.visibility import PAGES
from otel_budget.sdk.refusals import Refusals
from otel_budget.sdk.reservations import Room
from otel_budget.sdk.sidecar_client.lease import DEFAULT_LEASE, Lease
from otel_budget.sdk.usage_sinks import MissedCalls, RunSink
from otel_budget.sdk.verdict_callback import VerdictCallback
from otel_budget.sdk.verdict_filter import OtherRuns, Predecessor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from opentelemetry.trace import Span

    from otel_budget.core.verdict import ResourceState, Verdict
    from otel_budget.sdk.kinship import Kinship
    from otel_budget.sdk.run_record import RunRecord
    from otel_budget.sdk.sidecar_client.client import VerdictClient
    from otel_budget.sdk.sidecar_client.slices import Slices

#: How far back an exception's causes are followed.
_DEEPEST_CAUSE: Final = 20
#: Why there is no sidecar where it was not asked yet, as in a child that is over at once.
NOT_YET_ASKED = "it was not asked yet"


class RunController:
    """Everything of one run but the questions and the counting."""

    _slices: Slices | None = None
    """What it was granted of budgets that it shares; None: it shares none."""

    def __init__(
        self,
        record: RunRecord,
        project_root: Path | None,
        *,
        sidecar: str | None,
        stop_without_sidecar: bool,
        first_verdict_timeout: float,
        on_verdict: Callable[[Verdict], None] | None,
    ) -> None:
        """Show the run on ``/metrics`` from now on. Opens and writes nothing."""
        self.record, self.sidecar = record, sidecar
        self.checkpoints = RunCheckpoints(record, project_root, self._event)
        self.sink: RunSink | None = None
        """Where calls that spans report are counted; the recorder's."""
        self.family: Kinship | None = None
        """Its place among the runs of this process; None: it has no parent and no children here."""
        self._activation: attribution.Activation | None = None
        self._missed_calls: MissedCalls | None = None
        self.span: Span | None = None
        self._span_context: AbstractContextManager[Span] | None = None
        self._process = os.getpid()
        self._verdict_callback = (
            None if on_verdict is None else VerdictCallback(record.session_id, on_verdict)
        )
        self._begun = self._lost = False
        self._others = OtherRuns()
        self._lease = Lease(record.clock, first_verdict_timeout) if sidecar else None
        self.engagement: Engagement | None = None
        """Whether the sidecar judges the run; None without a sidecar."""
        if self._lease is not None:
            self.engagement = Engagement(record.session_id, self._lease, stops=stop_without_sidecar)
            record.is_judged = self._lease.is_in_force
        self.refusals = Refusals()
        """Of an operator, to a run that waits until it may go on."""
        self._predecessor = Predecessor() if record.resumed else None
        self._client = None if sidecar is None else self._client_of(sidecar)
        self.guard = Guard(
            record,
            record.clock,
            lease=self._lease,
            stop_without_sidecar=stop_without_sidecar,
            on_status=self._status_changed,
            on_change=self._verdict_changed,
            nudge=self.nudge,
        )
        self.room = Room(self)
        RUNS.add(record)
        AT_EXIT.first[id(self)] = self._at_exit
        AT_EXIT.ask_multiprocessing()

    def _client_of(self, sidecar: str) -> VerdictClient:
        from otel_budget.sdk.sidecar_client.client import (
            VerdictClient,  # who has no sidecar does without
        )

        return VerdictClient(
            sidecar, self.record.session_id, on_verdict=self._receive,
            on_reachable=self._reachability_changed, on_answer=self._answered,
            on_no_answer=self._not_answered,
        )  # fmt: skip

    def begin(self) -> None:
        """Start what runs in the background, at the first use of the run."""
        with self.record.lock:
            if self._begun:
                return
            self._begun = True
        limited = summary.limited(self.record.limits)
        logger.info("run %r: limited to %s", self.record.session_id, limited)
        for start in (
            autostart.serve_if_asked, RUNS.process.instruments, self.checkpoints.begin, self._follow
        ):  # fmt: skip
            try:
                start()
            except Exception:
                # No thread to be had, say: the run and its own limits do without.
                logger.exception(
                    "run %r: %s failed; the run goes on", self.record.session_id, start.__name__
                )

    def _follow(self) -> None:
        if self._client is not None and self._lease is not None:
            self._lease.wait_from_now()
            self._client.start()

    # --- the end -------------------------------------------------------------------------------
    def outcome(self, exc: BaseException | None = None) -> str:
        """Return how a run ends that does not say how: in order, or by an exception."""
        name = self.record.session_id
        stopped = self.guard.told_to_stop if exc is None else _is_stop(exc, name)
        return "stopped" if stopped else "completed" if exc is None else "failed"

    def close(self, outcome: str, timeout: float = 0.0, *, orderly: bool = True) -> None:
        """End the run: last checkpoint, final state shown until it has been scraped.

        timeout: seconds to wait for that here; the end of the process waits for it anyway.
        orderly: False if it was only left behind: then its last checkpoint does not say how it
        ended, and it can be resumed.
        """
        if self.sink is not None:
            CALL_TRACKER.settle(self.sink)
            if self._missed_calls is not None and self.record.closed_at is None:
                self._missed_calls.at_end(self.record.api_calls)
        verdict = self.guard.verdict(self.guard.progress)
        if not self.record.close(outcome):
            return
        self.checkpoints.outcome = outcome if orderly else None
        try:
            if self._slices is not None:
                self._slices.close()
            if self._client is not None:
                self._client.stop()
            if self.engagement is not None:
                self.engagement.ended()
            usage = self.record.usage()
            self.checkpoints.end(usage)
            CALL_TRACKER.notices.without_calls(usage, self.record.limits.max_api_calls)
            if self.span is not None:
                self.span.set_attributes(
                    {
                        **tracing.usage_attributes(usage),
                        **tracing.verdict_attributes(verdict),
                        semconv.ATTR_OUTCOME: outcome,
                    }
                )
        finally:
            PAGES.mind_registry()
            over = RUNS.closed(self.record)
            self.guard.ended()
            AT_EXIT.first.pop(id(self), None)
            self._tell_end(over)
        if attribution.in_event_loop():
            return  # one that is held up cannot answer the scrape that is waited for
        LAST_SCRAPE.look_if_pool_worker()
        if timeout and not LAST_SCRAPE.wait_here(timeout):
            logger.debug("run %r: not scraped within %s s", self.record.session_id, timeout)

    def _tell_end(self, over: Sequence[RunRecord]) -> None:
        """Have the end seen: by the sidecar, if there is one, and by those who scrape.

        over: the records of the run, if all of it is over. Waits for nothing.
        """
        client = self._client
        if client is None:
            LAST_SCRAPE.ended()
            return
        finish = client.hand_over(over if self._begun else ())
        LAST_SCRAPE.ended(*client.last_look(), finish)

    def enter(self) -> None:
        """Begin the run and open its span."""
        self.begin()
        attributes = tracing.run_attributes(
            self.record.session_id, self.record.labels, resumed=self.record.resumed
        )
        if self.sink is not None:
            self._activation = attribution.Activation(self.sink)
            self._activation.__enter__()
        self._span_context = tracing.start_span(semconv.SPAN_RUN, attributes)
        self.span = self._span_context.__enter__()
        if self.sink is not None:
            self._missed_calls = MissedCalls(self.span, self.sink)

    def end(self, exc: BaseException | None) -> None:
        """Close the run: stopped in order, failed by an exception, else completed."""
        self.close(self.outcome(exc))

    async def end_in_thread(self, exc: BaseException | None) -> None:
        """Do the same without blocking an event loop of asyncio's; another one it does block."""
        if not attribution.in_event_loop():  # Trio's, say
            self.end(exc)
            return
        from asyncio import to_thread  # who runs this has it; for all others it takes its time

        await to_thread(self.end, exc)

    def leave(self, exc: BaseException | None) -> None:
        """Close the run's span, in the context that opened it."""
        context, self._span_context = self._span_context, None
        self.span = None
        if context is not None:
            context.__exit__(
                None if exc is None else type(exc), exc, None if exc is None else exc.__traceback__
            )
        activation, self._activation = self._activation, None
        if activation is not None:
            activation.__exit__()

    def dropped(self) -> None:
        """Have the run closed soon: its monitor is gone. Fit for a finalizer.

        Does nothing in a forked child: the run is its parent's.
        """
        if self.record.closed_at is None and os.getpid() == self._process:
            LEFT_BEHIND.hand_over(self._left_behind)

    def _left_behind(self) -> None:
        # Waits for no scrape: the final state is kept for it. Whether it got to its end, or an
        # exception took its monitor along, is not known here.
        self.close(self.outcome(), orderly=self.guard.told_to_stop)
        if self.checkpoints.outcome is None and self.checkpoints.saves:
            CALL_TRACKER.notices.left_behind(self.record.session_id)

    def _at_exit(self) -> None:
        """Close a run that the interpreter's end finds open."""
        # Set before the exit handlers run; a child of multiprocessing runs them in its ``finally``.
        crashed = getattr(sys, "last_value", None) or sys.exc_info()[1]
        self.close(self.outcome(crashed))

    # --- what is heard and said ------------------------------------------------------------------
    def _receive(self, verdict: Verdict) -> None:
        started_at = self.record.started_at
        if not self._others.is_for(verdict, started_at):
            if self.engagement is not None:
                self.engagement.other_start = verdict.started_at
            return
        if self._predecessor is not None and self._predecessor.is_meant(verdict):
            logger.debug(
                "run %r: the sidecar has not seen this process yet: %s (%s) is about the one "
                "before it", verdict.session_id, verdict.action, verdict.reason,
            )  # fmt: skip
            return
        self._mind_budgets(verdict)  # before it is in force: what is asked then is to be held
        if self._lease is not None and self._lease.renew(verdict):
            if self._client is not None:
                self._client.withdraw_nudge()  # the verdict tells whether one is needed
            if self._lease.binding_in():
                self.nudge()  # it sees nothing of a run that is here: it is to look again
            self.guard.receive(verdict)
            if self.engagement is not None:
                self.engagement.judged()

    def _mind_budgets(self, verdict: Verdict) -> None:
        """Take room of the budgets that the run shares before it is used, if it shares any."""
        if self._slices is None:
            shares = any(one.mode is Mode.ENFORCE for one in verdict.budgets)
            if not shares or self._client is None or self.record.closed_at is not None:
                return
            self._slices = self.room.credit = self._client.slices(self.room.look)
        seconds = DEFAULT_LEASE if verdict.lease_seconds is None else verdict.lease_seconds
        self._slices.heard(verdict, seconds=seconds)

    def nudge(self) -> None:
        """Ask the sidecar to look at the run now; returns at once."""
        RUNS.has_news()  # what it is asked to look at must be on the page, or pushed
        if self._client is not None:
            self._client.nudge()

    def operators_stop(self) -> Verdict | None:
        """Return the sidecar's verdict in force, if an operator stops the run by it."""
        theirs = None if self._lease is None else self._lease.current()
        return None if theirs is None or theirs.reason != Reason.OPERATOR_STOP else theirs

    def _answered(self) -> None:
        if self.engagement is not None and self.engagement.sidecar_answered():
            self.guard.reconsider(self.guard.progress)  # the run itself may not be asking

    def _not_answered(self) -> None:
        """Take note that the sidecar was asked in vain: a run that asks seldom loses no time."""
        if self._lease is not None:
            self._lease.is_lost()

    def _reachability_changed(self, reachable: bool) -> None:  # noqa: FBT001 - one fact, by its callback's name
        self.record.sidecar_reachable = reachable
        if reachable:
            level = logging.WARNING if self._lost else logging.INFO  # an alarm and its end alike
            logger.log(level, "run %r: the sidecar answers", self.record.session_id)
            self._event(semconv.EVENT_SIDECAR_FOUND, {})
        else:
            self._lost = True
            engaged = self.engagement
            logger.warning(
                "run %r: no sidecar: %s; %s",
                self.record.session_id, (self._client and self._client.problem) or NOT_YET_ASKED,
                engaged.without if engaged else "",
            )  # fmt: skip
            self._event(semconv.EVENT_SIDECAR_LOST, {})

    def _status_changed(self, resource: str, state: ResourceState) -> None:
        self._event(semconv.EVENT_STATUS_CHANGED, tracing.status_attributes(resource, state))

    def _verdict_changed(self, verdict: Verdict) -> None:
        if verdict.should_continue:
            self.refusals.allowed()
        from_sidecar = verdict.lease_seconds is not None
        own = not from_sidecar and verdict.reason != Reason.SIDECAR_LOST  # its status was warned of
        level = logging.INFO if own or verdict.should_continue else logging.WARNING
        origin = "the sidecar says " if from_sidecar else ""
        logger.log(
            level, "run %r: %s%s (%s): %s",
            verdict.session_id, origin, verdict.action, verdict.reason, verdict.message,
        )  # fmt: skip
        self._event(semconv.EVENT_VERDICT, tracing.verdict_attributes(verdict))
        if self._verdict_callback is not None:
            hearing = self._client is not None and self._client.is_reader_thread()
            self._verdict_callback.notify(verdict, wait=not hearing)

    def _event(self, name: str, attributes: tracing.Attributes) -> None:
        span = self.span if self.span is not None else trace.get_current_span()
        with suppress(Exception):  # a span processor's failure is not the run's
            span.add_event(name, attributes)


def _is_stop(exc: BaseException, session_id: str) -> bool:
    """Tell whether an exception stops a run in order: by its own limits, or because it was told to.

    A generator that is closed early was told to: the client hung up, or has what it wanted.
    """
    if isinstance(exc, BaseExceptionGroup):  # of a TaskGroup, say
        return all(_is_stop(one, session_id) for one in exc.exceptions)
    budget = _exceeded(exc)
    if budget is not None:
        return budget.verdict.session_id == session_id
    if isinstance(exc, SystemExit):
        return exc.code in (None, 0)
    return isinstance(exc, (KeyboardInterrupt, GeneratorExit)) or attribution.is_cancelled(exc)


def _exceeded(exc: BaseException) -> BudgetExceeded | None:
    """Return the BudgetExceeded that an exception is, or was raised from; None if there is none.

    Frameworks wrap what a run raises: Starlette once the answer has begun, and many others.
    """
    cause: BaseException | None = exc
    for _ in range(_DEEPEST_CAUSE):  # causes may go round in a circle
        if cause is None or isinstance(cause, BudgetExceeded):
            return cause
        cause = cause.__cause__
    return None
