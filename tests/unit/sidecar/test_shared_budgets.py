"""Budgets that runs share, in the steps of a sidecar: judged together, heard of by all, stored."""

from __future__ import annotations

import datetime as dt
import gc
import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from otel_budget import semconv
from otel_budget.core.budget import Budget, Mode, WhenLow, Window, WindowKind
from otel_budget.core.observation import Observation, RunObservation, shared_labels
from otel_budget.core.top_up import TopUpRefusal, TopUpRefusedError, TopUpRequest
from otel_budget.errors import InvalidValueError
from otel_budget.policy.budgets import Pools
from otel_budget.policy.pool_pace import _Pace
from otel_budget.policy.verdicts import Rules
from otel_budget.sidecar import shared_budgets
from otel_budget.sidecar.evaluator import Evaluator
from otel_budget.sidecar.storage.base import StorageError
from otel_budget.sidecar.storage.sqlite.storage import open_sqlite
from tests.support.sidecar_fixtures import START, session

if TYPE_CHECKING:
    from pathlib import Path

    from otel_budget.core.budget import Group
    from otel_budget.core.quantities import Number
    from otel_budget.core.verdict import Verdict
    from otel_budget.sidecar.tick_result import TickResult

LEASE = 15.0
DAY = Window(WindowKind.CALENDAR, every="day")
TOTAL = Window(WindowKind.TOTAL)
#: Midnight in UTC before ``START``, and after it.
MIDNIGHT = dt.datetime.fromtimestamp(START, dt.UTC).replace(hour=0, minute=0, second=0)
TOMORROW = MIDNIGHT.timestamp() + 86_400


def budget(name: str = "team", tokens: int = 1000, window: Window = DAY, **others: Any) -> Budget:
    limits: dict[str, Number] = {semconv.TOKENS: tokens}
    return Budget(name, window, others.pop("limits", limits), **others)


def rules(*budgets: Budget) -> Rules:
    return Rules(lease=LEASE, budgets=budgets, revision="r")


def run(
    session_id: str, tokens: int = 0, *, calls: int = 1, progress: float | None = None,
    state: str = "running", **labels: str,
) -> RunObservation:  # fmt: skip
    shown = session(session_id, tokens, state=state)
    attributes = shown.attributes._replace(
        labels=shared_labels({"team": "a", **labels}), progress=progress
    )
    counters: dict[tuple[str, str], Number] = {
        (semconv.TOKENS, ""): tokens,
        (semconv.API_CALLS, ""): calls,
    }
    return shown._replace(attributes=attributes, counters=counters)


class Steps:
    """An evaluator with a storage, stepped by hand."""

    def __init__(self, path: Path, *budgets: Budget, now: float = START) -> None:
        self.path, self.now, self.rules = path, now, rules(*budgets)
        self.storage, restored = open_sqlite(str(path / "state.db"), lambda: self.now)
        self.evaluator = Evaluator(self.storage, restored, now)
        self.result: TickResult | None = None

    def step(self, *runs: RunObservation, after: float = 1.0, **others: Any) -> TickResult:
        self.now += after
        seen = tuple(
            one._replace(
                sampled_at=self.now,
                attributes=one.attributes._replace(duration=self.now - START + 10),
            )
            for one in runs
        )
        observation = Observation("scrape", self.now, sessions=seen, **others)
        self.result = self.evaluator.tick(observation, self.rules, 3600, self.now)
        return self.result

    def verdict(self, session_id: str) -> Verdict:
        assert self.result is not None
        return next(v for v in self.result.verdicts if v.session_id == session_id)

    def said(self, session_id: str) -> tuple[str, str, str | None]:
        verdict = self.verdict(session_id)
        return str(verdict.action), str(verdict.reason), verdict.limit_from

    def top_up(self, tokens: int = 500, key: str = "k", **others: Any) -> TickResult:
        asked = TopUpRequest(
            key, others.pop("budget", "team"), others.pop("group", ()), {semconv.TOKENS: tokens},
            "because", "ann", others.pop("until", None),
            json.dumps([tokens, sorted(others.items())]),
        )  # fmt: skip
        self.result = self.evaluator.top_up(asked, self.rules, 3600, self.now)
        return self.result

    def restart(self) -> None:
        """Go on from what was stored."""
        self.storage.close()
        self.storage, restored = open_sqlite(str(self.path / "state.db"), lambda: self.now)
        self.evaluator = Evaluator(self.storage, restored, self.now)


Begin = Callable[..., Steps]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Return what begins a sidecar with some budgets."""
    begun: list[Steps] = []

    def make(*budgets: Budget) -> Steps:
        begun.append(Steps(tmp_path, *budgets))
        return begun[-1]

    yield make
    for steps in begun:
        steps.storage.close()


STOPPED = ("stop", "limit_exceeded", "budget:team")
GOES_ON = ("continue", "within_limits", None)


def test_runs_share_a_budget_and_all_hear_of_its_end_in_the_same_tick(begin: Begin) -> None:
    """Also a run whose own numbers did not move."""
    steps = begin(budget())
    quiet = run("quiet", 100)
    steps.step(quiet, run("busy", 200))
    assert steps.said("quiet") == steps.said("busy") == GOES_ON
    result = steps.step(quiet, run("busy", 1100))
    assert steps.said("quiet") == steps.said("busy") == STOPPED
    assert {change.verdict.session_id for change in result.changes} == {"quiet", "busy"}
    state = steps.verdict("quiet").budgets[0]
    assert (state.resources["tokens"].used, state.binds) == (1200, True)


def test_a_run_that_is_pushed_alone_stops_the_others_too(begin: Begin) -> None:
    """Its step looks at it alone, until a budget that it shares is used up."""
    steps = begin(budget())
    steps.step(run("quiet", 100))
    pushed = run("busy", 950)._replace(target="otlp:1")
    steps.step(pushed, asked=frozenset({"otlp:1"}))
    assert steps.said("quiet") == steps.said("busy") == STOPPED


def test_a_new_run_in_a_budget_that_is_used_up_is_told_so_at_once(begin: Begin) -> None:
    steps = begin(budget())
    steps.step(run("a", 0))
    steps.step(run("a", 2000))
    steps.step(run("a", 2000), run("late", 0))
    assert steps.said("late") == STOPPED


def test_a_run_that_does_not_match_has_none_of_it(begin: Begin) -> None:
    steps = begin(budget(match={"team": ("a",)}))
    steps.step(run("a", 2000), run("b", 2000, team="b"))
    assert steps.said("a") == STOPPED
    assert steps.said("b") == GOES_ON
    assert steps.verdict("b").budgets == ()


def test_each_group_has_a_budget_of_its_own(begin: Begin) -> None:
    steps = begin(budget(per=("user",)))
    steps.step(run("a", 600, user="ann"), run("b", 600, user="bob"), run("c", 500, user="ann"))
    assert steps.said("a") == steps.said("c") == ("stop", "limit_exceeded", "budget:team{user=ann}")
    assert steps.said("b") == GOES_ON


def test_with_the_next_window_all_go_on_in_its_first_tick(begin: Begin) -> None:
    steps = begin(budget())
    steps.step(run("a", 2000), run("b", 1))
    assert steps.said("b") == STOPPED
    steps.now = TOMORROW - 1
    steps.step(run("a", 2000), run("b", 1))
    assert steps.said("a") == steps.said("b") == GOES_ON
    assert steps.verdict("a").budgets[0].window.resets_at == TOMORROW + 86_400
    assert steps.verdict("a").budgets[0].resources["tokens"].used == 0


def test_another_limit_holds_from_the_next_tick_and_changes_no_use(begin: Begin) -> None:
    steps = begin(budget(tokens=5000))
    steps.step(run("a", 2000))
    assert steps.said("a") == GOES_ON
    steps.rules = rules(budget(tokens=1500))
    steps.step(run("a", 2000))
    assert steps.said("a") == STOPPED
    steps.rules = rules(budget(tokens=5000))
    steps.step(run("a", 2000))
    assert steps.said("a") == GOES_ON
    assert steps.verdict("a").budgets[0].resources["tokens"].used == 2000


def test_a_budget_in_shadow_stops_nobody_and_says_what_it_would_do(begin: Begin) -> None:
    steps = begin(budget(mode=Mode.SHADOW))
    steps.step(run("a", 100))
    assert steps.verdict("a").would is None
    steps.step(run("a", 2000))
    assert steps.said("a") == GOES_ON
    would = steps.verdict("a").would
    assert would is not None
    assert (would.reason, would.limit_from) == ("limit_exceeded", "budget:team")


def test_a_window_of_each_run_by_itself_counts_that_run_alone(begin: Begin) -> None:
    steps = begin(budget(window=Window(WindowKind.RUN)))
    steps.step(run("a", 900), run("b", 1000))
    assert steps.said("a")[:2] == ("continue", "approaching_limit_progress_unknown")
    assert steps.said("b") == STOPPED
    assert steps.result is not None
    assert steps.result.budgets["team"].groups == {}
    assert steps.result.budgets["team"].sessions == 2


def test_a_window_of_each_run_by_itself_counts_the_runs_that_are_known(begin: Begin) -> None:
    """A budget that guards runs must not be said to guard none."""
    steps = begin(budget(window=Window(WindowKind.RUN), match={"user": ("ann",)}), budget("all"))
    others = run("b", 1, user="bob"), run("c", 1, user="ann")
    steps.step(run("a", 1, user="ann"), *others)
    assert runs_in(steps, "team") == 2
    steps.step(run("a", 1, user="bob"), *others)
    assert runs_in(steps, "team") == 1
    steps.rules = rules(*steps.rules.budgets, budget("more"))
    steps.step(run("a", 2, user="ann"), *others)
    assert runs_in(steps, "team") == 2
    steps.step(run("a", 2, user="ann", state="completed"))
    steps.step(after=8000)
    assert runs_in(steps, "team") == 0


def runs_in(steps: Steps, name: str) -> int:
    assert steps.result is not None
    return steps.result.budgets[name].sessions


def test_use_that_stays_on_its_side_of_a_line_is_no_news(begin: Begin) -> None:
    """Else each tick would give all runs a new verdict."""
    steps = begin(budget())
    quiet = run("quiet", 1)
    steps.step(quiet, run("busy", 10))
    result = steps.step(quiet, run("busy", 400))
    assert result.changes == ()
    assert [verdict.session_id for verdict in result.evaluated] == ["busy"]
    assert steps.verdict("busy").budgets[0].resources["tokens"].used == 401
    assert steps.verdict("busy").headroom[semconv.TOKENS] == 399


def test_runs_of_the_same_groups_have_one_object(begin: Begin) -> None:
    steps = begin(budget(), budget("all", 10**9))
    steps.step(*(run(f"r{n}", 1) for n in range(20)))
    assert steps.result is not None
    assert len({id(verdict.budgets) for verdict in steps.result.verdicts}) == 1


def test_groups_that_come_and_go_leave_nothing_behind(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever makes up labels must not fill the memory, one group after the other."""
    monkeypatch.setattr(shared_budgets, "_LEFT_MOST", 5)
    rolling = Window(WindowKind.ROLLING, seconds=600)
    steps, before = begin(budget(per=("user",), window=rolling)), kept()
    for number in range(40):
        steps.step(run(f"r{number}", 10, user=f"u{number}", state="completed"), after=2400.0)
    assert len(steps.evaluator.use_by("user")) < 5
    assert kept() - before < 20


def kept() -> int:
    """Return how many objects there are of what is kept for a group."""
    gc.collect()
    return sum(isinstance(one, Pools | _Pace) for one in gc.get_objects())


def test_a_top_up_lets_runs_go_on_in_the_same_step_and_ends_with_the_window(
    begin: Begin,
) -> None:
    steps = begin(budget())
    shown = run("a", 1100), run("b", 1)
    steps.step(*shown)
    assert steps.said("a") == steps.said("b") == STOPPED
    result = steps.top_up(2000)
    assert steps.said("a") == steps.said("b") == GOES_ON
    assert result.granted is not None
    assert result.granted.window_start == MIDNIGHT.timestamp()
    one = steps.verdict("b").budgets[0].resources["tokens"]
    assert (one.base, one.top_up, one.limit, one.remaining) == (1000, 2000, 3000, 1899)
    report = result.budgets["team"].groups[()]
    assert report.top_ups == (result.granted,)
    assert report.state.resources["tokens"].limit == 3000
    steps.now = TOMORROW
    steps.step(*shown)
    assert steps.verdict("b").budgets[0].resources["tokens"].limit == 1000


def test_a_top_up_for_a_time_ends_by_itself(begin: Begin) -> None:
    steps = begin(budget(window=TOTAL))
    shown = run("a", 1), run("b", 1)
    steps.step(*shown)
    steps.step(run("a", 1200), run("b", 1))
    assert steps.said("b") == STOPPED
    steps.top_up(2000, until=steps.now + 60)
    assert steps.said("b") == GOES_ON
    steps.step(run("a", 1200), run("b", 1), after=59)
    assert steps.said("b") == GOES_ON
    steps.step(run("a", 1200), run("b", 1), after=1)
    assert steps.said("b") == STOPPED


def test_the_same_key_is_the_same_top_up_also_after_a_restart(begin: Begin) -> None:
    steps = begin(budget())
    steps.step(run("a", 1100))
    first = steps.top_up(500).granted
    assert steps.top_up(500).granted == first
    steps.restart()
    steps.step(run("a", 1100))
    assert steps.top_up(500).granted == first
    assert steps.verdict("a").budgets[0].resources["tokens"].limit == 1500
    with pytest.raises(TopUpRefusedError) as refused:
        steps.top_up(501)
    assert refused.value.refusal is TopUpRefusal.KEY_REUSED
    steps.step(run("a", 1100))
    assert steps.verdict("a").budgets[0].resources["tokens"].limit == 1500


def test_what_a_top_up_covered_is_no_overrun_though_the_window_ended_while_nothing_ran(
    begin: Begin,
) -> None:
    steps = begin(budget(carry_overrun=True))
    steps.step(run("a", 1400))
    steps.top_up(500)
    steps.restart()
    steps.now = TOMORROW
    steps.step(run("a", 1400))
    one = steps.verdict("a").budgets[0].resources["tokens"]
    assert (one.carried, one.limit) == (0, 1000)


@pytest.mark.parametrize(
    ("others", "refusal"),
    [
        ({"budget": "nix"}, TopUpRefusal.UNKNOWN_BUDGET),
        ({"group": ("nobody",)}, TopUpRefusal.UNKNOWN_GROUP),
    ],
)
def test_what_is_not_there_cannot_be_topped_up(
    begin: Begin, others: dict[str, Any], refusal: TopUpRefusal
) -> None:
    steps = begin(budget(per=("user",)))
    steps.step(run("a", 1, user="ann"))
    with pytest.raises(TopUpRefusedError) as refused:
        steps.top_up(500, **others)
    assert refused.value.refusal is refusal


def test_a_top_up_until_a_reset_that_never_comes_is_refused(begin: Begin) -> None:
    steps = begin(budget(window=TOTAL))
    steps.step(run("a", 1))
    with pytest.raises(InvalidValueError, match="no reset"):
        steps.top_up()


def test_a_top_up_that_cannot_be_stored_does_not_hold(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = begin(budget())
    steps.step(run("a", 1100))

    def full(_changes: object) -> None:
        raise StorageError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(steps.storage, "commit", full)
        with pytest.raises(StorageError):
            steps.top_up(500)
    steps.step(run("a", 1100))
    assert steps.said("a") == STOPPED
    assert steps.verdict("a").budgets[0].resources["tokens"].limit == 1000
    steps.top_up(500)
    assert steps.said("a")[0] == "continue"


def test_one_group_is_topped_up_and_no_other(begin: Begin) -> None:
    steps = begin(budget(per=("user",)))
    steps.step(run("a", 1100, user="ann"), run("b", 1100, user="bob"))
    group: Group = ("ann",)
    steps.top_up(500, group=group)
    assert steps.said("a")[0] == "continue"
    assert steps.said("b")[0] == "stop"


LOW = budget(tokens=1_000_000, when_low=WhenLow.FINISH_MOST)


def finishing(steps: Steps) -> dict[str, str]:
    assert steps.result is not None
    return {v.session_id: str(v.reason) for v in steps.result.verdicts}


def test_when_a_pool_is_low_those_go_on_that_can_still_finish(begin: Begin) -> None:
    """The least rest first: 200,000 are left, a needs 100,000, b 300,000, c says nothing."""
    steps = begin(LOW)
    before = run("a", 1), run("b", 1), run("c", 1)
    steps.step(*before)
    low = run("a", 100_001, progress=0.5), run("b", 300_001, progress=0.5), run("c", 400_001)
    steps.step(*low)
    assert finishing(steps) == {"a": "finishing", "b": "budget_low", "c": "budget_low"}
    assert steps.said("b") == ("stop", "budget_low", "budget:team")
    assert steps.verdict("a").limit_from == "budget:team"


def test_no_progress_that_comes_later_than_the_stop_lifts_it_where_nothing_is_left(
    begin: Begin,
) -> None:
    steps = begin(LOW)
    steps.step(run("a", 1), run("b", 1))
    steps.step(run("a", 600_000, progress=0.75), run("b", 200_000))
    assert finishing(steps) == {"a": "finishing", "b": "budget_low"}
    steps.step(run("a", 600_000, progress=0.75), run("b", 200_000, progress=0.9))
    assert finishing(steps) == {"a": "finishing", "b": "budget_low"}


def test_a_run_that_was_told_to_go_on_is_not_stopped_because_another_one_came(
    begin: Begin,
) -> None:
    """Nor by a restart, nor as others used what was left."""
    steps = begin(LOW)
    steps.step(run("a", 1), run("b", 1))
    shown = run("a", 300_000, progress=0.65), run("b", 500_000)
    steps.step(*shown)
    assert finishing(steps) == {"a": "finishing", "b": "budget_low"}
    steps.step(*shown, run("small", 1000, progress=0.5))
    assert finishing(steps)["a"] == "finishing"
    steps.restart()
    steps.step(
        run("a", 300_000, progress=0.65), run("b", 560_000), run("small", 1000, progress=0.5)
    )
    assert finishing(steps)["a"] == "finishing"


def test_one_whose_own_forecast_grew_past_what_is_left_is_told_to_stop(begin: Begin) -> None:
    steps = begin(LOW)
    steps.step(run("a", 1), run("b", 1))
    steps.step(run("a", 300_000, progress=0.7), run("b", 500_000))
    assert finishing(steps)["a"] == "finishing"
    steps.step(run("a", 310_000, progress=0.3), run("b", 500_000))
    assert finishing(steps)["a"] == "budget_low"


def test_what_money_is_left_counts_as_well(begin: Begin) -> None:
    limits = {semconv.TOKENS: 10**9, semconv.COST: Decimal(10)}
    steps = begin(budget(limits=limits, when_low=WhenLow.FINISH_MOST))

    def costing(name: str, cents: int, progress: float) -> RunObservation:
        shown = run(name, 100, progress=progress)
        counters = {**shown.counters, (semconv.COST, ""): Decimal(cents) / 100}
        return shown._replace(counters=counters)

    steps.step(costing("a", 0, 0.1), costing("b", 0, 0.1))
    steps.step(costing("a", 500, 0.8), costing("b", 350, 0.5))
    assert finishing(steps) == {"a": "finishing", "b": "budget_low"}


def exhaustion(result: TickResult) -> dict[str, float]:
    return dict(result.budgets["team"].groups[()].exhaustion_seconds)


def test_when_a_pool_is_used_up_is_told_by_the_pace_of_all_its_runs(begin: Begin) -> None:
    """10 and 20 tokens a second; it slackens, and ends, where nothing more is used."""
    steps = begin(budget(tokens=10_000))
    for second in range(60):
        result = steps.step(run("a", 10 * second), run("b", 20 * second))
    left = 10_000 - 30 * 59
    assert exhaustion(result)["tokens"] == pytest.approx(left / 30, rel=0.05)
    idle = [run("a", 590), run("b", 1180)]
    assert exhaustion(steps.step(*idle, after=100))["tokens"] > 2 * left / 30
    assert exhaustion(steps.step(*idle, after=3 * 3600)) == {}
    assert (
        steps.step(*idle).budgets["team"].groups[()] is steps.step(*idle).budgets["team"].groups[()]
    ), "what does not change is the same object"
