"""Reservations in the steps of a sidecar: let in, kept, stored, and gone when they are counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from otel_budget import semconv
from otel_budget.core.budget import Budget, Mode, Window, WindowKind
from otel_budget.core.quantities import as_json
from otel_budget.core.reservation import (
    ReservationRefusal,
    ReservationRefusedError,
    request_from,
    use_from,
)
from otel_budget.ledger.holds import KEY_KEPT, Hold, HoldState
from otel_budget.sidecar.audit_trail import AuditTrail
from otel_budget.sidecar.clock import Boot
from otel_budget.sidecar.evaluator import Evaluator
from otel_budget.sidecar.hold_refusals import EVERY
from otel_budget.sidecar.reservations import (
    Commit,
    Extend,
    Order,
    Release,
    Reservations,
    Reserve,
    Reserved,
)
from otel_budget.sidecar.storage.base import Changes, StorageError
from otel_budget.sidecar.storage.sqlite.storage import open_sqlite
from tests.support.sidecar_fixtures import START
from tests.unit.sidecar.test_shared_budgets import TOMORROW, TOTAL, Steps, budget, run

if TYPE_CHECKING:
    from pathlib import Path

    from otel_budget.sidecar.reservations import Result

LEASE = 60.0


class Sidecar(Steps):
    """An evaluator whose budgets are reserved in by hand."""

    number = 0

    def order(self, order: Order) -> Result:
        (found,) = self.evaluator.reserve([order], self.rules, self.now)
        return found

    def reserve(
        self, tokens: int, of: str = "r1", *, key: str = "", lease: float = LEASE, **others: Any
    ) -> Result:
        self.number += 1
        key = key or f"k{self.number}"
        data = {"session_id": of, "resources": {"tokens": tokens, **others}, "lease_seconds": lease}
        return self.order(Reserve(f"h{self.number}", request_from(key, data)))

    def held(self, name: str = "team", group: tuple[str, ...] = ()) -> int:
        return int(self.evaluator.held(self.now).get((name, group), {}).get(semconv.TOKENS, 0))


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., Sidecar]]:
    """Return what begins a sidecar with some budgets, and two runs that used nothing."""
    begun: list[Sidecar] = []

    def make(*budgets: Budget, now: float = START) -> Sidecar:
        made = Sidecar(tmp_path, *budgets, now=now)
        begun.append(made)
        made.step(run("r1", calls=0), run("r2", calls=0))
        return made

    yield make
    for each in begun:
        each.storage.close()


Begin = Callable[..., Sidecar]


def held_of(found: Result) -> Reserved:
    assert isinstance(found, Reserved), found
    return found


def why(found: Result) -> ReservationRefusal:
    assert isinstance(found, ReservationRefusedError), found
    return found.refusal


def test_what_is_held_is_room_that_nobody_else_has(begin: Begin) -> None:
    of = begin(budget())
    held_of(of.reserve(600))
    assert why(of.reserve(401, "r2")) is ReservationRefusal.BUSY
    held_of(of.reserve(400, "r2"))
    assert of.held() == 1000
    assert of.said("r1") == ("continue", "within_limits", None)


def test_what_does_not_fit_whoever_holds_it_says_until_when(begin: Begin) -> None:
    of = begin(budget(), budget("ever", 1000, TOTAL))
    found = of.reserve(1001)
    assert isinstance(found, ReservationRefusedError)
    assert found.refusal is ReservationRefusal.EXCEEDED
    assert found.members == {"budgets": ["budget:ever", "budget:team"], "resets_at": None}
    assert "1,001 of tokens do not fit: 0 of 1,000 used" in found.detail


def test_a_daily_budget_that_is_used_up_says_when_it_is_reset(begin: Begin) -> None:
    of = begin(budget())
    of.step(run("r1", 1000), run("r2", calls=0))
    found = of.reserve(0, "r2")
    assert isinstance(found, ReservationRefusedError)
    assert found.refusal is ReservationRefusal.EXCEEDED
    assert str(found.members["resets_at"]).endswith("T00:00:00.000+00:00")


def test_all_budgets_hold_it_or_none(begin: Begin) -> None:
    of = begin(budget(), budget("small", 100))
    assert why(of.reserve(101)) is ReservationRefusal.EXCEEDED
    assert (of.held(), of.held("small")) == (0, 0)
    held_of(of.reserve(100))
    assert (of.held(), of.held("small")) == (100, 100)


def test_a_budget_in_shadow_holds_nothing_and_refuses_nothing(begin: Begin) -> None:
    of = begin(budget(), budget("tried", 10, mode=Mode.SHADOW))
    held_of(of.reserve(500))
    assert of.held("tried") == 0


def test_groups_hold_each_for_itself(begin: Begin) -> None:
    of = begin(budget(per=("user",)))
    of.step(run("r1", calls=0, user="ann"), run("r2", calls=0, user="bob"))
    held_of(of.reserve(1000))
    held_of(of.reserve(1000, "r2"))
    assert (of.held("team", ("ann",)), of.held("team", ("bob",))) == (1000, 1000)


def test_a_budget_over_each_run_holds_for_each_run(begin: Begin) -> None:
    of = begin(budget(window=Window(WindowKind.RUN)))
    held_of(of.reserve(1000))
    assert why(of.reserve(1)) is ReservationRefusal.BUSY
    held_of(of.reserve(1000, "r2"))


def test_tokens_count_as_the_dearest_kind(begin: Begin) -> None:
    of = begin(budget(weights={"output": 2000, "cache_read": 100}))
    assert why(of.reserve(501)) is ReservationRefusal.EXCEEDED
    held_of(of.reserve(500))
    assert of.held() == 1000


def test_money_calls_and_tools_are_held_like_tokens(begin: Begin) -> None:
    limits = {semconv.COST: Decimal(1), semconv.API_CALLS: 3, semconv.TOOL_CALLS: 2}
    of = begin(budget(limits=limits))
    held_of(of.reserve(10**9, cost="0.70", api_calls=1, tool_calls=1))
    assert why(of.reserve(0, cost="0.31")) is ReservationRefusal.BUSY
    assert why(of.reserve(0, cost=0.3, api_calls=3)) is ReservationRefusal.BUSY
    assert why(of.reserve(0, tool_calls=3)) is ReservationRefusal.EXCEEDED
    held_of(of.reserve(0, cost=0.3, api_calls=2, tool_calls=1))


def test_the_smallest_amount_of_money_is_asked_for_and_committed_as_it_was_said(
    begin: Begin,
) -> None:
    of = begin(budget(limits={semconv.COST: Decimal(1)}))
    smallest = Decimal("0.0000003")
    cost = as_json(smallest)
    hold = held_of(of.reserve(0, cost=cost)).hold
    assert hold.amounts[semconv.COST] == smallest
    used, ago = use_from({"used": {"cost": as_json(smallest - smallest)}})
    assert held_of(of.order(Commit(hold.id, used, ago))).hold.used[semconv.COST] == 0


def test_the_same_request_is_the_same_reservation_also_after_a_restart(begin: Begin) -> None:
    of = begin(budget())
    first = held_of(of.reserve(600, key="one"))
    of.now += 20
    again = held_of(of.reserve(600, key="one"))
    assert (again.hold, again.lease_left) == (first.hold, LEASE - 20)
    of.restart()
    of.now += 10
    after = held_of(of.reserve(600, key="one"))
    assert (after.hold, after.lease_left, of.held()) == (first.hold, LEASE - 30, 600)
    assert why(of.reserve(601, key="one")) is ReservationRefusal.KEY_REUSED
    of.now += 30
    assert held_of(of.reserve(600, key="one")).lease_left == 0
    of.now += KEY_KEPT
    assert held_of(of.reserve(600, key="one")).lease_left == LEASE


def test_what_was_used_is_held_until_a_newer_sample_is_counted(begin: Begin) -> None:
    of = begin(budget())
    hold = held_of(of.reserve(600)).hold
    of.order(Commit(hold.id, {semconv.TOKENS: 450}, 0.0))
    assert of.held() == 450
    of.step(run("r1", 450), run("r2", calls=0))
    assert (of.held(), of.verdict("r1").budgets[0].resources["tokens"].used) == (0, 450)
    assert held_of(of.order(Commit(hold.id, {semconv.TOKENS: 450}, 0.0))).hold.state is (
        HoldState.COUNTED
    )
    assert why(of.order(Commit(hold.id, {semconv.TOKENS: 451}, 0.0))) is (
        ReservationRefusal.COMMITTED
    )
    assert why(of.order(Release(hold.id))) is ReservationRefusal.COMMITTED


def test_a_commit_looks_at_no_other_one_however_many_there_are(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    of, looked = begin(budget()), list[str]()
    holds = [held_of(of.reserve(1)).hold for _ in range(20)]

    def looks(_of: Reservations, hold: Hold) -> None:
        looked.append(hold.id)

    monkeypatch.setattr(Reservations, "_counted_up_to", looks)
    for hold in holds:
        of.order(Commit(hold.id, {semconv.TOKENS: 1}, 0.0))
    assert looked == [hold.id for hold in holds]


def test_a_sample_that_is_implausible_counts_nothing_of_it(begin: Begin) -> None:
    of = begin(budget())
    hold = held_of(of.reserve(600)).hold
    of.order(Commit(hold.id, {semconv.TOKENS: 450}, 0.0))
    broken = run("r1")._replace(counters={}, implausible=(semconv.TOKENS,))
    of.step(broken, run("r2", calls=0))
    assert of.held() == 450
    of.step(run("r1", 450), run("r2", calls=0))
    assert of.held() == 0


def test_an_older_sample_does_not_count_it(begin: Begin) -> None:
    of = begin(budget())
    hold = held_of(of.reserve(600)).hold
    of.now += 5
    of.order(Commit(hold.id, {semconv.TOKENS: 450}, 0.0))
    of.now -= 3
    of.step(run("r1", 0), run("r2", calls=0), after=0.0)
    assert of.held() == 450


def test_a_sample_between_use_and_word_of_it_counts_it_once(begin: Begin) -> None:
    of = begin(budget())
    hold = held_of(of.reserve(600)).hold
    of.step(run("r1", 450), run("r2", calls=0))
    of.now += 1
    of.order(Commit(hold.id, {semconv.TOKENS: 450}, 1.5))
    assert of.held() == 0
    held_of(of.reserve(550, "r2"))


def test_a_lease_that_ended_may_still_be_committed_but_not_extended(begin: Begin) -> None:
    of = begin(budget())
    hold = held_of(of.reserve(600)).hold
    of.now += LEASE
    assert why(of.order(Extend(hold.id, 10))) is ReservationRefusal.LEASE_ENDED
    assert of.held() == 0
    assert held_of(of.order(Commit(hold.id, {semconv.TOKENS: 1200}, 0.0))).hold.state is (
        HoldState.COMMITTED
    )
    assert of.held() == 1200
    assert why(of.reserve(1, "r2")) is ReservationRefusal.BUSY


def test_what_is_given_back_is_free_and_nothing_of_it_was_used(begin: Begin) -> None:
    of = begin(budget())
    hold = held_of(of.reserve(600)).hold
    for _ in range(2):
        assert held_of(of.order(Release(hold.id))).hold.state is HoldState.RELEASED
    assert of.held() == 0
    assert why(of.order(Commit(hold.id, {}, 0.0))) is ReservationRefusal.RELEASED
    assert why(of.order(Extend(hold.id, 1))) is ReservationRefusal.RELEASED
    assert why(of.order(Release("other"))) is ReservationRefusal.UNKNOWN


def test_a_hold_is_not_in_the_window_after_the_one_that_let_it_in(begin: Begin) -> None:
    of = begin(budget(), now=TOMORROW - 10)
    held_of(of.reserve(1000))
    assert why(of.reserve(1, "r2")) is ReservationRefusal.BUSY
    of.now = TOMORROW
    held_of(of.reserve(1000, "r2"))
    assert of.held() == 1000


def test_unknown_runs_and_runs_that_ended_reserve_nothing(begin: Begin) -> None:
    of = begin(budget())
    assert why(of.reserve(1, "other")) is ReservationRefusal.UNKNOWN_RUN
    of.step(run("r1", state="completed"), run("r2", calls=0))
    assert why(of.reserve(1)) is ReservationRefusal.RUN_ENDED


def test_what_cannot_be_stored_is_not_held(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    of = begin(budget())
    held_of(of.reserve(100))

    def fails(_changes: Changes) -> None:
        raise StorageError("disk full")

    with monkeypatch.context() as broken:
        broken.setattr(of.storage, "commit", fails)
        with pytest.raises(StorageError):
            of.reserve(600)
        with pytest.raises(StorageError):
            of.order(Release("h1"))
    assert of.held() == 100
    of.restart()
    assert of.held() == 0, "before the first step no budget is known"
    of.step(run("r1", calls=0), run("r2", calls=0))
    assert of.held() == 100


def test_a_commit_and_the_sample_that_shows_it_are_stored_together(begin: Begin) -> None:
    of = begin(budget())
    hold = held_of(of.reserve(600)).hold
    of.order(Commit(hold.id, {semconv.TOKENS: 450}, 0.0))
    of.restart()
    of.step(run("r1", 450), run("r2", calls=0))
    of.restart()
    of.step(run("r1", 450), run("r2", calls=0))
    assert (of.held(), of.verdict("r1").budgets[0].resources["tokens"].used) == (0, 450)


@pytest.mark.parametrize("seconds", [4000.0, -4000.0])
def test_a_clock_that_is_set_between_two_steps_ends_no_lease_and_makes_no_run_older(
    tmp_path: Path, seconds: float
) -> None:
    of, ahead = Sidecar(tmp_path, budget(window=TOTAL)), 0.0
    of.storage.close()
    where = str(tmp_path / "clock.db")

    def wall() -> float:
        return of.now + ahead

    def boot() -> Boot:
        return Boot("machine", of.now - START + 100)

    of.storage, restored = open_sqlite(where, wall, boot=boot)
    of.evaluator = Evaluator(of.storage, restored, of.now, wall=wall)
    of.step(run("r1", calls=0), run("r2", calls=0))
    held_of(of.reserve(600, key="one"))
    ahead = seconds
    held_of(of.reserve(1, "r2"))
    of.storage.close()  # and no step came in between
    of.storage, restored = open_sqlite(where, wall, boot=boot)
    assert restored.clock_set == pytest.approx(seconds)
    of.evaluator = Evaluator(of.storage, restored, wall(), wall=wall)
    of.now += ahead
    ahead = 0.0
    of.step(run("r1", calls=0), run("r2", calls=0), after=10)
    assert held_of(of.reserve(600, key="one")).lease_left == pytest.approx(LEASE - 10)
    assert of.held() == 601
    of.storage.close()


def test_refusals_are_in_the_audit_log_few_however_many_there_are(tmp_path: Path) -> None:
    of = Sidecar(tmp_path, budget())
    of.storage.close()
    of.storage, restored = open_sqlite(str(of.path / "state.db"), lambda: of.now)
    trail = AuditTrail(restored, of.now)
    of.evaluator = Evaluator(of.storage, restored, of.now, audit=trail)
    of.step(run("r1", calls=0), run("r2", calls=0))
    for _ in range(50):
        assert why(of.reserve(1001)) is ReservationRefusal.EXCEEDED
    first = of.step(run("r1", calls=0)).audit
    later = of.step(run("r1", calls=0), after=EVERY).audit
    said = [e.body for e in (*first, *later) if e.body.get("event") == "hold_refused"]
    assert [(body["times"], body["reason"], body["limit_from"]) for body in said] == [
        (1, "budget_exceeded", "budget:team"), (49, "budget_exceeded", "budget:team"),
    ]  # fmt: skip
    of.storage.close()
