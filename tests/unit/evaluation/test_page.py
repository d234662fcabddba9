"""docs/forecast.md is made from docs/forecast.json, and says what stands there."""

import copy

import pytest

from evaluation import page
from evaluation.cases import USED
from evaluation.contestants import OURS
from evaluation.measure import CALLS, CALLS_LEFT, SCRAPES
from evaluation.prometheus import WINDOWS, name_of
from evaluation.results import measured
from evaluation.runs import for_choosing, for_scoring, mini_swe_runs
from evaluation.wording import percent
from otel_budget import semconv

RESULTS = page.read()


def test_the_page_is_what_the_results_say() -> None:
    """So a figure on it was measured, and not written."""
    assert page.PAGE.read_text(encoding="utf-8") == page.page(RESULTS)


def test_every_figure_of_a_score_comes_from_the_results() -> None:
    """One figure is changed in the results: the page says the other."""
    changed = copy.deepcopy(RESULTS)
    (one,) = (
        each
        for each in changed["scores"]
        if (each["what"], each["resource"], each["seen"], each["by"], each["limit"], each["used"])
        == (CALLS_LEFT, semconv.TOKENS, CALLS, OURS, 1.0, 0.5)
    )
    one.update(median=0.4321, p90=0.987, bias=-0.0123)
    text = page.page(changed)
    assert "43 % / 99 % / -1.2 %" in text
    missed = "| calls left until a limit of tokens, 50 % used: median error in % | at most 4 |"
    assert f"{missed} 43.21 | MISSED |" in text


def test_a_real_prometheus_was_asked_for_the_page() -> None:
    """Its answers stand beside ours for each share, about each run that is scored."""
    asked = {
        (each["by"], each["used"]): each["asked"]
        for each in RESULTS["scores"]
        if (each["what"], each["resource"], each["seen"], each["limit"])
        == (CALLS_LEFT, semconv.TOKENS, SCRAPES, 1.0)
    }
    for by in (OURS, *map(name_of, WINDOWS)):
        for used in USED:
            assert asked[by, used] == len(for_scoring())


def test_all_of_it_can_be_measured_again() -> None:
    """On three runs and without Prometheus, of which nothing is said then."""
    results = measured(
        for_scoring()[:3], for_choosing()[:3], lambda runs, _of: runs, with_prometheus=False
    )
    assert results.keys() == RESULTS.keys()
    text = page.page(results)
    assert "Prometheus's `predict_linear` by not told" in text
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == [line for line in page.page(RESULTS).splitlines() if line[:3] == "## "]


def test_no_run_is_scored_on_which_figures_may_be_chosen() -> None:
    """The two halves hold every recorded run, each in one of them."""
    chosen = {run.session_id for run in for_choosing()}
    scored = {run.session_id for run in for_scoring()}
    assert not chosen & scored
    assert chosen | scored == {run.session_id for run in mini_swe_runs()}


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0297, "3.0 %"), (1.2, "120 %"), (0, "0.0 %"), (0.0996, "10 %"), (None, "not told")],
)
def test_a_share_is_written_with_two_digits_that_mean_something(
    share: float | None, text: str
) -> None:
    """And what was not told is no number."""
    assert percent(share) == text


def test_a_sign_stands_only_where_it_means_something() -> None:
    """Nothing is neither above nor below."""
    signed = [percent(share, sign=True) for share in (0.05, -0.05, 0.0001)]
    assert signed == ["+5.0 %", "-5.0 %", "0.0 %"]
