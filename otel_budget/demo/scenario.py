"""Runs over the two recordings, with limits that make each end in another way: three by themselves,
then three of which two share a budget that is enough for one of them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from otel_budget import ResourceLimits, ResourceMonitor
from otel_budget.core.reasons import Reason
from otel_budget.demo import recordings
from otel_budget.policy.format import amount, first_to_end, percent
from otel_budget.sdk.checkpoints.store import CheckpointFolder

if TYPE_CHECKING:
    from otel_budget.core.verdict import Verdict
    from otel_budget.demo.recordings import Call

#: Called with a run's name, a kind (``call``, ``approaching``, ``stop``, ``done``), and the news.
Say = Callable[[str, str, str], None]

#: Seconds between two looks of a run that waits whether Ctrl-C was pressed.
_LOOK = 0.1
#: Seconds that a run waits at its end for the sidecar to see it, which scrapes five times a second.
_LAST_SCRAPE = 1.0

#: The sidecar's ceiling on tokens, for every run; the runs do not know it.
CEILING_TOKENS = 290_000
#: US dollars, enough for each run. What the calls cost is today's list price.
COST_LIMIT = Decimal("0.60")
#: Recorded minutes that a run may take; more than each of them needs.
MINUTES = 24


@dataclass(frozen=True, slots=True)
class Plan:
    """One run to be replayed."""

    name: str
    recording: str
    max_tokens: int
    pace: float
    """Share of the demo's speed: the Codex run is shorter, so it is replayed more slowly."""
    expect: str
    """What there is to see."""
    workflow: str
    team: str


PLANS = (
    Plan(
        "nearly-done", "codex", 100_000, 0.35,
        "approaches its limit when nearly done, so it may finish",
        "review", "search",
    ),
    Plan(
        "own-limit", "claude", 240_000, 1.0,
        "approaches its own limit half-way, so it stops with what it has",
        "fix-bug", "billing",
    ),
    Plan(
        "sidecar-limit", "claude", 1_000_000, 1.0,
        f"has no limit below 1,000,000; the sidecar's ceiling is {CEILING_TOKENS:,}",
        "refactor", "billing",
    ),
)  # fmt: skip
#: The budget that two runs share: what they use together, whichever it is that uses it. From its
#: warning line on, the run goes on that can still finish within what is left.
BUDGET: Final[Mapping[str, Any]] = {
    "name": "research-demo", "match": {"team": "research"}, "window": "total",
    "limits": {"max_tokens": 240_000}, "warning_threshold": 0.65, "when_low": "finish_most",
}  # fmt: skip
SHARING = (
    Plan(
        "can-finish", "codex", 1_000_000, 0.4,
        "shares research-demo, a budget of 240,000 tokens; it can finish within what is left",
        "review", "research",
    ),
    Plan(
        "cannot-finish", "claude", 1_000_000, 1.0,
        "shares it, too, and cannot: it stops, so that the other one finishes",
        "refactor", "research",
    ),
    Plan(
        "on-its-own", "codex", 1_000_000, 0.5,
        "is of another team: none of this concerns it",
        "review", "search",
    ),
)  # fmt: skip
#: What each third of a run is taken to do; the recordings do not say.
PHASES = ("plan", "edit", "verify")


@dataclass
class Replay:
    """One run being replayed, as the screen sees it."""

    plan: Plan
    monitor: ResourceMonitor
    calls: list[Call]
    speed: float
    root: Path
    say: Say
    results: list[str] = field(default_factory=list)
    """The partial results: here, what each call did."""
    outcome: str = "running"
    checkpoint: Path | None = None
    verdict: Verdict | None = None
    finished: threading.Event = field(default_factory=threading.Event)

    def run(self, cancelled: threading.Event) -> None:
        """Replay the calls until they are done, the verdict is stop, or Ctrl-C is pressed."""
        try:
            self._replay(cancelled)
        finally:
            self.finished.set()

    def _replay(self, cancelled: threading.Event) -> None:
        with self.monitor:
            for number, call in enumerate(self.calls):
                if not self.monitor.should_continue(number / len(self.calls)):
                    break
                phase = PHASES[number * len(PHASES) // len(self.calls)]
                with self.monitor.phase(phase):
                    going = self._pause(call.began, cancelled) and self._call(call, cancelled)
                if not going:
                    break
            else:
                self.monitor.should_continue(1.0)
            self._end(cancelled)

    def _end(self, cancelled: threading.Event) -> None:
        """Close the run with what it has."""
        self.verdict = self.monitor.verdict
        self.monitor.keep_state({"results": self.results})
        done = len(self.results) == len(self.calls)
        self.outcome = "completed" if done else "stopped"
        self.monitor.close(self.outcome, _LAST_SCRAPE)
        if not done and self.verdict.should_continue and cancelled.is_set():
            self.outcome = "interrupted"
        self.checkpoint = CheckpointFolder(self.root, self.monitor.session_id).newest()
        news = f"{self.outcome} after {len(self.results)} of {len(self.calls)} calls"
        self.say(self.plan.name, "done" if done else "stop", news)

    def _pause(self, until: float, cancelled: threading.Event) -> bool:
        """Wait for the next call; False if a stop, or Ctrl-C, came first."""
        while not cancelled.is_set():
            left = self._seconds_until(until)
            if self.monitor.wait_for_stop(min(left, _LOOK)) is not None:
                return False
            if left <= _LOOK:
                return True
        return False

    def _call(self, call: Call, cancelled: threading.Event) -> bool:
        """Replay one model call as an operation with its recorded token counts.

        Returns False if it was cut short; what it used is unknown then.
        """
        with self.monitor.operation(model=call.model) as operation:
            if cancelled.wait(self._seconds_until(call.ended)):
                return False
            operation.record(
                input_tokens=call.input_tokens,
                output_tokens=call.output_tokens,
                cache_read_tokens=call.cache_read_tokens,
                cache_write_tokens=call.cache_write_tokens,
                reasoning_tokens=call.reasoning_tokens,
            )
        self.results.append(", ".join(call.tools) or "answer")
        tokens = call.input_tokens + call.output_tokens
        number = f"call {len(self.results)} of {len(self.calls)}"
        self.say(self.plan.name, "call", f"{number}: {tokens:,} tokens")
        return True

    def _seconds_until(self, moment: float) -> float:
        """Return real seconds until a moment of the recording (seconds since its beginning)."""
        return max(0.0, moment / self.speed - (time.monotonic() - self.started))

    def __post_init__(self) -> None:
        """Start the recording's clock."""
        self.started = time.monotonic()


def prepare(
    root: Path,
    sidecar: str,
    speed: float,
    say: Say,
    names: str = "demo-{}",
    *,
    plans: Sequence[Plan] = PLANS,
) -> list[Replay]:
    """Make the monitors of some runs. root: where their checkpoints go. names: their ids."""
    return [
        Replay(
            plan,
            ResourceMonitor(
                ResourceLimits(
                    max_duration_seconds=MINUTES * 60 / speed,
                    max_tokens=plan.max_tokens,
                    max_api_calls=20,
                    max_cost_usd=COST_LIMIT,
                    checkpoint_interval=60 / speed,
                ),
                session_id=names.format(plan.name),
                project_root=root,
                workflow=plan.workflow,
                scope={"team": plan.team, "project": "demo"},
                sidecar=sidecar,
                on_verdict=lambda verdict, name=plan.name: say(name, *_news(verdict)),  # type: ignore[misc]
            ),
            recordings.load(plan.recording),
            speed * plan.pace,
            root,
            say,
        )
        for plan in plans
    ]


def _news(verdict: Verdict) -> tuple[str, str]:
    """Return the kind of news that a verdict is, and half a line about it."""
    name, worst = max(
        verdict.resources.items(), key=lambda item: item[1].ratio or 0.0, default=("", None)
    )
    where = ""
    if worst is not None and worst.ratio is not None and worst.limit is not None:
        left = first_to_end(verdict)
        rest = f", {left}" if left else ""
        where = f"{name} at {percent(worst.ratio)} of {amount(name, worst.limit)}{rest}: "
    where = _of_budget(verdict) or where
    at = "" if verdict.progress is None else f"progress {percent(verdict.progress)}: "
    if verdict.lease_seconds is not None:
        return str(verdict.action), f"{where}{verdict.action}, says the sidecar"
    if verdict.reason == Reason.APPROACHING_LIMIT:
        return "stop", f"{at}stops, and keeps its results"
    if verdict.reason == Reason.FINISHING:
        return "done", f"{at}nearly done, so it may finish"
    if verdict.should_continue:
        return "approaching", f"{where}approaching the limit"
    return "stop", f"{where}stop ({verdict.reason})"


def _of_budget(verdict: Verdict) -> str:
    """Return how the shared budget stands that a verdict is by; empty if it is by none."""
    for budget in verdict.budgets:
        if budget.binds:
            ratio = max((resource.ratio for resource in budget.resources.values()), default=0.0)
            return f"{budget.name} at {percent(ratio)}: "
    return ""
