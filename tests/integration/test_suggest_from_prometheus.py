"""What runs used, read back from a real Prometheus: the limits that are proposed by it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from otel_budget import semconv
from tests.support.exposition import line, page, serve
from tests.support.prometheus_process import prometheus

pytestmark = pytest.mark.real("prometheus")


def run(number: int, tokens: int, state: str) -> tuple[str, ...]:
    """Return the series of a run, each of which is in one state."""
    session = f"run-{number}"
    return (
        line(semconv.SESSION_TOKENS, tokens, session),
        line(semconv.SESSION_API_CALLS, 3, session),
        line(semconv.SESSION_START, 1_700_000_000 + number, session),
        line(semconv.INCARNATION_START, 1_700_000_000 + number, session),
        line(semconv.DURATION_SECONDS, 60, session),
        line(semconv.SESSION_INFO, 1, session, workflow="nightly"),
        *(
            line(semconv.SESSION_STATE, int(state == each), session, state=each)
            for each in semconv.SESSION_STATES
        ),
    )


def shown(state: str, tokens: int) -> str:
    """Return a page with eleven runs, of which the last is never over."""
    runs = [run(n, tokens, state if n < 10 else semconv.RUNNING) for n in range(11)]
    return page(*(text for one in runs for text in one))


def test_limits_are_proposed_by_the_history_of_a_prometheus(tmp_path: Path) -> None:
    with serve() as agent, prometheus(tmp_path, [agent.address]) as url:
        begin = time.time()
        for state, tokens in ((semconv.RUNNING, 400), (semconv.COMPLETED, 1000)):
            agent.show(shown(state, tokens))
            agent.wait_until_asked(4)
        done = subprocess.run(
            [sys.executable, "-m", "otel_budget", "suggest", "limits", "--by", "workflow", "--json",
             "--prometheus", url, "--from", f"{begin:.3f}", "--to", f"{time.time():.3f}"],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    (group,) = found["groups"]
    assert (found["open"], group["workflow"], group["ends"]) == (1, "nightly", {"completed": 10})
    assert group["resources"]["tokens"]["proposed"] == 1300
    assert group["resources"]["duration"]["proposed"] == 76
    assert "run 'run-10' has no end: it counts" in done.stderr
