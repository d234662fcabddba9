"""What calls under way may use, taken off the room of their run before they are made.

Held is what is not counted yet: what a call used is counted first and held no more then, so there
is no moment at which a run has more room than there is. A run's room is also that of every run of
its process that it is below: all of them are taken, or none.
"""

from __future__ import annotations

from collections import deque
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, Self
from weakref import ref

from otel_budget import semconv
from otel_budget.policy.holding import UNKNOWN, Lack, Next, margin, next_call
from otel_budget.runtime.section import Section
from otel_budget.runtime.tasks import here
from otel_budget.sdk import phases
from otel_budget.sdk.phase_counters import plus
from otel_budget.sdk.phases import Phase

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_budget.core.quantities import Number
    from otel_budget.sdk.guard import Guard
    from otel_budget.sdk.run_record import RunRecord
    from otel_budget.sdk.wrap_ups import OpenBlock

_NO_MONEY: Final = Decimal(0)
#: No count gets here.
_NO_COUNT: Final = 1 << 62
#: Share by which sums of floats may be off: what just fits does.
_ROUNDING: Final = 1e-9
#: One for all runs: a family is taken as a whole. What is done in it takes microseconds.
_SECTION: Final = Section()


class Amounts(NamedTuple):
    """So much of each resource that can be held; times are not."""

    tokens: int = 0
    api_calls: int = 0
    cost_usd: Decimal = _NO_MONEY


class Credit(Protocol):
    """What a process was granted of the budgets that its run shares with others.

    None of it waits or does I/O: it is asked with a lock held. When there is more to be had again,
    the run's room is to be told (``Room.look``).
    """

    def take(self, amounts: Amounts) -> bool:
        """Take it off what was granted; False, and nothing is taken, if that is less."""

    def give_back(self, amounts: Amounts) -> None:
        """Take back what was taken and not used."""

    def settle(self, amounts: Amounts) -> None:
        """Take note that so much was used, and has been counted: it may be more than was taken."""

    @property
    def is_spent(self) -> bool:
        """True if what was asked for in vain last is more than is left, whoever holds it."""

    @property
    def problem(self) -> str:
        """Why what was asked for in vain last is not to be had, for people."""

    def fetch(self) -> bool:
        """Ask whoever grants it for what is lacking; True if there is more now.

        This one waits for the answer: it is called with no lock held.
        """


class Request(NamedTuple):
    """What is to be held. None: what the next calls are forecast to use."""

    tokens: int | None = None
    api_calls: int = 1
    cost_usd: Decimal | None = None
    expected_tokens: int | None = None
    """Used while the size of the run's calls is unknown; None: all that is left then."""
    expected_cost: Decimal | None = None

    @property
    def asked(self) -> bool:
        """True if amounts were asked for: what else it may use is held only if it is known."""
        return self.tokens is not None or self.cost_usd is not None


NEXT_CALL: Final = Request()


class Want(NamedTuple):
    """What a request comes to by now. tokens, cost: None: all that is left."""

    tokens: int | None
    api_calls: int
    cost: Decimal | None
    tokens_variance: float = 0.0
    cost_variance: float = 0.0
    is_guess: bool = False
    """The size of the run's calls is unknown: one that is alone may always go."""


#: Of what is made in the middle of another reservation.
_NOTHING: Final = Want(0, 0, _NO_MONEY)


class Short(NamedTuple):
    """Why a request does not fit."""

    room: Room
    """Whose limit it is: the run's own, or that of one above it."""
    resource: str
    wanted: Number
    is_held: bool
    """It would fit if nobody held anything."""
    is_shared: bool = False
    """It is not the run's own limits that it lacks room of, but budgets that it shares."""


class Waiting(Protocol):
    """One who waits for room."""

    room: Room
    request: Request
    short: Short
    """Why it waits."""

    def answer(self, found: Reservation | Short | None) -> None:
        """Take what was held for it, or why it is never to be. Called in the section."""


class Reservation(Phase):
    """What is held for what goes on inside: what is recorded there reduces it."""

    __slots__ = (
        "__weakref__", "_around", "_generation", "_of_cost", "_of_tokens", "api_calls", "before",
        "claimed", "cost_usd", "is_guess", "is_open", "of", "owner", "room", "tokens",
    )  # fmt: skip

    def __init__(  # noqa: PLR0917 - by name it takes half a microsecond more
        self,
        room: Room,
        tokens: int,
        api_calls: int,
        cost: Decimal,
        of_tokens: float,
        of_cost: float,
        around: Reservation | None,
    ) -> None:
        """Hold so much. of_tokens, of_cost: variances of forecasts. around: it is inside of it."""
        self.room, self._around, self._generation = room, around, room.generation
        self.tokens, self.api_calls = tokens, api_calls
        """Still held."""
        self.cost_usd = cost
        """US dollars still held."""
        self._of_tokens, self._of_cost = of_tokens, of_cost
        self.is_guess = False
        """It is all that was left when nobody knew what calls use: the others wait for that."""
        self.claimed = 0
        """Calls inside that began, and that it pays for."""
        self.is_open = True
        self.before: OpenBlock | None = None
        """The wrap-up that began while it was held: what it pays for is none of its last calls."""
        self.owner: object = None
        """The thread and task that began the call; None: of a block, which names itself."""

    def stand_for(self, phase: Phase, record: RunRecord | None, outer: Phase | None) -> Self:
        """Be the phase of what is recorded inside, in place of the one around it."""
        self.record, self.of, self.outer = None, record, outer
        self.name, self.counters = phase.name, phase.counters
        return self

    @property
    def hold(self) -> Reservation:
        """Itself: what pays for what is recorded in this phase."""
        return self

    @property
    def belongs_to(self) -> RunRecord | None:
        """The run's record."""
        return self.of

    def phase(self, phase: object) -> object:
        """Return the phase for what is counted of its call, in place of the one around it."""
        return self.stand_for(phase, phase.belongs_to, phase) if isinstance(phase, Phase) else phase

    def counted(self, record: RunRecord, tokens: int, api_calls: int, cost: Decimal | None) -> None:
        """Have a wrap-up that began meanwhile not count what its calls use."""
        if self.before is not None and self.api_calls:
            self.before.leave_out(record, tokens, api_calls, cost or _NO_MONEY)

    def settle(self, tokens: int, api_calls: int, cost: Decimal | None) -> None:
        """Hold so much less: it has been counted. Never waits."""
        # As Section.enter_if_free and leave do it, without the calls.
        section = _SECTION
        if section.late or not section.lock.acquire(blocking=False):
            section.hand_in(partial(self._settle, tokens, api_calls, cost))
            return
        if section.busy:
            section.late.append(partial(self._settle, tokens, api_calls, cost))
            section.lock.release()
            return
        try:
            section.busy = True
            self._settle(tokens, api_calls, cost)
        finally:
            section.busy = False
            section.lock.release()
        if section.late:
            section.catch_up()

    def end(self) -> None:
        """Give back what is left of it. Never waits, never raises; twice is fine."""
        if not self.is_open:
            return
        self.is_open = False
        section = _SECTION
        if section.late or not section.lock.acquire(blocking=False):
            section.hand_in(self._end)
            return
        if section.busy:
            section.late.append(self._end)
            section.lock.release()
            return
        try:
            section.busy = True
            self._end()
        finally:
            section.busy = False
            section.lock.release()
        if section.late:
            section.catch_up()

    def __del__(self) -> None:
        """Give back what was never ended: its generator, say, was collected."""
        if self.is_open:
            self.end()

    @classmethod
    def of_nothing(cls, room: Room) -> Reservation:
        """Return one that holds nothing, of what is made in the middle of another one."""
        return cls(room, 0, 0, _NO_MONEY, 0.0, 0.0, None)

    def claim(self) -> bool:
        """Take one of the calls that it pays for; False: all have begun."""
        if not self.is_open or not _SECTION.enter():
            return False
        try:
            free = self.claimed < self.api_calls
            self.claimed += free
        finally:
            _SECTION.leave()
        return free

    @property
    def holds_something(self) -> bool:
        """True while something is left of it."""
        return bool(self.tokens or self.api_calls or self.cost_usd)

    def less(self, want: Want) -> Want:
        """Return what is wanted beyond what is left of it, for a further call inside."""
        tokens, cost = want.tokens, want.cost
        if tokens is not None:
            tokens = max(0, tokens - self.tokens)
        if cost is not None:
            cost = max(_NO_MONEY, plus(cost, self.cost_usd.copy_negate()))
        calls = max(0, want.api_calls - max(0, self.api_calls - self.claimed))
        return want._replace(tokens=tokens, api_calls=calls, cost=cost)

    def _settle(self, tokens: int, api_calls: int, cost: Decimal | None) -> None:
        room, around = self.room, self._around
        of_tokens = tokens if tokens < self.tokens else self.tokens  # noqa: FURB136 - a third of min()
        of_calls = api_calls if api_calls < self.api_calls else self.api_calls  # noqa: FURB136 - the same
        of_cost = min(cost, self.cost_usd) if cost else _NO_MONEY
        if around is not None:  # it used what was left of that one, too
            more = plus(cost, of_cost.copy_negate()) if cost else None
            around._settle(tokens - of_tokens, api_calls - of_calls, more)  # noqa: SLF001 - its own class
        if self._generation != room.generation:
            return
        if of_calls and self.claimed:
            self.claimed -= 1
        if api_calls and (self._of_tokens or self._of_cost):
            self._is_known()
        self._hold_less(of_tokens, of_calls, of_cost)
        if room.credit is not None:
            if around is not None:  # the rest has been settled there
                tokens, api_calls, cost = of_tokens, of_calls, of_cost
            room.credit.settle(Amounts(tokens, api_calls, cost or _NO_MONEY))
        if room.rooms[-1].waiting:
            room.serve()

    def _end(self) -> None:
        room = self.room
        if self._generation != room.generation:
            return
        rest = self.tokens, self.api_calls, self.cost_usd
        if self._of_tokens or self._of_cost:
            self._is_known()
        self._hold_less(*rest)
        for each in room.rooms:
            each.open.pop(id(self), None)
        if room.credit is not None:
            room.credit.give_back(Amounts(*rest))
        if room.rooms[-1].waiting:
            room.serve()

    def _hold_less(self, tokens: int, api_calls: int, cost: Decimal) -> None:
        for room in self.room.rooms:
            room.tokens -= tokens
            room.api_calls -= api_calls
            if self.before is not None:
                room._looks = -1  # noqa: SLF001 - the last calls have as much room as before
            if cost:
                room.cost = plus(room.cost, cost.copy_negate())
        self.tokens -= tokens
        self.api_calls -= api_calls
        if cost:
            self.cost_usd = plus(self.cost_usd, cost.copy_negate())

    def shrink(self, known: Next) -> None:
        """Hold no more than calls are known to use by now. In the section."""
        self.is_guess = False
        tokens, cost = known.tokens, known.cost
        self._of_tokens, self._of_cost = known.tokens_variance, known.cost_variance
        for room in self.room.rooms:
            room.tokens_variance += self._of_tokens
            room.cost_variance += self._of_cost
        self._hold_less(
            0 if tokens is None else max(0, self.tokens - tokens),
            0,
            _NO_MONEY if cost is None else max(_NO_MONEY, plus(self.cost_usd, cost.copy_negate())),
        )

    def _is_known(self) -> None:
        """Take note that its call was counted: what is left is no forecast any more."""
        for room in self.room.rooms:
            room.tokens_variance -= self._of_tokens
            room.cost_variance -= self._of_cost
        self._of_tokens = self._of_cost = 0.0


class HasRoom(Protocol):
    """A run, as its room needs it."""

    record: RunRecord
    guard: Guard


class Room:
    """What is left of one run's limits, and what calls under way hold of it."""

    __slots__ = (
        "_far_calls", "_far_tokens", "_last_calls", "_limits", "_looks", "_most_calls",
        "_most_cost", "_most_tokens", "_next", "_run", "_samples", "api_calls", "cost",
        "cost_variance", "credit", "generation", "open", "rooms", "tokens", "tokens_variance",
        "waiting",
    )  # fmt: skip

    def __init__(self, run: HasRoom) -> None:
        """Begin with nothing held."""
        self._run, self.generation = run, 0
        self.rooms: tuple[Room, ...] = (self,)
        """Its own, and those of the runs above it, the nearest first."""
        self.credit: Credit | None = None
        """What the process was granted of budgets shared with others; None: no budget binds."""
        self.waiting: deque[Waiting] = deque()
        """Who waits for room of this run or of one below it, if there is none above; in order."""
        self.forget()

    def forget(self) -> None:
        """Hold nothing: this is a forked child, and what was under way is its parent's."""
        self.generation += 1
        self.tokens = self.api_calls = 0
        self.cost, self.tokens_variance, self.cost_variance = _NO_MONEY, 0.0, 0.0
        self.open: dict[int, ref[Reservation]] = {}
        """What is under way, by identity. Whoever began it keeps it: what they drop is over."""
        self.waiting.clear()
        self.credit = None
        self._looks = self._samples = -1
        self._next, self._last_calls = UNKNOWN, 0
        self._limits: dict[str, Number] = {}
        # Counts of this process that ordinary calls may bring the run to; None: no limit.
        self._most_tokens: int | None = None
        self._most_calls: int | None = None
        self._far_tokens = self._far_calls = -1
        """The same two; where there is no limit, what no count gets to."""
        self._most_cost: Decimal | None = None

    def join(self, above: Room) -> None:
        """Be below another run."""
        self.rooms = (self, *above.rooms)

    @property
    def session_id(self) -> str:
        """Names the run."""
        return self._run.record.session_id

    @property
    def is_over(self) -> bool:
        """True once the run is closed: nobody waits for room of it any more."""
        return self._run.record.closed_at is not None

    @property
    def guards(self) -> list[Guard]:
        """Of the run, and of those above it."""
        return [room._run.guard for room in self.rooms]  # noqa: SLF001 - its own class

    def take(
        self,
        request: Request,
        around: Reservation | None = None,
        waiting: Waiting | None = None,
        *,
        surely: bool = False,
    ) -> Reservation | Short | None:
        """Hold what is asked for, or say what it lacks; None where nothing can be held.

        around: a reservation that this is inside of: its rest is used first. waiting: is put into
        the queue if it lacks only what others hold. surely: beside others it has to fit with a
        margin, as for who can wait.
        """
        if not _SECTION.enter():
            return None  # a signal handler, in the middle of another reservation
        try:
            found: Reservation | Short | None
            found = self._behind(request) if around is None else None
            if found is None:
                found = self._try(request, around, surely=surely)
            if waiting is not None and isinstance(found, Short) and found.is_held:
                waiting.short = found
                self.rooms[-1].waiting.append(waiting)
        finally:
            _SECTION.leave()
        return found

    @property
    def limits_cost_of_unknown_calls(self) -> bool:
        """True if a price of the next call would be of use."""
        return self._next.cost is None and (
            not self._limits or any(semconv.COST in room._limits for room in self.rooms)  # noqa: SLF001 - its own class
        )

    def look(self) -> None:
        """Take note that there may be more room: serve those who wait. Never waits itself."""
        if self.rooms[-1].waiting:
            _SECTION.hand_in(self.serve)

    def leave(self, waiting: Waiting) -> None:
        """Have somebody wait no longer; those behind may be served.

        Always in the section: who has left the queue may be about to be answered in there.
        """
        queue = self.rooms[-1].waiting
        if not _SECTION.enter():
            return
        try:
            if waiting in queue:
                queue.remove(waiting)
                self.serve()
        finally:
            _SECTION.leave()

    def serve(self) -> None:
        """Give those who wait what there is, first come first served. In the section."""
        queue = self.rooms[-1].waiting
        if not queue:
            return
        blocked: set[Room] = set()
        for one in tuple(queue):
            room = one.room
            if not blocked.isdisjoint(room.rooms):
                continue
            found = room._try(one.request, None, surely=True)  # noqa: SLF001 - its own class
            if isinstance(found, Short) and found.is_held:
                one.short = found
                blocked.add(found.room)
            else:
                queue.remove(one)
                one.answer(found)

    def is_held_by(self, me: object) -> bool:
        """Tell whether a thread or task has calls of its own under way: it would wait for itself.

        It goes on while they do: it has a stream in hand that it may never read to its end, or
        begins several before it makes the first.
        """
        return any(one.owner == me for room in self.rooms for one in room.under_way())

    def set_apart(self, block: OpenBlock) -> None:
        """Have a wrap-up that begins here not pay for what others have under way."""
        if not _SECTION.enter():
            return
        try:
            mine, around, phase = here(), [], phases.CURRENT.get()
            while phase is not None:
                around.append(phase.hold)
                phase = phase.outer
            for one in self.under_way():
                if one.owner != mine and not any(one is hold for hold in around):
                    one.before = block
            self._looks = -1
        finally:
            _SECTION.leave()

    def _apart(self) -> dict[str, Number]:
        """Return what is held by calls from before the last ones."""
        apart = [one for one in self.under_way() if one.before is not None]
        cost = _NO_MONEY
        for one in apart:
            cost = plus(cost, one.cost_usd)
        return {
            semconv.TOKENS: sum(one.tokens for one in apart),
            semconv.API_CALLS: sum(one.api_calls for one in apart),
            semconv.COST: cost,
        }

    def under_way(self) -> list[Reservation]:
        """Return what is held now."""
        return [one for at in tuple(self.open.values()) if (one := at()) is not None]

    def lack(self, short: Short, request: Request) -> Lack:
        """Return why a request of this run does not fit, with all numbers as of now."""
        room, name = short.room, short.resource
        held: Number
        kept: Number
        if name == semconv.COST:
            held, kept = room.cost, room._next.cost_kept  # noqa: SLF001 - its own class
        elif name == semconv.TOKENS:
            held, kept = room.tokens, room._next.tokens_kept  # noqa: SLF001 - its own class
        else:
            held, kept = room.api_calls, room._last_calls  # noqa: SLF001 - its own class
        return Lack(
            name,
            room._limits.get(name, 0),  # noqa: SLF001 - its own class
            room._run.guard.local.used()[name],  # noqa: SLF001 - its own class
            short.wanted,
            held,
            len(room.open),
            kept,
            short.is_held,
            "" if room is self else room.session_id,
            request.asked,
        )

    def _behind(self, request: Request) -> Short | None:
        """Return what those who wait already lack, if it is in a room of this run's."""
        for one in self.rooms[-1].waiting:
            if one.short.room in self.rooms:
                wanted = one.short.resource, request.api_calls
                return Short(one.short.room, wanted[0], one.short.wanted, is_held=True)
        return None

    def _try(
        self, request: Request, around: Reservation | None, *, surely: bool
    ) -> Reservation | Short | None:
        """Hold what is asked for, or say what it lacks. surely: with a margin, beside others."""
        for room in self.rooms:
            room._renew()  # noqa: SLF001 - its own class
        want = self._want(request)
        if around is not None:
            want = around.less(want)
        want = self._as_last(want, request)
        alone = want.is_guess and self._is_alone(around)
        held: Short | None = None
        for room in self.rooms:
            for short in room._shorts_of(want, alone=alone, surely=surely):  # noqa: SLF001 - its own class
                if not short.is_held:  # to wait for the others would be in vain
                    return short
                held = held or short
        if held is not None:
            return held
        is_all = want.tokens is None or want.cost is None
        if want.is_guess:
            want = self._within(want)
        amounts = Amounts(want.tokens or 0, want.api_calls, want.cost or _NO_MONEY)
        if self.credit is not None and not self.credit.take(amounts):
            spent = self.credit.is_spent
            return Short(self, semconv.TOKENS, amounts.tokens, is_held=not spent, is_shared=True)
        reservation = Reservation(self, *amounts, *want[3:5], around)
        reservation.is_guess = is_all
        for room in self.rooms:
            room._hold(reservation, amounts, want)  # noqa: SLF001 - its own class
        return reservation

    def at_once(self, request: Request) -> Reservation | None:
        """Hold what is asked for if that surely fits; None: it has to be looked into.

        The common case by itself, of a run without a family whose calls are known: as ``take``.
        """
        if request.api_calls != 1 or self._must_look():
            return None
        known, tokens, cost = self._next, request.tokens, request.cost_usd
        of_tokens = of_cost = 0.0
        if tokens is None:
            tokens, of_tokens = known.tokens, known.tokens_variance
        if cost is None:
            cost, of_cost = known.cost, known.cost_variance
        if tokens is None or cost is None:
            return None
        section = _SECTION
        if not section.enter_if_free():
            return None
        try:
            if self._is_near(tokens, cost):
                return None
            held = Reservation(self, tokens, 1, cost, of_tokens, of_cost, None)
            if not self.open:
                self.tokens_variance = self.cost_variance = 0.0
            self.tokens += tokens
            self.api_calls += 1
            self.tokens_variance += of_tokens
            self.cost_variance += of_cost
            if cost:
                self.cost = plus(self.cost, cost)
            self.open[id(held)] = ref(held)
            return held
        finally:
            section.leave()

    def _is_near(self, tokens: int, cost: Decimal) -> bool:
        """Tell whether one more call might not fit; of one that costs something it is looked up."""
        record = self._run.record
        return (
            record.tokens + self.tokens + tokens > self._far_tokens
            or record.api_calls + self.api_calls >= self._far_calls
            or bool(cost and self._most_cost is not None)
        )

    def _must_look(self) -> bool:
        """Tell whether limits and sizes may be others by now, or more than this run's count."""
        record, guard = self._run.record, self._run.guard
        return (
            guard.local.looks != self._looks
            or record.calls.next_at != self._samples
            or len(self.rooms) > 1
            or bool(self.waiting)
            or self.credit is not None
            or record.below is not None
        )

    def _hold(self, reservation: Reservation, held: Amounts, want: Want) -> None:
        if not self.open:  # what sums of floats were off by is gone
            self.tokens_variance = self.cost_variance = 0.0
        self.tokens += held.tokens
        self.api_calls += held.api_calls
        self.tokens_variance += want.tokens_variance
        self.cost_variance += want.cost_variance
        if held.cost_usd:
            self.cost = plus(self.cost, held.cost_usd)
        self.open[id(reservation)] = ref(reservation)

    def _is_alone(self, around: Reservation | None) -> bool:
        """Tell whether nothing is under way but what this thread or task began itself."""
        mine = here()
        return not any(
            one is not around and one.owner != mine
            for room in self.rooms
            for one in room.under_way()
        )

    def _want(self, request: Request) -> Want:
        known, calls = self._next, request.api_calls
        tokens, cost, is_guess = request.tokens, request.cost_usd, False
        of_tokens = of_cost = 0.0
        if tokens is None and known.tokens is not None:
            tokens, of_tokens = known.tokens * calls, known.tokens_variance * calls
        if cost is None and known.cost is not None:
            cost, of_cost = known.cost * calls, known.cost_variance * calls
        if tokens is None or cost is None:
            record = self._run.record
            # Calls that say nothing of their use: no limit can be held by them.
            nothing = 0 if request.asked or record.api_calls > record.failed_api_calls else None
            is_guess = not request.asked
            if tokens is None:
                tokens = nothing if request.expected_tokens is None else request.expected_tokens
            if cost is None:
                expected = request.expected_cost
                cost = expected if nothing is None or expected is not None else _NO_MONEY
        return Want(tokens, calls, cost, of_tokens, of_cost, is_guess)

    def _shorts_of(self, want: Want, *, alone: bool, surely: bool) -> Iterator[Short]:
        """Yield what a request lacks of this run's limits. alone: nothing is under way, and nobody
        knows what calls use. surely: as in ``_try``.
        """
        record, below = self._run.record, self._run.record.below
        most = self._most_calls
        if most is not None:
            used = record.api_calls + want.api_calls + (below.api_calls if below else 0)
            if used + self.api_calls > most and want.api_calls:
                yield Short(self, semconv.API_CALLS, want.api_calls, used <= most)
        limit = None if alone else self._most_tokens
        if limit is not None and want.tokens is None:
            yield Short(self, semconv.TOKENS, self.tokens, is_held=True)
        elif limit is not None and want.tokens is not None:
            used = record.tokens + want.tokens + (below.tokens if below else 0)
            free = limit - used - self.tokens
            more = self._margin(self.tokens_variance + want.tokens_variance, want.tokens)
            if free < 0 or (surely and self.open and free < more):
                yield Short(self, semconv.TOKENS, want.tokens, want.is_guess or used <= limit)
        if self._most_cost is not None and not alone:
            short = self._short_of_cost(want, self._most_cost, surely)
            if short is not None:
                yield short

    def _margin(self, variance: float, tokens: int) -> float:
        return margin(variance, self.tokens + tokens, self._next.tokens_doubt)

    def _short_of_cost(self, want: Want, limit: Decimal, surely: bool) -> Short | None:  # noqa: FBT001 - as above
        if want.cost is None:
            return Short(self, semconv.COST, self.cost, is_held=True)
        record, below = self._run.record, self._run.record.below
        used = plus(record.cost_usd, want.cost)
        if below:
            used = plus(used, below.cost_usd)
        free = plus(limit, plus(used, self.cost).copy_negate())
        more, held = 0.0, float(plus(self.cost, want.cost))
        if self.open and surely:
            more = margin(self.cost_variance + want.cost_variance, held, self._next.cost_doubt)
        if free < 0 or free < Decimal(more):
            return Short(self, semconv.COST, want.cost, want.is_guess or used <= limit)
        return None

    def _as_last(self, want: Want, request: Request) -> Want:
        """Return what is wanted; of a last call no more than is left, where it hardly uses less."""
        if request.asked or not self._run.guard.wraps_up:
            return want
        fitted, known = self._within(want), self._next
        if want.tokens is None or want.cost is None or fitted == want:
            return want
        tokens, cost = fitted.tokens or 0, fitted.cost or _NO_MONEY
        if tokens < min(want.tokens, known.tokens_least * (1 - _ROUNDING)):
            return want
        return want if cost < min(want.cost, known.cost_least) else fitted

    def _within(self, want: Want) -> Want:
        """Return a guess, or all that is left, as what there is."""
        tokens, cost = want.tokens, want.cost
        for room in self.rooms:
            record, below = room._run.record, room._run.record.below  # noqa: SLF001 - its own class
            most, dearest = room._most_tokens, room._most_cost  # noqa: SLF001 - its own class
            if most is not None:
                left = most - record.tokens - room.tokens - (below.tokens if below else 0)
                tokens = max(0, left if tokens is None else min(left, tokens))
            if dearest is not None:
                used = plus(record.cost_usd, room.cost)
                rest = plus(dearest, (plus(used, below.cost_usd) if below else used).copy_negate())
                cost = max(_NO_MONEY, rest if cost is None else min(rest, cost))
        return want._replace(tokens=tokens, cost=cost)

    def _renew(self) -> None:
        """Look at limits and the size of calls again, if one of them may have changed."""
        record, guard = self._run.record, self._run.guard
        looks, samples = guard.local.looks, record.calls.next_at
        if looks == self._looks and samples == self._samples:
            return
        self._looks, self._samples = looks, samples
        self._last_calls = guard.last_calls
        with record.lock:
            self._next = known = next_call(record.pace(), self._last_calls)
        if known is not UNKNOWN:
            for one in self.under_way():
                if one.is_guess and one.room is self:
                    one.shrink(known)
        self._limits = limits = guard.limits_in_force(self._apart())
        carried = record.carried
        tokens, calls = limits.get(semconv.TOKENS), limits.get(semconv.API_CALLS)
        cost = limits.get(semconv.COST)
        self._most_tokens = (
            None if tokens is None else int(tokens) - known.tokens_kept - carried.tokens
        )
        self._most_calls = (
            None if calls is None else int(calls) - self._last_calls - carried.api_calls
        )
        self._far_tokens = _NO_COUNT if self._most_tokens is None else self._most_tokens
        self._far_calls = _NO_COUNT if self._most_calls is None else self._most_calls
        self._most_cost = (
            None
            if cost is None
            else plus(Decimal(cost), plus(known.cost_kept, carried.cost_usd).copy_negate())
        )
