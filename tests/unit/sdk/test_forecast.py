"""How far a run will get, told in its process from every call."""

from __future__ import annotations

import json
import queue
from pathlib import Path

import pytest

from otel_budget import BudgetExceeded, Estimate, Forecast, LimitStatus, ResourceMonitor, Verdict
from otel_budget.core.forecast import NO_FORECAST
from otel_budget.core.quantities import Number
from otel_budget.core.verdict import ResourceState
from otel_budget.ledger.call_pace import CallPace
from otel_budget.policy.forecast import forecast_of
from otel_budget.sdk.call_samples import KEPT
from otel_budget.testing import FakeClock
from tests.support.monitors import Make
from tests.unit.sdk.test_sidecar_verdicts import continued, guided

EACH = 5.0
#: How the pace weighs what it saw is its own: here it matters what it sees.
ROUGHLY = 0.05


def calls(monitor: ResourceMonitor, clock: FakeClock, sizes: range, seconds: float = EACH) -> None:
    """Make one call of each size, at the end of so many seconds."""
    for size in sizes:
        clock.advance(seconds)
        monitor.record_operation(size, api_call=True)


def known(estimate: Estimate | None) -> float:
    """Return what is estimated; it is known."""
    assert estimate is not None
    return estimate.value


def test_calls_and_seconds_are_left_until_each_limit(clock: FakeClock, make: Make) -> None:
    """Each call is 100 tokens larger than the one before: 2,000 and 2,100 of 5,000 still fit."""
    monitor = make(max_tokens=24_000, max_api_calls=30, max_duration_seconds=1000)
    calls(monitor, clock, range(1000, 2000, 100))
    assert monitor.get_usage_report().tokens == 14_500
    left = monitor.forecast()
    tokens = left["tokens"]
    assert known(tokens.calls_left) == pytest.approx(4 + 900 / 2400, rel=ROUGHLY)
    assert tokens.whole_calls_left == 4
    assert known(tokens.seconds_left) == pytest.approx(EACH * (4 + 900 / 2400), rel=ROUGHLY)
    assert known(left["api_calls"].calls_left) == pytest.approx(20)
    assert known(left["duration"].seconds_left) == pytest.approx(950)
    assert known(left["duration"].calls_left) == pytest.approx(190, rel=ROUGHLY)
    assert "cost" not in left


def test_before_the_first_call_nothing_is_told_but_the_time(make: Make) -> None:
    """Unknown is not zero, and not for ever."""
    monitor = make(max_tokens=1000)
    left = monitor.forecast()
    assert left["tokens"] == left["api_calls"] == NO_FORECAST
    assert left["duration"] == Forecast(None, Estimate(3600, 3600, 3600))


def test_a_run_that_has_ended_has_no_forecast(clock: FakeClock, make: Make) -> None:
    """Each of its limits is still named."""
    monitor = make(max_tokens=10_000)
    calls(monitor, clock, range(100, 110))
    monitor.close()
    assert set(monitor.forecast().values()) == {NO_FORECAST}
    assert set(monitor.forecast()) == {"duration", "tokens", "api_calls"}
    assert monitor.verdict.ends_first is None


def test_the_verdict_has_the_forecast_of_each_resource(clock: FakeClock, make: Make) -> None:
    """And which of them ends first."""
    monitor = make(max_tokens=3000, max_api_calls=None)
    calls(monitor, clock, range(100, 110))
    verdict, left = monitor.verdict, monitor.forecast()
    assert {n: s.forecast for n, s in verdict.resources.items() if s.limit is not None} == left
    assert verdict.resources["api_calls"].forecast is None
    assert verdict.resources["tokens"].exhaustion_seconds == known(left["tokens"].seconds_left)
    assert verdict.ends_first == "tokens"


def _fed(sizes: range, carried: tuple[int, int] | None = None) -> CallPace:
    """Return the pace of one that is fed each call."""
    pace = CallPace()
    tokens, made = carried or (0, 0)
    if carried is not None:
        pace.observe({"tokens": tokens, "api_calls": made}, 0.0)
    for number, size in enumerate(sizes, start=1):
        tokens, made = tokens + size, made + 1
        totals: dict[str, Number] = {"tokens": tokens, "api_calls": made, "cost": 0}
        pace.observe(totals, number * EACH)
    return pace


@pytest.mark.parametrize("number", [1, 2, 15, 16, 17, 127])
def test_it_is_that_of_every_call(number: int, clock: FakeClock, make: Make) -> None:
    """Whoever asks after each call, or only once: up to what is kept for one who asks."""
    sizes = range(1000, 1000 + 10 * number, 10)
    often, once = make(max_tokens=10**6), make(max_tokens=10**6)
    for size in sizes:
        clock.advance(EACH)
        for monitor in (often, once):
            monitor.record_operation(size, api_call=True)
        often.forecast()
    room = 10**6 - sum(sizes)
    told = forecast_of("tokens", room, _fed(sizes), number * EACH)
    assert often.forecast()["tokens"] == told
    if number <= KEPT:
        assert once.forecast()["tokens"] == told
    assert known(once.forecast()["tokens"].calls_left) == pytest.approx(
        known(told.calls_left), rel=ROUGHLY
    )


def test_tokens_that_come_after_their_call_belong_to_it(clock: FakeClock, make: Make) -> None:
    """The call is counted first; what it used is said in an operation of its own."""
    apart, together = make(max_tokens=10**5), make(max_tokens=10**5)
    for size in range(1000, 2000, 50):
        clock.advance(EACH)
        apart.record_operation(api_call=True)
        apart.record_operation(size)
        together.record_operation(size, api_call=True)
    assert apart.forecast()["tokens"] == together.forecast()["tokens"]


def test_a_failed_call_is_one_with_the_next(clock: FakeClock, make: Make) -> None:
    """It would make the newest call look as if it had used nothing."""
    monitor = make(max_tokens=10**5)
    calls(monitor, clock, range(1000, 1001))
    calls(monitor, clock, range(1000, 1001))
    before = known(monitor.forecast()["tokens"].calls_left)
    monitor.record_operation(api_call=True, outcome="error")
    assert known(monitor.forecast()["tokens"].calls_left) == before


def test_a_run_that_counts_no_calls_has_a_straight_line(clock: FakeClock, make: Make) -> None:
    """How many calls are left cannot be told; whether the rest fits can, by its progress."""
    monitor = make(max_tokens=1000)
    for _ in range(5):
        clock.advance(EACH)
        monitor.record_operation(100)
    assert monitor.forecast()["tokens"] == NO_FORECAST
    assert monitor.get_estimated_completion_possible(0.5) is True
    assert monitor.get_estimated_completion_possible(0.49) is False


def test_calls_that_grow_do_not_fit_where_a_straight_line_says_so(
    clock: FakeClock, make: Make
) -> None:
    """At half of its calls a run that re-sends what was said has not used half of its tokens."""
    monitor = make(max_tokens=10_000)
    calls(monitor, clock, range(100, 1000, 100))
    assert monitor.get_usage_report().tokens == 4500
    assert monitor.get_estimated_completion_possible(0.5) is False
    assert monitor.get_estimated_completion_possible(0.75) is True


def test_a_pause_is_not_how_long_a_call_takes(clock: FakeClock, make: Make) -> None:
    """Seconds are of active time."""
    monitor = make(max_tokens=10_000)
    calls(monitor, clock, range(100, 105))
    before = known(monitor.forecast()["tokens"].seconds_left)
    monitor.pause()
    clock.advance(3600)
    monitor.unpause()
    assert known(monitor.forecast()["tokens"].seconds_left) == before
    calls(monitor, clock, range(105, 106))
    assert known(monitor.forecast()["tokens"].seconds_left) < before


def test_a_resumed_run_goes_on_from_what_it_carries(
    clock: FakeClock, make: Make, tmp_path: Path
) -> None:
    """The calls before are one lump, of which nothing is told until the first call since."""
    first = make(max_tokens=10**5, session_id="carried", project_root=tmp_path)
    calls(first, clock, range(1000, 2000, 50))
    first.close("stopped")
    again = ResourceMonitor.resume("carried", tmp_path, clock=clock.clock)
    assert again.forecast()["tokens"] == NO_FORECAST
    assert again.get_estimated_completion_possible(0.25) is False
    assert again.get_estimated_completion_possible(0.3) is True
    clock.advance(EACH)
    again.record_operation(2000, api_call=True)
    assert known(again.forecast()["tokens"].calls_left) == pytest.approx(25.5, rel=0.05)
    again.close()


def test_money_and_calls_of_tools_are_forecast_too(clock: FakeClock, make: Make) -> None:
    """Of whatever is limited, as it is used by call."""
    monitor = make(max_cost_usd=1, max_tool_calls=30)
    for _ in range(10):
        clock.advance(EACH)
        monitor.record_operation(10, api_call=True, cost_usd=0.02, tool_calls=2)
    left = monitor.forecast()
    assert known(left["cost"].calls_left) == pytest.approx(40, rel=ROUGHLY)
    assert known(left["tool_calls"].calls_left) == pytest.approx(5, rel=ROUGHLY)


def test_after_many_calls_it_is_still_right(clock: FakeClock, make: Make) -> None:
    """Of many calls not each is looked at."""
    monitor = make(max_tokens=10**9, max_api_calls=None)
    calls(monitor, clock, range(1000, 6000))
    room = 10**9 - monitor.get_usage_report().tokens
    told = forecast_of("tokens", room, _fed(range(1000, 6000)))
    left = monitor.forecast()["tokens"]
    assert known(left.calls_left) == pytest.approx(known(told.calls_left), rel=0.01)
    assert known(left.seconds_left) == pytest.approx(known(told.seconds_left), rel=0.01)


def test_the_sidecars_ceiling_counts_where_it_is_stricter(clock: FakeClock, make: Make) -> None:
    """With the run's own numbers, while the verdict that names it is in force."""
    monitor = guided(make, max_tokens=10_000, max_api_calls=None)
    calls(monitor, clock, range(100, 101))
    calls(monitor, clock, range(100, 101))
    named = {"tokens": ceiling(1000), "api_calls": ceiling(12), "cost": ceiling(5, "session")}
    monitor._run._receive(continued(monitor, resources=named))
    left = monitor.forecast()
    assert known(left["tokens"].calls_left) == pytest.approx(8, rel=ROUGHLY)
    assert known(left["api_calls"].calls_left) == pytest.approx(10)
    assert set(left) == {"tokens", "api_calls", "duration"}
    clock.advance(20)  # its lease is over
    assert known(monitor.forecast()["tokens"].calls_left) == pytest.approx(98, rel=ROUGHLY)


def ceiling(limit: int, whose: str = "sidecar") -> ResourceState:
    """Return what a sidecar says of a resource of which it has seen nothing used."""
    return ResourceState(0, limit, limit, 0.0, LimitStatus.OK, whose, warning_at=limit)


def test_what_is_kept_for_one_who_asks_is_bounded(make: Make) -> None:
    """However many calls there are, and nobody asks."""
    monitor = make()
    for _ in range(1000):
        monitor.record_operation(1, api_call=True)
        assert len(monitor._record.calls._samples) <= KEPT


def test_runs_at_once_have_each_their_own_calls(clock: FakeClock, make: Make) -> None:
    """Two monitors of one run count apart, and so they forecast apart."""
    one, other = (make(max_tokens=10_000, session_id="shared") for _ in range(2))
    calls(one, clock, range(100, 120))
    assert other.forecast()["tokens"] == NO_FORECAST
    calls(other, clock, range(1000, 1002))
    assert known(one.forecast()["tokens"].calls_left) > 50
    assert known(other.forecast()["tokens"].calls_left) < 10


def test_the_summary_says_it_where_it_can_be_told(clock: FakeClock, make: Make) -> None:
    """Of what is limited, while something is left; of time only the calls."""
    monitor = make(max_tokens=10_000, max_api_calls=10, max_cost_usd=1)
    calls(monitor, clock, range(100, 110))
    left, summary = monitor.forecast(), monitor.get_usage_summary()
    assert summary["tokens"]["calls_left"] == known(left["tokens"].calls_left)
    assert summary["tokens"]["seconds_left"] == known(left["tokens"].seconds_left)
    assert summary["duration"]["calls_left"] == known(left["duration"].calls_left)
    assert set(summary["duration"]) == {"used", "limit", "percentage", "remaining", "calls_left"}
    for name in ("api_calls", "cost"):  # exceeded; without a price
        assert set(summary[name]) == {"used", "limit", "percentage", "remaining"}
    json.dumps(summary, allow_nan=False)


def test_a_stop_that_is_raised_has_its_forecast(clock: FakeClock, make: Make) -> None:
    """And so has the one that is handed to a callback."""
    heard: queue.SimpleQueue[Verdict] = queue.SimpleQueue()
    monitor = make(max_tokens=1000, on_verdict=heard.put)
    calls(monitor, clock, range(100, 108))
    with pytest.raises(BudgetExceeded) as raised:
        monitor.raise_if_stopped(0.1)
    state = raised.value.verdict.resources["tokens"]
    assert state.forecast == monitor.forecast()["tokens"]
    assert known(monitor.forecast()["tokens"].calls_left) == pytest.approx(172 / 110, rel=0.1)
    assert raised.value.verdict.ends_first == "tokens"
    told = heard.get(timeout=10)
    assert told.resources["tokens"].forecast == state.forecast
    assert told.ends_first == "tokens"
