"""The clocks go on while the machine is suspended: a duration is wall-clock time."""

from __future__ import annotations

import time

import pytest

from otel_budget.instrumentation import clock as agents
from otel_budget.sidecar import clock as sidecars


@pytest.fixture
def suspended(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds the machine was suspended: the monotonic clock knows nothing of them."""
    seconds = [0.0]
    monkeypatch.setattr(time, "CLOCK_BOOTTIME", 7, raising=False)
    monkeypatch.setattr(time, "clock_gettime", lambda _: 1000.0 + seconds[0])
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    monkeypatch.setattr(time, "time", lambda: 5000.0)
    return seconds


def test_the_agents_clock_goes_on_while_suspended(suspended: list[float]) -> None:
    """And so do the run's duration and its lease."""
    steady = agents.steady_seconds()
    suspended[0] = 3600.0
    assert steady() == 4600.0


def test_the_sidecars_clock_goes_on_while_suspended(suspended: list[float]) -> None:
    """Runs on other machines went on meanwhile."""
    clock = sidecars.steady_clock()
    assert clock() == 5000.0
    suspended[0] = 3600.0
    assert clock() == 8600.0


def test_without_such_a_clock_the_monotonic_one_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on while suspended where there is no other."""
    monkeypatch.delattr(time, "CLOCK_BOOTTIME", raising=False)
    assert agents.steady_seconds() is time.monotonic
    clock = sidecars.steady_clock()
    assert abs(clock() - time.time()) < 1
