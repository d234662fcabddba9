"""Holds: what runs may use soon of the budgets that they share, and of what they said they used.

- A hold counts beside what is used, in all budgets and groups that admitted it, and in no other. It
  belongs to the windows that admitted it: what follows on one of them does not have it.
- It ends with its lease, by a clock that never jumps. One that is committed stays, with what was
  used, until a newer sample of its run is counted: one that was taken after the last of the use was
  recorded. So it is counted once, and at no moment not at all. What no sample ever shows is
  forgotten after ``COMMITTED_KEPT``: the metrics are the truth.
- What ended is remembered for its key, ``KEY_KEPT`` long: the same request is answered alike.
- Their number is bounded: of one run, and in all.

Times are by the clock that each call is told.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget import semconv
from otel_budget.core.token_kinds import WHOLE_WEIGHT
from otel_budget.ledger.book_values import NO_AMOUNTS, add, take_off

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from otel_budget.core.budget import Group
    from otel_budget.core.quantities import Number

#: Open holds of one run, and holds in all, those that are remembered for their keys among them.
MOST_OF_RUN: Final = 1000
MOST: Final = 100_000
#: Seconds for which a committed one waits for a sample that shows it, at most: as long as a
#: Prometheus shows a series that gets no samples. A lease that is longer counts instead.
COMMITTED_KEPT: Final = 300.0
#: Seconds for which one that ended is remembered.
KEY_KEPT: Final = 300.0
#: Ends of leases that were extended since, at most; and as many again as there are holds.
_STALE_MOST: Final = 1000


class Claim(NamedTuple):
    """One budget of a hold, with the window that admitted it."""

    budget: str
    group: Group
    run: str
    """Session id where the budget is over each run by itself; else empty."""
    until: float
    """When the window ends; infinite where it has no end."""
    weight: int = WHOLE_WEIGHT
    """What a token counts there, at most, in thousandths."""


class HoldState(StrEnum):
    """What became of a hold."""

    HELD = "held"
    COMMITTED = "committed"
    """What was used is known, and not counted yet."""
    ENDED = "ended"
    """Its lease ended."""
    RELEASED = "released"
    COUNTED = "counted"
    """What was used is in what is counted."""


OPEN: Final = (HoldState.HELD, HoldState.COMMITTED)


@dataclass(frozen=True, slots=True)
class Hold:
    """One reservation; each change makes another object."""

    id: str
    key: str
    asked: str
    session_id: str
    started_at: float | None
    """Start of the run, as the ledger has it."""
    amounts: Mapping[str, Number]
    """Per resource, as asked for."""
    claims: tuple[Claim, ...]
    lease_seconds: float
    until: float
    """When its lease ends; of one that is committed, when no sample is waited for any more; of one
    that is over, until when it is remembered."""
    state: HoldState = HoldState.HELD
    used: Mapping[str, Number] = field(default_factory=dict)
    """Of one that is committed."""
    recorded_at: float = 0.0
    """When the last of that was recorded, at the latest."""

    @property
    def holds(self) -> Mapping[str, Number]:
        """What it takes off the room, tokens not weighed; nothing once it is over."""
        if self.state is HoldState.HELD:
            return self.amounts
        return self.used if self.state is HoldState.COMMITTED else NO_AMOUNTS

    def lease_left(self, now: float) -> float:
        """Return the seconds that are left of its lease; 0 once it is over."""
        return max(0.0, self.until - now) if self.state in OPEN else 0.0


_Place = tuple[str, "Group", str]


class _Sum:
    """What some holds take off one window together."""

    __slots__ = ("amounts", "holds")

    def __init__(self) -> None:
        self.holds = 0
        self.amounts: dict[str, Number] = {}


class Holds:
    """All of them. What is changed between ``begin`` and ``undo`` can be taken back."""

    def __init__(self, stored: Iterable[Hold] = (), now: float = 0.0) -> None:
        """Begin with what was stored. No lease has more left than it had."""
        self._by_id: dict[str, Hold] = {}
        self._by_key: dict[str, str] = {}
        self._open_of: dict[str, set[str]] = {}
        """Session id to its open holds."""
        self._committed: dict[str, None] = {}
        self._sums: dict[_Place, dict[float, _Sum]] = {}
        """What is held, by place and end of the window."""
        self._ends: list[tuple[float, str]] = []
        self._over: dict[str, None] = {}
        """Those that are over, in the order in which they ended."""
        self._unstored: set[str] = set()
        self._before: dict[str, Hold | None] = {}
        self._bounded = False
        for one in stored:
            longest = max(
                one.lease_seconds, COMMITTED_KEPT if one.state is not HoldState.HELD else 0
            )
            self._put(replace(one, until=min(one.until, now + longest)))
        self._unstored.clear()
        self._before.clear()

    def __len__(self) -> int:
        """Return how many are known, those that are over among them."""
        return len(self._by_id)

    @property
    def open_count(self) -> int:
        """How many hold something."""
        return sum(map(len, self._open_of.values()))

    def of_key(self, key: str) -> Hold | None:
        """Return the hold that was asked for with a key."""
        known = self._by_key.get(key)
        return None if known is None else self._by_id[known]

    def get(self, hold_id: str) -> Hold | None:
        """Return a hold; None if it is not known, or not any more."""
        return self._by_id.get(hold_id)

    def held(self, budget: str, group: Group, now: float, run: str = "") -> Mapping[str, Number]:
        """Return what is held of a budget's present window, tokens as they are weighed."""
        by_end = self._sums.get((budget, group, run))
        if not by_end:
            return NO_AMOUNTS
        total: dict[str, Number] = {}
        for end, found in by_end.items():
            if now < end:
                add(total, found.amounts)
        return {name: amount for name, amount in total.items() if amount}

    def places(self) -> Iterable[tuple[str, Group]]:
        """Return the budgets and groups of which something may be held, runs by themselves left
        out.
        """
        return [(budget, group) for budget, group, run in self._sums if not run]

    def next_end(self, now: float) -> float:
        """Return the seconds until the first of all leases ends; infinite if there is none."""
        return max(0.0, self._ends[0][0] - now) if self._ends else math.inf

    def has_room(self, session_id: str) -> bool:
        """Tell whether a run may have one more."""
        while len(self._by_id) >= MOST and self._over:
            self._forget(next(iter(self._over)))
        return len(self._by_id) < MOST and len(self._open_of.get(session_id, ())) < MOST_OF_RUN

    # What changes them.

    def add(self, hold: Hold) -> None:
        """Hold something from now on."""
        self._put(hold)

    def commit(
        self, hold: Hold, used: Mapping[str, Number], recorded_at: float, now: float
    ) -> Hold:
        """Take note of what was used, in full; of what is not said, as much as was held."""
        until = now + max(COMMITTED_KEPT, hold.lease_seconds)
        return self._put(
            replace(
                hold, state=HoldState.COMMITTED, used={**hold.amounts, **used},
                recorded_at=min(recorded_at, now), until=until,
            )
        )  # fmt: skip

    def extend(self, hold: Hold, seconds: float, now: float) -> Hold:
        """Let a lease go on from now on, for so many seconds; never for less than it has."""
        until = max(hold.until, now + seconds)
        return self._put(replace(hold, until=until, lease_seconds=max(seconds, hold.lease_seconds)))

    def release(self, hold: Hold, now: float) -> Hold:
        """Give all of it back."""
        return self._finish(hold, HoldState.RELEASED, now)

    def pass_time(self, now: float) -> None:
        """Let leases end that are over, and forget what was remembered long enough."""
        while self._ends and self._ends[0][0] <= now:
            until, hold_id = heapq.heappop(self._ends)
            one = self._by_id.get(hold_id)
            if one is None or one.until != until:
                continue
            if one.state is HoldState.HELD:
                self._finish(one, HoldState.ENDED, now)
            elif one.state is HoldState.COMMITTED:
                self._finish(one, HoldState.COUNTED, now)
            else:
                self._forget(hold_id)

    def count(self, counted_up_to: Callable[[Hold], float | None], now: float) -> None:
        """Let committed ones go that are counted by now.

        counted_up_to: returns when the newest sample of a hold's run was taken that is counted, of
        each of its processes; None: of one nothing is known.
        """
        for hold_id in list(self._committed):
            self.count_one(self._by_id[hold_id], counted_up_to, now)

    def count_one(
        self, hold: Hold, counted_up_to: Callable[[Hold], float | None], now: float
    ) -> Hold:
        """Let a committed one go if it is counted by now; as ``count`` does of all, which takes as
        long as there are many.
        """
        at = counted_up_to(hold)
        if at is None or at <= hold.recorded_at:
            return hold
        return self._finish(hold, HoldState.COUNTED, now)

    def _finish(self, hold: Hold, state: HoldState, now: float) -> Hold:
        return self._put(replace(hold, state=state, until=now + KEY_KEPT))

    # The storage.

    def begin(self) -> None:
        """Begin to remember what to take back."""
        self._before.clear()
        self._bounded = True

    def end(self) -> None:
        """Let what was changed since ``begin`` stand."""
        self._bounded = False
        self._before.clear()

    def undo(self) -> None:
        """Take back what was changed since ``begin``: it could not be stored."""
        before = dict(self._before)
        self.end()
        for hold_id, hold in before.items():
            if hold is None:
                self._forget(hold_id)
            else:
                self._put(hold)

    def unstored(self) -> tuple[tuple[Hold, ...], tuple[str, ...]]:
        """Return what is not on disk, and the ids of what is to be deleted there."""
        known = self._by_id
        changed = tuple([known[one] for one in self._unstored if one in known])
        return changed, tuple([one for one in self._unstored if one not in known])

    def stored(self) -> None:
        """Take note that all of it is on disk."""
        self._unstored.clear()

    def all_unstored(self) -> None:
        """Take note that nothing of it is on disk."""
        self._unstored |= self._by_id.keys()

    # How they are kept.

    def _put(self, hold: Hold) -> Hold:
        before = self._by_id.get(hold.id)
        self._note(hold.id, before)
        if before is not None:
            self._take_out(before)
        self._by_id[hold.id] = hold
        self._by_key[hold.key] = hold.id
        self._expect(hold)
        if hold.state in OPEN:
            self._open_of.setdefault(hold.session_id, set()).add(hold.id)
            if hold.state is HoldState.COMMITTED:
                self._committed[hold.id] = None
            for claim in hold.claims:
                of = self._sums.setdefault(claim[:3], {}).setdefault(claim.until, _Sum())
                of.holds += 1
                add(of.amounts, weighed(hold.holds, claim))
        else:
            self._over[hold.id] = None
        return hold

    def _expect(self, hold: Hold) -> None:
        heapq.heappush(self._ends, (hold.until, hold.id))
        if len(self._ends) > 2 * len(self._by_id) + _STALE_MOST:  # leases that were extended
            self._ends = [(one.until, one.id) for one in self._by_id.values()]
            heapq.heapify(self._ends)

    def _take_out(self, hold: Hold) -> None:
        if hold.state not in OPEN:
            self._over.pop(hold.id, None)
            return
        self._committed.pop(hold.id, None)
        ids = self._open_of[hold.session_id]
        ids.discard(hold.id)
        if not ids:
            del self._open_of[hold.session_id]
        for claim in hold.claims:
            by_end = self._sums[claim[:3]]
            of = by_end[claim.until]
            of.holds -= 1
            take_off(of.amounts, weighed(hold.holds, claim))
            if not of.holds:
                del by_end[claim.until]
            if not by_end:
                del self._sums[claim[:3]]

    def _forget(self, hold_id: str) -> None:
        hold = self._by_id.get(hold_id)
        if hold is None:
            return
        self._note(hold_id, hold)
        self._take_out(hold)
        del self._by_id[hold_id]
        self._by_key.pop(hold.key, None)

    def _note(self, hold_id: str, before: Hold | None) -> None:
        self._unstored.add(hold_id)
        if self._bounded:
            self._before.setdefault(hold_id, before)


def weighed(amounts: Mapping[str, Number], claim: Claim) -> Mapping[str, Number]:
    """Return amounts as a budget counts them: tokens at most, as their kinds are not known."""
    tokens = amounts.get(semconv.TOKENS)
    if tokens is None or claim.weight == WHOLE_WEIGHT:
        return amounts
    return {**amounts, semconv.TOKENS: -(-int(tokens) * claim.weight // WHOLE_WEIGHT)}
