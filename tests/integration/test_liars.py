"""Runs that say of themselves what is not so, in front of a real sidecar process."""

from __future__ import annotations

import time
from itertools import count
from typing import TYPE_CHECKING, Any

from otel_budget import semconv
from tests.integration.test_strangers import shown
from tests.support.exposition import serve
from tests.support.processes import sidecar, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.processes import SidecarProcess


def test_a_run_dodges_no_ceiling_by_what_it_says_of_itself(tmp_path: Path) -> None:
    """Over and yet spending, no second old, and begun again and again: stopped, stopped, told."""
    begun = round(time.time(), 3)
    flags = ("--interval", "0.1", "--max-duration", "2", "--max-tokens", "1000")
    with serve() as page, sidecar(tmp_path, "--target", page.url, *flags) as side:
        for turn in count():
            now = round(time.time(), 3)
            page.show(
                shown("over", 800 + turn, begun, state="completed", duration=0)
                + shown("young", 1, begun, duration=0)
                + shown("again", 900, now)
            )
            page.wait_until_asked(2)
            if turn > 3 and all(stopped(side, run) for run in ("over", "young")):
                break
            assert turn < 200
        over = side.verdict("over") or {}
        assert over["run_state"] == "running"
        assert stopped(side, "young") == "duration"
        assert (side.verdict("again") or {})["resources"]["tokens"]["used"] == 900
        for metric in (semconv.GOING_ON, semconv.RESTART_LOOPS):
            until(lambda metric=metric: value(side, metric) >= 1)  # type: ignore[misc] # a default of its own
        said = side.said()
        assert "run 'over': it says that it is over and goes on" in said
        assert said.count("run 'again': it begins again and again: 3 runs within") == 1
        assert "(tokens 2,700)" in said


def stopped(side: SidecarProcess, run: str) -> str:
    """Return the first resource by which a run is stopped; empty while it is not."""
    verdict: dict[str, Any] = side.verdict(run) or {"action": ""}
    if verdict["action"] != "stop":
        return ""
    over = [name for name, each in verdict["resources"].items() if each["status"] == "exceeded"]
    return str(over[0])


def value(side: SidecarProcess, metric: semconv.Metric) -> float:
    """Return the value of a metric without labels."""
    rows = [row for row in side.metrics().splitlines() if row.startswith(f"{metric.name} ")]
    return float(rows[0].rpartition(" ")[2])
