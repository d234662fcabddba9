"""Holds of budgets: what is held is exactly what was let in, and is there for a lease at most."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from decimal import Decimal

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from otel_budget import semconv
from otel_budget.ledger import holds as module
from otel_budget.ledger.holds import (
    COMMITTED_KEPT,
    KEY_KEPT,
    OPEN,
    Claim,
    Hold,
    Holds,
    HoldState,
)

LEASE = 60.0
DAY = 86_400.0
ALL = Claim("all", (), "", math.inf)
TODAY = Claim("day", ("ann",), "", DAY)


def hold(number: int, tokens: int = 100, *, now: float = 0.0, **others: object) -> Hold:
    made = Hold(
        f"h{number}", f"k{number}", "asked", "r1", 1.0, {semconv.TOKENS: tokens}, (ALL, TODAY),
        LEASE, now + LEASE,
    )  # fmt: skip
    return replace(made, **others)  # type: ignore[arg-type] # fields of it


def held(of: Holds, claim: Claim = ALL, now: float = 0.0) -> int:
    return int(of.held(claim.budget, claim.group, now, claim.run).get(semconv.TOKENS, 0))


def test_what_is_held_is_held_in_every_budget_that_let_it_in() -> None:
    of = Holds()
    of.add(hold(1))
    assert (held(of), held(of, TODAY)) == (100, 100)
    assert held(of, Claim("all", ("bob",), "", math.inf)) == 0


def test_a_hold_does_not_follow_into_the_next_window() -> None:
    of = Holds()
    of.add(hold(1, until=DAY + LEASE))
    assert held(of, TODAY, DAY - 1) == 100
    assert held(of, TODAY, DAY) == 0
    assert held(of, ALL, DAY) == 100


def test_a_lease_that_ends_gives_all_of_it_back_and_the_key_is_remembered() -> None:
    of = Holds()
    of.add(hold(1))
    of.pass_time(LEASE - 0.01)
    assert held(of) == 100
    of.pass_time(LEASE)
    known = of.of_key("k1")
    assert held(of) == 0
    assert known is not None
    assert known.state is HoldState.ENDED
    of.pass_time(LEASE + KEY_KEPT)
    assert (of.of_key("k1"), len(of)) == (None, 0)


def test_an_extended_lease_goes_on_and_is_never_shortened() -> None:
    of = Holds()
    of.add(hold(1))
    first = of.get("h1")
    assert first is not None
    longer = of.extend(first, 90, 10)
    assert longer.until == 100
    assert of.extend(longer, 5, 10).until == 100
    of.pass_time(99)
    assert held(of) == 100


def test_what_was_used_is_held_until_a_sample_that_was_taken_after_it() -> None:
    of = Holds()
    of.add(hold(1))
    of.commit(hold(1), {semconv.TOKENS: 70}, 5.0, 6.0)
    assert held(of) == 70
    of.count(lambda _: 5.0, 7.0)
    assert held(of) == 70
    of.count(lambda _: None, 7.0)
    assert held(of) == 70
    of.count(lambda _: 5.5, 8.0)
    assert held(of) == 0


def test_more_than_was_reserved_is_held_in_full_and_the_unsaid_as_it_was_reserved() -> None:
    of = Holds()
    of.add(hold(1, amounts={semconv.TOKENS: 100, semconv.API_CALLS: 1}))
    known = of.get("h1")
    assert known is not None
    of.commit(known, {semconv.TOKENS: 250}, 5.0, 6.0)
    assert of.held("all", (), 6.0) == {semconv.TOKENS: 250, semconv.API_CALLS: 1}


def test_use_that_no_sample_ever_shows_is_forgotten() -> None:
    of = Holds()
    of.add(hold(1))
    of.commit(hold(1), {}, 5.0, 6.0)
    of.pass_time(6.0 + COMMITTED_KEPT - 1)
    assert held(of) == 100
    of.pass_time(6.0 + COMMITTED_KEPT)
    assert held(of) == 0


def test_tokens_are_held_as_the_dearest_kind() -> None:
    of = Holds()
    of.add(hold(1, 3, claims=(ALL._replace(weight=1500),)))
    assert held(of) == 5


def test_money_is_given_back_to_the_last_digit() -> None:
    of = Holds()
    tiny, much = Decimal("0.000000000000001"), Decimal(2**53)
    of.add(hold(1, amounts={semconv.COST: much}))
    of.add(hold(2, amounts={semconv.COST: tiny}))
    for number in (1, 2):
        known = of.get(f"h{number}")
        assert known is not None
        of.release(known, 1.0)
    assert of.held("all", (), 1.0) == {}


def test_a_clock_that_was_set_makes_no_lease_longer_than_it_was() -> None:
    of = Holds([hold(1, until=1_000_000.0)], now=10.0)
    of.pass_time(10.0 + LEASE)
    assert held(of, ALL, 10.0 + LEASE) == 0


def test_what_could_not_be_stored_is_taken_back() -> None:
    of = Holds()
    of.add(hold(1))
    of.stored()
    of.begin()
    of.add(hold(2))
    of.release(hold(1), 1.0)
    of.undo()
    assert (held(of), of.of_key("k2")) == (100, None)
    known = of.get("h1")
    assert known is not None
    assert known.state is HoldState.HELD


def test_the_number_of_holds_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 4)
    monkeypatch.setattr(module, "MOST_OF_RUN", 3)
    of = Holds()
    for number in range(3):
        assert of.has_room("r1")
        of.add(hold(number))
    assert not of.has_room("r1")
    assert of.has_room("r2")
    of.add(hold(3, session_id="r2"))
    assert not of.has_room("r2")
    of.release(hold(0), 1.0)
    assert of.has_room("r2"), "one that is over makes room, and its key is forgotten"
    assert of.of_key("k0") is None


def test_leases_that_are_extended_again_and_again_cost_no_memory() -> None:
    of = Holds()
    of.add(hold(1))
    for number in range(5000):
        known = of.get("h1")
        assert known is not None
        of.extend(known, LEASE, float(number) / 1000)
    assert len(of._ends) < 1100


@dataclass
class Known:
    """One hold as the machine keeps it."""

    tokens: int
    ends: float
    window: float
    recorded_at: float | None = None
    over: bool = False


@dataclass
class Model:
    """What must be held."""

    known: dict[str, Known] = field(default_factory=dict)

    def held(self, now: float) -> int:
        return sum(
            one.tokens
            for one in self.known.values()
            if not one.over and now < one.ends and now < one.window
        )


class HoldsMachine(RuleBasedStateMachine):
    """Orders, samples, restarts, failed commits and time, in any order."""

    @initialize()
    def begin(self) -> None:
        self.holds, self.model, self.now, self.number = Holds(), Model(), 0.0, 0
        self.disk: dict[str, Hold] = {}
        self.windows = {"total": math.inf, "hour": 3600.0}

    def one(self, data: st.DataObject) -> str | None:
        alive = [i for i, one in self.model.known.items() if self.holds.get(i) and not one.over]
        return data.draw(st.sampled_from(alive)) if alive else None

    def write(self) -> None:
        changed, gone = self.holds.unstored()
        self.disk.update((one.id, one) for one in changed)
        for each in gone:
            self.disk.pop(each, None)
        self.holds.stored()

    @rule(tokens=st.integers(0, 50), lease=st.sampled_from((5.0, 60.0, 900.0)), fails=st.booleans())
    def reserve(self, tokens: int, lease: float, *, fails: bool) -> None:
        self.number += 1
        hold_id = f"h{self.number}"
        hour = math.floor(self.now / 3600) * 3600 + 3600
        made = Hold(
            hold_id, f"k{self.number}", "", "r", None, {semconv.TOKENS: tokens},
            (Claim("all", (), "", hour),), lease, self.now + lease,
        )  # fmt: skip
        self.holds.begin()
        self.holds.add(made)
        if fails:
            self.holds.undo()
            return
        self.holds.end()
        self.model.known[hold_id] = Known(tokens, self.now + lease, hour)
        self.write()

    @rule(data=st.data(), used=st.integers(0, 80), ago=st.sampled_from((0.0, 3.0)))
    def commit(self, data: st.DataObject, used: int, ago: float) -> None:
        hold_id = self.one(data)
        known = None if hold_id is None else self.holds.get(hold_id)
        if hold_id is None or known is None or known.state is not HoldState.HELD:
            return
        self.holds.commit(known, {semconv.TOKENS: used}, self.now - ago, self.now)
        one = self.model.known[hold_id]
        one.tokens, one.recorded_at = used, self.now - ago
        one.ends = self.now + max(COMMITTED_KEPT, known.lease_seconds)
        self.write()

    @rule(data=st.data(), seconds=st.sampled_from((1.0, 30.0, 600.0)))
    def extend(self, data: st.DataObject, seconds: float) -> None:
        hold_id = self.one(data)
        known = None if hold_id is None else self.holds.get(hold_id)
        if hold_id is None or known is None or known.state is not HoldState.HELD:
            return
        self.holds.extend(known, seconds, self.now)
        one = self.model.known[hold_id]
        one.ends = max(one.ends, self.now + seconds)
        self.write()

    @rule(data=st.data(), fails=st.booleans())
    def release(self, data: st.DataObject, *, fails: bool) -> None:
        hold_id = self.one(data)
        known = None if hold_id is None else self.holds.get(hold_id)
        if hold_id is None or known is None or known.state is not HoldState.HELD:
            return
        self.holds.begin()
        self.holds.release(known, self.now)
        if fails:
            self.holds.undo()
            return
        self.holds.end()
        self.model.known[hold_id].over = True
        self.write()

    @rule(ago=st.sampled_from((0.0, 1.0, 5.0)))
    def sample(self, ago: float) -> None:
        at = self.now - ago
        self.holds.count(lambda _: at, self.now)
        for one in self.model.known.values():
            if one.recorded_at is not None and at > one.recorded_at:
                one.over = True
        self.write()

    @rule(seconds=st.sampled_from((0.5, 7.0, 61.0, 1000.0)))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.holds.pass_time(self.now)
        for one in self.model.known.values():
            one.over = one.over or self.now >= one.ends

    @rule()
    def restart(self) -> None:
        self.holds = Holds(self.disk.values(), self.now)
        self.holds.pass_time(self.now)

    @invariant()
    def what_is_held_is_what_was_let_in(self) -> None:
        if hasattr(self, "holds"):
            assert held(self.holds, Claim("all", (), "", 0.0), self.now) == self.model.held(
                self.now
            )
            assert self.holds.open_count == sum(
                one.state in OPEN for one in map(self.holds.get, self.model.known) if one
            )


HoldsMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestHolds = HoldsMachine.TestCase
