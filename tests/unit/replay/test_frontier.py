"""The frontier's arithmetic: what is kept, what is spent, of what became of each run."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from otel_budget.core.quantities import Number
from otel_budget.replay.frontier import Outcome, Stop, Tally

LIMIT = Stop(10.0, "limit_exceeded", "sidecar")
EARLY = Stop(9.0, "approaching_limit", "sidecar")


def outcome(
    used: int, recorded: int, *, resolved: bool | None = None, stop: Stop | None = None
) -> Outcome:
    """Return what became of a run that used a cent for each token."""
    return Outcome("r", amounts(used), amounts(recorded), resolved, stop)


def amounts(tokens: int) -> dict[str, Number]:
    """Return tokens with their cost."""
    return {"tokens": tokens, "cost": Decimal(tokens) / 100}


def test_kept_are_the_resolved_runs_that_were_not_told_to_stop() -> None:
    """Of two resolved runs one is cut; of the others nobody says that they were good."""
    tally = Tally()
    for one in (
        outcome(50, 50, resolved=True),
        outcome(80, 100, resolved=True, stop=LIMIT),
        outcome(70, 250, resolved=False, stop=EARLY),
        outcome(90, 100, stop=LIMIT),
    ):
        tally.add(one)
    point = tally.point()
    assert (point.runs, point.cut, point.cut_by) == (
        4, 3, {"limit_exceeded": 2, "approaching_limit": 1}
    )  # fmt: skip
    assert (point.resolved, point.resolved_kept, point.kept_share) == (2, 1, 0.5)
    assert point.used == {"tokens": 290, "cost": Decimal("2.9")}
    assert point.spent_shares == {"tokens": 0.58, "cost": 0.58}


def test_where_no_run_was_judged_no_share_is_made_up() -> None:
    """Unknown is not zero, and not all either."""
    tally = Tally()
    tally.add(outcome(50, 50))
    assert tally.point().kept_share is None


def test_where_nothing_was_used_nothing_has_a_share() -> None:
    """Runs without any use, and no runs at all."""
    tally = Tally()
    assert tally.point().spent_shares == {}
    tally.add(Outcome("r", {"tokens": 0}, {"tokens": 0}))
    assert tally.point().spent_shares == {}


outcomes = st.builds(
    lambda used, more, resolved, stop: outcome(used, used + more, resolved=resolved, stop=stop),
    st.integers(0, 10**9), st.integers(0, 10**9), st.sampled_from((True, False, None)),
    st.sampled_from((None, LIMIT, EARLY)),
)  # fmt: skip


@given(st.lists(outcomes, max_size=20), st.randoms())
def test_the_order_of_runs_does_not_matter(runs: list[Outcome], chance: object) -> None:
    """And every share is one."""
    tally, shuffled = Tally(), Tally()
    for one in runs:
        tally.add(one)
    mixed = list(runs)
    chance.shuffle(mixed)  # type: ignore[attr-defined] # a random.Random
    for one in mixed:
        shuffled.add(one)
    point = tally.point()
    assert point == shuffled.point()
    assert all(0 <= share <= 1 for share in point.spent_shares.values())
    assert point.cut == sum(point.cut_by.values()) <= point.runs
    assert 0 <= point.resolved_kept <= point.resolved <= point.runs
