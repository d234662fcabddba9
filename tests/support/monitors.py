"""Fixtures of the agent's tests: a clock moved by hand, and monitors under it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_budget import ResourceLimits, ResourceMonitor
from otel_budget.sdk.metrics.collector import RUNS
from otel_budget.testing import FakeClock

_numbers = itertools.count(1)

#: Arguments of ResourceMonitor, but for the limits by their own names.
Make = Callable[..., ResourceMonitor]


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still until a test moves it."""
    return FakeClock()


@pytest.fixture
def session_id() -> str:
    """An id no other test has: the exposition is one for the whole process."""
    return f"test-{next(_numbers)}"


@pytest.fixture
def make(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Make monitors under the clock; close those that the test leaves open."""
    monkeypatch.delenv("OTEL_BUDGET_SIDECAR_URL", raising=False)
    monkeypatch.delenv("OTEL_METRICS_EXPORTER", raising=False)
    made: list[ResourceMonitor] = []

    def monitor(
        limits: ResourceLimits | None = None,
        session_id: str | None = None,
        project_root: Path | None = None,
        **options: Any,
    ) -> ResourceMonitor:
        fields = {key: options.pop(key) for key in list(options) if key in _LIMITS}
        name = session_id or f"made-{next(_numbers)}"
        made.append(
            ResourceMonitor(
                limits or ResourceLimits(**fields),
                name,
                project_root,
                **{"clock": clock.clock, **options},
            )
        )
        return made[-1]

    yield monitor
    for one in made:
        one.close(timeout=0)


_LIMITS = set(ResourceLimits.__dataclass_fields__)


@pytest.fixture(autouse=True)
def nobody_scrapes() -> Iterator[None]:
    """Forget a test's scrapes: the next one's runs would wait for more of them."""
    yield
    RUNS._scrapers.clear()
