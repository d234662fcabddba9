"""Real processes that are stopped (SIGSTOP) for longer than anybody waits, and go on."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from otel_budget import semconv
from tests.support.exposition import line, page, serve
from tests.support.figures import note
from tests.support.processes import SidecarProcess, agent, sidecar, until

RUN = "frozen"
#: Seconds. A run is stopped for want of data after 2 s of silence: once stale, and once held.
STALE, HOLD, LEASE = 1.5, 0.5, 1.0
FROZEN = 3.0


def configuration(folder: Path, **scrape: Any) -> Path:
    """Write a configuration that has little patience; return its path."""
    path = folder / "sidecar.yaml"
    settings = {
        "source": {"scrape": {"interval": "200ms", **scrape}},
        "resource_limits": {"max_tokens": 1_000_000},
        "verdicts": {"hold": f"{HOLD}s", "stale_after": f"{STALE}s", "lease": f"{LEASE}s"},
        "listen": {"address": "127.0.0.1:0"},
        "storage": {"path": str(folder / "sidecar.db")},
    }
    path.write_text(json.dumps(settings))
    return path


def changes(process: SidecarProcess, action: str) -> int:
    """Return how often its log says that a run is to do this."""
    return process.said().count(f": {action} (")


def freeze(*processes: Any, seconds: float) -> None:
    """Stop processes, and let them go on."""
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)


def judged_since(process: SidecarProcess, moment: float) -> dict[str, Any] | None:
    """Return the verdict if its data are newer than this."""
    found = process.verdict(RUN)
    if found is None or found["data_at"] is None:
        return None
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment))
    return found if found["data_at"] > at else None


def test_a_sidecar_that_was_stopped_stops_nobody(tmp_path: Path) -> None:
    """Its runs went on, and are fresh as soon as it reads again: no other verdict in between."""
    with serve() as endpoint:
        endpoint.show(page(line(semconv.SESSION_TOKENS, 5, RUN)))
        config = configuration(tmp_path, targets=[endpoint.url])
        with sidecar(tmp_path, config=config) as process:
            until(lambda: process.verdict(RUN))
            for _ in range(3):
                time.sleep(0.3)
                freeze(process.process, seconds=FROZEN)
                found = until(lambda: judged_since(process, time.time() - 1))
                assert (found["action"], found["status"], found["sequence"]) == (
                    "continue",
                    "ok",
                    1,
                )
            assert changes(process, "stop") == 0
            said = process.said()
            assert "this process did not run for 3." in said
            endpoint.show("")  # and one that is gone is still found to be
            gone_at = time.monotonic()
            stopped = until(lambda: changes(process, "stop"))
            took = time.monotonic() - gone_at
    assert stopped == 1
    note(
        "Never silently open",
        f"a sidecar stopped (SIGSTOP) for {FROZEN:g} s, three times, with a hold of {HOLD:g} s",
        f"no verdict changed; a run that was gone after that was stopped within {took:.1f} s",
    )


def test_what_a_stopped_sidecar_had_said_is_not_said_again_past_its_lease(tmp_path: Path) -> None:
    """Who asks first after it went on gets a fresh verdict, or none."""
    with serve() as endpoint:
        endpoint.show(page(line(semconv.SESSION_TOKENS, 5, RUN)))
        config = configuration(tmp_path, targets=[endpoint.url])
        with sidecar(tmp_path, config=config) as process:
            until(lambda: process.verdict(RUN))
            freeze(process.process, seconds=LEASE + 1)
            first = until(lambda: process.verdict(RUN))
            evaluated_at = first["evaluated_at"]
            limit = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() - LEASE))
            assert evaluated_at > limit


@pytest.mark.parametrize("who", ["agent", "both"])
def test_an_agent_that_was_stopped_itself_goes_on(tmp_path: Path, who: str) -> None:
    """The sidecar was there all the time, or is again: the agent listens before it judges.

    It was silent for longer than the sidecar waits, which says stop by then.
    """
    register = tmp_path / "targets"
    register.mkdir()
    config = configuration(tmp_path, file_sd=[str(register / "*.json")])
    with sidecar(tmp_path, config=config) as process, agent(
        RUN, register=str(register), sidecar=process.url, on_sidecar_loss="stop",
        steps=150, tokens=1, pause=0.03, limits={"max_api_calls": None},
    ) as running:  # fmt: skip
        until(lambda: process.verdict(RUN))
        time.sleep(0.5)
        frozen = [running.process] if who == "agent" else [running.process, process.process]
        freeze(*frozen, seconds=FROZEN)
        result = running.result()
        told = changes(process, "stop")
    assert (result["steps"], result["action"]) == (150, "continue")
    if who == "agent":
        assert told, "it was really silent for longer than that"


def test_an_agent_that_was_stopped_before_its_first_verdict_listens_for_it(tmp_path: Path) -> None:
    """For longer than that may take: it was judged meanwhile, and has not read that yet."""
    register = tmp_path / "targets"
    register.mkdir()
    config = configuration(tmp_path, file_sd=[str(register / "*.json")], interval="2s")
    with sidecar(tmp_path, config=config) as process, agent(
        RUN, register=str(register), sidecar=process.url, on_sidecar_loss="stop",
        first_verdict_timeout=3, steps=60, tokens=1, pause=0.03, limits={"max_api_calls": None},
    ) as running:  # fmt: skip
        until(lambda: f"{semconv.SUBSCRIBERS.name} 1.0" in process.metrics())
        freeze(running.process, seconds=7)
        result = running.result()
    assert (result["steps"], result["action"]) == (60, "continue")
