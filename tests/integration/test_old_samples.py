"""Pages that repeat what is over: a sample is as old as its timestamp, and a run as silent."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from otel_budget import semconv
from tests.support.exposition import line, page, serve
from tests.support.figures import note
from tests.support.processes import SidecarProcess, sidecar, until

HOLD = 1.0


@contextmanager
def judging(folder: Path, *targets: Any) -> Iterator[SidecarProcess]:
    """Run a sidecar on these targets, with little patience."""
    config = folder / "sidecar.yaml"
    settings = {
        "source": {"scrape": {"targets": targets, "interval": "200ms"}},
        "resource_limits": {"max_tokens": 1_000_000, "max_duration_seconds": 3600},
        "verdicts": {"hold": f"{HOLD}s", "stale_after": "2s"},
        "listen": {"address": "127.0.0.1:0"},
        "storage": {"path": str(folder / "sidecar.db")},
    }
    config.write_text(json.dumps(settings))
    with sidecar(folder, config=config) as process:
        yield process


def own(session_id: str, at: float, *, ran: float) -> str:
    """Return a page of ours that somebody repeats: each line with the time of its sample."""
    lines = [
        line(semconv.SESSION_TOKENS, 500_000, session_id),
        line(semconv.DURATION_SECONDS, ran, session_id),
        line(semconv.SESSION_START, at - ran, session_id),
        line(semconv.INCARNATION_START, at - ran, session_id),
        line(semconv.SESSION_STATE, 1, session_id, state="running"),
    ]
    text = page(*lines)
    stamp = f" {at * 1000:.0f}"
    return "".join(
        f"{each}{'' if not each or each.startswith('#') else stamp}\n"
        for each in text.split("\n")[:-1]
    )


def stopped(process: SidecarProcess, name: str) -> dict[str, Any] | None:
    """Return the verdict on a run if it is to stop."""
    found = process.verdict(name)
    return found if found and found["action"] == "stop" else None


def test_the_last_sample_of_an_agent_that_died_is_no_life(tmp_path: Path) -> None:
    """Of ours and of another program's: held, then stopped; and its duration goes on from then."""
    died_at = time.time() - 1800
    foreign = (
        "# TYPE claude_code_token_usage_tokens_total counter\n"
        'claude_code_token_usage_tokens_total{session_id="theirs",type="input"} 500000 '
        f"{died_at * 1000:.0f}\n"
    )
    with serve() as ours, serve() as theirs:
        ours.show(own("ours", died_at, ran=60))
        theirs.show(foreign)
        targets = (ours.url, {"url": theirs.url, "preset": "claude_code"})
        with judging(tmp_path, *targets) as process:
            for name, duration in (("ours", 1860), ("theirs", 1800)):
                first = until(partial(process.verdict, name))
                assert first["status"] == "inconclusive"
                stop = until(partial(stopped, process, name))
                assert stop["reason"] == "stale_data"
                used = stop["resources"]["duration"]["used"]
                assert duration <= used < duration + 30
    note(
        "Never silently open",
        "a page repeats the last sample of an agent that died half an hour ago, with its "
        "timestamp: ours and another program's",
        "stale from the first reading, held, then stopped; the duration goes on from the sample",
    )


def test_a_page_that_is_kept_after_its_agent_died_is_no_life(tmp_path: Path) -> None:
    """As a Pushgateway keeps it, without any timestamp: its times do not go on."""
    lines = (
        line(semconv.SESSION_TOKENS, 500_000, "kept"),
        line(semconv.DURATION_SECONDS, 3597, "kept"),
        line(semconv.ACTIVE_SECONDS, 3597, "kept"),
        line(semconv.SESSION_START, time.time() - 3597, "kept"),
        line(semconv.SESSION_STATE, 1, "kept", state="running"),
    )
    with serve() as gateway:
        gateway.show(page(*lines))
        with judging(tmp_path, gateway.url) as process:
            assert until(partial(process.verdict, "kept"))["action"] == "continue"
            stop = until(partial(stopped, process, "kept"))
    assert stop["reason"] == "limit_exceeded"
    assert stop["resources"]["duration"]["used"] >= 3600


def test_who_writes_the_present_time_on_each_line_stays_fresh(tmp_path: Path) -> None:
    """As exporters of .NET do; also where its clock is an hour behind."""
    with serve() as right, serve() as behind, judging(tmp_path, right.url, behind.url) as process:
        until_then = time.monotonic() + 5
        while time.monotonic() < until_then:
            right.show(own("right", time.time(), ran=60))
            behind.show(own("behind", time.time() - 3600, ran=60))
            time.sleep(0.05)
            for name in ("right", "behind"):
                found = process.verdict(name)
                assert found is None or (found["action"], found["status"]) == ("continue", "ok")
                if found:
                    assert 60 <= found["resources"]["duration"]["used"] < 70
        assert process.verdict("right")
        assert process.verdict("behind")
