"""Limits on the recorded runs: what was kept for what, by the engine that judges."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

from evaluation import limits, limits_page
from evaluation.limits import CALLS, NONE, PROGRESS, TOKENS, USUAL
from evaluation.runs import Run, mini_swe_runs
from otel_budget import semconv
from tests.unit.replay.test_plot import size_of

RESULTS = limits_page.read()
RUNS = mini_swe_runs()
#: What a token limit does without any wrap-up, at a quantile (nearest rank) of all runs' tokens:
#: resolved runs kept, and the share of the tokens that is spent for it.
WITHOUT = {"p50": (31, 0.637), "p75": (46, 0.823), "p90": (53, 0.906), "p95": (54, 0.965)}


def test_the_page_is_what_the_results_say() -> None:
    """So a figure on it was measured, and not written."""
    assert limits_page.PAGE.read_text(encoding="utf-8") == limits_page.page(RESULTS)


def test_a_figure_that_is_changed_in_the_results_changes_the_page() -> None:
    """One of a table, which the text names, too."""
    changed = copy.deepcopy(RESULTS)
    (one,) = (
        each
        for each in changed["tried"]
        if (each["progress"], each["of"], each["warning"]) == (NONE, "p75", 0.8)
    )
    one.update(kept=11, tokens=0.4321)
    text = limits_page.page(changed)
    assert "| 11 of 55, 20 % | 43 % |" in text
    assert "at p75 20 % for 43 %" in text


def test_the_picture_is_made_of_the_results(tmp_path: Path) -> None:
    """By the drawing of ``--plot``."""
    limits_page.draw(RESULTS, tmp_path / "frontier.png")
    assert size_of(tmp_path / "frontier.png") == size_of(limits_page.PICTURE)


def test_the_results_are_those_of_a_token_limit_without_any_wrap_up() -> None:
    """Counted once more from the recorded calls, by nothing but a sum."""
    totals = sorted(run.tokens for run in RUNS)
    for share in (50, 75, 90, 95):
        limit = totals[-(-share * len(totals) // 100) - 1]
        kept = sum(_calls_within(run, limit) == len(run.calls) for run in RUNS if run.resolved)
        spent = sum(
            sum(call.tokens for call in run.calls[: _calls_within(run, limit)]) for run in RUNS
        )
        assert (kept, round(spent / sum(totals), 3)) == WITHOUT[f"p{share}"]
        assert limits_page._one(RESULTS, NONE, f"p{share}")["limit"] == limit


@pytest.mark.parametrize("of", WITHOUT)
def test_the_engine_keeps_and_spends_what_a_sum_says(of: str) -> None:
    """On all 119 runs, 55 of them resolved, through the ledger and the policy."""
    limit = limits.limits_of(RUNS)[of]
    (point,) = limits.replayed(
        limits.lines_of(RUNS, PROGRESS[NONE]), [limits.rules_with(limit, USUAL)]
    )
    assert (point.runs, point.resolved) == (119, 55)
    assert (point.resolved_kept, round(point.spent_shares[semconv.TOKENS], 3)) == WITHOUT[of]
    kept = limits_page._one(RESULTS, NONE, of)
    assert limits.record(point).items() <= kept.items()


def test_by_its_share_of_the_tokens_no_run_comes_to_the_limit() -> None:
    """What goes on past the warning line at 80 % fits: it has at most a quarter more to use."""
    for of in WITHOUT:
        assert limits_page._one(RESULTS, TOKENS, of)["at_limit"] == 0
        assert limits_page._one(RESULTS, TOKENS, of)["kept"] == WITHOUT[of][0]


def test_progress_keeps_as_many_and_spends_less() -> None:
    """Known by its calls: it stops early those that the limit would have cut."""
    for of, (kept, spent) in WITHOUT.items():
        one = limits_page._one(RESULTS, CALLS, of)
        assert one["kept"] == kept
        assert one["tokens"] < spent
        assert one["graceful"] > 0


def test_a_run_misjudges_its_length_by_one_factor_and_the_same_each_time() -> None:
    """Seeded by its id: no other run, and no order, has a say in it."""
    run = Run("r", RUNS[0].calls)
    told = [limits.misjudged(run, calls) for calls in range(1, len(run.calls) + 1)]
    assert told == [limits.misjudged(run, calls) for calls in range(1, len(run.calls) + 1)]
    assert told == sorted(told)
    assert all(0 <= share <= 1 for share in told)
    assert limits.misjudged(Run("other", run.calls), 1) != told[0]


def _calls_within(run: Run, limit: float) -> int:
    """Return the calls that a run makes until its use is at the limit, or it is done."""
    used = 0
    for number, call in enumerate(run.calls, 1):
        used += call.tokens
        if used >= limit:
            return number
    return len(run.calls)
