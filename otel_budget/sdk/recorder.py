"""How a run is counted: operations, phases, and the spans around them."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from otel_budget import semconv
from otel_budget.core import validation
from otel_budget.core.limits import ESTIMATE
from otel_budget.errors import InvalidValueError
from otel_budget.genai.attribution import Activation
from otel_budget.genai.call_tracker import CALL_TRACKER
from otel_budget.logs.logger import logger
from otel_budget.sdk import phases, tracing
from otel_budget.sdk.operation import Operation
from otel_budget.sdk.pricing.prices import LOADING
from otel_budget.sdk.pricing.unpriced import UNPRICED_NOTICES
from otel_budget.sdk.reserving import Reserver
from otel_budget.sdk.usage_arguments import OperationUsage, named
from otel_budget.sdk.usage_sinks import RunSink, usage_of_call
from otel_budget.sdk.watermarks import reached

if TYPE_CHECKING:
    from collections.abc import Iterator
    from decimal import Decimal

    from otel_budget.genai.call import Call, GovernedRun
    from otel_budget.sdk.guard import Guard
    from otel_budget.sdk.lifecycle.run_controller import RunController
    from otel_budget.sdk.phase_counters import PhaseCounters
    from otel_budget.sdk.phases import Holds
    from otel_budget.sdk.pricing.prices import Prices

_current_phase = phases.CURRENT.get


class Recorder:
    """Counts what one run uses, for its monitor and for what reports calls to its sink."""

    def __init__(self, run: RunController, prices: Prices, monitor: GovernedRun) -> None:
        """Count into the run's record.

        prices: of calls that do not say what they cost. monitor: the one that has this recorder;
        once it is gone, what is reported to the sink is no longer the run's.
        """
        self._run, self._record, self._guard = run, run.record, run.guard
        self._prices = prices
        with self._record.lock:
            self._phase = phases.Phase(self._record, None, self._record.counters(None, None))
        self._open_phases = [self._phase]
        self.room, self.record = run.room, run.record
        self.reserver = Reserver(self, self._record, prices)
        self.sink = run.sink = RunSink(self, monitor, self._record.session_id)

    def use_guard(self, guard: Guard) -> None:
        """Ask another guard from now on."""
        self._guard = guard

    def add_tokens(self, tokens: int, api_call: bool) -> None:  # noqa: C901, PLR0912, FBT001 - what RunCounters.add does, at a third of its cost: see record_operation
        record, guard, phase, hold = self._record, self._guard, _current_phase(), None
        if phase is None:
            phase = self._phase
        elif phase.record is not record:
            phase = phases.current(record, self._phase)
            hold = phase.hold
        counters = phase.counters
        with record.lock:
            if record.busy:
                self._put_off(counters, tokens, api_call, hold)
                return
            try:
                record.busy = True
                total, room = record.tokens + tokens, record.room
                if total <= room:
                    known, calls = counters.plain
                    if api_call:
                        counters.plain = known + tokens, calls + 1
                        record.api_calls += 1
                        record.unpriced_calls += 1
                    else:
                        counters.plain = known + tokens, calls
                    record.tokens = total
                record.busy = False
            except BaseException:
                record.rebuild_totals()
                raise
            if hold is not None and total <= room:
                hold.counted(record, tokens, int(api_call), None)
            if record.late:
                record.add_late()
        if total > room:  # refused there, with what is wrong
            usage = OperationUsage(validation.count("tokens", tokens), api_call=api_call)
            self.add(usage, None, None)
        elif record.tokens >= guard.tokens_watermark or record.api_calls >= guard.unpriced_mark:
            if api_call and guard.local.price_unheld and not guard.said_unpriced:
                self._say_unpriced(tokens)
            self._watermark_crossed()
        if hold is not None and total <= room:
            self.settle(hold, tokens, api_call, None)

    def _put_off(
        self,
        counters: PhaseCounters,
        tokens: int,
        api_call: bool,  # noqa: FBT001 - as above
        hold: Holds | None,
    ) -> None:
        """Have it counted after the addition that it came in the middle of."""
        late, usage = self._record.late, OperationUsage(tokens, api_call=api_call)
        late.append(partial(self._record.add, counters, usage))
        if hold is not None:
            late.append(partial(self.settle, hold, tokens, api_call, None))

    def _say_unpriced(self, tokens: int) -> None:
        self._guard.said_unpriced = True
        UNPRICED_NOTICES.tell(self._record, self._prices, None, None, OperationUsage(tokens))

    def settle(self, hold: Holds, tokens: int, api_call: bool, cost: Decimal | None) -> None:  # noqa: FBT001 - as above
        """Have what was held for an operation reduced by what has been counted of it."""
        hold.settle(tokens, int(api_call), cost)

    def may_go_on(self) -> bool:
        """Tell, at once, that the run may go on; False: it has to be looked into."""
        return self._guard.may_go_on()

    def check_before_call(self) -> None:
        """Raise BudgetExceeded, with the verdict, if no further call may be made."""
        self._run.begin()
        verdict = self._guard.answered(self._guard.reconsider(self._guard.progress))
        if not verdict.should_continue:
            raise self._guard.refusal(verdict)

    def current_phase(self) -> phases.Phase:
        """Return the phase that what is counted here and now belongs to."""
        return phases.current(self._record, self._phase)

    def add_call(self, call: Call, began_in: object) -> None:
        """Count a model call that a span or an adapter reports. Never raises.

        began_in: the phase it began in.
        """
        usage = usage_of_call(call)
        charge, estimate = call.costs
        if charge is not None or (estimate is not None and not call.unknown):
            worth = self._prices.worth_of_call(usage, call.model, call.provider, *call.costs)
            usage = worth.applied_to(usage)
        phase = began_in if isinstance(began_in, phases.Phase) else None
        try:
            self.add(usage, call.model, call.provider, phase)
        except InvalidValueError as exc:
            logger.error(  # noqa: TRY400 - what the call says is at fault
                "run %r: a call is counted as one of unknown use: %s", self._record.session_id,
                exc,
            )  # fmt: skip
            nothing = OperationUsage(api_call=call.is_call, usage_unknown=True)
            self.add(nothing, None, None, phase)

    def add(
        self,
        usage: OperationUsage,
        model: str | None,
        provider: str | None,
        phase: phases.Phase | None = None,
    ) -> tuple[OperationUsage, Decimal | None]:
        """Count an operation; return what was counted, and its cost if that is known."""
        if LOADING and model is not None:
            again = partial(self.add, usage, model, provider, phase)
            if self._prices.put_off(again):
                return usage, None
        record, guard = self._record, self._guard
        by_hand = phase is None
        cost, phase = usage.cost_usd, phase or self.current_phase()
        if model is not None:
            if usage.usage_unknown:
                usage = self._estimated(usage, model)
            if cost is None and usage.extras is None:
                cost = self._prices.cost_of(model, provider, usage)
            elif cost is None:
                usage = self._prices.worth(model, provider, usage).applied_to(usage)
                cost = usage.cost_usd
        unpriced = usage.extras is not None or (
            cost is None
            # Or recorded by hand, without api_call=True.
            and (usage.api_call or (by_hand and model is not None and usage.tokens > 0))
        )
        hold = phase.hold
        with record.lock:
            counters = phase.counters if model is None else record.counters(phase.name, model)
            record.add(counters, usage, cost, unpriced=unpriced)
            hold = hold and self._settled_late(hold, usage, cost)
        if unpriced and guard.local.price_unheld and not usage.usage_unknown:
            UNPRICED_NOTICES.tell(record, self._prices, model, provider, usage)
        if (
            record.tokens >= guard.tokens_watermark
            or record.api_calls >= guard.api_calls_mark
            or record.cost_usd >= guard.cost_watermark
            or (guard.further_watermarks and reached(guard.further_watermarks, record.further))
            or (unpriced and guard.local.price_stops)
            or (usage.usage_unknown and guard.local.usage_stops)
        ):
            self._watermark_crossed()
        if hold is not None:  # after it: a sample that was due tells what the next call will use
            self.settle(hold, usage.tokens, usage.api_call, cost)
        return usage, cost

    def _settled_late(
        self, hold: Holds, usage: OperationUsage, cost: Decimal | None
    ) -> Holds | None:
        """Have a hold reduced after the addition that this came in the middle of; return it if it
        came in the middle of none.
        """
        hold.counted(self._record, usage.tokens, int(usage.api_call), cost)
        if not self._record.late:
            return hold
        self._record.late.append(partial(self.settle, hold, usage.tokens, usage.api_call, cost))
        return None

    def _estimated(self, usage: OperationUsage, model: str) -> OperationUsage:
        """Return a call of unknown use as it is to be counted."""
        record = self._record
        wanted = record.limits.on_unknown_usage == ESTIMATE
        if not wanted or not usage.api_call or usage.failed:
            return usage
        with record.lock:
            return record.estimated(model, usage)

    def _watermark_crossed(self) -> None:
        """Look at the limits again, unless a sample of the calls was all that was due."""
        record, guard = self._record, self._guard
        if record.api_calls >= record.calls.next_at and not guard.sample_call():
            return
        self._run.begin()
        guard.watermark_crossed()

    @contextmanager
    def operation(
        self,
        name: str,
        *,
        api_call: bool,
        model: str | None,
        provider: str | None,
    ) -> Iterator[Operation]:
        """Open a span for one operation; it is counted once, when the block ends.

        ``operation.record(...)`` says what was used. An exception makes it a failed call.
        """
        self._run.begin()
        attributes: tracing.Attributes = {
            semconv.ATTR_SESSION_ID: self._record.session_id,
            semconv.ATTR_OPERATION: name,
        }
        named("model", model)
        named("provider", provider)
        with (
            Activation(self.sink),
            CALL_TRACKER.enclosing() as inside,
            tracing.start_span(semconv.SPAN_OPERATION, attributes) as span,
        ):
            operation = Operation(span, model=model, provider=provider)
            outcome = "error"
            try:
                yield operation
                outcome = "ok"
            finally:
                if inside is not None:
                    operation.counted_inside(inside.tool_calls_below)
                if api_call and inside is not None and inside.counted_below:
                    self._add_rest(operation, inside.tokens_below, outcome)
                else:
                    self._add_operation(operation, api_call=api_call, outcome=outcome)

    def _add_rest(self, operation: Operation, counted: int, outcome: str) -> None:
        """Count what an operation says it used beyond what was counted inside it."""
        usage = operation.usage(api_call=True, outcome=outcome)
        said = usage.tokens
        if said:
            CALL_TRACKER.notices.repeated(self._record.session_id)
        if said > counted or usage.further:
            rest = max(0, said - counted)
            self.add(OperationUsage(rest, further=usage.further), None, None)

    def _add_operation(self, operation: Operation, *, api_call: bool, outcome: str) -> None:
        """Count an operation that has ended, and put the same numbers on its span."""
        usage = operation.usage(api_call=api_call, outcome=outcome)
        used = operation.used
        usage, cost = self.add(usage, used.get("model"), used.get("provider"))
        names = ((semconv.ATTR_MODEL, "model"), (semconv.ATTR_PROVIDER, "provider"))
        known: tracing.Attributes = {name: used[key] for name, key in names if used.get(key)}
        if usage.estimated:
            known[semconv.ATTR_USAGE_ESTIMATED] = True
        usage = usage._replace(cost_usd=cost)
        tracing.annotate(operation.span, tracing.operation_attributes(usage, outcome) | known)

    def _new_phase(self, name: str, counters: PhaseCounters) -> phases.Phase:
        outer, hold = phases.CURRENT.get(), self.current_phase().hold
        if hold is None:
            return phases.Phase(self._record, name, counters, outer)
        return phases.PaidPhase(self._record, name, counters, outer, hold)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Enter a named phase: what is recorded inside belongs to it. Opens a span."""
        if not isinstance(name, str) or not name:
            raise InvalidValueError("phase", name, "a name")
        self._run.begin()
        with self._record.lock:
            counters = self._record.counters(name, None)
            phase = self._new_phase(name, counters)
            self._open_phases.append(phase)
            self._phase = phase
        token = phases.CURRENT.set(phase)
        attributes: tracing.Attributes = {
            semconv.ATTR_SESSION_ID: self._record.session_id,
            semconv.ATTR_PHASE: name,
        }
        try:
            with Activation(self.sink), tracing.start_span(semconv.SPAN_PHASE, attributes):
                yield
        finally:
            with self._record.lock:
                self._open_phases.remove(phase)
                self._phase = self._open_phases[-1]
            with suppress(ValueError):  # left in another context, as async generators may be
                phases.CURRENT.reset(token)
