"""What a process forecasts of its own run is what one would that is fed each call."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from otel_budget import Forecast, ResourceLimits, ResourceMonitor
from otel_budget.core.forecast import NO_FORECAST, ends_first
from otel_budget.core.quantities import Number
from otel_budget.ledger.call_pace import CallPace
from otel_budget.policy.forecast import forecast_of
from otel_budget.sdk.call_samples import KEPT
from otel_budget.testing import FakeClock

LIMITS: dict[str, Number] = {
    "tokens": 10**7, "api_calls": 500, "cost": Decimal(100), "tool_calls": 2000,
    "active_duration": 10.0**6,
}  # fmt: skip


class Call(NamedTuple):
    """One call of a run, and what comes before and after it."""

    pause: float
    """Seconds for which the run is paused before it."""
    seconds: float
    """How long it takes."""
    tokens: int
    cents: int
    tools: int
    """Calls of tools that follow it."""
    apart: bool
    """Its tokens are recorded after it, in an operation of their own."""
    ask: bool
    """Somebody asks after it."""


histories = st.lists(
    st.builds(
        Call,
        pause=st.sampled_from((0.0, 0.0, 0.0, 600.0)),
        seconds=st.floats(0.01, 60).map(lambda seconds: round(seconds, 3)),
        tokens=st.integers(1, 50_000),
        cents=st.integers(0, 30),
        tools=st.integers(0, 3),
        apart=st.booleans(),
        ask=st.booleans(),
    ),
    max_size=40,
)


def monitored(clock: FakeClock) -> ResourceMonitor:
    """Return a run that is limited in everything but its duration."""
    limits = ResourceLimits.only(
        max_tokens=10**7, max_api_calls=500, max_cost_usd=100, max_tool_calls=2000,
        max_active_seconds=10**6,
    )  # fmt: skip
    return ResourceMonitor(limits, clock=clock.clock)


def make(call: Call, monitor: ResourceMonitor, clock: FakeClock) -> None:
    """Let a run make a call."""
    if call.pause:
        monitor.pause()
        clock.advance(call.pause)
        monitor.unpause()
    clock.advance(call.seconds)
    cost = Decimal(call.cents) / 100
    if call.apart:
        monitor.record_operation(api_call=True, cost_usd=0)
        monitor.record_operation(call.tokens, cost_usd=cost)
    else:
        monitor.record_operation(call.tokens, api_call=True, cost_usd=cost)
    if call.tools:
        monitor.record_operation(tool_calls=call.tools)


class Fed:
    """A pace that is fed each call, at the time at which it is over."""

    def __init__(self) -> None:
        """Begin without one."""
        self.pace, self.at = CallPace(), 0.0
        self.used: dict[str, Number] = {
            "tokens": 0, "api_calls": 0, "cost": Decimal(0), "tool_calls": 0,
        }  # fmt: skip

    def take(self, call: Call, before: Call | None, at: float) -> None:
        """Feed it a call. Calls of tools are known when the next call of a model is."""
        more = {
            "tokens": call.tokens, "api_calls": 1, "cost": Decimal(call.cents) / 100,
            "tool_calls": before.tools if before else 0,
        }  # fmt: skip
        self.used = {name: value + more[name] for name, value in self.used.items()}  # type: ignore[operator] # of one type each
        self.at = at
        self.pace.observe(self.used, at)

    def forecast(self, newest: Call | None) -> dict[str, Forecast]:
        """Return what is left of each resource."""
        used = dict(self.used, active_duration=self.at)
        used["tool_calls"] += newest.tools if newest else 0
        return {
            name: forecast_of(name, limit - used[name], self.pace, self.at)  # type: ignore[operator] # of one type each
            for name, limit in LIMITS.items()
        }


@given(histories)
def test_it_is_that_of_one_who_is_fed_each_call(history: list[Call]) -> None:
    """However often anybody asks, as long as each call is kept until somebody does."""
    clock, fed = FakeClock(), Fed()
    monitor = monitored(clock)
    before: Call | None = None
    for number, call in enumerate(history, start=1):
        make(call, monitor, clock)
        fed.take(call, before, monitor.get_usage_report().active_seconds)
        if call.ask or number % KEPT == 0:
            assert monitor.forecast() == fed.forecast(call)
        before = call
    told = monitor.forecast()
    assert told == fed.forecast(before)
    assert monitor.verdict.ends_first == ends_first(
        {name: left for name, left in told.items() if left != NO_FORECAST}
    )
    monitor.close()


@given(histories, st.integers(1, 20))
def test_nobody_who_asks_changes_what_is_told(history: list[Call], every: int) -> None:
    """Nor does it matter when: asked more seldom it is of lumps, and still within all bounds."""
    clock = FakeClock()
    monitor = monitored(clock)
    for number, call in enumerate(history * 3, start=1):
        make(call, monitor, clock)
        if number % every == 0:
            assert monitor.forecast() == monitor.forecast()
    for left in monitor.forecast().values():
        for estimate in left:
            if estimate is not None:
                assert 0 <= estimate.low <= estimate.value <= estimate.high < float("inf")
    monitor.close()
