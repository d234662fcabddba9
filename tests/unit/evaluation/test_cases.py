"""What came, worked out by hand for a run that is small enough for it."""

from decimal import Decimal

import pytest

from evaluation.cases import cases, every_call, scrapes
from evaluation.contestants import LAST_TEN, MEAN, OF_60_S, OURS, others, ours_in_process
from evaluation.runs import Call, Run
from evaluation.scores import quantile, score
from otel_budget import semconv
from otel_budget.core.forecast import Estimate

#: Four calls of 100, 200, 300 and 400 tokens, ten seconds apart.
RUN = Run("tiny", tuple(Call(10.0 * n, 90 + 100 * n, 0, 10, Decimal(n + 1)) for n in range(4)))


def test_what_came_is_what_the_recording_shows() -> None:
    """At half of 1,000 tokens three calls are made, 600 are used, and one call of 10 s is left."""
    (case,) = cases(RUN, every_call(RUN), semconv.TOKENS, limits=(1.0,), used=(0.5,))
    assert case.remaining == 400
    assert case.calls_left == 1
    assert case.seconds_left == 10


def test_a_call_that_crosses_the_limit_counts_by_its_part() -> None:
    """Of a limit of 800 tokens, 600 are used: half of the last call fits, and then it is over."""
    (case,) = cases(RUN, every_call(RUN), semconv.TOKENS, limits=(0.8,), used=(0.5,))
    assert case.limit == 800
    assert case.calls_left == 0.5
    assert case.seconds_left == 10


def test_money_stays_exact() -> None:
    """A limit of 6 US dollars, of 10 that were used, with 3 spent: 3 remain, which is a call."""
    (case,) = cases(RUN, every_call(RUN), semconv.COST, limits=(0.6,), used=(0.5,))
    assert (case.remaining, case.calls_left) == (Decimal(3), 1)


def test_a_limit_of_time_falls_within_a_call() -> None:
    """24 of 30 seconds: after 20 s, 4 s of the fourth call's ten are left."""
    (case,) = cases(RUN, every_call(RUN), semconv.DURATION, limits=(0.8,), used=(0.8,))
    assert case.remaining == pytest.approx(4)
    assert case.calls_left == pytest.approx(0.4)
    assert case.seconds_left == pytest.approx(4)


def test_a_share_that_no_sample_shows_below_the_limit_is_not_asked() -> None:
    """Of 600 tokens more than half is used only when all of it is."""
    assert not list(cases(RUN, every_call(RUN), semconv.TOKENS, limits=(0.6,), used=(0.6,)))


def test_scrapes_see_only_what_was_counted_before_them() -> None:
    """At 0, 15 and 30 s: one call, two, and all four."""
    seen = [(sample.at, sample.totals[semconv.TOKENS]) for sample in scrapes(RUN, 0)]
    assert seen == [(0.0, 100), (15.0, 300), (30.0, 1000)]
    assert [sample.at for sample in scrapes(RUN, 1)] == [4.0, 19.0, 34.0]


def test_every_contestant_is_right_by_hand() -> None:
    """After 600 tokens in three calls and 20 s, 400 remain."""
    samples = every_call(RUN)
    asked = list(cases(RUN, samples, semconv.TOKENS, limits=(1.0,), used=(0.5,)))
    told = {
        each.by: each.answer for each in (*ours_in_process(samples, asked), *others(samples, asked))
    }
    assert told[MEAN].calls_left == Estimate(2, 2, 2)
    assert told[LAST_TEN].calls_left == told[MEAN].calls_left
    mean, fading = told[MEAN].seconds_left, told[OF_60_S].seconds_left
    assert mean is not None
    assert fading is not None
    assert mean.value == pytest.approx(20 / 600 * 400)
    faded = 0.846482  # exp(-10 / 60)
    assert fading.value == pytest.approx(400 * (10 * faded + 10) / (200 * faded + 300), rel=1e-5)
    assert told[OURS].calls_left is not None
    assert told[OURS].calls_left.value == pytest.approx(1, rel=0.01)


def test_scores_are_shares_of_what_came() -> None:
    """Errors of +50 %, -10 % and +20 %, one of which was within its range, and one not told."""
    came = [
        (Estimate(15, 5, 20), 10.0),
        (Estimate(9, 8, 9.5), 10.0),
        (Estimate(12, 11, 13), 10.0),
        (None, 10.0),
    ]
    one = score(came)
    assert (one.asked, one.told) == (4, 3)
    assert one.median == pytest.approx(0.2)
    assert one.p90 == pytest.approx(0.2 + 0.8 * 0.3)
    assert one.bias == pytest.approx(0.2)
    assert (one.covered, one.below, one.above) == pytest.approx((1 / 3,) * 3)
    assert one.width == pytest.approx(0.2)


def test_a_quantile_lies_between_its_neighbours() -> None:
    """Of 0 and 10 the ninth tenth is 9."""
    assert quantile([0.0, 10.0], 0.9) == pytest.approx(9)
    assert quantile([], 0.5) != quantile([], 0.5)
