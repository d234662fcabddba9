"""Where model calls go that spans and adapters report: to a run, or to the process's own sums."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Final, Protocol

from otel_budget import semconv
from otel_budget.core.limits import ResourceLimits
from otel_budget.errors import InvalidValueError, OtelBudgetError
from otel_budget.genai.call_tracker import CALL_TRACKER
from otel_budget.logs.logger import logger
from otel_budget.runtime.fork import ProcessLock, in_child
from otel_budget.sdk.clock import SYSTEM_CLOCK
from otel_budget.sdk.metrics.collector import RUNS
from otel_budget.sdk.pricing.prices import Prices, prices_of
from otel_budget.sdk.run_record import RunRecord
from otel_budget.sdk.usage_arguments import OperationUsage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.trace import Span

    from otel_budget.core.usage import ResourceUsage
    from otel_budget.genai.call import Call, GovernedRun, Hold
    from otel_budget.genai.expected import Expected
    from otel_budget.sdk.phases import Phase
    from otel_budget.sdk.reservations import Room

_UNLIMITED: Final = ResourceLimits.only()


class HoldsCalls(Protocol):
    """A reserver, as a sink needs it."""

    def hold(self, expected: Expected | None, said: Mapping[str, Any]) -> Hold | None:
        """Do as ``UsageSink.hold``."""

    async def hold_async(self, expected: Expected | None, said: Mapping[str, Any]) -> Hold | None:
        """Do as ``UsageSink.hold_async``."""


class CountsCalls(Protocol):
    """A recorder, as its sink needs it."""

    room: Room

    @property
    def reserver(self) -> HoldsCalls:
        """What holds room for its calls."""

    def current_phase(self) -> Phase:
        """Return the phase that a call which begins here and now belongs to."""

    def add_call(self, call: Call, began_in: object) -> None:
        """Count a call. Never raises."""

    def check_before_call(self) -> None:
        """Raise BudgetExceeded, with the verdict, if no further call may be made."""


class RunSink:
    """The sink of one run. Keeps neither its recorder nor its monitor alive."""

    def __init__(self, recorder: CountsCalls, monitor: GovernedRun, session_id: str) -> None:
        """Count nothing yet. monitor: once it is gone, calls of the run are unattributed."""
        self._recorder, self._monitor = weakref.ref(recorder), weakref.ref(monitor)
        self.session_id = session_id
        self.asked = self.unasked = 0
        """Calls that an adapter asked for before, and calls that only a span reported."""
        self.unasked_by = ""
        """Who reported the first of those."""
        self._said_unasked = False

    @property
    def run(self) -> GovernedRun | None:
        """The run's monitor; None: it is gone."""
        return self._monitor()

    @property
    def room(self) -> Room | None:
        """What is left of the run's limits, and held by calls under way; None: it is gone."""
        recorder = self._held()
        return None if recorder is None else recorder.room

    def _held(self) -> CountsCalls | None:
        return None if self._monitor() is None else self._recorder()

    def current_phase(self) -> Phase | None:
        """Return the phase the run is in."""
        recorder = self._held()
        return None if recorder is None else recorder.current_phase()

    def add(self, call: Call, phase: object) -> None:
        """Count a call of this run; as unattributed if its monitor is gone."""
        if call.is_call and call.scope.startswith(semconv.SCOPE_NAME):
            self.asked += 1
        elif call.is_call:
            self.unasked_by = self.unasked_by or call.scope
            self.unasked += 1
        if self.unasked and self.asked and not self._said_unasked:
            self._said_unasked = True
            CALL_TRACKER.say(CALL_TRACKER.notices.unasked, self.session_id, self.unasked_by)
        recorder = self._held()
        if recorder is None:
            UNATTRIBUTED.add(call, None)
        else:
            recorder.add_call(call, phase)

    def check(self) -> None:
        """Raise BudgetExceeded, with the verdict, if the run must stop."""
        recorder = self._held()
        if recorder is not None:
            recorder.check_before_call()

    def hold(self, expected: Expected | None, said: Mapping[str, Any]) -> Hold | None:
        """Take off the run's room what the next call may use. Raises BudgetExceeded."""
        recorder = self._held()
        return None if recorder is None else recorder.reserver.hold(expected, said)

    async def hold_async(self, expected: Expected | None, said: Mapping[str, Any]) -> Hold | None:
        """Do the same, and wait without blocking the event loop."""
        recorder = self._held()
        return None if recorder is None else await recorder.reserver.hold_async(expected, said)


class ProcessSink:
    """Calls that were made outside of every run: visible, never lost."""

    session_id = semconv.UNATTRIBUTED
    run: GovernedRun | None = None
    """No run has these calls."""

    def __init__(self) -> None:
        self._lock = ProcessLock()
        self._reset()
        in_child(self._reset)

    def _reset(self) -> None:
        labels = {semconv.WORKFLOW: semconv.UNATTRIBUTED}
        self._record = RunRecord(self.session_id, _UNLIMITED, SYSTEM_CLOCK, labels=labels)
        self._prices: Prices | None = None

    def current_phase(self) -> None:
        """Say nothing: there are no phases here."""

    def add(self, call: Call, _phase: object) -> None:
        """Count a call, in the sums of the process too."""
        with self._lock:
            if self._prices is None:
                self._prices = _default_prices()
                RUNS.process.add(self._record)
                RUNS.process.instruments()
            prices, record = self._prices, self._record
        usage = usage_of_call(call)
        worth = prices.worth_of_call(usage, call.model, call.provider, *call.costs)
        usage = worth.applied_to(usage)
        with record.lock:
            try:
                record.add(record.counters(None, call.model), usage)
            except InvalidValueError as exc:
                logger.error("a call outside any run was not counted: %s", exc)  # noqa: TRY400 - what the call says is at fault

    def check(self) -> None:
        """Limit nothing: no run, no limits."""

    def hold(self, _expected: object, _said: object) -> None:
        """Hold nothing."""

    async def hold_async(self, _expected: object, _said: object) -> None:
        """Hold nothing."""

    def usage(self) -> ResourceUsage:
        """Return all that was used outside of every run."""
        return self._record.usage()


#: Of this process.
UNATTRIBUTED: Final = ProcessSink()
CALL_TRACKER.unattributed = UNATTRIBUTED


def usage_of_call(call: Call) -> OperationUsage:
    """Return what a call used, ready to be added."""
    into, out, cached, written, reasoning = call.usage
    failed = call.is_call and call.failed
    return OperationUsage(
        into + out, into, out, cached, written, reasoning, call.is_call, failed, call.unknown,
        extras=call.extras, further=call.further,
    )  # fmt: skip


def _default_prices() -> Prices:
    try:
        return prices_of(None)
    except OtelBudgetError as exc:
        logger.error("calls outside any run are not priced by your own list: %s", exc)  # noqa: TRY400 - the list of prices is at fault
        return Prices()


class MissedCalls:
    """Says at a run's beginning and end which of its calls are counted nowhere."""

    def __init__(self, span: Span, sink: RunSink) -> None:
        """Begin with the run. span: the run's own."""
        self._sink, self._unattributed = sink, CALL_TRACKER.unattributed_calls
        self._mind_unseen(span)

    def _mind_unseen(self, span: Span) -> None:
        """Say if the spans of this run are not seen: its calls would not be counted."""
        context = span.get_span_context()
        if not CALL_TRACKER.listens or not context.is_valid or CALL_TRACKER.knows(context.span_id):
            return
        why = (
            "otel_budget.instrument() was called before the tracer provider was set: call it after"
            if span.is_recording()
            else "its trace is not sampled; put RecordingSampler around your provider's sampler"
        )
        logger.warning(
            "run %r: the spans of its model calls are not seen here, so the calls are not counted: "
            "%s", self._sink.session_id, why,
        )  # fmt: skip

    def at_end(self, api_calls: int) -> None:
        """Say what was not seen, or not its own. api_calls: counted in the run."""
        sink, notices = self._sink, CALL_TRACKER.notices
        lost = CALL_TRACKER.unattributed_calls - self._unattributed
        if lost:
            notices.lost(sink.session_id, lost)
        elif not api_calls and (CALL_TRACKER.in_use or CALL_TRACKER.adapters):
            notices.nothing_seen(sink.session_id, CALL_TRACKER.adapters, spans=CALL_TRACKER.spans)
