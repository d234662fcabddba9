"""Reserves and totals, for runs of which both can be worked out by hand."""

from decimal import Decimal
from typing import Any

import pytest

from evaluation import reserve, totals
from evaluation.measure import CALLS, SCRAPES
from evaluation.runs import Call, Run
from otel_budget import semconv


def run_of(*tokens: int) -> Run:
    """Return a run of calls that use so many tokens, ten seconds apart."""
    return Run("r", tuple(Call(10.0 * n, size, 0, 0, Decimal(1)) for n, size in enumerate(tokens)))


def by_kept(run: Run, seen: str) -> dict[int, dict[str, Any]]:
    """Return what came of the tokens of a run by the calls that it kept back."""
    told = reserve.tried([run], semconv.TOKENS)
    return {each["calls"]: each for each in told if each["seen"] == seen}


def test_calls_of_one_size_that_are_kept_back_fit_and_leave_less_than_one() -> None:
    """Ten calls of 100, of limits at 500, 520, … 1,000: what is left over is no whole call."""
    found = by_kept(run_of(*[100] * 10), CALLS)
    for kept in (1, 2, 3):
        each = found[kept]
        assert (each["asked"], each["one"], each["all"]) == (26, 26, 26)
        assert 0 < each["unused_p90"] < 100 / 500


def test_calls_that_double_are_not_held_by_a_reserve_of_their_mean() -> None:
    """A last call that is far larger than any before it fits into no reserve of the usual size."""
    found = by_kept(run_of(*[100] * 9, 5000), CALLS)
    assert [each["one"] for each in found.values()] == [0, 0, 0, 0]


def test_a_run_that_is_scraped_has_made_calls_by_the_time_that_it_is_told() -> None:
    """The one that is under way takes the place of one that is kept back: more are needed."""
    run = Run("r", tuple(Call(7.0 * n, 100, 0, 0, Decimal(1)) for n in range(100)))
    one, two, _, five = by_kept(run, SCRAPES).values()
    assert one["one"] == 0 < two["one"] < five["one"] == five["asked"]


def test_half_of_the_calls_are_not_half_of_the_tokens() -> None:
    """Of 100 + 200 + 300 + 400 two calls are 30 %; used / progress promises 600 for 1,000."""
    (half,) = (
        each
        for each in totals.with_progress([run_of(100, 200, 300, 400)])
        if each["progress"] == 0.5
    )
    assert half["used"]["median"] == pytest.approx(0.3)
    assert half[totals.STRAIGHT]["bias"] == pytest.approx(-0.4)
    assert half[totals.BY_SIZE]["bias"] == pytest.approx(0, abs=0.02)


def test_guesses_learn_from_other_runs_alone() -> None:
    """Others used 6,000 with 60 calls; the run that is asked about goes on to 100 calls."""
    others = [run_of(*[size] * 60) for size in (90, 100, 110)]
    told = totals.without_progress(others, [run_of(*[100] * 100), run_of(1, 2)])
    assert [each["runs"] for each in told] == [1] * 4
    assert [each["bias"] for each in told] == pytest.approx([-0.4] * 4, abs=0.01)


def test_who_divides_by_the_progress_says_yes_to_what_does_not_fit() -> None:
    """Of 1,000 tokens 300 are used at half of the calls: 600 of them would be enough, it says."""
    told = {each["progress"]: each for each in totals.fitting([run_of(100, 200, 300, 400)])}
    straight, sized = told[0.5][totals.STRAIGHT], told[0.5][totals.BY_SIZE]
    assert (straight["asked"], straight["right"], straight["yes_wrongly"]) == (8, 4, 4)
    assert (sized["asked"], sized["right"]) == (8, 8)
