"""One run's life: what starts when it is first used, what is written, what happens at its end.

Held apart from the monitor, so that a monitor nobody holds any more can still be closed properly.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from opentelemetry import trace

from otel_budget import semconv
from otel_budget.agent.guard import Guard
from otel_budget.enforcement.client import VerdictClient
from otel_budget.enforcement.lease import Lease
from otel_budget.errors import BudgetExceeded
from otel_budget.instrumentation import automatic, tracing
from otel_budget.instrumentation.at_exit import AT_EXIT, LEFT_BEHIND
from otel_budget.instrumentation.checkpoint import Checkpoint, CheckpointFolder
from otel_budget.instrumentation.exposition import SESSIONS
from otel_budget.model.verdict import Reason

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from opentelemetry.trace import Span

    from otel_budget.instrumentation.autosave import Autosaver
    from otel_budget.instrumentation.record import SessionRecord
    from otel_budget.model.verdict import ResourceState, Verdict

logger = logging.getLogger("otel_budget")


class Run:
    """Everything of one run but the questions and the counting."""

    def __init__(
        self,
        record: SessionRecord,
        project_root: Path | None,
        *,
        sidecar: str | None,
        stop_without_sidecar: bool,
        on_verdict: Callable[[Verdict], None] | None,
    ) -> None:
        """Show the run on ``/metrics`` from now on. Opens and writes nothing."""
        self.record = record
        self._folder = None if project_root is None else CheckpointFolder(
            project_root, record.session_id
        )  # fmt: skip
        self.state: Any = None
        self.span: Span | None = None
        self._span_context: AbstractContextManager[Span] | None = None
        # Counts are taken and written under one lock: a later checkpoint never has lower ones.
        self._writing = threading.RLock()
        self._autosave: tuple[Autosaver, int] | None = None
        self._process = os.getpid()
        self._on_verdict = on_verdict
        self._begun = False
        self._lease = Lease(record.clock.monotonic) if sidecar else None
        self._client = None if sidecar is None else VerdictClient(
            sidecar, record.session_id, on_verdict=self._hear, on_reachable=self._reached
        )  # fmt: skip
        self.guard = Guard(
            record,
            record.clock,
            lease=self._lease,
            stop_without_sidecar=stop_without_sidecar,
            on_status=self._status_changed,
            on_change=self._verdict_changed,
        )
        SESSIONS.add(record)
        AT_EXIT.first[id(self)] = self._at_exit

    def begin(self) -> None:
        """Start what runs in the background, at the first use of the run."""
        with self.record.lock:
            if self._begun:
                return
            self._begun = True
        for start in (
            automatic.serve_if_asked, SESSIONS.process.instruments, self.schedule, self._follow
        ):  # fmt: skip
            try:
                start()
            except Exception:
                # No thread to be had, say: the run and its own limits do without.
                logger.exception(
                    "session %s: %s failed; the run goes on", self.record.session_id, start.__name__
                )

    def schedule(self) -> None:
        """Let the automatic checkpoints come at the interval of the limits from now on."""
        if self._folder is None or not self._begun or self.record.closed_at is not None:
            return
        if self._autosave is not None:
            self._autosave[0].forget(self._autosave[1])
        saver = automatic.autosaver(self.record.clock)
        self._autosave = saver, saver.watch(self, self.record.limits.checkpoint_interval)

    def _follow(self) -> None:
        if self._client is not None and self._lease is not None:
            self._lease.begin()
            self._client.start()

    # --- checkpoints ---------------------------------------------------------------------------
    def autosave(self) -> float | None:
        """Write an automatic checkpoint; return the seconds until the next one."""
        if self.record.closed_at is not None:
            return None
        self.checkpoint()
        return self.record.limits.checkpoint_interval

    def checkpoint(self, state: Any = None) -> Path | None:
        """Write a checkpoint and return its path. Never raises out of a run: a failure is logged,
        counted, put on the span, and None is returned; the earlier checkpoints stay whole.

        state: the caller's own, JSON types; the automatic ones keep the last one given.
        """
        if self._folder is None:
            self._checkpoint_failed("there is no project_root to write it to")
            return None
        try:
            with self._writing:
                if state is not None:
                    self.keep_state(state)
                checkpoint = self._checkpoint()
                path = self._folder.write(checkpoint)
                with self.record.lock:
                    self.record.checkpoints += 1
                    self.record.last_checkpoint_at = checkpoint.written_at
        except Exception as exc:  # noqa: BLE001 - a state may raise anything while it is written out
            self._checkpoint_failed(str(exc) or type(exc).__name__)
            return None
        self._event(semconv.EVENT_CHECKPOINT, {semconv.ATTR_CHECKPOINT_PATH: str(path)})
        logger.debug("session %s: checkpoint %s", self.record.session_id, path)
        return path

    def keep_state(self, state: Any) -> None:
        """Keep a copy of the caller's state. Raises TypeError or ValueError if it is not JSON."""
        self.state = json.loads(json.dumps(state, allow_nan=False))

    def _checkpoint(self) -> Checkpoint:
        record, now = self.record, self.record.clock.time()
        usage = record.usage()
        return Checkpoint(
            usage=replace(usage, checkpoints=usage.checkpoints + 1, last_checkpoint_at=now),
            limits=record.limits,
            labels=record.labels,
            written_at=now,
            progress=record.progress,
            state=self.state,
        )

    def _checkpoint_failed(self, problem: str) -> None:
        where = "" if self._folder is None else f" in {self._folder.path}"
        logger.error(
            "session %s: no checkpoint was written%s: %s; the run goes on, earlier checkpoints "
            "are whole", self.record.session_id, where, problem,
        )  # fmt: skip
        with self.record.lock:
            self.record.checkpoint_failures += 1
        self._event(semconv.EVENT_CHECKPOINT_FAILED, {semconv.ATTR_CHECKPOINT_ERROR: problem})

    # --- the end -------------------------------------------------------------------------------
    def close(self, outcome: str, timeout: float) -> None:
        """End the run: last checkpoint, final state shown until it has been scraped."""
        verdict = self.guard.verdict(self.guard.progress)
        if not self.record.close(outcome):
            return
        try:
            if self._client is not None:
                self._client.stop()
            if self._autosave is not None:
                self._autosave[0].forget(self._autosave[1])
            usage = self.record.usage()
            if self._folder is not None and (usage.tokens or usage.api_calls or usage.checkpoints):
                self.checkpoint()
            if self.span is not None:
                self.span.set_attributes(
                    {
                        **tracing.usage_attributes(usage),
                        **tracing.verdict_attributes(verdict),
                        semconv.ATTR_OUTCOME: outcome,
                    }
                )
        finally:
            SESSIONS.closed(self.record)
            self.guard.wake()
            AT_EXIT.first.pop(id(self), None)
        if not SESSIONS.wait_scraped(timeout):
            logger.debug("session %s: not scraped within %s s", self.record.session_id, timeout)

    def enter(self) -> None:
        """Begin the run and open its span."""
        self.begin()
        attributes = tracing.run_attributes(
            self.record.session_id, self.record.labels, resumed=self.record.resumed
        )
        self._span_context = tracing.start_span(semconv.SPAN_RUN, attributes)
        self.span = self._span_context.__enter__()

    def end(self, exc: BaseException | None) -> None:
        """Close the run: failed by an exception, stopped if it was told to, else completed."""
        stopped = self.guard.told_to_stop or isinstance(exc, BudgetExceeded)
        failed = exc is not None and not isinstance(exc, BudgetExceeded)
        outcome = "failed" if failed else "stopped" if stopped else "completed"
        self.close(outcome, automatic.SCRAPE_WAIT)

    def leave(self, exc: BaseException | None) -> None:
        """Close the run's span, in the context that opened it."""
        context, self._span_context = self._span_context, None
        self.span = None
        if context is not None:
            context.__exit__(
                None if exc is None else type(exc), exc, None if exc is None else exc.__traceback__
            )

    def dropped(self) -> None:
        """Have the run closed soon: nobody holds its monitor any more. Fit for a finalizer.

        Does nothing in a forked child: the run is its parent's.
        """
        if self.record.closed_at is None and os.getpid() == self._process:
            LEFT_BEHIND.hand_over(self._left_behind)

    def _left_behind(self) -> None:
        # Waits for no scrape: the final state is kept for it.
        self.close("stopped" if self.guard.told_to_stop else "completed", 0.0)

    def _at_exit(self) -> None:
        """Close a run that the interpreter's end finds open; one wait for a scrape does for all."""
        AT_EXIT.then[id(SESSIONS)] = _last_scrape
        crashed = getattr(sys, "last_value", None) is not None  # set before the exit handlers run
        self.close(
            "failed" if crashed else "stopped" if self.guard.told_to_stop else "completed", 0.0
        )

    # --- what is heard and said ------------------------------------------------------------------
    def _hear(self, verdict: Verdict) -> None:
        started_at = self.record.started_at
        if verdict.started_at is not None and verdict.started_at != started_at:
            logger.debug(
                "session %s: the sidecar still judges the run of %s, this one began at %s",
                verdict.session_id, verdict.started_at, started_at,
            )  # fmt: skip
            return
        if self._lease is not None and self._lease.renew(verdict):
            self.guard.reconsider(self.guard.progress)

    def _reached(self, reachable: bool) -> None:  # noqa: FBT001 - one fact, by its callback's name
        self.record.sidecar_reachable = reachable
        if reachable:
            logger.info("session %s: the sidecar answers", self.record.session_id)
            self._event(semconv.EVENT_SIDECAR_FOUND, {})
        else:
            logger.warning(
                "session %s: the sidecar does not answer; the run goes on under its own limits",
                self.record.session_id,
            )
            self._event(semconv.EVENT_SIDECAR_LOST, {})

    def _status_changed(self, resource: str, state: ResourceState) -> None:
        self._event(semconv.EVENT_STATUS_CHANGED, tracing.status_attributes(resource, state))

    def _verdict_changed(self, verdict: Verdict) -> None:
        from_sidecar = verdict.lease_seconds is not None
        own = not from_sidecar and verdict.reason != Reason.SIDECAR_LOST  # its status was warned of
        level = logging.INFO if own or verdict.should_continue else logging.WARNING
        origin = "the sidecar says " if from_sidecar else ""
        logger.log(
            level, "session %s: %s%s (%s): %s",
            verdict.session_id, origin, verdict.action, verdict.reason, verdict.message,
        )  # fmt: skip
        self._event(semconv.EVENT_VERDICT, tracing.verdict_attributes(verdict))
        if self._on_verdict is not None:
            try:
                self._on_verdict(verdict)
            except Exception:
                # The caller's own code, in our thread: its failure must not end the run's guard.
                logger.exception("session %s: on_verdict failed", verdict.session_id)

    def _event(self, name: str, attributes: tracing.Attributes) -> None:
        span = self.span if self.span is not None else trace.get_current_span()
        with suppress(Exception):  # a span processor's failure is not the run's
            span.add_event(name, attributes)


def _last_scrape() -> None:
    SESSIONS.wait_scraped(automatic.SCRAPE_WAIT)
