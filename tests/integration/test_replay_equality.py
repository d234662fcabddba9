"""One history, judged live and replayed: the verdicts are the same, whichever way it is told.

Real agent processes, a sidecar that scrapes them, a Prometheus that scrapes them, a sidecar that
asks that one; then ``otel-budget replay`` from the Prometheus, from traces that the agents wrote
themselves, and from the trace that the replay wrote.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from otel_budget.core.reasons import Reason
from tests.support.ports import free_port
from tests.support.processes import SidecarProcess, sidecar, until
from tests.support.prometheus_process import JOB, prometheus

pytestmark = pytest.mark.real("prometheus")

#: Waits to be told to go, uses what it is told to, says so in a trace, and is there for a while.
AGENT = """
import json, sys, time
from otel_budget import ResourceLimits, ResourceMonitor, serve_metrics

told = json.loads(sys.argv[1])
serve_metrics("127.0.0.1", told["port"])
trace = open(told["trace"], "w", encoding="utf-8")
print("ready", flush=True)
sys.stdin.readline()

def say(**what):
    trace.write(json.dumps({"t": time.time(), "session_id": told["id"], **what}) + "\\n")
    trace.flush()

say(start=True, limits=told["limits"], labels={"workflow": "equality", **told["scope"]})
monitor = ResourceMonitor(
    ResourceLimits.only(**told["limits"]), told["id"], workflow="equality", scope=told["scope"]
)
with monitor:
    for _ in range(told["steps"]):
        monitor.record_operation(tokens=told["tokens"], api_call=True)
        going = monitor.should_continue(told["progress"])
        progress = {} if told["progress"] is None else {"progress": told["progress"]}
        say(use={"tokens": told["tokens"], "api_calls": 1, "unpriced_calls": 1}, **progress)
        if not going:
            break
        time.sleep(0.15)
say(end="completed" if going else "stopped")
time.sleep(90)
"""

#: What each run does, and the verdicts that are to be given on it.
RUNS: Mapping[str, Mapping[str, Any]] = {
    "within": {"steps": 20},
    "exceeds-its-own": {"steps": 90, "limits": {"max_tokens": 3000}},
    "exceeds-the-ceiling": {"steps": 60},
    "stops-gracefully": {"steps": 90, "limits": {"max_tokens": 3000}, "progress": 0.3},
    "finishes": {"steps": 28, "limits": {"max_tokens": 3000}, "progress": 0.9},
    "shares-a-budget": {"steps": 25, "scope": {"team": "research"}},
    "shares-it-too": {"steps": 25, "scope": {"team": "research"}},
    "is-killed": {"steps": 10_000, "tokens": 1},
}
#: What the two that share use together is more, what each uses alone is less.
POOL: Mapping[str, Any] = {
    "name": "research", "match": {"team": "research"}, "window": "total",
    "limits": {"max_tokens": 3000},
}  # fmt: skip
OK = ("continue", "ok", Reason.WITHIN_LIMITS, None)


def approaching(origin: str) -> tuple[str, ...]:
    """Return the verdict on a run near a limit, and with an unknown progress."""
    return "continue", "approaching", Reason.APPROACHING_LIMIT_PROGRESS_UNKNOWN, origin


def exceeded(origin: str) -> tuple[str, ...]:
    """Return the verdict on a run at a limit."""
    return "stop", "exceeded", Reason.LIMIT_EXCEEDED, origin


EXPECTED: Mapping[str, list[Any]] = {
    "within": [OK],
    "exceeds-its-own": [OK, approaching("session"), exceeded("session")],
    "exceeds-the-ceiling": [OK, approaching("sidecar"), exceeded("sidecar")],
    "stops-gracefully": [OK, ("stop", "approaching", Reason.APPROACHING_LIMIT, "session")],
    "finishes": [OK, ("continue", "approaching", Reason.FINISHING, "session")],
    "shares-a-budget": [OK, approaching("budget:research"), exceeded("budget:research")],
    "shares-it-too": [OK, approaching("budget:research"), exceeded("budget:research")],
}
KILLED = "is-killed"

Sequences = dict[str, list[tuple[Any, ...]]]


def add(sequences: Sequences, said: Mapping[str, Any]) -> None:
    """Add a verdict to those on its run, unless it says what the one before it said."""
    verdicts = sequences.setdefault(said["session_id"], [])
    what = (said["action"], said["status"], said["reason"], said["limit_from"])
    if verdicts[-1:] != [what]:
        verdicts.append(what)


def follow(side: SidecarProcess, sequences: Sequences) -> None:
    """Take down what a sidecar says to who follows its stream."""
    with urllib.request.urlopen(f"{side.url}/v1/stream", timeout=60) as stream:
        try:
            for line in stream:
                if line.startswith(b"data: {"):
                    said = json.loads(line.removeprefix(b"data: "))
                    if "action" in said:
                        add(sequences, said)
        except OSError:
            return  # it has ended


class Agents:
    """The processes of all runs, which wait for each other."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        """Start them."""
        self.folder = folder
        self.ports = {name: free_port() for name in RUNS}
        self.processes = {name: stack.enter_context(self._agent(name)) for name in RUNS}

    @contextmanager
    def _agent(self, name: str) -> Iterator[subprocess.Popen[str]]:
        told = {
            "limits": {}, "scope": {}, "progress": None, "tokens": 100, **RUNS[name], "id": name,
            "port": self.ports[name], "trace": str(self.trace(name)),
        }  # fmt: skip
        process = subprocess.Popen(
            [sys.executable, "-c", AGENT, json.dumps(told)], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()
            process.communicate()

    @property
    def addresses(self) -> list[str]:
        """Where they are scraped."""
        return [f"127.0.0.1:{port}" for port in self.ports.values()]

    def trace(self, name: str) -> Path:
        """Return where a run writes its trace."""
        return self.folder / f"{name}.jsonl"

    def go(self) -> None:
        """Let all runs begin."""
        for process in self.processes.values():
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()

    def wait_until_over(self) -> None:
        """Wait until all have said that they end but the one that is killed."""
        for name in EXPECTED:
            until(lambda name=name: '"end"' in self.trace(name).read_text(), self.processes[name])  # type: ignore[misc] # the name of this turn


def config(folder: Path, name: str, source: Mapping[str, Any]) -> Path:
    """Write the configuration of a sidecar."""
    file = folder / f"{name}.yaml"
    data = {
        "source": source,
        "resource_limits": {"max_tokens": 5000},
        "verdicts": {"stale_after": "4s", "hold": "3s", "on_no_data": "stop"},
        "listen": {"address": f"127.0.0.1:{free_port()}"},
        "storage": {"path": str(folder / f"{name}.db")},
        "budgets": [POOL],
    }
    file.write_text(json.dumps(data))  # JSON is YAML
    return file


def replayed(file: Path, *flags: str) -> tuple[Sequences, dict[str, Any], str]:
    """Return the verdicts of a replay, its summary, and what it said."""
    command = [sys.executable, "-m", "otel_budget", "replay", "--config", str(file), "--json"]
    done = subprocess.run(
        [*command, *flags], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    sequences: Sequences = {}
    *changes, last = (json.loads(line) for line in done.stdout.splitlines())
    for change in changes:
        add(sequences, change)
    return sequences, last["summary"], done.stderr


def without_killed(sequences: Sequences) -> Sequences:
    """Return those on runs of which the end, or nothing at all, was heard."""
    return {name: verdicts for name, verdicts in sequences.items() if name != KILLED}


def is_decided(sequences: Sequences) -> bool:
    """Tell whether it was decided what comes of the run that was killed."""
    return "stop" in sequences.get(KILLED, [OK])[-1]


def test_live_and_replayed_verdicts_are_the_same(tmp_path: Path) -> None:
    scraped, asked = Sequences(), Sequences()
    with ExitStack() as stack:
        agents = Agents(tmp_path, stack)
        server = stack.enter_context(prometheus(tmp_path, agents.addresses))
        until(lambda: is_scraped(server))
        targets = [f"http://{address}/metrics" for address in agents.addresses]
        of_job = f'job="{JOB}"'
        sources: Mapping[str, Mapping[str, Any]] = {
            "scrape": {"scrape": {"targets": targets, "interval": "200ms"}},
            "asks": {"prometheus": {"url": server, "interval": "200ms", "matchers": [of_job]}},
        }
        files = {name: config(tmp_path, name, source) for name, source in sources.items()}
        for name, found in (("scrape", scraped), ("asks", asked)):
            side = stack.enter_context(sidecar(tmp_path, config=files[name]))
            threading.Thread(target=follow, args=(side, found), daemon=True).start()
        begin = time.time()
        agents.go()
        agents.wait_until_over()
        time.sleep(1)  # so that each has seen the ends
        agents.processes[KILLED].kill()
        until(lambda: is_decided(asked))
        written = tmp_path / "written.jsonl"
        history = ("--prometheus", server, f"--from={begin}", "--keep-going")
        past, summary, said = replayed(
            files["asks"], *history, "--to", "now", "--write-trace", str(written)
        )

    assert without_killed(scraped) == EXPECTED
    assert asked == past
    assert without_killed(past) == EXPECTED
    silent = ("source_error", "stale_data")
    assert [(v[0], v[2] in silent) for v in past[KILLED]][-1] == ("stop", True)
    assert (summary["runs"], summary["open"], summary["history"]["gaps"]) == (len(RUNS), 1, 0)
    assert KILLED in said

    own = [str(agents.trace(name)) for name in RUNS]
    told, summary_of_own, _ = replayed(files["asks"], "--traces", *own, "--keep-going")
    assert without_killed(told) == EXPECTED
    again, summary_again, _ = replayed(files["asks"], "--traces", str(written), "--keep-going")
    assert without_killed(again) == EXPECTED
    assert told[KILLED] == again[KILLED] == past[KILLED][:1]
    used = summary["used"]
    for other in (summary_of_own, summary_again):
        assert (other["runs"], other["open"]) == (len(RUNS), 1)
    assert summary_again["used"] == used
    for each in (summary, summary_of_own, summary_again):
        assert [(one["name"], one["used"]) for one in each["budgets"]] == [
            ("research", {"tokens": 5000})
        ]


def is_scraped(server: str) -> bool:
    """Tell whether a Prometheus has begun to scrape."""
    with urllib.request.urlopen(f"{server}/api/v1/query?query=up", timeout=5) as got:
        found: list[object] = json.load(got)["data"]["result"]
    return len(found) == len(RUNS)
