"""Prometheus's own forecasts of docs/forecast.md, asked again of a real one."""

from collections.abc import Sequence

import pytest

from evaluation import page
from evaluation.cases import cases, scrapes
from evaluation.contestants import OURS, ours_from_scrapes
from evaluation.prometheus import WINDOWS, name_of, replayed
from evaluation.runs import for_scoring
from otel_budget import semconv
from tests.support.real import require

EXAMPLE = page.read()["example"]
_SECONDS = {"5m": 300, "1h": 3600}


@pytest.fixture(autouse=True)
def _prometheus() -> None:
    require("prometheus")
    require("promtool")


def test_predict_linear_says_of_a_run_what_the_page_says() -> None:
    """The same run alone in a new Prometheus, and the line worked out by hand as well."""
    run = for_scoring()[0]
    assert run.session_id == EXAMPLE["session_id"]
    seen = scrapes(run, 0)
    (case,) = cases(run, seen, semconv.TOKENS, limits=(1.0,), used=(0.5,))
    with replayed([run]) as server:
        told = {each.by: each.answer for each in server.answers([case])}
    for window in WINDOWS:
        calls, seconds = EXAMPLE["by"][name_of(window)]
        answer = told[name_of(window)]
        assert answer.calls_left is not None
        assert answer.seconds_left is not None
        assert answer.calls_left.value == pytest.approx(calls[0], abs=1e-3)
        assert answer.seconds_left.value == pytest.approx(seconds[0], abs=1e-3)
        within = [s for s in seen if case.at - _SECONDS[window] <= s.at <= case.at]
        slope, now = _line([(s.at - case.at, float(s.totals[semconv.TOKENS])) for s in within])
        assert answer.seconds_left.value == pytest.approx(
            (float(case.limit) - now) / slope, rel=1e-6
        )


def _line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return slope, and value at 0, of the line with the least squares."""
    n = len(points)
    x, y = sum(p[0] for p in points), sum(p[1] for p in points)
    slope = (n * sum(a * b for a, b in points) - x * y) / (
        n * sum(a * a for a, _ in points) - x * x
    )
    return slope, (y - slope * x) / n


def test_a_run_that_was_scraped_once_has_no_line() -> None:
    """What cannot be told is not 0, and not endless."""
    run = for_scoring()[0]
    seen = scrapes(run, 0)[:1]
    (case,) = cases(run, seen, semconv.TOKENS, limits=(1.0,), used=(0.0,))
    with replayed([run]) as server:
        answers = [each.answer for each in server.answers([case])]
    assert [(a.calls_left, a.seconds_left) for a in answers] == [(None, None), (None, None)]
    (mine,) = ours_from_scrapes(seen, [case])
    assert mine.by == OURS
    assert mine.answer.seconds_left is None
