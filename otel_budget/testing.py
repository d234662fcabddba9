"""Fakes for the tests of those who use otel-budget: they honour the time they are given.

>>> from otel_budget import ResourceLimits, ResourceMonitor
>>> clock = FakeClock()
>>> monitor = ResourceMonitor(ResourceLimits(max_duration_seconds=60), clock=clock.clock)
>>> clock.advance(60)
>>> monitor.should_continue()
False
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_budget.core.reasons import Action, Reason
from otel_budget.core.verdict import LimitStatus, Verdict
from otel_budget.genai import replay
from otel_budget.sdk.clock import Clock

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike
    from typing import Any


class FakeClock:
    """Both clocks of an agent, moved by hand. Hand ``clock`` to ``ResourceMonitor``."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        """Begin at a Unix time in seconds; the monotonic clock begins at 0."""
        self.now, self.elapsed, self.slept = now, 0.0, 0.0
        self.clock = Clock(
            monotonic=lambda: self.elapsed,
            time=lambda: self.now,
            awake=lambda: self.elapsed - self.slept,
            mark=lambda: 0.0,
        )

    def advance(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        self.now += seconds
        self.elapsed += seconds

    def sleep(self, seconds: float) -> None:
        """Let time pass on both clocks while the machine sleeps, as a closed laptop does."""
        self.advance(seconds)
        self.slept += seconds

    def jump(self, seconds: float) -> None:
        """Put the wall clock forward or back; the monotonic clock does not notice."""
        self.now += seconds


def stop_verdict(
    session_id: str, *, message: str = "stopped by a test", **fields: object
) -> Verdict:
    """Return a sidecar's stop, to hand to code that reacts to verdicts."""
    values: dict[str, object] = {
        "status": LimitStatus.EXCEEDED,
        "reason": Reason.LIMIT_EXCEEDED,
        "resources": {},
        "evaluated_at": 0.0,
        "lease_seconds": 15.0,
        "sequence": 1,
        **fields,
    }
    return Verdict(session_id=session_id, action=Action.STOP, message=message, **values)  # type: ignore[arg-type]


def replay_spans(case: Mapping[str, Any] | str | PathLike[str]) -> dict[str, int]:
    """Return what the span processor counts of recorded spans, replayed in their order.

    case: a recording (docs/accuracy.md), or the path of a JSON file with one. What it needs is
    ``spans``, each with ``span``, ``parent``, ``name``, ``scope``, ``status``, ``attributes``,
    ``attributes_at_start``, ``start_order`` and ``end_order``.

    Keys of the result: ``input``, ``output``, ``cached``, ``cache_write``, ``reasoning`` (tokens),
    ``operations_ok``, ``operations_error`` and ``operations_ok_without_usage`` (calls).
    """
    return replay.replay(case)
