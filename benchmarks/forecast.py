"""``monitor.forecast()``, and what it costs a run that nobody asks."""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import TYPE_CHECKING

from benchmarks.report import Report
from benchmarks.rounds import Contestant, take_turns
from otel_budget import ResourceLimits, ResourceMonitor

if TYPE_CHECKING:
    from collections.abc import Callable

_FAR = 10**15
_CALLS = 100
"""Calls of a short run: each of them is looked at."""
_LIMITS = ResourceLimits(
    max_duration_seconds=10**6, max_tokens=_FAR, max_api_calls=_FAR, max_cost_usd=Decimal(_FAR)
)

_RECORD = "record, after many calls"
_FIRST = f"record, each of a run's first {_CALLS} calls"
_AGAIN = "forecast, no call since"
_EACH = "record, then forecast"
_BY_HAND = "mean rate by hand"


def run(*, quick: bool) -> Report:
    """Measure asking and not asking."""
    long = ResourceMonitor(_LIMITS, session_id="bench-forecast")
    record = _recorder(long)
    record(_CALLS * _CALLS)
    contestants = [
        Contestant(_RECORD, record),
        Contestant(_FIRST, _first_calls(), least=_CALLS),
        Contestant(_AGAIN, _asking(long, calls=0)),
        Contestant(_EACH, _asking(long, calls=1)),
        Contestant(_BY_HAND, _by_hand(long)),
    ]
    rounds = 30 if quick else 200
    timings = take_turns(contestants, rounds=rounds, turn=0.005, label="forecast")
    long.close(timeout=0)
    return Report(
        title="How far it will get: the forecast of a run, in its process",
        about=(
            "record_operation(tokens, api_call) without and with monitor.forecast(), of four "
            "limited resources. A run's first calls are looked at one by one, later ones a few at "
            f"a time: the second row has runs of {_CALLS} calls, their making and end included. By "
            "hand: get_usage_report(), and what is left of three limits over the mean of the calls "
            f"so far, without a range. {rounds} rounds."
        ),
        columns=("", "µs", "of the mean rate by hand"),
        rows=tuple(
            (
                one.name,
                timings.seconds(one.name).text(1e6),
                timings.ratio(one.name, _BY_HAND).text(digits=3),
            )
            for one in contestants
        ),
    )


def _recorder(monitor: ResourceMonitor) -> Callable[[int], None]:
    def work(times: int) -> None:
        count = monitor.record_operation
        for _ in range(times):
            count(tokens=1200, api_call=True)

    return work


def _first_calls() -> Callable[[int], None]:
    names = itertools.count()

    def work(times: int) -> None:
        for _ in range(times // _CALLS):
            monitor = ResourceMonitor(_LIMITS, session_id=f"bench-forecast-{next(names)}")
            _recorder(monitor)(_CALLS)
            monitor.close(timeout=0)

    return work


def _asking(monitor: ResourceMonitor, *, calls: int) -> Callable[[int], None]:
    record = _recorder(monitor)

    def work(times: int) -> None:
        ask = monitor.forecast
        for _ in range(times):
            record(calls)
            ask()

    return work


def _by_hand(monitor: ResourceMonitor) -> Callable[[int], dict[str, float]]:
    def work(times: int) -> dict[str, float]:
        left: dict[str, float] = {}
        for _ in range(times):
            used = monitor.get_usage_report()
            calls, cost = used.api_calls, float(used.cost_usd)
            left = {
                "tokens": (_FAR - used.tokens) / (used.tokens / calls),
                "api_calls": _FAR - calls,
                "cost": (_FAR - cost) / (cost / calls) if cost else 0.0,
                "seconds": used.active_seconds / calls,
            }
        return left

    return work
