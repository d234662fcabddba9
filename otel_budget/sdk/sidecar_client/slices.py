"""Slices: what a run was granted of the budgets that it shares, ahead of its calls.

A call takes from them without a round trip. They are got in the background, a few calls of the
newest size at a time while there is much left, and exactly what is lacking where there is not. What
was used is committed soon after, what is not used for a while goes back, and all of it at the end.

- Credit binds while a verdict in force lists an enforced budget. Where the sidecar knows of no
  reservations, or of no such run, use is counted afterwards as without them, which is said once.
- ``take``, ``give_back`` and ``settle`` neither wait nor do I/O. Nobody waits under the lock.
"""

from __future__ import annotations

import math
import os
import threading
import time
import uuid
import weakref
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from typing import TYPE_CHECKING, Final, Protocol

from otel_budget import semconv
from otel_budget.core.budget import Mode
from otel_budget.core.reservation import ReservationRefusal
from otel_budget.logs.logger import logger
from otel_budget.policy.bounds import EXACT
from otel_budget.runtime.fork import in_child
from otel_budget.sdk.clock import steady_seconds
from otel_budget.sdk.reservations import Amounts
from otel_budget.sdk.sidecar_client.reservations import (
    Held,
    Refused,
    Reservations,
    UnsupportedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_budget.core.quantities import Number
    from otel_budget.core.verdict import Verdict
    from otel_budget.sdk.sidecar_client.address import SidecarAddress

#: Seconds of a slice's lease.
LEASE: Final = 30.0
#: Calls of the newest size in one slice, at most; and the share of what remains of a budget.
CALLS_AHEAD: Final = 8
SHARE: Final = 1 / 32
#: Seconds between two commits of what was used, and without a call after which a slice goes back.
COMMIT_EVERY, IDLE = 0.5, 1.0
#: Seconds between two tries: where others hold the room, and where nothing is left.
RETRY_BUSY, RETRY_EXCEEDED = 0.05, 1.0
#: Seconds without slices where the sidecar has no reservations, does not know the run, or is away.
_USELESS, _UNKNOWN, _AWAY = 60.0, 1.0, 0.5
#: Seconds after which an idle thread ends, and between two tries of one that failed.
_TENDER_IDLE, _AGAIN_AFTER = 5.0, 1.0
_NO_MONEY: Final = Decimal(0)
_SMALLEST: Final = Decimal("0.000001")
_ROUNDING: Final = 1e-9
#: In the order of ``Amounts``.
_NAMES: Final = (semconv.TOKENS, semconv.API_CALLS, semconv.COST)
NONE: Final = Amounts()
NO_LIMITS: Final = (False, False, False)
_STEADY: Final = steady_seconds()  # leases end while the machine sleeps, too


class AsksForRoom(Protocol):
    """What reserves at a sidecar."""

    def reserve(
        self,
        session_id: str,
        amounts: Mapping[str, Number],
        lease_seconds: float,
        *,
        key: str | None = None,
    ) -> Held | Refused:
        """Have amounts held."""

    def commit(
        self, held_id: str, used: Mapping[str, Number], seconds_ago: float = 0.0
    ) -> Held | Refused:
        """Say what was used."""

    def extend(self, held_id: str, lease_seconds: float) -> Held | Refused:
        """Let a lease go on."""

    def release(self, held_id: str) -> Refused | None:
        """Give one back."""


@dataclass(slots=True)
class _Slice:
    id: str
    amounts: Amounts
    """Of what was not asked for, as no budget limited it then: none."""
    until: float
    """Monotonic seconds at which its lease ends, at the earliest."""


@dataclass(slots=True)
class _Budgets:
    """What the newest verdict says of the budgets that are enforced."""

    limits: tuple[bool, bool, bool] = (False, False, False)
    """Which of ``Amounts`` one of them limits."""
    left: tuple[float, float, float] = (math.inf, math.inf, math.inf)
    """The least that remains of each."""
    until: float = -math.inf
    """Monotonic seconds at which the verdict's lease ends."""


class Slices:
    """The credit of one run. Any thread may use it."""

    def __init__(
        self,
        session_id: str,
        ask: AsksForRoom,
        *,
        on_more: Callable[[], None],
        work: Callable[[Slices], None],
        clock: Callable[[], float] = _STEADY,
    ) -> None:
        """Have nothing yet.

        ask: reserves at the sidecar; called from the thread that tends to slices, and from
        ``fetch``. on_more: called when there may be more to take. work: has ``tend`` called soon.
        """
        self.session_id, self._ask, self._on_more, self._work = session_id, ask, on_more, work
        self._clock = clock
        self._lock = threading.RLock()  # reentrant for signal handlers, as others are
        self._tending = threading.Lock()
        """Held by who asks the sidecar: one at a time."""
        self._budgets = _Budgets()
        self._slices: list[_Slice] = []
        self._lapsed: list[_Slice] = []
        """Those whose lease ended while calls that had taken from them were under way."""
        self._left = NONE
        """What may be taken now; below 0 where more was used than was taken."""
        self._used, self._taken, self._guessed = NONE, NONE, NONE
        """Not committed yet; held by calls under way; and what these asked for beyond all that is
        left, as they do not know what they use."""
        self._wanted: Amounts | None = None
        """What was asked for in vain."""
        self._size = NONE
        """What was asked for last: the size of a call."""
        self._used_at = self._taken_at = self._committed_at = clock()
        self._retry_at = self._off_until = -math.inf
        self._said: set[str] = set()
        self._closed = self._has_used = self._is_away = False
        self._process = os.getpid()
        self._refused_amounts = NONE
        self.refused: Refused | None = None
        """Why what is wanted was not to be had when it was asked for last."""

    # What calls do.

    def take(self, amounts: Amounts) -> bool:
        """Take it off what was granted; False, and nothing is taken, if that is less."""
        now = self._clock()
        with self._lock:
            budgets = self._budgets
            if not self._binds(now):
                return True
            wanted = amounts if self._has_used else _within(amounts, budgets.left)
            self._taken_at = now
            self._let_lapse(now)
            if _covers(self._left, wanted, budgets.limits):
                self._left = _less(self._left, wanted)
                self._taken = _more(self._taken, wanted)
                self._guessed = _more(self._guessed, _less(amounts, wanted))
                self._size, self._wanted = wanted, None
                took, low = True, not _covers(self._left, wanted, budgets.limits)
            else:
                self._wanted, took, low = wanted, False, True
        if low:
            self._work(self)
        return took

    def give_back(self, amounts: Amounts) -> None:
        """Take back what was taken and not used."""
        with self._lock:
            guessed = _least(self._guessed, amounts)
            self._guessed = _less(self._guessed, guessed)
            back = _least(self._taken, _less(amounts, guessed))
            self._taken, self._left = _less(self._taken, back), _more(self._left, back)

    def settle(self, amounts: Amounts) -> None:
        """Take note that so much of what was taken was used, and has been counted."""
        with self._lock:
            taken = _least(self._taken, amounts)
            self._taken = _less(self._taken, taken)
            if not (self._slices or self._lapsed):
                self._left = _more(self._left, taken)
                return
            self._left = _less(self._left, _less(amounts, taken))
            self._used, self._used_at = _more(self._used, amounts), self._clock()
            self._has_used = True

    @property
    def is_spent(self) -> bool:
        """True if what was asked for in vain is more than is left, whoever holds it."""
        with self._lock:
            wanted, refused = self._wanted, self.refused
            if wanted is None:
                return False
            budgets = self._budgets
            needs = [float(amount) for _, amount, _ in _each(wanted, budgets.limits)]
            beyond = any(
                of and amount > room
                for amount, room, of in zip(needs, budgets.left, budgets.limits, strict=True)
            )
            # What a larger call was refused says nothing of this one.
            lacking = _lack(wanted, self._left)
            is_meant = _covers(lacking, self._refused_amounts, budgets.limits)
        if refused is None or refused.reason != ReservationRefusal.EXCEEDED:
            return beyond
        return beyond or is_meant

    @property
    def problem(self) -> str:
        """Why what was asked for in vain last is not to be had, for people."""
        refused = self.refused
        if refused is not None:
            return f"{refused.detail}: stop"
        if self._is_away:
            return "the sidecar that grants what is left of a shared budget does not answer: stop"
        return "what is left of a shared budget does not suffice for this call: stop"

    @property
    def lacks(self) -> bool:
        """True if something was asked for in vain, and may be had now."""
        return self._wanted is not None and self._binds(self._clock())

    def fetch(self) -> bool:
        """Ask the sidecar for what is lacking, and wait for its answer; True if there is more.

        Not in an event loop.
        """
        with self._lock:
            if not self._is_away:
                self._retry_at = -math.inf
        got = self._get()
        self._work(self)
        return got

    # What is heard.

    def heard(self, verdict: Verdict, *, seconds: float) -> None:
        """Take in a verdict that holds for so many seconds."""
        enforced = [one for one in verdict.budgets if one.mode is Mode.ENFORCE]
        limits, left = [], []
        for name in _NAMES:
            found = [one.resources[name] for one in enforced if name in one.resources]
            limits.append(bool(found))
            left.append(min([float(one.remaining) for one in found], default=math.inf))
        with self._lock:
            self._budgets = _Budgets(
                (limits[0], limits[1], limits[2]), (left[0], left[1], left[2]),
                self._clock() + seconds,
            )  # fmt: skip
            wants = self._wanted is not None
        if wants:
            self._retry_at = -math.inf
            self._work(self)

    def close(self) -> None:
        """Give all of it back, and commit what was used: the run is over."""
        with self._lock:
            self._closed = True
        self._work(self)

    def forget(self) -> None:
        """Have nothing, and bind nothing: this is a forked child, and the run is its parent's."""
        self._lock, self._tending = threading.RLock(), threading.Lock()
        self._slices, self._lapsed, self._budgets = [], [], _Budgets()

    # What is done in the background.

    def tend(self) -> float | None:
        """Ask the sidecar for what is due; return the seconds until more is; None: nothing is."""
        if self._closed:
            with self._tending:
                self._give_all_back()
            return None
        self._get()
        with self._tending:
            self._settle_up()
            self._extend()
            self._settle_lapsed()
        return self._next_due()

    def _binds(self, now: float) -> bool:
        budgets = self._budgets
        return (
            now < budgets.until
            and now >= self._off_until
            and not self._closed
            and any(budgets.limits)
            and self._process == os.getpid()  # in a forked child the run is its parent's
        )

    def _get(self) -> bool:
        """Ask for a slice if one is lacking, or will be; tell whether there is more."""
        with self._tending:
            now = self._clock()
            with self._lock:
                lacking, amounts = self._lacking(now)
            if amounts is None:
                return False
            got = self._reserve(amounts)
            if not got and any(lacking) and lacking != amounts and self.refused is not None:
                got = self._reserve(lacking)  # there is no room for more
        if got:
            self._on_more()
        return got

    def _lacking(self, now: float) -> tuple[Amounts, Amounts | None]:
        """Return what a call lacks, and what to ask for now, if anything. Hold the lock."""
        limits, wanted = self._budgets.limits, self._wanted
        if not self._binds(now) or now < self._retry_at:
            return NONE, None
        size = self._size if wanted is None else wanted
        if wanted is None and (
            now - self._taken_at >= IDLE or _covers(self._left, size, limits) or not any(size)
        ):
            return NONE, None
        calls = _calls_ahead(size, self._budgets.left, limits)
        if wanted is None and not calls:
            return NONE, None  # scarce: what is not needed yet is others'
        lacking = _lack(size, self._left)
        return lacking, _more(lacking, _times(size, max(0, calls - 1)))

    def _reserve(self, amounts: Amounts) -> bool:
        """Ask for a slice. Hold ``_tending``."""
        limits = self._budgets.limits
        asked = {name: amount for name, amount, of in _each(amounts, limits) if of}
        granted = _limited(amounts, limits)
        key, asked_at = uuid.uuid4().hex, self._clock()
        try:
            found = self._ask.reserve(self.session_id, asked, LEASE, key=key)
        except UnsupportedError as exc:
            self._turn_off(_USELESS, f"the sidecar has no reservations ({exc})")
            return True
        except Exception as exc:  # noqa: BLE001 - whatever it is, the run goes on as without
            logger.debug("reservations: %s", exc)
            with self._lock:
                self._is_away, self._retry_at = True, self._clock() + _AWAY
            return False
        now = self._clock()
        with self._lock:
            self._is_away = False
            if isinstance(found, Held):
                self._slices.append(_Slice(found.id, granted, asked_at + found.lease_seconds))
                self._left, self.refused = _more(self._left, granted), None
                return True
            news = self.refused is None or self.refused.reason != found.reason
            self.refused, self._refused_amounts = found, amounts
            if found.reason in (ReservationRefusal.BUSY, ReservationRefusal.TOO_MANY):
                self._retry_at = now + RETRY_BUSY
            else:
                self._retry_at = now + RETRY_EXCEEDED
        if found.reason == ReservationRefusal.UNKNOWN_RUN:
            self._turn_off(_UNKNOWN, "the sidecar does not know the run yet")
            return True
        return news and not found.is_busy  # who waits in vain is to hear of it

    def _turn_off(self, seconds: float, why: str) -> None:
        """Do without slices for a while: use is counted afterwards."""
        with self._lock:
            self._off_until = self._clock() + seconds
            news = why not in self._said
            self._said.add(why)
        if news:
            logger.warning(
                "run %r: %s: calls of several runs at once may use more of a shared budget than is "
                "left; what they use is counted afterwards (said once)", self.session_id, why,
            )  # fmt: skip

    def _settle_up(self) -> None:
        """Commit what was used, and give back what is idle. Hold ``_tending``."""
        now = self._clock()
        idle = now - self._taken_at >= IDLE
        if not (idle or self._wanted is not None or now - self._committed_at >= COMMIT_EVERY):
            return
        while True:
            with self._lock:
                one = self._slices[0] if self._slices else None
                if one is None:
                    return
                last = len(self._slices) == 1
                used = self._used if last else _least(self._used, one.amounts)
                rest = _less(one.amounts, used)
                is_idle = idle and not any(self._taken)
                if not any(used) and not is_idle:
                    return
                if not is_idle and not _covers(self._left, rest, self._budgets.limits):
                    return  # calls under way have taken from it
                self._slices.pop(0)
                self._left, self._used = _less(self._left, rest), _less(self._used, used)
                ago, self._committed_at = now - self._used_at, now
            self._finish(one, used, ago)

    def _give_all_back(self) -> None:
        with self._lock:
            slices, self._slices = self._slices or self._lapsed[-1:], []
            self._lapsed = []
            used, self._used, self._left = self._used, NONE, NONE
            self._taken = self._guessed = NONE
            ago = max(0.0, self._clock() - self._used_at)
        for number, one in enumerate(slices, 1):
            part = used if number == len(slices) else _least(used, one.amounts)
            used = _less(used, part)
            self._finish(one, part, ago)

    def _finish(self, one: _Slice, used: Amounts, ago: float) -> None:
        try:
            if any(used):
                amounts = {name: amount for name, amount, _ in _each(used, NO_LIMITS)}
                found: Held | Refused | None = self._ask.commit(one.id, amounts, max(0.0, ago))
            else:
                found = self._ask.release(one.id)
            if isinstance(found, Refused):
                logger.debug("reservations: %s", found.detail)
        except Exception as exc:  # noqa: BLE001 - its lease ends, and what was used is counted
            logger.debug("reservations: %s", exc)

    def _extend(self) -> None:
        now = self._clock()
        with self._lock:
            due = [one for one in self._slices if one.until - now < LEASE / 2]
        for one in due:
            asked_at = self._clock()
            try:
                found = self._ask.extend(one.id, LEASE)
            except Exception as exc:  # noqa: BLE001 - it is tried again
                logger.debug("reservations: %s", exc)
                found = None
            with self._lock:
                if isinstance(found, Held):
                    one.until = asked_at + found.lease_seconds
                elif found is not None:
                    one.until = -math.inf
                self._let_lapse(self._clock())

    def _let_lapse(self, now: float) -> None:
        """Have nothing of what others may have by now: leases that ended. Hold the lock."""
        for one in self._slices[:]:
            if one.until <= now:
                self._slices.remove(one)
                self._left = _less(self._left, one.amounts)
                self._lapsed.append(one)

    def _settle_lapsed(self) -> None:
        """Commit what was used of leases that ended, where no other slice has it. Hold
        ``_tending``.
        """
        with self._lock:
            if self._slices:
                self._lapsed.clear()
            if not self._lapsed or any(self._taken):
                return
            one, used = self._lapsed[-1], self._used
            self._lapsed.clear()
            self._left, self._used = _more(self._left, used), NONE
            ago = self._clock() - self._used_at
        if any(used):
            self._finish(one, used, ago)

    def _next_due(self) -> float | None:
        now = self._clock()
        with self._lock:
            if self._wanted is not None and self._binds(now):
                return max(0.01, self._retry_at - now)
            return COMMIT_EVERY if self._slices or self._lapsed else None


def _calls_ahead(
    size: Amounts, left: tuple[float, float, float], limits: tuple[bool, bool, bool]
) -> int:
    """Return how many calls of a size to have at a time: none where it is scarce."""
    rooms = [
        room * SHARE / float(amount)
        for room, (_, amount, of) in zip(left, _each(size, limits), strict=True)
        if of and amount
    ]
    return min(CALLS_AHEAD, int(min(rooms, default=0.0)))


def _each(amounts: Amounts, limits: tuple[bool, bool, bool]) -> list[tuple[str, Number, bool]]:
    """Return the name of each, its amount, and whether it is limited."""
    tokens, calls, cost = amounts
    return [
        (semconv.TOKENS, tokens, limits[0]),
        (semconv.API_CALLS, calls, limits[1]),
        (semconv.COST, cost, limits[2]),
    ]


def _more(one: Amounts, other: Amounts) -> Amounts:
    return Amounts(one[0] + other[0], one[1] + other[1], one[2] + other[2])


def _less(one: Amounts, other: Amounts) -> Amounts:
    return Amounts(one[0] - other[0], one[1] - other[1], one[2] - other[2])


def _least(one: Amounts, other: Amounts) -> Amounts:
    return Amounts(min(one[0], other[0]), min(one[1], other[1]), min(one[2], other[2]))


def _times(one: Amounts, number: int) -> Amounts:
    return Amounts(one[0] * number, one[1] * number, one[2] * number)


def _limited(amounts: Amounts, limits: tuple[bool, bool, bool]) -> Amounts:
    """Return amounts, none of what is not limited."""
    tokens, calls, cost = amounts
    return Amounts(
        tokens if limits[0] else 0, calls if limits[1] else 0, cost if limits[2] else _NO_MONEY
    )


def _lack(wanted: Amounts, there: Amounts) -> Amounts:
    """Return what of something is not there."""
    less = _less(wanted, there)
    return Amounts(max(0, less[0]), max(0, less[1]), max(_NO_MONEY, less[2]))


def _within(amounts: Amounts, left: tuple[float, float, float]) -> Amounts:
    """Return amounts, none past what is left of a budget: who does not know takes all."""
    tokens, calls, cost = amounts
    if tokens > left[0]:
        tokens = max(1, int(left[0]))
    if calls > left[1]:
        calls = max(1, int(left[1]))
    if cost > left[2]:
        # Left is rounded to a float: of what is a little less, all of it is not too much.
        exact = Decimal(repr(left[2] * (1 - _ROUNDING)))
        cost = max(_SMALLEST, exact.quantize(_SMALLEST, rounding=ROUND_DOWN, context=EXACT))
    return Amounts(tokens, calls, cost)


def _covers(there: Amounts, wanted: Amounts, limits: tuple[bool, bool, bool]) -> bool:
    return (
        (not limits[0] or wanted[0] <= there[0])
        and (not limits[1] or wanted[1] <= there[1])
        and (not limits[2] or wanted[2] <= there[2])
    )


class Tender:
    """Tends to the slices of all runs of a process that share one sidecar's budgets."""

    def __init__(self, ask: Reservations) -> None:
        """Start nothing yet."""
        self.ask = ask
        self._changed = threading.Condition(threading.RLock())
        self._due: dict[Slices, float] = {}
        self._works = self._is_busy = False

    def look_after(self, slices: Slices) -> None:
        """Have it tended to now. Returns at once; never raises."""
        with self._changed:
            self._due[slices] = -math.inf
            self._changed.notify_all()
            if self._works:
                return
            self._works = True
        try:
            threading.Thread(target=self._run, name="otel-budget-slices", daemon=True).start()
        except RuntimeError as exc:  # no more threads, or the interpreter is ending
            logger.debug("reservations: %s; their leases end", exc)
            self._works = False

    def finish(self, seconds: float) -> bool:
        """Wait until what is due is done; False if it is not within so many seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._is_due() or not self._works, seconds)

    def _is_due(self) -> bool:
        return self._is_busy or any(at == -math.inf for at in self._due.values())

    def _run(self) -> None:
        while (ready := self._next()) is not None:
            for one in ready:
                self._tend(one)
            with self._changed:
                self._is_busy = False
                self._changed.notify_all()
        self.ask.close()

    def _next(self) -> list[Slices] | None:
        """Wait for what is due; None when there is nothing for long."""
        with self._changed:
            idle_until = time.monotonic() + _TENDER_IDLE
            while True:
                now = time.monotonic()
                ready = [one for one, at in self._due.items() if at <= now]
                if ready:
                    for one in ready:
                        del self._due[one]
                    self._is_busy = True
                    return ready
                if not self._due and now >= idle_until:
                    self._works = False
                    return None
                self._changed.wait(min([idle_until, *self._due.values()]) - now)

    def _tend(self, one: Slices) -> None:
        try:
            after = one.tend()
        except Exception:
            logger.exception("reservations of run %r failed; they are tried again", one.session_id)
            after = _AGAIN_AFTER
        if after is not None:
            with self._changed:
                self._due.setdefault(one, time.monotonic() + after)


class Tenders:
    """Of this process, one for each sidecar."""

    def __init__(self) -> None:
        """Know no sidecar."""
        self._reset()
        in_child(self._in_child)

    def slices(
        self, address: SidecarAddress, session_id: str, on_more: Callable[[], None]
    ) -> Slices:
        """Return the credit of a run. on_more: as in ``Slices``."""
        tender = self._of(address)
        made = Slices(session_id, tender.ask, on_more=on_more, work=tender.look_after)
        self._made.add(made)
        return made

    def finish(self, address: SidecarAddress, seconds: float) -> bool:
        """Wait until what is due at a sidecar is done."""
        tender = self._tenders.get(address)
        return tender is None or tender.finish(seconds)

    def _of(self, address: SidecarAddress) -> Tender:
        with self._lock:
            tender = self._tenders.get(address)
            if tender is None:
                tender = self._tenders[address] = Tender(Reservations(address))
            return tender

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._tenders: dict[SidecarAddress, Tender] = {}
        self._made: weakref.WeakSet[Slices] = weakref.WeakSet()

    def _in_child(self) -> None:
        for slices in tuple(self._made):
            slices.forget()
        for tender in self._tenders.values():
            tender.ask.forget()
        self._reset()


TENDERS: Final = Tenders()
