"""Three runs over the two recordings, with limits chosen so that each ends in another way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from otel_budget import ResourceLimits, ResourceMonitor
from otel_budget.demo import trace
from otel_budget.instrumentation.checkpoint import CheckpointFolder

if TYPE_CHECKING:
    from otel_budget.demo.trace import Call
    from otel_budget.model.verdict import Verdict

#: The sidecar's ceiling on tokens, for every run. No run knows of it.
CEILING_TOKENS = 290_000


@dataclass(frozen=True, slots=True)
class Plan:
    """One run to be replayed."""

    name: str
    recording: str
    max_tokens: int
    pace: float
    """Share of the demo's speed: the Codex run is shorter, and is replayed more slowly."""
    expect: str
    """What is to be seen, for people."""


PLANS = (
    Plan(
        "nearly-done", "codex", 100_000, 0.35,
        "approaches its limit when nearly done, so it may finish",
    ),
    Plan(
        "own-limit", "claude", 240_000, 1.0,
        "approaches its own limit half-way, so it stops with what it has",
    ),
    Plan(
        "sidecar-limit", "claude", 1_000_000, 1.0,
        f"knows no limit below 1,000,000; the sidecar's ceiling is {CEILING_TOKENS:,}",
    ),
)  # fmt: skip


@dataclass
class Replay:
    """One run being replayed, as the screen sees it."""

    plan: Plan
    monitor: ResourceMonitor
    calls: list[Call]
    speed: float
    root: Path
    say: Callable[[str, str], None]
    """Called with the run's name and a line of news."""
    results: list[str] = field(default_factory=list)
    """The partial results: here, what each call did."""
    outcome: str = "running"
    checkpoint: Path | None = None
    verdict: Verdict | None = None

    def run(self, cancelled: threading.Event) -> None:
        """Replay the calls until they are done or the verdict is stop."""
        with self.monitor:
            for number, call in enumerate(self.calls):
                if not self.monitor.should_continue(number / len(self.calls)):
                    break
                # The pause before the next call (tools, a person): a stop ends it at once.
                stopped = self.monitor.wait_for_stop(self._seconds_until(call.began))
                if stopped is not None or cancelled.is_set():
                    break
                self._call(call, cancelled)
            else:
                self.monitor.should_continue(1.0)
            self.verdict = self.monitor.verdict
            self.monitor.keep_state({"results": self.results})
            self.outcome = "completed" if len(self.results) == len(self.calls) else "stopped"
            self.monitor.close(self.outcome)
        self.checkpoint = CheckpointFolder(self.root, self.monitor.session_id).newest()
        self.say(
            self.plan.name,
            f"{self.outcome} after {len(self.results)} of {len(self.calls)} calls",
        )

    def _call(self, call: Call, cancelled: threading.Event) -> None:
        """Replay one model call as an operation with its recorded token counts."""
        with self.monitor.operation(model=call.model) as operation:
            cancelled.wait(self._seconds_until(call.ended))
            operation.record(
                input_tokens=call.input_tokens,
                output_tokens=call.output_tokens,
                cache_read_tokens=call.cache_read_tokens,
                cache_write_tokens=call.cache_write_tokens,
                reasoning_tokens=call.reasoning_tokens,
            )
        self.results.append(", ".join(call.tools) or "answer")

    def _seconds_until(self, moment: float) -> float:
        """Return real seconds until a moment of the recording (seconds since its beginning)."""
        return max(0.0, moment / self.speed - (time.monotonic() - self.started))

    def __post_init__(self) -> None:
        """The recording's first moment is now."""
        self.started = time.monotonic()


def prepare(
    root: Path, sidecar: str, speed: float, say: Callable[[str, str], None]
) -> list[Replay]:
    """Make the monitors of the three runs. root: where their checkpoints go."""
    return [
        Replay(
            plan,
            ResourceMonitor(
                ResourceLimits(
                    max_duration_seconds=120,
                    max_tokens=plan.max_tokens,
                    max_api_calls=20,
                    checkpoint_interval=5,
                ),
                session_id=f"demo-{plan.name}",
                project_root=root,
                workflow="demo",
                sidecar=sidecar,
                on_verdict=lambda verdict, name=plan.name: say(name, _news(verdict)),  # type: ignore[misc]
            ),
            trace.load(plan.recording),
            speed * plan.pace,
            root,
            say,
        )
        for plan in PLANS
    ]


def _news(verdict: Verdict) -> str:
    origin = "sidecar" if verdict.lease_seconds is not None else "own limits"
    return f"{origin}: {verdict.action} ({verdict.reason}): {verdict.message}"
