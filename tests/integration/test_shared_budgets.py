"""Budgets that real runs share, while each sidecar that judges them is killed again and again.

Twenty runs in five processes, three nested budgets (everyone, team, user), a family over two of the
processes. One sidecar scrapes them, another asks a Prometheus that does. Both are SIGKILLed all the
time, also while a window ends; both say the same in the end, and have booked every token once.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from otel_budget.core.reasons import Reason
from otel_budget.sidecar.storage.sqlite.storage import open_sqlite
from tests.support.figures import length, note
from tests.support.ports import free_port
from tests.support.processes import until
from tests.support.prometheus_process import JOB, prometheus

pytestmark = pytest.mark.real("prometheus")

#: Carries some runs, and uses of each what it is told to; nobody stops it.
AGENT = """
import json, sys
from otel_budget import ResourceLimits, ResourceMonitor, serve_metrics

told = json.loads(sys.argv[1])
serve_metrics("127.0.0.1", told["port"])
runs = {
    name: ResourceMonitor(
        ResourceLimits.only(**one["limits"]), name, workflow="shared", scope=one["scope"],
        parent=one["parent"],
    )
    for name, one in told["runs"].items()
}
print("ready", flush=True)
for line in sys.stdin:
    for name, operations in json.loads(line).items():
        for _ in range(operations):
            runs[name].record_operation(
                input_tokens=100, cache_read_tokens=40, output_tokens=20, reasoning_tokens=5,
                api_call=True,
            )
    print("done", flush=True)
"""
#: Tokens of one operation, and what they count for a user: (60 + 0.1 * 40 + 2 * 15 + 5).
TOKENS, WEIGHED = 120, 99
RUNS = tuple(f"r{number:02}" for number in range(20))
#: Run to its parent: in the same process, in another one, and a child of a child.
PARENTS = {"r12": "r11", "r16": "r11", "r13": "r12"}
#: The parent's own limit, for all of them together.
FAMILY_TOKENS = 1500
#: Seconds for which both sidecars have to hear of two phases, before it ends.
WINDOW = 20.0
#: Of both sidecars together.
KILLS = length(50, 400)
BUDGETS = [
    {"name": "everyone", "window": "total", "limits": {"max_tokens": 14_900}},
    {
        "name": "team", "match": {"team": "*"}, "per": ["team"], "limits": {"max_tokens": 4000},
        "window": {"every": f"{WINDOW:g}s", "from": "first_use"},
    },
    {
        "name": "user", "per": ["tenant", "user"], "window": {"rolling": "24h"},
        "limits": {"max_tokens": 2400}, "weights": {"cache_read": 0.1, "output": 2},
    },
]  # fmt: skip

Said = tuple[Any, ...]
OK: Said = ("continue", "ok", Reason.WITHIN_LIMITS, None)


def team_of(run: str) -> str:
    return "a" if int(run[1:]) < 10 else "b"


def user_of(run: str) -> str:
    return f"u{int(run[1:]) % 5}"


def exceeded(origin: str) -> Said:
    """Return the verdict on a run at a limit."""
    return "stop", "exceeded", Reason.LIMIT_EXCEEDED, origin


BY_USER = exceeded("budget:user{tenant=acme,user=u0}")
BY_TEAM = exceeded("budget:team{team=a}")
BY_ALL = exceeded("budget:everyone")
#: One run's operations in each phase: it goes on when both sidecars have heard of all before.
USES: tuple[dict[str, int], ...] = (
    {run: 4 if user_of(run) == "u0" else 1 for run in RUNS},
    {run: 3 for run in RUNS if team_of(run) == "a" and user_of(run) != "u0"},
    {run: 4 if user_of(run) == "u0" else 1 for run in RUNS},
    {"r12": 5},
    {run: 2 for run in RUNS if user_of(run) != "u0"},
)


def wanted(phase: int, run: str) -> Said:
    """Return the verdict that follows from what was used up to a phase, and no other one."""
    by_user = user_of(run) == "u0"
    if phase == 1 and team_of(run) == "a":
        return BY_TEAM
    if phase >= 3 and run == "r11":
        return exceeded("session")
    if phase == 3 and run in PARENTS:
        return "stop", "", Reason.PARENT_STOPPED, "parent:r11"
    if phase == 4:
        return BY_ALL
    return BY_USER if phase >= 2 and by_user else OK


class Agents:
    """The processes of all runs."""

    def __init__(self, stack: ExitStack) -> None:
        """Start them, four runs in each."""
        self.ports = [free_port() for _ in range(5)]
        self.processes = [stack.enter_context(self._agent(n)) for n in range(5)]

    @contextmanager
    def _agent(self, number: int) -> Iterator[subprocess.Popen[str]]:
        runs = {
            run: {
                "scope": {"team": team_of(run), "user": user_of(run), "tenant": "acme"},
                "limits": {"max_tokens": FAMILY_TOKENS} if run == "r11" else {},
                "parent": PARENTS.get(run),
            }
            for run in RUNS[4 * number : 4 * number + 4]
        }
        told = json.dumps({"port": self.ports[number], "runs": runs})
        process = subprocess.Popen(
            [sys.executable, "-c", AGENT, told], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            self._hears(process, "ready")
            yield process
        finally:
            process.kill()
            process.communicate()

    @staticmethod
    def _hears(process: subprocess.Popen[str], word: str) -> None:
        assert process.stdout is not None
        assert process.stdout.readline() == f"{word}\n"

    @property
    def addresses(self) -> list[str]:
        """Where they are scraped."""
        return [f"127.0.0.1:{port}" for port in self.ports]

    def use(self, operations: Mapping[str, int]) -> None:
        """Have runs use something; return when they have."""
        for number, process in enumerate(self.processes):
            own = {run: n for run, n in operations.items() if int(run[1:]) // 4 == number}
            assert process.stdin is not None
            process.stdin.write(json.dumps(own) + "\n")
            process.stdin.flush()
        for process in self.processes:
            self._hears(process, "done")


class Killed:
    """A sidecar that is killed again and again, and started again at once."""

    def __init__(self, folder: Path, name: str, source: Mapping[str, Any]) -> None:
        """Do not start it yet."""
        self.name, self.storage = name, folder / f"{name}.db"
        self._address = f"127.0.0.1:{free_port()}"
        self._log, self._config = folder / f"{name}.log", folder / f"{name}.yaml"
        self._config.write_text(json.dumps({
            "source": source, "scope_labels": ["tenant"], "budgets": BUDGETS,
            "listen": {"address": self._address}, "storage": {"path": str(self.storage)},
        }))  # fmt: skip
        self._chance = random.Random(f"{name} 1")
        self.process: subprocess.Popen[bytes] | None = None
        self.kills = 0

    def start(self) -> None:
        """Start it; it need not get as far as to listen."""
        with self._log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "otel_budget", "sidecar", "--config", str(self._config)],
                stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def end(self, *, at_once: bool) -> None:
        """End it, by SIGKILL if at once."""
        if self.process is not None:
            (self.process.kill if at_once else self.process.terminate)()
            self.process.wait(60)

    def kill_until(self, over: threading.Event, times: int) -> None:
        """Kill it at any moments until that is over, and so often at least."""
        done = 0
        while done < times or not over.is_set():
            time.sleep(self._chance.uniform(0.05, 1.3))
            self.end(at_once=True)
            self.kills, done = self.kills + 1, done + 1
            self.start()

    def get(self, path: str) -> dict[str, Any] | None:
        """Return what it answers; None while it does not."""
        try:
            with urllib.request.urlopen(f"http://{self._address}{path}", timeout=5) as got:
                found: dict[str, Any] = json.load(got)
                return found
        except (OSError, urllib.error.HTTPError):
            return None

    def verdicts(self) -> dict[str, Said]:
        """Return what it says of each run; empty while it does not answer."""
        found = self.get("/v1/verdicts") or {"verdicts": []}
        return {
            v["session_id"]: (v["action"], v["status"], v["reason"], v["limit_from"])
            for v in found["verdicts"]
        }

    def used(self) -> dict[str, int]:
        """Return the tokens that each budget says were used in its present window."""
        found = self.get("/v1/budgets") or {"budgets": []}
        return {
            f"{one['name']} {','.join((one['group'] or {}).values())}".strip():
                one["resources"]["tokens"]["used"]
            for one in found["budgets"]
        }  # fmt: skip

    def log(self) -> str:
        """Return its log."""
        return self._log.read_text()


def says(side: Killed, phase: int) -> bool:
    """Tell whether a sidecar says of all runs what is wanted."""
    found = side.verdicts()
    return found.keys() == set(RUNS) and all(agrees(found[run], wanted(phase, run)) for run in RUNS)


def agrees(said: Said, want: Said) -> bool:
    """Tell whether a verdict is the wanted one; what a status is of a stopped descendant is its
    own use.
    """
    return (said[0], said[2], said[3]) == (want[0], want[2], want[3]) and want[1] in ("", said[1])


def heard_by(sides: list[Killed], phase: int) -> None:
    """Wait until all sidecars say what is wanted; fail with what they say."""
    for side in sides:
        try:
            until(lambda side=side: says(side, phase), side.process)  # type: ignore[misc] # this turn's
        except AssertionError:
            found = side.verdicts()
            wrong = {r: (found.get(r), wanted(phase, r)) for r in RUNS
                     if r not in found or not agrees(found[r], wanted(phase, r))}  # fmt: skip
            pytest.fail(f"{side.name}, phase {phase}: {wrong}\n{side.log()[-3000:]}")


@contextmanager
def killing(sides: list[Killed], times: int) -> Iterator[None]:
    """Kill all sidecars during the block, so often at least."""
    over = threading.Event()
    threads = [threading.Thread(target=one.kill_until, args=(over, times)) for one in sides]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def missing(sides: list[Killed]) -> int:
    """Return how often each has to be killed yet."""
    return max(2, KILLS // len(sides) - min(side.kills for side in sides))


def operations_of(phases: int, **of: str) -> int:
    """Return the operations in the first phases, of all runs or of those of a team or user."""
    return sum(
        n for use in USES[:phases] for run, n in use.items()
        if of.get("team", team_of(run)) == team_of(run)
        and of.get("user", user_of(run)) == user_of(run)
    )  # fmt: skip


def check_books(side: Killed) -> None:
    """Hold what a sidecar has booked against what was used."""
    used = side.used()
    assert used["everyone"] == TOKENS * operations_of(5)
    for number in range(5):
        user = f"u{number}"
        assert used[f"user acme,{user}"] == WEIGHED * operations_of(5, user=user), side.name
    side.end(at_once=False)
    storage, restored = open_sqlite(str(side.storage))
    try:
        closed = {team: storage.closed_windows("team", (team,), 100) for team in ("a", "b")}
    finally:
        storage.close()
    assert restored is not None
    for team in ("a", "b"):
        windows = sorted(closed[team], key=lambda one: one.start)
        sums = [int(window.used["tokens"]) for window in windows]
        assert sums[0] == TOKENS * operations_of(2, team=team), (side.name, sums)
        now = used.get(f"team {team}", 0)
        assert sum(sums) + now == TOKENS * operations_of(5, team=team), (side.name, sums, now)


def test_runs_of_five_processes_share_budgets_while_sidecars_are_killed(tmp_path: Path) -> None:
    """Each says the same, as it follows from what was used, and every token is in its window."""
    with ExitStack() as stack:
        agents = Agents(stack)
        server = stack.enter_context(prometheus(tmp_path, agents.addresses))
        targets = [f"http://{address}/metrics" for address in agents.addresses]
        sides = [
            Killed(tmp_path, "scrape", {"scrape": {"targets": targets, "interval": "500ms"}}),
            Killed(tmp_path, "asks", {"prometheus": {
                "url": server, "interval": "200ms", "matchers": [f'job="{JOB}"'],
            }}),
        ]  # fmt: skip
        for side in sides:
            stack.callback(side.end, at_once=False)
            side.start()
        for phase in (0, 1):
            agents.use(USES[phase])
            heard_by(sides, phase)
        with killing(sides, length(5, 60)):  # meanwhile the window of both teams ends
            time.sleep(WINDOW)
        for phase in (2, 3, 4):
            with killing(sides, length(2, 60) if phase < 4 else missing(sides)):
                agents.use(USES[phase])
            heard_by(sides, phase)
        for side in sides:
            check_books(side)
    kills = sum(side.kills for side in sides)
    assert kills >= KILLS
    note(
        "The sidecar dies",
        "20 runs in 5 processes, three nested budgets and a family; two sidecars, one that scrapes "
        f"and one that asks a Prometheus, SIGKILLed {kills} times",
        "the same verdicts from both, and every token once, in its window",
    )
