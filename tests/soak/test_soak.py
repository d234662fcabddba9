"""A sidecar over a thousand runs that come and go, with faults all the time: it stays as it is.

Twenty seconds in ``make test``, ten minutes in ``make soak``.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import threading
import time
import urllib.request
from contextlib import ExitStack, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

from tests.soak.agents import LIMIT, RUNS, TARGETS, Fleet
from tests.support.exposition import serve
from tests.support.figures import length, note
from tests.support.processes import SidecarProcess, sidecar, until

SEED = 20_261_125
STREAMS = 20
#: Seconds within which a run that shows its limit must have its stop, scraped every second; and as
#: long after a fault of its target, or of the sidecar.
IN_TIME = 5.0
FAULTS = ("hangs up", "garbage")


class Watch:
    """What is seen of the sidecar from outside."""

    def __init__(self, process: SidecarProcess, fleet: Fleet) -> None:
        """Have seen nothing."""
        self._process, self._fleet = process, fleet
        self.stopped: dict[str, float] = {}
        """When each run's stop was first seen."""
        self.late: set[str] = set()
        self.memory: list[tuple[float, int]] = []
        self.files: list[int] = []
        self.disturbed_at = 0.0

    def look(self) -> None:
        """Look once."""
        now = time.monotonic()
        with suppress(OSError):  # it was frozen just now
            for session_id in exceeded(self._process.url):
                self.stopped.setdefault(session_id, now)
        for session_id, (crossed_at, fault_at) in self._fleet.crossed().items():
            since = max(crossed_at, fault_at, self.disturbed_at)
            if session_id not in self.stopped and now - since > IN_TIME:
                self.late.add(session_id)
        pid = self._process.process.pid
        status = Path(f"/proc/{pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        self.memory.append((now, int(found[1]) * 1024))
        self.files.append(len(os.listdir(f"/proc/{pid}/fd")))  # noqa: PTH208 - names suffice


def exceeded(url: str) -> list[str]:
    """Return the runs that are to stop for a limit."""
    found: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        after = f"&cursor={cursor}" if cursor else ""
        address = f"{url}/v1/verdicts?status=exceeded&limit=1000{after}"
        with urllib.request.urlopen(address, timeout=5) as answer:
            page: dict[str, Any] = json.load(answer)
        found += [verdict["session_id"] for verdict in page["verdicts"]]
        cursor = page["next_cursor"]
    return found


def follow(url: str, over: threading.Event, slow: float) -> None:
    """Read the stream, again whenever it ends. slow: seconds between two reads."""
    while not over.is_set():
        with (
            suppress(OSError, HTTPException),
            urllib.request.urlopen(f"{url}/v1/stream", timeout=10) as stream,
        ):
            while not over.is_set() and stream.read1(65_536):
                time.sleep(slow)
        time.sleep(0.1)


def disturb(process: SidecarProcess, fleet: Fleet, watch: Watch, chance: random.Random) -> str:
    """Do one bad thing; return what."""
    kind = chance.choice(["target", "target", "reload", "freeze", "rush"])
    if kind == "target":
        number, fault = chance.randrange(TARGETS), chance.choice(FAULTS)
        fleet.fault(number, fault)
        time.sleep(chance.uniform(0.5, 3.0))
        fleet.fault(number, "")
    elif kind == "reload":
        process.process.send_signal(signal.SIGHUP)
    elif kind == "freeze":
        process.process.send_signal(signal.SIGSTOP)
        time.sleep(chance.uniform(0.2, 2.0))
        process.process.send_signal(signal.SIGCONT)
        watch.disturbed_at = time.monotonic()
    else:
        for _ in range(50):  # clients that come, ask and go without a word
            with suppress(OSError), urllib.request.urlopen(f"{process.url}/metrics", timeout=5):
                pass
    return kind


def test_a_thousand_runs_come_and_go(tmp_path: Path) -> None:
    seconds = length(20, 600)
    chance = random.Random(SEED)
    with ExitStack() as stack:
        endpoints = [stack.enter_context(serve()) for _ in range(TARGETS)]
        fleet = Fleet(endpoints, SEED)
        config = {
            "source": {"scrape": {"targets": [e.url for e in endpoints], "interval": "1s"}},
            "resource_limits": {"max_tokens": LIMIT},
            "listen": {"address": "127.0.0.1:0"},
            "storage": {"path": str(tmp_path / "ledger.db")},
        }
        (tmp_path / "sidecar.yaml").write_text(json.dumps(config))
        process = stack.enter_context(sidecar(tmp_path, config=tmp_path / "sidecar.yaml"))
        until(lambda: process.verdict("soak-0-1"))
        watch = Watch(process, fleet)
        fleet.start()
        stack.callback(fleet.stop)
        over = threading.Event()
        stack.callback(over.set)
        for number in range(STREAMS):
            slow = 0.5 if number % 5 == 0 else 0.0
            threading.Thread(target=follow, args=(process.url, over, slow), daemon=True).start()
        faults = soak(process, fleet, watch, chance, seconds)
        assert "Traceback" not in process.said(), process.said()
    assert_flat(watch, fleet, faults, seconds)


def soak(
    process: SidecarProcess, fleet: Fleet, watch: Watch, chance: random.Random, seconds: int
) -> int:
    """Let it run; return the number of faults."""
    until_then = time.monotonic() + seconds
    over, faults = threading.Event(), 0

    def look() -> None:
        while not over.wait(0.5):
            watch.look()

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    while time.monotonic() < until_then:
        disturb(process, fleet, watch, chance)
        faults += 1
        left = until_then - time.monotonic()
        if watch.memory:
            print(
                f"soak: {left:4.0f} s left, {faults} faults, {fleet.made:,} runs, "
                f"{len(watch.stopped):,} stopped, {watch.memory[-1][1] / 1e6:.0f} MB, "
                f"{watch.files[-1]} files",
                flush=True,
            )
        time.sleep(min(max(0.0, left), chance.uniform(0.5, 2.0)))
    time.sleep(IN_TIME)
    over.set()
    looking.join()
    return faults


def assert_flat(watch: Watch, fleet: Fleet, faults: int, seconds: int) -> None:
    """Hold what was seen against what is to be."""
    assert watch.stopped, "nothing was stopped at all"
    assert not watch.late, f"stops that did not come within {IN_TIME:g} s: {sorted(watch.late)}"
    third = len(watch.memory) // 3
    early = max(size for _, size in watch.memory[third : 2 * third])
    late = max(size for _, size in watch.memory[2 * third :])
    most_files = (max(watch.files[third : 2 * third]), max(watch.files[2 * third :]))
    assert late < early + 25_000_000, (early, late)
    assert most_files[1] <= most_files[0] + STREAMS, most_files
    mega = 1_000_000
    note(
        "Tried by machines",
        f"soak: {seconds} s, {TARGETS} targets with {RUNS} runs each scraped every second, "
        f"{fleet.made:,} runs in all, {STREAMS} streams, {faults} faults (targets that hang up or "
        "show garbage, reloads, SIGSTOP, rushes of clients)",
        f"{len(watch.stopped):,} runs stopped, none later than {IN_TIME:g} s; memory at most "
        f"{early / mega:.0f} MB in the second third, {late / mega:.0f} MB in the last; at most "
        f"{most_files[0]} files open, then {most_files[1]}",
    )
