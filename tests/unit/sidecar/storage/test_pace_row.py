"""A run's pace in its row: a sidecar that is started again foretells as it did before."""

import json
from typing import Any

import pytest

from otel_budget import semconv
from otel_budget.core.forecast import Forecast
from otel_budget.ledger.moments import move
from otel_budget.ledger.run import RunTotals
from otel_budget.policy.forecast import forecast_of
from otel_budget.sidecar.storage import codec
from tests.support.sidecar_fixtures import START, session

#: For a row that lacks the key.
_ABSENT = "absent"


def tokens_of(calls: int) -> int:
    """Return the tokens of so many calls, each of which is 100 larger than the one before."""
    return 1000 * calls + 100 * calls * (calls - 1) // 2


def seen(run: RunTotals, first: int, last: int, spacing: float = 5.0) -> RunTotals:
    """Show a run after each call."""
    for calls in range(first, last + 1):
        shown = session(tokens=tokens_of(calls), at=START + spacing * calls)
        counters = {**shown.counters, (semconv.API_CALLS, ""): calls}
        run.observe(shown._replace(counters=counters), confirmed=True)
    return run


def fresh() -> RunTotals:
    """Return a run of which nothing was seen yet."""
    return RunTotals("run-1", START, START)


def left(run: RunTotals, spacing: float = 5.0, limit: int = 100_000) -> Forecast:
    """Return what is left of a limit on tokens."""
    now = START + spacing * float(run.totals()[semconv.API_CALLS])
    return forecast_of(semconv.TOKENS, limit - int(run.totals()[semconv.TOKENS]), run.pace, now)


def test_a_run_that_is_read_back_has_the_forecast_that_it_had() -> None:
    """To the digits that are stored."""
    run = seen(fresh(), 1, 20)
    read = codec.from_json(codec.to_json(run))
    assert left(read).calls_left == pytest.approx(left(run).calls_left, rel=1e-6)
    assert left(read).seconds_left == pytest.approx(left(run).seconds_left, rel=1e-6)
    assert codec.to_json(read) == codec.to_json(run)


@pytest.mark.parametrize("stored_at", [20, 21, 22, 23])
def test_what_a_run_did_since_its_pace_was_written_is_a_lump_and_no_jump(stored_at: int) -> None:
    """It is written at most every 15 s; the totals are as of the row."""
    run = seen(fresh(), 1, 20)
    codec.to_json(run)
    text = codec.to_json(seen(run, 21, stored_at))
    read, ahead = seen(codec.from_json(text), stored_at + 1, 25), seen(run, stored_at + 1, 25)
    was, now = left(ahead).calls_left, left(read).calls_left
    assert was is not None
    assert now is not None
    assert now.value == pytest.approx(was.value, rel=0.02)


def test_of_a_young_run_it_is_written_whenever_its_calls_have_doubled() -> None:
    """Else all but the first of them would be a lump, which tells no growth."""
    run = fresh()
    for calls in range(1, 32):
        text = codec.to_json(seen(run, calls, calls, spacing=0.1))
    read = seen(codec.from_json(text), 32, 32, spacing=0.1)
    was, now = left(seen(run, 32, 32, spacing=0.1), 0.1).calls_left, left(read, 0.1).calls_left
    assert was is not None
    assert now is not None
    assert now.value == pytest.approx(was.value, rel=0.05)


def test_it_is_written_as_soon_as_its_growth_can_be_told() -> None:
    """A run that was first seen as one lump: read back with that alone, the next is another one."""
    run = fresh()
    for calls in (25, 40):
        text = codec.to_json(seen(run, calls, calls, spacing=0.1))
    read = seen(codec.from_json(text), 85, 85, spacing=0.1)
    ahead, limit = seen(run, 85, 85, spacing=0.1), 1_500_000
    was, now = left(ahead, 0.1, limit).calls_left, left(read, 0.1, limit).calls_left
    assert was is not None
    assert now is not None
    assert now.value == pytest.approx(was.value, rel=0.05)


def test_the_pace_is_written_now_and_then() -> None:
    """With every call it would cost more than all the rest of the row."""
    run = seen(fresh(), 1, 20, spacing=1.0)
    before = json.loads(codec.to_json(run))["pace"]
    seen(run, 21, 34, spacing=1.0)
    assert json.loads(codec.to_json(run))["pace"] == before
    seen(run, 35, 35, spacing=1.0)
    assert json.loads(codec.to_json(run))["pace"] != before


@pytest.mark.parametrize("stored", [_ABSENT, 5, "x", [], {}, [1, 2], [None] * 8, [[]] * 8])
def test_a_row_without_a_pace_begins_with_what_was_used(stored: Any) -> None:
    """An earlier version's. No total hangs on it; the forecast is wide at first."""
    run = seen(fresh(), 1, 20)
    row = json.loads(codec.to_json(run))
    row["pace"] = stored
    if stored == _ABSENT:
        del row["pace"]
    read = codec.from_json(json.dumps(row))
    assert read.totals() == run.totals()
    assert read.pace.calls == 20
    calls = left(seen(read, 21, 30)).calls_left
    exact = left(seen(run, 21, 30)).calls_left
    assert calls is not None
    assert exact is not None
    assert calls.low <= exact.value <= calls.high


def test_a_run_without_calls_has_none_in_its_row_and_comes_back_with_none() -> None:
    """Most programs count them; one that does not is told of by its rate."""
    run = fresh()
    shown = session(tokens=5, at=START + 1)
    tokens = {key: n for key, n in shown.counters.items() if key[0] != semconv.API_CALLS}
    run.observe(shown._replace(counters=tokens), confirmed=True)
    text = codec.to_json(run)
    assert json.loads(text)["pace"] is None
    assert codec.from_json(text).pace.calls == 0


def test_a_clock_that_is_set_makes_no_pause_of_it() -> None:
    """The moments of the pace move with all others, also in what is stored."""
    run, other = seen(fresh(), 1, 20), seen(fresh(), 1, 20)
    codec.to_json(other)
    move(other, 3600.0)
    read = codec.from_json(codec.to_json(other))
    move(read, -3600.0)
    assert left(seen(read, 21, 22)).seconds_left == pytest.approx(
        left(seen(run, 21, 22)).seconds_left, rel=1e-3
    )
