"""Readings that were written down."""

import asyncio

import pytest

from otel_budget.core.observation import Observation, RunObservation
from otel_budget.sources.replay import ReplaySource

READINGS = [
    Observation("scrape", 1.0, (RunObservation("run-1", "here", 1.0, {}),)),
    Observation("scrape", 2.0, (RunObservation("run-1", "here", 2.0, {}),), dropped={"type": 1}),
]


def test_readings_come_in_order_and_then_there_is_nothing_to_see() -> None:
    """One for each read."""

    async def read_all() -> list[Observation]:
        source = ReplaySource(READINGS)
        found = [await source.read() for _ in range(4)]
        await source.close()
        return found

    found = asyncio.run(read_all())
    assert found[:2] == READINGS
    assert found[2] == found[3] == Observation("scrape", 2.0)


def test_nothing_to_replay_is_refused() -> None:
    """Somebody forgot the readings."""
    with pytest.raises(ValueError, match="at least one observation"):
        ReplaySource([])
