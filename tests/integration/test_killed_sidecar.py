"""A sidecar killed at any moment (SIGKILL) forgets nothing it said, and doubles nothing."""

from __future__ import annotations

import http.client
import json
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from otel_budget import semconv
from tests.support.exposition import Exposition, line, page, serve
from tests.support.figures import length, note
from tests.support.processes import until

RUNS = tuple(f"run-{number}" for number in range(5))
STARTED_AT = 1_700_000_000.25
_SEED = 20_261_125


class Agents:
    """Runs that spend all the time; at times one is restarted from its checkpoint."""

    def __init__(self, endpoint: Exposition, chance: random.Random) -> None:
        """Have spent nothing."""
        self._endpoint, self._chance = endpoint, chance
        self._counted, self._carried = dict.fromkeys(RUNS, 0), dict.fromkeys(RUNS, 0)
        self._incarnation = dict.fromkeys(RUNS, STARTED_AT)
        self._over, self.restarts = threading.Event(), 0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._spend, daemon=True)
        self.show()

    def used(self) -> dict[str, int]:
        """Return what each run has really used up to now."""
        with self._lock:
            return {run: self._carried[run] + self._counted[run] for run in RUNS}

    def show(self) -> None:
        """Let the endpoint show what is so now."""
        lines = []
        for run in RUNS:
            lines += [
                line(semconv.SESSION_TOKENS, self._counted[run], run, model="a"),
                line(semconv.SESSION_START, repr(STARTED_AT), run),
                line(semconv.INCARNATION_START, repr(self._incarnation[run]), run),
                line(
                    semconv.CARRIED_OVER, self._carried[run], run, resource="tokens", unit="tokens"
                ),
            ]
        self._endpoint.show(page(*lines))

    def _spend(self) -> None:
        while not self._over.wait(0.005):
            with self._lock:
                run = self._chance.choice(RUNS)
                self._counted[run] += self._chance.randint(0, 500)
                if self._chance.random() < 0.01:
                    self._carried[run] += self._counted[run]
                    self._counted[run] = 0
                    self._incarnation[run] += 1.0
                    self.restarts += 1
                self.show()

    @contextmanager
    def spending(self) -> Iterator[None]:
        """Spend until the end of the block."""
        self._thread.start()
        try:
            yield
        finally:
            self._over.set()
            self._thread.join()


class Heard:
    """The newest that was ever said of each run."""

    def __init__(self) -> None:
        """Have heard nothing."""
        self.used, self.sequence = dict.fromkeys(RUNS, -1), dict.fromkeys(RUNS, 0)
        self.gists: dict[int, object] = {}
        self.verdicts = 0

    def take(self, verdict: dict[str, Any]) -> None:
        """Hold a verdict against what was said before."""
        run, sequence = verdict["session_id"], verdict["sequence"]
        tokens = verdict["resources"].get("tokens", {"used": 0})["used"]
        assert tokens >= self.used[run], (
            f"{run} was said to have used {self.used[run]:,}: {verdict}"
        )
        assert sequence >= self.sequence[run], verdict
        gist = (run, verdict["action"], verdict["status"], verdict["reason"])
        assert self.gists.setdefault(sequence, gist) == gist, "one sequence, two verdicts"
        self.used[run], self.sequence[run] = tokens, sequence
        self.verdicts += 1


class Sidecar:
    """One life of the sidecar."""

    def __init__(self, config: Path, log: Path) -> None:
        """Start it; it need not get as far as to listen."""
        self.log = log
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "otel_budget", "sidecar", "--config", str(config)],
                stderr=out,
            )

    def port(self) -> int:
        """Wait until it listens."""
        pattern = r"listening on http://127\.0\.0\.1:(\d+)"
        found = until(lambda: re.search(pattern, self.log.read_text()), self.process)
        return int(found[1])

    def kill(self) -> None:
        """SIGKILL it."""
        self.process.kill()
        self.process.wait()


def ask(port: int, path: str) -> tuple[int, Any]:
    """Return the status and the JSON of an answer. Raises OSError or HTTPException."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def listen(port: int, heard: Heard, agents: Agents, seconds: float) -> None:
    """Ask for verdicts again and again; nothing but a connection that breaks may go wrong."""
    until_then = time.monotonic() + seconds
    while time.monotonic() < until_then:
        with suppress(OSError, http.client.HTTPException):
            status, body = ask(port, "/v1/verdicts")
            truth = agents.used()
            for verdict in body["verdicts"] if status == 200 else ():
                heard.take(verdict)
                tokens = verdict["resources"]["tokens"]["used"]
                assert tokens <= truth[verdict["session_id"]], "counted twice"


def test_a_sidecar_killed_again_and_again_loses_and_doubles_nothing(tmp_path: Path) -> None:
    kills = length(12, 200)
    chance = random.Random(_SEED)
    heard = Heard()
    during_start = 0
    with serve() as endpoint:
        agents = Agents(endpoint, random.Random(_SEED + 1))
        config = written(tmp_path, endpoint)
        with agents.spending():
            for number in range(kills):
                life = Sidecar(config, tmp_path / f"{number}.log")
                if chance.random() < 0.25:
                    time.sleep(chance.uniform(0.2, 0.9))  # it may be starting, or just have begun
                    during_start += 1
                    life.kill()
                    continue
                port = life.port()
                for run in RUNS:  # what was said before is there at once, whatever the source does
                    status, verdict = ask(port, f"/v1/verdicts/{run}")
                    assert status == 200 or heard.used[run] < 0, verdict
                    if status == 200:
                        heard.take(verdict)
                killer = threading.Timer(chance.uniform(0.0, 0.6), life.process.kill)
                killer.start()
                listen(port, heard, agents, 0.0)
                while life.process.poll() is None:
                    listen(port, heard, agents, 0.02)
                assert "Traceback" not in life.log.read_text(), life.log.read_text()
        assert_exact_at_the_end(config, tmp_path, heard, agents)
    note(
        "Nothing lost",
        f"{kills} SIGKILLs of the sidecar at random moments ({during_start} of them while it "
        f"started), {len(RUNS)} runs spending meanwhile, {agents.restarts} restarts of runs",
        f"{heard.verdicts:,} verdicts heard: none below an earlier one, none above the truth, "
        f"sequences go on; at the end {sum(heard.used.values()):,} tokens, exactly those used",
    )


def written(folder: Path, endpoint: Exposition) -> Path:
    """Write the configuration."""
    config = {
        "source": {"scrape": {"targets": [endpoint.url], "interval": "20ms"}},
        "resource_limits": {"max_tokens": 50_000},
        "listen": {"address": "127.0.0.1:0"},
        "storage": {"path": str(folder / "ledger.db")},
    }
    file = folder / "sidecar.yaml"
    file.write_text(json.dumps(config))
    return file


def assert_exact_at_the_end(config: Path, folder: Path, heard: Heard, agents: Agents) -> None:
    """Now that nothing is spent any more: the sidecar comes to know exactly what was."""
    life = Sidecar(config, folder / "last.log")
    try:
        port = life.port()

        def known() -> bool:
            listen(port, heard, agents, 0.01)
            return heard.used == agents.used()

        until(known, life.process)
    finally:
        life.kill()
    assert not list(folder.glob("*.damaged*"))
