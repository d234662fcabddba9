"""A target that shows another target's run, in front of a real sidecar process."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from otel_budget import semconv
from tests.support.exposition import line, page, serve
from tests.support.processes import sidecar, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def shown(run: str, tokens: int, begun: float, *, process: float | None = None, **said: Any) -> str:
    """Return a page of a run. said: limit, progress, duration and state, where it says them."""
    state = said.get("state", "running")
    lines = [
        line(semconv.SESSION_TOKENS, tokens, run),
        line(semconv.SESSION_START, repr(begun), run),
        line(semconv.INCARNATION_START, repr(begun if process is None else process), run),
        *(
            line(semconv.SESSION_STATE, int(name == state), run, state=name)
            for name in semconv.SESSION_STATES
        ),
    ]
    if "limit" in said:
        lines.append(line(semconv.LIMIT, said["limit"], run, resource="tokens", unit="tokens"))
    if "progress" in said:
        lines.append(line(semconv.PROGRESS, said["progress"], run))
    if "duration" in said:
        lines.append(line(semconv.DURATION_SECONDS, said["duration"], run))
    return page(*lines)


STRANGERS: dict[str, Callable[[str, float], str]] = {
    "newer": lambda run, begun: shown(run, 0, begun + 60),
    "newer-ended": lambda run, begun: shown(run, 0, begun + 60, state="completed"),
    "year-9999": lambda run, _: shown(run, 0, 253402300799.0),
    "older": lambda run, begun: shown(run, 0, begun - 500, duration=time.time() % 1000),
    "same-freed": lambda run, begun: shown(run, 0, begun, limit=10**9, progress=1, duration=0),
    "same-ended": lambda run, begun: shown(run, 0, begun, state="completed"),
    "next-freed": lambda run, begun: shown(
        run, 0, begun, process=begun + 60, limit=10**9, progress=1, duration=0
    ),
    "next-ended": lambda run, begun: shown(run, 0, begun, process=begun + 60, state="completed"),
}


def test_strangers_hide_free_end_and_take_over_nothing(tmp_path: Path) -> None:
    """Each run is stopped by its own limit, under its own start; the log names both targets."""
    begun = round(time.time() - 100, 3)
    with serve() as own, serve() as other:

        def spend(tokens: int) -> None:
            said = {"limit": 1000, "progress": 0.1, "duration": time.time() - begun}
            own.show("".join(shown(run, tokens, begun, **said) for run in STRANGERS))

        def claim() -> None:
            other.show("".join(claimed(run, begun) for run, claimed in STRANGERS.items()))
            own.wait_until_asked(2)

        spend(10)
        flags = ("--target", own.url, "--target", other.url, "--interval", "0.1")
        with sidecar(tmp_path, *flags) as side:
            until(lambda: all(side.verdict(run) for run in STRANGERS))
            for tokens in range(11, 16):
                spend(tokens)
                claim()
            spend(5000)
            for run in STRANGERS:
                until(lambda run=run: (side.verdict(run) or {})["action"] == "stop")  # type: ignore[misc] # a default of its own
            for _ in range(3):
                spend(5000)
                claim()
                for run in STRANGERS:
                    holds(side.verdict(run), begun)
            said = side.said().splitlines()
            for run in STRANGERS:
                told = [words for words in said if f"run '{run}': " in words]
                assert any(own.url in words and other.url in words for words in told), told


def holds(verdict: dict[str, Any] | None, begun: float) -> None:
    """Check that a run is stopped as if nobody else had shown it."""
    assert verdict is not None
    assert (verdict["action"], verdict["reason"]) == ("stop", "limit_exceeded"), verdict
    assert begun in (verdict["run_started_at"], *verdict.get("also_started_at", ())), verdict
    assert verdict["run_state"] == "running", verdict
    assert verdict["resources"]["tokens"]["limit"] == 1000, verdict
    assert verdict["resources"]["tokens"]["used"] >= 5000, verdict
    assert verdict["resources"]["duration"]["used"] > 99, verdict
