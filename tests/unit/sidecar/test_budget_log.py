"""What the log says of shared budgets: which hold, and which only look like it."""

from __future__ import annotations

import datetime as dt
import logging
from dataclasses import replace

import pytest

from otel_budget.core.budget import Budget, Mode
from otel_budget.sidecar.budget_log import UNMATCHED_AFTER, BudgetLog
from otel_budget.sidecar.budget_report import BudgetReport
from tests.support.budgets import budget
from tests.support.sidecar_fixtures import START, SteadyClock


def reports(*budgets: Budget, sessions: int = 1) -> dict[str, BudgetReport]:
    """Return how budgets stand that as many runs match."""
    return {one.name: BudgetReport(one, {}, START, sessions=sessions) for one in budgets}


class Told:
    """A log of budgets, and what it says."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        """Listen."""
        caplog.set_level(logging.INFO)
        self._caplog, self.clock = caplog, SteadyClock(0.0)
        self._log = BudgetLog(self.clock)

    def after(self, found: dict[str, BudgetReport], runs: int = 5) -> list[tuple[str, str]]:
        """Return level and words of what a step brings."""
        self._caplog.clear()
        self._log.log(found, runs)
        return [(one.levelname, one.getMessage()) for one in self._caplog.records]


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Told:
    """A log of which nothing was asked yet."""
    return Told(caplog)


def test_that_a_budget_holds_is_said_once_with_what_and_since_when(told: Told) -> None:
    since = dt.datetime.fromtimestamp(START, dt.UTC).isoformat(timespec="seconds")
    found = reports(budget("day", "user", match={"team": ("core",)}))
    assert told.after(found) == [
        (
            "INFO",
            (
                "a budget holds: day: tokens 1,000 for each user, each day, from 00:00 (UTC), of "
                f"runs with team=core; counted since {since}"
            ),
        )
    ]
    assert told.after(found) == []


def test_one_in_shadow_does_not_look_like_a_guard(told: Told) -> None:
    shadow = budget("day", mode=Mode.SHADOW)
    ((level, words),) = told.after(reports(shadow))
    assert level == "WARNING"
    assert words.startswith("a budget in shadow stops nobody: day (shadow): tokens 1,000")
    ((level, words),) = told.after(reports(replace(shadow, mode=Mode.ENFORCE)))
    assert (level, words[:22]) == ("INFO", "a budget holds now: da")


def test_one_that_was_taken_out_holds_nobody_back(told: Told) -> None:
    told.after(reports(budget("day")))
    ((level, words),) = told.after({})
    assert level == "WARNING"
    assert words.startswith("budget day is not in the configuration any more")
    assert told.after({}) == []


def test_one_that_matches_no_run_is_no_guard_and_says_so_once(told: Told) -> None:
    found = reports(budget("day", match={"team": ("cores", "corse")}), sessions=0)
    told.after(found)
    told.clock.advance(UNMATCHED_AFTER - 1)
    assert told.after(found) == []
    told.clock.advance(1)
    ((level, words),) = told.after(found)
    assert level == "WARNING"
    assert "budget day has matched no run for 5 min" in words
    assert "no run has team=cores or corse" in words
    told.clock.advance(UNMATCHED_AFTER)
    assert told.after(found) == []


def test_where_nothing_runs_nothing_can_match(told: Told) -> None:
    """Nor is one that had runs a word worth when they are over."""
    found = reports(budget("day"), sessions=0)
    told.after(found, runs=0)
    told.clock.advance(10 * UNMATCHED_AFTER)
    assert told.after(found, runs=0) == []
    assert told.after(found, runs=1) == [], "they have the time from now on"
    told.after(reports(budget("day"), sessions=1))
    told.clock.advance(10 * UNMATCHED_AFTER)
    assert told.after(found, runs=3) == []


def test_a_hostile_value_is_one_line(told: Told) -> None:
    ((_, words),) = told.after(reports(budget("day", match={"team": ("a\nERROR b",)})))
    assert "\n" not in words


def test_without_budgets_nothing_is_said(told: Told) -> None:
    assert told.after({}) == []


@pytest.mark.parametrize("mode", Mode)
def test_one_that_counts_anew_says_that_nothing_of_before_holds(told: Told, mode: Mode) -> None:
    """Runs that it stopped go on by it: no line like that of another limit."""
    base = budget("day", match={"team": ("base",)}, mode=mode)
    told.after(reports(replace(base, match={"team": ("core",)})))
    ((level, words),) = told.after(reports(base))
    assert level == "WARNING"
    assert "counts anew, from 0; what was counted before is kept in its history: day" in words
    ((_, words),) = told.after(
        reports(budget("day", match={"team": ("base",)}, tokens=2, mode=mode))
    )
    assert "anew" not in words
