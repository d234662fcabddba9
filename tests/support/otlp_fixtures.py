"""OTLP requests that real agents pushed, and what was served to them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from otel_budget.presets.loader import shipped
from otel_budget.sources.otlp.decoding import JSON, PROTOBUF
from otel_budget.sources.otlp.pushed_runs import PushedRuns, Taken

FOLDER = Path(__file__).parent.parent / "agents" / "fixtures"
PEER = "127.0.0.1"


@dataclass(frozen=True)
class Request:
    """One body that was pushed."""

    path: str
    """``/v1/metrics`` or ``/v1/logs``."""
    body: bytes
    content_type: str

    @property
    def is_logs(self) -> bool:
        """True if it has log records."""
        return self.path == "/v1/logs"

    def push(self, to: PushedRuns, now: float, peer: str = PEER) -> Taken:
        """Have it taken in."""
        take = to.take_logs if self.is_logs else to.take_metrics
        return take(self.body, self.content_type, peer, now)


@dataclass(frozen=True)
class Case:
    """One recorded run."""

    name: str
    """Agent and case, such as ``codex/delta_pb``."""
    requests: tuple[Request, ...]
    expected: dict[str, Any]

    @property
    def session_id(self) -> str:
        """The agent's own."""
        return str(self.expected["session_id"])


def case(name: str) -> Case:
    """Return a recorded run."""
    folder = FOLDER / name
    requests = tuple(
        Request(
            "/v1/" + path.stem.rpartition("_")[2],
            path.read_bytes(),
            JSON if path.suffix == ".json" else PROTOBUF,
        )
        for path in sorted(folder.glob("*_v1_*"))
    )
    return Case(name, requests, json.loads((folder / "expected.json").read_text()))


def pushed_runs(boot: str = "boot-1", *run_attributes: str) -> PushedRuns:
    """Return a receiver's state with the presets of the package."""
    return PushedRuns(tuple(shipped().values()), boot=boot, run_attributes=run_attributes)


CASES = (
    "claude_code/cumulative_json",
    "claude_code/delta_grpc",
    "claude_code/delta_pb",
    "claude_code/resumed_pb",
    "codex/delta_pb",
    "codex/interrupted_pb",
    "gemini_cli/cumulative_json",
)
