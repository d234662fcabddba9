"""Agents under a budget: by ``otel-budget run``, with a sidecar of the test's own to be asked."""

from __future__ import annotations

import json
import re
import time
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import yaml

from tests.support.ports import free_port
from tests.support.processes import sidecar

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.agents.home import Done, Home
    from tests.support.processes import SidecarProcess

#: Seconds that a push or an end may take to come in.
_SETTLES = 10


@dataclass(frozen=True, slots=True)
class Counted:
    """What the sidecar has of a run."""

    tokens: int
    calls: int
    cost: Decimal


@dataclass(frozen=True, slots=True)
class Judge:
    """A sidecar with a receiver."""

    process: SidecarProcess
    receiver: str

    @property
    def url(self) -> str:
        """Return where its API is."""
        return self.process.url

    @property
    def env(self) -> dict[str, str]:
        """Return what has ``otel-budget run`` and hooks find it."""
        return {"OTEL_BUDGET_SIDECAR_URL": self.url, "BUDGET_SIDECAR_URL": self.url}

    def counted(self, run: str) -> Counted:
        """Return what was counted of a run so far; zeros for one that nobody knows."""
        verdict = self.process.verdict(run) or {"resources": {}}
        used = {name: each["used"] for name, each in verdict["resources"].items()}
        cost = Decimal(str(used.get("cost", 0)))
        return Counted(used.get("tokens", 0), used.get("api_calls", 0), cost)

    def settled(self, run: str, tokens: int, calls: int) -> Counted:
        """Return what was counted of a run, once it is that much, or cannot get there any more."""
        end = time.monotonic() + _SETTLES
        while True:
            counted = self.counted(run)
            if (counted.tokens, counted.calls) == (tokens, calls) or time.monotonic() > end:
                return counted
            time.sleep(0.1)

    def runs(self) -> set[str]:
        """Return all runs it knows."""
        return {
            each["session_id"] for each in json.loads(self.process.get("/v1/verdicts"))["verdicts"]
        }


@contextmanager
def judging(folder: Path, **further: Any) -> Iterator[Judge]:
    """Run a sidecar with a receiver. further: of its configuration."""
    port = free_port()
    config = {
        "source": {"otlp": {"address": f"127.0.0.1:{port}"}},
        "listen": {"address": f"127.0.0.1:{free_port()}"},
        "storage": {"path": str(folder / "sidecar.db")},
        **further,
    }
    file = folder / "sidecar.yaml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    with sidecar(folder, config=file) as process:
        yield Judge(process, f"http://127.0.0.1:{port}")


@dataclass(frozen=True, slots=True)
class Run:
    """What became of ``otel-budget run``."""

    done: Done
    summary: dict[str, Any]

    @property
    def code(self) -> int:
        """Return its exit status."""
        return self.done.code


def run_of(
    home: Home, *options: str, program: tuple[str, ...], env: dict[str, str] | None = None
) -> Run:
    """Run a program under ``otel-budget run`` with these options."""
    file = home.folder / f"summary-{time.monotonic_ns()}.json"
    command = ("otel-budget", "run", *options, "--summary-json", str(file), "--", *program)
    done = home.run(*command, env=env, timeout=90)
    summary = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return Run(done, summary)


def session_of(agent: str, done: Done) -> str:
    """Return the agent's own id of its session, by what it printed."""
    if agent == "codex":
        return str(json.loads(done.out.splitlines()[0])["thread_id"])
    return str(json.loads(re.sub(r"^[^{]*", "", done.out))["session_id"])
