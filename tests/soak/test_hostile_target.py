"""A sidecar beside a hostile target and one that hangs: it stays as it is, and honest runs do too.

Six seconds in ``make test``, an hour in ``make soak-hostile``; OTEL_BUDGET_SOAK_SECONDS sets
another length.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from contextlib import ExitStack
from itertools import count
from pathlib import Path

from otel_budget import semconv
from tests.soak.agents import LIMIT, RUNS, Fleet
from tests.soak.test_soak import IN_TIME, Watch
from tests.support.exposition import line, page, serve
from tests.support.figures import length, note
from tests.support.http_server import serving
from tests.support.processes import SidecarProcess, sidecar, until
from tests.support.raw_server import serve_raw

SEED = 20_261_129
#: Runs that the hostile target makes up at each scrape, and those that it goes on with.
NEW, KEPT = 20, 10
#: Runs known at a target: the honest one has a hundred, and as many that ended of late.
LET_IN = 400
#: Bytes for the archive, and what of them counts as flat.
ARCHIVE, FLAT_DISK, FLAT_MEMORY = 8_000_000, 8_000_000, 25_000_000
#: Lines of the log in a third of the time, beyond as many as in the third before.
FLAT_LINES = 60


class Hostile:
    """A target that shows something else at each scrape, and speaks for others' runs."""

    def __init__(self) -> None:
        """Begin at the first scrape."""
        self._scrapes, self._made = count(), count()

    def answer(self, _path: str, _body: bytes) -> tuple[int, bytes]:
        """Answer a scrape."""
        number = next(self._scrapes)
        if number % 10 == 7:
            return 200, f"<html>{number} \x00 no metrics {{\n".encode()
        if number % 10 == 8:
            return 500 + number % 5, f"no luck, for the {number}th time\n".encode()
        if number % 10 == 9:
            return 200, b'otel_budget_tokens_total{session_id="' + b"x" * 100_000
        return 200, page(*self._lines(number)).encode()

    def _lines(self, number: int) -> list[str]:
        lines = [line(semconv.SESSION_TOKENS, 5, f"made-up-{next(self._made)}") for _ in range(NEW)]
        for kept in range(KEPT):
            run, start = f"kept-{kept}", repr(time.time() - 1 + kept / 100)
            lines += [
                line(semconv.SESSION_TOKENS, 1 + number % 7, run, **{f"label_{number}": "new"}),
                line(semconv.SESSION_START, start, run),
                line(semconv.INCARNATION_START, start, run),
            ]
        for honest in (f"soak-0-{n}" for n in range(1, RUNS, 10)):
            lines += [
                line(semconv.SESSION_TOKENS, 10**9, honest),
                line(semconv.INCARNATION_START, "253370764800", honest),
                line(semconv.SESSION_STATE, 1, honest, state="completed"),
            ]
        return lines


class Room(Watch):
    """Beside what a Watch sees: what is taken of disk and log, and who was harmed."""

    def __init__(self, process: SidecarProcess, fleet: Fleet, folder: Path) -> None:
        """Have seen nothing."""
        super().__init__(process, fleet)
        self._folder, self._crossed = folder, set[str]()
        self.disk: list[int] = []
        self.lines: list[int] = []
        self.harmed: set[str] = set()

    def look(self) -> None:
        """Look once."""
        super().look()
        self._crossed |= self._fleet.crossed().keys()
        honest = {run for run in self.stopped if run.startswith("soak-")}
        self.harmed |= honest - self._crossed
        self.disk.append(sum(f.stat().st_size for f in self._folder.glob("ledger.db*")))
        self.lines.append(self._process.said().count("\n"))


def hang(connection: socket.socket, over: threading.Event) -> None:
    """Take a request, and say nothing."""
    connection.recv(1)


def test_honest_runs_beside_a_hostile_target_and_one_that_hangs(tmp_path: Path) -> None:
    """Each is stopped in time, none without cause; memory, disk and log stay as they are."""
    seconds = int(os.environ.get("OTEL_BUDGET_SOAK_SECONDS") or length(6, 3600))
    with ExitStack() as stack:
        honest = stack.enter_context(serve())
        hostile = stack.enter_context(serving(Hostile().answer, kind="text/plain"))
        hanging = stack.enter_context(serve_raw(hang))
        fleet = Fleet([honest], SEED)
        bound = {"url": honest.url, "sessions": ["soak-0-*"]}
        targets = [bound, f"{hostile}/metrics", f"http://{hanging}/metrics"]
        config = {
            "source": {"scrape": {"targets": targets, "interval": "1s", "session_limit": LET_IN}},
            "resource_limits": {"max_tokens": LIMIT},
            "verdicts": {"hold": "30s", "forget_after": "2m"},
            "listen": {"address": "127.0.0.1:0"},
            "storage": {
                "path": str(tmp_path / "ledger.db"),
                "archive_size": f"{ARCHIVE // 10**6}MB",
            },
        }
        (tmp_path / "sidecar.yaml").write_text(json.dumps(config))
        process = stack.enter_context(sidecar(tmp_path, config=tmp_path / "sidecar.yaml"))
        until(lambda: process.verdict("soak-0-1"))
        room = Room(process, fleet, tmp_path)
        fleet.start()
        stack.callback(fleet.stop)
        until_then, every = time.monotonic() + seconds, 0.5 if seconds < 60 else 2.0
        while time.monotonic() < until_then:
            room.look()
            time.sleep(every)
        time.sleep(IN_TIME)
        room.look()
        used = cpu_seconds(process.process.pid)
        assert "Traceback" not in process.said(), process.said()
    assert_flat(room, fleet, seconds, used)


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def assert_flat(room: Room, fleet: Fleet, seconds: int, used: float) -> None:
    """Hold what was seen against what is to be."""
    assert room.stopped, "nothing was stopped at all"
    assert not room.late, f"stops that did not come within {IN_TIME:g} s: {sorted(room.late)}"
    assert not room.harmed, f"stopped without a cause: {sorted(room.harmed)}"
    third = len(room.lines) // 3
    memory = [size for _, size in room.memory]
    early, late = max(memory[third : 2 * third]), max(memory[2 * third :])
    disk = max(room.disk[third : 2 * third]), max(room.disk[2 * third :])
    lines = (room.lines[2 * third] - room.lines[third], room.lines[-1] - room.lines[2 * third])
    assert late < early + FLAT_MEMORY, (early, late)
    assert disk[1] < disk[0] + FLAT_DISK, disk
    assert lines[1] < lines[0] + FLAT_LINES, lines
    mega = 1_000_000
    note(
        "Tried by machines",
        f"soak beside a hostile target: {seconds} s, {RUNS} honest runs at a time, {fleet.made:,} "
        f"in all; beside them one target that shows {NEW} new runs, {KEPT} new starts, new labels, "
        "errors, and others' runs as completed, and one that hangs",
        f"{len(room.stopped):,} runs stopped, none later than {IN_TIME:g} s, none without a cause; "
        f"memory at most {early / mega:.0f} MB in the second third, {late / mega:.0f} MB in the "
        f"last; storage {disk[0] / mega:.1f} MB, then {disk[1] / mega:.1f} MB; {lines[0]} lines of "
        f"log, then {lines[1]}; {used / seconds:.0%} of a processor",
    )
