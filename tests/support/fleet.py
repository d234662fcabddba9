"""A whole fleet for real: processes with runs, a sidecar process, a Prometheus that scrapes them.

Shared by all tests that look at dashboards and alerts; it takes some fifteen seconds, once. Of two
moments everything is known: ``healthy_at``, when all was well, and ``troubled_at``, when every kind
of trouble was there.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import yaml

from tests.support.paths import ROOT
from tests.support.processes import sidecar, until
from tests.support.prometheus_process import prometheus
from tests.support.query import Prometheus

RULES = ROOT / "deploy" / "prometheus" / "otel-budget.rules.yaml"
#: All scrape and tick intervals here.
INTERVAL = "0.2s"
#: Seconds after which every scrape that began before has ended, in one way or the other.
_SETTLED = 0.5
#: Targets that missed no scrape since before the rules ran last: what misses one has no series.
_ANSWERING = "min_over_time(up[2s]) == 1"
#: What a sidecar that is too busy to read tells of its source, and nothing then of a run's data.
_BUSY = 'otel_budget_sidecar_source_up == 0 or ALERTS{alertname="OtelBudgetSourceDown"}'
#: A run in good health, one that nobody judges, and what is wrong with the others, by session id.
CLEAN, UNJUDGED = "clean-1", "unjudged-1"
LIMITS = {
    "max_tokens": 2_000_000,
    "max_api_calls": 100,
    "max_cost_usd": 5,
    "max_duration_seconds": 3600,
    "max_active_seconds": 3600,
    "max_tool_calls": 1_000_000,
}
_TOKEN = "an-operators-token-of-the-fleet"  # noqa: S105 - of a test
#: Budgets that the runs share: one in shadow that is used up when there is trouble, one with more
#: groups than it may have then, one that is low, one that is used up. None ends while they run.
BUDGETS: list[dict[str, Any]] = [
    {"name": "all", "mode": "shadow", "per": ["workflow"],
     "window": {"every": "5h", "from": "first_use"},
     "limits": {"max_tokens": 700_000, "max_cost_usd": 5}},
    {"name": "agents", "match": {"agent": "*"}, "per": ["agent"], "groups_max": 1,
     "window": {"every": "5h", "from": "first_use"},
     "limits": {"max_tokens": 10**12, "max_cost_usd": 1000}},
    {"name": "low", "match": {"user": "near"}, "window": "total",
     "limits": {"max_tokens": 500_000}},
    {"name": "spent", "title": "Used up", "match": {"user": "over"}, "window": {"rolling": "24h"},
     "limits": {"max_tokens": 350_000}},
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fleet:
    """What there is to look at."""

    prometheus: Prometheus
    healthy_at: float
    troubled_at: float
    began_at: float
    sidecar: str
    """URL."""


class Worker:
    """A process with runs."""

    def __init__(self, register: Path, sidecar_url: str | None) -> None:
        """Start it; nothing runs in it yet."""
        options = {"register": str(register), "sidecar": sidecar_url, "seen_after": 0.5}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.fleet_process", json.dumps(options)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.metrics = self._said()["metrics"]

    def begin(self, *runs: dict[str, Any]) -> None:
        """Have runs replayed."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(runs) + "\n")
        self.process.stdin.flush()

    def done(self) -> None:
        """Wait until they are."""
        self._said()

    def kill(self) -> None:
        """SIGKILL it."""
        self.process.kill()
        self.process.communicate()

    def _said(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found


@contextmanager
def fleet(folder: Path) -> Iterator[Fleet]:
    """Run a fleet until every kind of trouble was seen; its Prometheus then goes on alone."""
    judged, unjudged = folder / "judged", folder / "unjudged"
    for place in (judged, unjudged):
        place.mkdir()
    began_at = time.time()
    with ExitStack() as stack, ExitStack() as running:
        side = running.enter_context(sidecar(folder, config=_configuration(folder, judged)))
        main, lost, alone = (
            Worker(judged, side.url), Worker(judged, side.url), Worker(unjudged, None),
        )  # fmt: skip
        for worker in (main, lost, alone):
            running.callback(worker.kill)
        url = stack.enter_context(
            prometheus(
                folder,
                jobs=scrape_jobs(side.url, judged, unjudged),
                more={"rule_files": [str(short_rules(folder))]},
            )
        )
        server = Prometheus(url)
        _moment(server, answering=4)
        main.begin(*_clean(folder))
        main.done()
        time.sleep(1)
        healthy_at = _moment(server, answering=4)
        _top_up(side.url)
        lost.begin({"session_id": "lost-1", "limits": LIMITS, "seconds": 0.5})
        alone.begin(
            {"session_id": UNJUDGED, "limits": LIMITS, "seconds": 1, "root": str(folder / "u")}
        )
        main.begin(*_troubled(folder))
        lost.done()
        time.sleep(1)
        lost.kill()
        main.done()
        alone.done()
        until(lambda: _trouble_is_seen(server))
        time.sleep(1)
        troubled_at = _moment(server, answering=3)  # one was killed
        seen = Fleet(server, healthy_at, troubled_at, began_at, side.url)
        running.close()  # what was scraped is all that is looked at; the tests have the processor
        yield seen


def _configuration(folder: Path, judged: Path) -> Path:
    """Write the sidecar's."""
    file, token = folder / "sidecar.yaml", folder / "admin-token"
    token.touch(0o600)
    token.write_text(_TOKEN)
    settings = {
        "source": {"scrape": {"file_sd": [f"{judged}/*.json"], "interval": INTERVAL}},
        "resource_limits": {"max_tokens": 1_000_000},
        "budgets": BUDGETS,
        "listen": {"address": "127.0.0.1:0", "admin_token_file": str(token)},
        "storage": {"path": str(folder / "sidecar.db")},
    }
    file.write_text(yaml.safe_dump(settings))
    return file


def _top_up(url: str) -> None:
    """Add a little to a budget."""
    asked = {
        "group": {"workflow": "coding"}, "amounts": {"max_tokens": 1000}, "reason": "a test",
        "by": "ann", "until": "reset",
    }  # fmt: skip
    headers = {
        "Authorization": f"Bearer {_TOKEN}", "Idempotency-Key": "one",
        "Content-Type": "application/json",
    }  # fmt: skip
    request = urllib.request.Request(
        f"{url}/v1/budgets/all/top-ups", json.dumps(asked).encode(), headers
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == HTTPStatus.CREATED


def _moment(server: Prometheus, *, answering: int) -> float:
    """Return a moment as of which so many targets answered: one may be too busy for a scrape.

    It has to be past for that: a scrape that had begun by then may fail yet. They also answered
    while the rules ran whose alerts are told then, and the sidecar was not too busy either.
    """
    moments: list[float] = []

    def all_answer() -> bool:
        moments.append(time.time())
        time.sleep(_SETTLED)
        answered = len(server.vector(_ANSWERING, moments[-1])) == answering
        return answered and not server.vector(_BUSY, moments[-1])

    until(all_answer)
    return moments[-1]


def short_rules(folder: Path) -> Path:
    """Write the shipped rules, evaluated as often as is scraped."""
    rules = yaml.safe_load(RULES.read_text())
    for group in rules["groups"]:
        group["interval"] = "1s"
    file = folder / "rules.yaml"
    file.write_text(yaml.safe_dump(rules))
    return file


def scrape_jobs(sidecar_url: str, *folders: Path) -> list[dict[str, Any]]:
    """Return Prometheus's jobs for a sidecar and for what registers itself in the folders."""
    files = [f"{folder}/*.json" for folder in folders]
    return [
        {"job_name": "workers", "file_sd_configs": [{"files": files}]},
        {"job_name": "otel-budget-sidecar",
         "static_configs": [{"targets": [sidecar_url.removeprefix("http://")]}]},
    ]  # fmt: skip


def _clean(folder: Path) -> list[dict[str, Any]]:
    owners = {"team": "core", "project": "p1", "user": "ann", "agent": "coder"}
    return [
        {"session_id": CLEAN, "scope": owners, "limits": LIMITS, "root": str(folder / "clean")},
        {"session_id": "clean-2", "recording": "codex", "workflow": "research",
         "scope": {"team": "search"}, "limits": LIMITS, "share": 0.5},
    ]  # fmt: skip


def _troubled(folder: Path) -> list[dict[str, Any]]:
    (folder / "file").write_text("no folder")
    return [
        {"session_id": "near-1", "limits": {**LIMITS, "max_tokens": 500_000}, "progress": False,
         "scope": {"user": "near", "agent": "writer"}},
        {"session_id": "over-1", "limits": {**LIMITS, "max_tokens": 300_000},
         "scope": {"user": "over"}},
        {"session_id": "doubt-1", "recording": "codex", "limits": LIMITS, "doubtful": True,
         "root": str(folder / "file")},
    ]  # fmt: skip


def _trouble_is_seen(server: Prometheus) -> bool:
    statuses = {row["metric"]["status"] for row in server.vector("otel_budget_verdict_info")}
    return {"ok", "approaching", "exceeded", "inconclusive"} <= statuses
