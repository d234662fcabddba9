"""What the sidecar's tests share: readings written by hand, a clock moved by hand, its parts."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from otel_budget import semconv
from otel_budget.core.observation import Observation, Problem, RunAttributes, RunObservation
from otel_budget.core.reasons import Action, Reason
from otel_budget.core.verdict import LimitStatus, ResourceState, Verdict
from otel_budget.policy.bounds import bounds_from
from otel_budget.policy.verdicts import Rules
from otel_budget.sidecar.api.broadcaster import VerdictBroadcaster
from otel_budget.sidecar.audit_trail import AuditTrail
from otel_budget.sidecar.evaluator import Evaluator
from otel_budget.sidecar.loop import Loop
from otel_budget.sidecar.metrics import SidecarMetrics
from otel_budget.sidecar.settings import Settings
from otel_budget.sidecar.storage.sqlite.storage import open_sqlite

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from otel_budget.ledger.freshness import Spell
    from otel_budget.sidecar.storage.sqlite.storage import SqliteStorage

START = 1_700_000_000.0
LEASE = 15.0
TARGET = "http://127.0.0.1:9464/metrics"


class SteadyClock:
    """The sidecar's clock, moved by hand."""

    def __init__(self, now: float = START) -> None:
        """Begin at a Unix time in seconds."""
        self.now = now

    def __call__(self) -> float:
        """Return the time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


def ceilings(**limits: int) -> Rules:
    """Return rules with ceilings by resource."""
    return Rules(ceilings=bounds_from(limits, {}, "sidecar"), lease=LEASE, revision="r1")


def session(
    session_id: str = "run-1",
    tokens: int = 0,
    *,
    at: float = START,
    started_at: float | None = START - 10,
    state: str = "running",
    limits: dict[str, Any] | None = None,
    **others: Any,
) -> RunObservation:
    """Return a run as a target shows it."""
    return RunObservation(
        session_id=session_id,
        target=TARGET,
        sampled_at=at,
        counters={(semconv.TOKENS, ""): tokens, (semconv.API_CALLS, ""): 1},
        attributes=RunAttributes(
            started_at=started_at,
            incarnation_at=started_at,
            limits=limits or {},
            duration=None if started_at is None else at - started_at,
            state=state,
        ),
        **others,
    )


def reading(*sessions: RunObservation, at: float = START, **others: Any) -> Observation:
    """Return a reading of a scrape source."""
    return Observation("scrape", at, sessions=sessions, **others)


def outage(at: float = START) -> Observation:
    """Return the reading of a source that cannot be reached."""
    problem = Problem("", Reason.SOURCE_ERROR, "connection refused")
    return Observation("scrape", at, problems=(problem,))


class Script:
    """A source that follows a script: readings, errors to raise, or None to hang."""

    def __init__(self, clock: SteadyClock, *steps: Observation | Exception | None) -> None:
        """Take the steps in order; past the last one, that one again, at the time it is then."""
        self._clock, self._steps = clock, deque(steps)
        self.reads = self.late_reads = 0
        self.late: deque[Observation] = deque()
        """What those give that were pending."""
        self.closed = False

    async def read(self) -> Observation:
        """Do the next step."""
        self.reads += 1
        step = self._steps.popleft() if len(self._steps) > 1 else self._steps[0]
        if step is None:
            await asyncio.Event().wait()
            raise AssertionError("unreachable")
        if isinstance(step, Exception):
            raise step
        now = self._clock()
        return replace(
            step, read_at=now, sessions=tuple(s._replace(sampled_at=now) for s in step.sessions)
        )

    async def read_late(self) -> Observation | None:
        """Give what was pending, or hang."""
        self.late_reads += 1
        if not self.late:
            await asyncio.Event().wait()
        return self.late.popleft()

    async def read_run(self, session_id: str) -> Observation | None:
        """Do the next step, if the source is one that can."""
        return await self.read() if self.reads_runs else None

    reads_runs = False

    async def close(self) -> None:
        """Note it."""
        self.closed = True


@dataclass
class Sidecar:
    """The parts of a sidecar without its process."""

    storage: SqliteStorage
    evaluator: Evaluator
    broadcaster: VerdictBroadcaster
    metrics: SidecarMetrics
    clock: SteadyClock
    source: Script
    loop: Loop
    waits: list[float] = field(default_factory=list)
    """Seconds the loop wanted to wait, in order."""
    spells: list[Spell] = field(default_factory=list)
    """When the process did not run, of what the loop has not asked for yet."""

    def freeze(self, seconds: float) -> None:
        """Let time pass in which the process does not run."""
        begin = self.clock.now
        self.clock.advance(seconds)
        self.spells.append((begin, self.clock.now))

    def absent(self) -> list[Spell]:
        """Return the spells since this was asked last."""
        spells, self.spells = self.spells, []
        return spells

    def metrics_page(self) -> str:
        """Return its exposition."""
        return self.metrics.exposition("")[0].decode()


def sidecar(
    folder: Path,
    *steps: Observation | Exception | None,
    rules: Rules | None = None,
    clock: SteadyClock | None = None,
    interval: float = 1.0,
    waits: int = 1000,
    freezes: Mapping[int, float] | None = None,
) -> Sidecar:
    """Build a sidecar on a store in a folder; ``loop.run`` stops after so many waits.

    freezes: the number of a wait to the seconds that the process is frozen in it, on top.
    """
    clock = clock or SteadyClock()
    storage, restored = open_sqlite(str(folder / "otel-budget.db"))
    broadcaster = VerdictBroadcaster(LEASE, clock)
    metrics = SidecarMetrics("1.2.3", clock, lambda: broadcaster.subscribers)
    source = Script(clock, *(steps or (reading(),)))
    settings = Settings("scrape", source, interval, rules or ceilings(tokens=1000), 3600.0)
    evaluator = Evaluator(storage, restored, clock(), audit=AuditTrail(restored, clock()))
    noted: list[float] = []

    async def wait(tasks: Collection[asyncio.Task[Any]], seconds: float) -> None:
        """Let ready tasks run; if none is done then, let the time pass."""
        noted.append(seconds)
        for _ in range(5):
            await asyncio.sleep(0)
        if not any(task.done() for task in tasks):
            clock.advance(max(0.0, seconds))
        if len(noted) in (freezes or {}):
            parts.freeze((freezes or {})[len(noted)])
        if len(noted) >= waits:
            loop.stop()

    def absent() -> list[Spell]:
        return parts.absent()

    loop = Loop(
        settings,
        evaluator=evaluator,
        broadcaster=broadcaster,
        metrics=metrics,
        clock=clock,
        wait=wait,
        absent=absent,
    )
    parts = Sidecar(storage, evaluator, broadcaster, metrics, clock, source, loop, noted)
    return parts


def verdict(
    session_id: str = "run-1",
    sequence: int = 1,
    *,
    at: float = START,
    action: Action = Action.CONTINUE,
    status: LimitStatus = LimitStatus.OK,
    tokens: int = 10,
    started_at: float | None = START - 10,
) -> Verdict:
    """Return a published verdict."""
    state = ResourceState(tokens, 1000, 1000 - tokens, tokens / 1000, status, "sidecar")
    return Verdict(
        session_id=session_id,
        action=action,
        status=status,
        reason=Reason.WITHIN_LIMITS,
        message=f"tokens at {tokens}",
        resources={semconv.TOKENS: state},
        evaluated_at=at,
        started_at=started_at,
        lease_seconds=LEASE,
        sequence=sequence,
    )


def events(chunks: Iterable[bytes]) -> list[dict[str, Any]]:
    """Return the verdicts in the chunks of a stream."""
    lines = b"".join(chunks).decode().splitlines()
    return [json.loads(text[6:]) for text in lines if text.startswith("data: ")]
