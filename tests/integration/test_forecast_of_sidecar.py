"""What a real sidecar foretells of a real agent comes true, also after it was killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import SidecarProcess, agent, sidecar, until

_FIRST, _GROWTH, _LIMIT = 1000, 100, 1_500_000


def tokens_of(calls: int) -> int:
    """Return the tokens of so many calls."""
    return _FIRST * calls + _GROWTH * calls * (calls - 1) // 2


def calls_in_all() -> float:
    """Return the calls until the limit, and of the one that crosses it the part that fits."""
    whole = next(n for n in range(1, 1000) if tokens_of(n + 1) >= _LIMIT)
    return whole + (_LIMIT - tokens_of(whole)) / (tokens_of(whole + 1) - tokens_of(whole))


def foretold(judge: SidecarProcess, calls: int) -> dict[str, Any]:
    """Return the first verdict that knows of so many calls."""

    def look() -> dict[str, Any] | None:
        verdict = judge.verdict("growing")
        known = verdict is not None and verdict["resources"].get("api_calls", {"used": 0})
        return verdict if known and known["used"] >= calls else None

    return until(look, judge.process)


def check(verdict: dict[str, Any]) -> int:
    """Hold a verdict against what comes; return the calls it knows of."""
    tokens, calls = verdict["resources"]["tokens"], verdict["resources"]["api_calls"]["used"]
    assert tokens["used"] == tokens_of(calls), "the sample is of one moment"
    told, left = tokens["forecast"], calls_in_all() - calls
    assert told["calls_left"] == pytest.approx(left, rel=0.05)
    low, high = told["calls_left_range"]
    assert low <= told["calls_left"] <= high
    assert told["whole_calls_left"] == int(told["calls_left"])
    assert tokens["exhaustion_seconds"] == told["seconds_left"]
    assert verdict["ends_first"] == "tokens"
    return int(calls)


def test_the_calls_that_are_left_come_true_and_a_killed_sidecar_goes_on_without_a_jump(
    tmp_path: Path,
) -> None:
    """From scrapes alone, each of which holds some calls; while it was away, many."""
    limits = {"max_tokens": _LIMIT}
    with agent(
        "growing", tokens=_FIRST, growth=_GROWTH, pause=0.1, limits=limits, root=str(tmp_path)
    ) as run:
        flags = ("--target", run.metrics, "--interval", "300ms")
        with sidecar(tmp_path, *flags) as first:
            calls = check(foretold(first, 40))
            first.kill()
        with sidecar(tmp_path, *flags) as second:
            check(foretold(second, calls + 1))
            assert 'otel_budget_calls_left{resource="tokens",session_id="growing"}' in (
                second.metrics()
            )
        ended = run.result()
    assert ended["steps"] - 1 <= calls_in_all() + 1, "it stopped at the limit"
    assert ended["tokens"] >= _LIMIT
