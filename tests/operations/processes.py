"""The processes of an operator's hour: batch jobs, a rogue, a job that runs again, a server."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Runs that follow one another and end in order: calls of so many tokens, a pause after each.
JOB = """
import json, sys, time
from otel_budget import ResourceLimits, ResourceMonitor, serve_metrics

o = json.loads(sys.argv[1])
serve_metrics(port=o["port"], register=o["register"], scrape_wait=o["scrape_wait"])
for number in range(o["runs"]):
    name = o["session_id"].format(number)
    limits = ResourceLimits(**o["limits"])
    with ResourceMonitor(limits, name, sidecar=o["sidecar"], workflow=o["workflow"],
                         scope={"team": o["team"]}) as monitor:
        for _ in range(o["calls"]):
            if o["obeys"] and not monitor.should_continue():
                break
            monitor.record_operation(tokens=o["tokens"], api_call=True)
            time.sleep(o["pause"])
"""


@dataclass(frozen=True, slots=True)
class Job:
    """One process. calls, tokens: of each of its runs. pause: seconds after each call."""

    session_id: str
    """With ``{}`` in it for the number of the run."""
    calls: int
    tokens: int
    pause: float
    runs: int = 1
    port: int = 0
    sidecar: str | None = None
    scrape_wait: float | None = None
    workflow: str = "nightly"
    team: str = "research"
    obeys: bool = True
    max_tokens: int = 1_000_000

    def start(self, register: Path) -> subprocess.Popen[bytes]:
        """Start it. register: the folder for its file_sd entry."""
        options: dict[str, Any] = {
            name: getattr(self, name) for name in self.__slots__ if name != "max_tokens"
        }
        options |= {"register": str(register), "limits": {"max_tokens": self.max_tokens}}
        return subprocess.Popen([sys.executable, "-c", JOB, json.dumps(options)])

    def used(self) -> dict[str, int]:
        """Return the tokens each of its runs has used at its end, if none is stopped."""
        return {self.session_id.format(n): self.calls * self.tokens for n in range(self.runs)}
