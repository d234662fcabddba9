"""How a run reserves: for its adapters' calls, and for whoever asks by hand.

Waiting is the rule where a call fits once others are over, refusal where it never does. Nobody
waits who holds something himself, so that two never wait for each other.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Protocol

from otel_budget.core import validation
from otel_budget.core.exceeded import BudgetExceeded
from otel_budget.core.reasons import Action, Reason
from otel_budget.errors import InvalidValueError
from otel_budget.genai import attribution
from otel_budget.runtime.tasks import here
from otel_budget.sdk import phases
from otel_budget.sdk.reservations import NEXT_CALL, Request, Reservation, Short
from otel_budget.sdk.room_queue import is_held, wait_for_room, wait_for_room_async
from otel_budget.sdk.usage_arguments import OperationUsage

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextvars import Token

    from otel_budget.core.quantities import Number
    from otel_budget.genai.expected import Expected
    from otel_budget.sdk.guard import Guard
    from otel_budget.sdk.pricing.prices import Prices
    from otel_budget.sdk.reservations import Room
    from otel_budget.sdk.run_record import RunRecord

_current, _enter, _leave = phases.CURRENT.get, phases.CURRENT.set, phases.CURRENT.reset
#: Seconds that an adapter's call waits for room at most.
LONGEST: Final = 60.0


class Reserves(Protocol):
    """A run's recorder, as reservations need it."""

    room: Room
    record: RunRecord

    @property
    def reserver(self) -> Reserver:
        """Reserves for the run."""

    def check_before_call(self) -> None:
        """Raise BudgetExceeded if the run must stop."""

    def may_go_on(self) -> bool:
        """Tell, at once, that the run may go on; False: it has to be looked into."""

    def current_phase(self) -> phases.Phase:
        """Return the phase that what is counted here and now belongs to."""


class Reserver:
    """Reserves for one run."""

    def __init__(self, recorder: Reserves, record: RunRecord, prices: Prices) -> None:
        self._recorder, self._record, self._prices = recorder, record, prices

    @property
    def room(self) -> Room:
        """The run's room."""
        return self._recorder.room

    # --- adapters ------------------------------------------------------------------------------
    def hold(self, expected: Expected | None, said: Mapping[str, Any]) -> Reservation | None:
        """Do as ``UsageSink.hold``."""
        self._recorder.check_before_call()
        around, is_paid_for = self._around()
        if is_paid_for:
            return None
        waits = self._may_wait(around) and not attribution.in_event_loop()
        request = self._request(expected, said, waits=waits)
        found = self._take(request, around, surely=waits)
        if is_held(found) and waits:
            found = wait_for_room(self.room, request, self._recorder.check_before_call, LONGEST)
        return self._owned(self._granted(found, request))

    async def hold_async(
        self, expected: Expected | None, said: Mapping[str, Any]
    ) -> Reservation | None:
        """Do as ``UsageSink.hold_async``."""
        self._recorder.check_before_call()
        around, is_paid_for = self._around()
        if is_paid_for:
            return None
        waits = self._may_wait(around) and attribution.in_event_loop()
        request = self._request(expected, said, waits=waits)
        found = await self._take_async(request, around, surely=waits)
        if is_held(found) and waits:
            check = self._recorder.check_before_call
            found = await wait_for_room_async(self.room, request, check, LONGEST)
        return self._owned(self._granted(found, request))

    def _take(
        self, request: Request, around: Reservation | None = None, *, surely: bool = False
    ) -> Reservation | Short | None:
        """Take room; where only shared budgets lack it, ask for more first, and wait for that.

        It takes milliseconds. A blocking call in an event loop holds that up for longer anyway.
        """
        room = self.room
        found = room.take(request, around, surely=surely)
        if isinstance(found, Short) and found.is_shared and room.credit is not None:
            room.credit.fetch()
            return room.take(request, around, surely=surely)
        return found

    async def _take_async(
        self, request: Request, around: Reservation | None = None, *, surely: bool = False
    ) -> Reservation | Short | None:
        """Do the same without blocking the event loop."""
        room = self.room
        found = room.take(request, around, surely=surely)
        if not (isinstance(found, Short) and found.is_shared) or room.credit is None:
            return found
        if not attribution.in_event_loop():  # Trio's, say
            return self._take(request, around, surely=surely)
        from asyncio import to_thread  # callers of this have it loaded

        await to_thread(room.credit.fetch)
        return room.take(request, around, surely=surely)

    @staticmethod
    def _owned(found: Reservation | None) -> Reservation | None:
        if found is not None:
            found.owner = here()
        return found

    def _around(self) -> tuple[Reservation | None, bool]:
        """Return the hold that a call is made inside of, and whether it has this call in it.

        That of the call that it is a part of, or what that one is paid for by, has the first one
        that is made there. Else a reservation has the first call that is made in it.
        """
        part_of, is_first = attribution.hold_around(self._record.session_id)
        if is_first:
            return None, True
        if isinstance(part_of, Reservation):
            part_of.claim()  # by the first one, which may wait to be counted
            return part_of, False
        around = around_here(self._record)
        return around, around is not None and around.claim()

    def _request(
        self, expected: Expected | None, said: Mapping[str, Any], *, waits: bool
    ) -> Request:
        # Who waits may hold all that is left: it goes back with the first call. Who cannot wait
        # would be refused for that, however far its limit is.
        if expected is not None and not waits:
            expected = expected.of_usual_size()
        if expected is None or expected.tokens is None:
            return NEXT_CALL
        model, provider = said.get("model"), said.get("provider")
        cost = None
        if isinstance(model, str) and self.room.limits_cost_of_unknown_calls:
            usage = OperationUsage(
                expected.tokens, expected.input_tokens or 0, expected.output_tokens or 0
            )
            with suppress(Exception):  # a guess must not end the user's model call
                cost = self._prices.cost_of(model, provider, usage)
        return Request(expected_tokens=expected.tokens, expected_cost=cost)

    # --- by hand -------------------------------------------------------------------------------
    def reserve(self, request: Request, timeout: float | None) -> Reservation:
        """Hold what is asked for. Raises BudgetExceeded."""
        recorder = self._recorder
        if not recorder.may_go_on():
            recorder.check_before_call()
        found = self._take(request)
        if is_held(found) and timeout != 0 and self._may_wait() and not attribution.in_event_loop():
            found = wait_for_room(recorder.room, request, recorder.check_before_call, timeout)
        return self._granted(found, request) or Reservation.of_nothing(recorder.room)

    async def reserve_async(self, request: Request, timeout: float | None) -> Reservation:  # noqa: ASYNC109 - the twin of the above
        """Do the same without blocking the event loop."""
        self._recorder.check_before_call()
        found = await self._take_async(request)
        if is_held(found) and timeout != 0 and self._may_wait():
            check = self._recorder.check_before_call
            found = await wait_for_room_async(self.room, request, check, timeout)
        return self._granted(found, request) or Reservation.of_nothing(self.room)

    def _may_wait(self, around: Reservation | None = None) -> bool:
        """Tell whether this code may wait for others: it would wait for what it holds itself.

        around: the hold that it is inside of, which another thread may have begun.
        """
        if around is not None and around.holds_something:
            return False
        return not holds_any() and not self.room.is_held_by(here())

    def _granted(self, found: Reservation | Short | None, request: Request) -> Reservation | None:
        if isinstance(found, Short):
            raise self._refusal(found, request)
        if found is not None:
            self.room.guards[0].no_room = None
        return found

    def _refusal(self, short: Short, request: Request) -> BudgetExceeded:
        """Return what is raised for what does not fit: a verdict of this run's own."""
        guard: Guard = self.room.guards[0]
        lack = self.room.lack(short, request)
        verdict = guard.verdict(guard.progress)
        if not verdict.should_continue:
            return guard.refusal(verdict)
        reason, message, credit = Reason.WRAP_UP, lack.message, self.room.credit
        if short.is_shared and credit is not None:
            message = credit.problem
        if short.is_held:
            reason = Reason.BUDGET_BUSY
        elif not short.is_shared and lack.used >= lack.limit:
            reason = Reason.LIMIT_EXCEEDED
        if not short.is_held and not request.asked:
            guard.told_to_stop = True
        decided = f"{verdict.decision_id}\x1f{reason}\x1f{message}".encode()
        stop = replace(
            verdict,
            action=Action.STOP,
            reason=reason,
            message=message,
            wrap_up=guard.allowance() if reason is Reason.WRAP_UP else None,
            decision_id=hashlib.sha256(decided).hexdigest()[: len(verdict.decision_id)],
        )
        if reason is Reason.WRAP_UP and not request.asked:
            guard.refused(stop)
        return guard.refusal(stop)


def around_here(record: RunRecord) -> Reservation | None:
    """Return the reservation of a run that this code is inside of."""
    phase = phases.CURRENT.get()
    while phase is not None:
        hold = phase.hold
        if isinstance(hold, Reservation) and phase.belongs_to is record:
            return hold if hold.is_open else None
        phase = phase.outer
    return None


def holds_any() -> bool:
    """Tell whether this code is inside of a reservation of which something is left."""
    phase = phases.CURRENT.get()
    while phase is not None:
        hold = phase.hold
        if isinstance(hold, Reservation) and hold.is_open and hold.holds_something:
            return True
        phase = phase.outer
    return False


class ReserveBlock:
    """What ``monitor.reserve()`` returns: a context, also an asynchronous one, to be used once."""

    __slots__ = ("_held", "_recorder", "_request", "_timeout", "_token")

    _held: Reservation
    _token: Token[phases.Phase | None]

    def __init__(self, recorder: Reserves, request: Request, timeout: float | None) -> None:
        """Hold nothing yet."""
        self._recorder, self._request, self._timeout = recorder, request, timeout

    def __enter__(self) -> Reservation:
        """Hold what was asked for. Raises BudgetExceeded."""
        recorder, around = self._recorder, _current()
        held = None
        if around is None and recorder.may_go_on():
            held = recorder.room.at_once(self._request)
        if held is None:
            held = recorder.reserver.reserve(self._request, self._timeout)
        return self._begin(held, around)

    def _begin(self, held: Reservation, around: phases.Phase | None) -> Reservation:
        recorder = self._recorder
        phase = recorder.current_phase()
        self._held = held
        self._token = _enter(held.stand_for(phase, recorder.record, around))
        return held

    def __exit__(self, *_: object) -> None:
        """Give back what was not used."""
        try:
            _leave(self._token)
        except ValueError:  # left in another context, as async generators may be
            pass
        finally:
            self._held.end()

    async def __aenter__(self) -> Reservation:
        """Do the same without blocking the event loop."""
        held = await self._recorder.reserver.reserve_async(self._request, self._timeout)
        return self._begin(held, _current())

    async def __aexit__(self, *_: object) -> None:
        """Do the same in a coroutine."""
        self.__exit__()


def request_of(tokens: int | None, api_calls: int, cost_usd: Number | None) -> Request:
    """Return the request for amounts. Raises InvalidValueError naming the argument."""
    if tokens is None and cost_usd is None and api_calls == 1:
        return NEXT_CALL
    calls = validation.count("api_calls", api_calls)
    cost = None if cost_usd is None else Decimal(validation.money("cost_usd", cost_usd))
    return Request(None if tokens is None else validation.count("tokens", tokens), calls, cost)


def checked_timeout(timeout: float | None) -> float | None:
    """Return a timeout in seconds. Raises InvalidValueError."""
    if timeout is None or timeout == 0:
        return timeout
    seconds = validation.seconds("timeout", timeout)
    if seconds is None or seconds < 0:
        raise InvalidValueError("timeout", timeout, "seconds, 0 for at once, or None for ever")
    return seconds
