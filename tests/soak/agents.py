"""Ten targets with a hundred runs each that come, spend, cross their limit and go; and faults."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field

from otel_budget import semconv
from tests.support.exposition import Exposition, line, page

TARGETS, RUNS, LIMIT = 10, 100, 10_000
#: Seconds between two changes of what a target shows.
PACE = 0.5
#: Seconds a run that has crossed its limit is still shown: it stops gracefully.
LINGER = 20.0


@dataclass
class Run:
    """One run."""

    session_id: str
    began: float
    rate: float
    """Tokens per second."""
    tokens: float = 0.0
    crossed_at: float | None = None
    """Monotonic time at which it first showed its limit."""


@dataclass
class Target:
    """One endpoint and its runs."""

    number: int
    endpoint: Exposition
    chance: random.Random
    runs: dict[str, Run] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    """Lines of runs that have just ended."""
    fault: str = ""
    last_fault_at: float = 0.0
    made: int = 0

    def begin(self) -> None:
        """Let a run begin."""
        self.made += 1
        session_id = f"soak-{self.number}-{self.made}"
        quick = self.chance.random() < 0.2
        rate = self.chance.uniform(300, 2000) if quick else self.chance.uniform(0, 8)
        self.runs[session_id] = Run(session_id, time.time(), rate)

    def step(self) -> None:
        """Let time pass: runs spend, some end, others begin, and what is shown follows."""
        now, self.gone = time.monotonic(), self.gone[-20:]
        for run in list(self.runs.values()):
            run.tokens += run.rate * PACE
            over = run.crossed_at is not None and now - run.crossed_at > LINGER
            if over or self.chance.random() < 0.0005:
                del self.runs[run.session_id]
                self.gone += self._lines(run, "stopped" if over else "completed")
        while len(self.runs) < RUNS:
            self.begin()
        self.show()

    def show(self) -> None:
        """Show what is so, or what the present fault shows."""
        if self.fault:
            self.last_fault_at = time.monotonic()
        if self.fault == "hangs up":
            self.endpoint.show(None)
            return
        if self.fault == "garbage":
            self.endpoint.show("<html>\x00 no metrics {\n")
            return
        lines = [*self.gone]
        for run in self.runs.values():
            lines += self._lines(run, "running")
        self.endpoint.show(page(*lines))
        now = time.monotonic()
        for run in self.runs.values():
            if run.tokens >= LIMIT and run.crossed_at is None:
                run.crossed_at = now

    @staticmethod
    def _lines(run: Run, state: str) -> list[str]:
        start = repr(round(run.began, 3))
        return [
            line(semconv.SESSION_TOKENS, int(run.tokens), run.session_id),
            line(semconv.SESSION_START, start, run.session_id),
            line(semconv.INCARNATION_START, start, run.session_id),
            line(semconv.SESSION_STATE, 1, run.session_id, state=state),
        ]


class Fleet:
    """All targets, driven by one thread."""

    def __init__(self, endpoints: list[Exposition], seed: int) -> None:
        """Begin with all runs at 0."""
        self.targets = [
            Target(number, endpoint, random.Random(seed + number))
            for number, endpoint in enumerate(endpoints)
        ]
        self.lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        for target in self.targets:
            target.step()

    def start(self) -> None:
        """Let time pass."""
        self._thread.start()

    def stop(self) -> None:
        """Let it stand still."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._over.wait(max(0.0, due - time.monotonic())):
            due += PACE
            with self.lock:
                for target in self.targets:
                    target.step()

    def crossed(self) -> dict[str, tuple[float, float]]:
        """Return runs past their limit: when they crossed it, and their target's last fault."""
        with self.lock:
            return {
                run.session_id: (run.crossed_at, target.last_fault_at)
                for target in self.targets
                for run in target.runs.values()
                if run.crossed_at is not None
            }

    def fault(self, number: int, kind: str) -> None:
        """Let a target fail in a way; empty: no more."""
        with self.lock:
            self.targets[number].fault = kind
            self.targets[number].show()

    @property
    def made(self) -> int:
        """Return the number of runs so far."""
        return sum(target.made for target in self.targets)
