"""Kinds of tokens in the ledger: kept as the tokens are, over resets, restarts and targets."""

from __future__ import annotations

from otel_budget import semconv
from otel_budget.core.observation import Observation, RunAttributes, RunObservation
from otel_budget.core.token_kinds import KIND_COUNTERS
from otel_budget.ledger.ledger import Ledger
from otel_budget.sidecar.storage import codec

Counts = dict[str, int]


def seen(
    at: float, tokens: int, kinds: Counts, started: float | None = 1.0, target: str = "t"
) -> Observation:
    """Return a reading of the run."""
    counters = {(KIND_COUNTERS[kind], ""): number for kind, number in kinds.items()}
    attributes = RunAttributes(started_at=1.0, incarnation_at=started)
    run = RunObservation("r", target, at, {(semconv.TOKENS, ""): tokens, **counters}, attributes)
    return Observation("scrape", at, sessions=(run,))


def after(*readings: Observation) -> Ledger:
    """Return a ledger that took these in."""
    ledger = Ledger()
    for reading in readings:
        ledger.apply(reading)
    return ledger


def test_a_run_tells_its_kinds_apart() -> None:
    run = after(seen(10.0, 110, {"input": 100, "cache_read": 70, "output": 10})).runs["r"]
    assert run.token_kinds() == {"input": 30, "cache_read": 70, "output": 10}
    assert run.totals() == {semconv.TOKENS: 110}


def test_without_kinds_none_are_known() -> None:
    assert after(seen(10.0, 110, {})).runs["r"].token_kinds() == {}


def test_a_process_that_resumes_adds_its_own() -> None:
    run = after(
        seen(10.0, 110, {"input": 100, "output": 10}),
        seen(20.0, 50, {"input": 40, "cache_read": 40, "output": 10}, started=15.0),
    ).runs["r"]
    assert run.totals()[semconv.TOKENS] == 160
    assert run.token_kinds() == {"input": 100, "cache_read": 40, "output": 20}


def test_a_reset_counts_from_zero_and_is_told_once() -> None:
    """Three counters drop together: it is one process that began again, as it says nothing."""
    run = after(
        seen(10.0, 110, {"input": 100, "output": 10}, started=None),
        seen(20.0, 33, {"input": 30, "output": 3}, started=None),
    ).runs["r"]
    assert run.token_kinds() == {"input": 130, "output": 13}
    assert run.resets == 1


def test_two_targets_of_one_process_count_once() -> None:
    run = after(
        seen(10.0, 110, {"input": 100}), seen(10.0, 90, {"input": 80}, target="other")
    ).runs["r"]
    assert run.token_kinds() == {"input": 100}


def test_a_run_is_as_fresh_without_them_as_with() -> None:
    """A configuration without weights reads none: the run goes on as before."""
    ledger = after(seen(10.0, 110, {"input": 100}), seen(20.0, 120, {}))
    run = ledger.runs["r"]
    assert not run.lacking
    assert run.sampled_at == 20.0
    assert run.token_kinds() == {"input": 100}


def test_they_come_back_from_the_storage() -> None:
    run = after(seen(10.0, 110, {"input": 100, "cache_read": 70})).runs["r"]
    assert codec.from_json(codec.to_json(run)).token_kinds() == run.token_kinds()
