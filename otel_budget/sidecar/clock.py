"""The sidecar's clock: Unix seconds that never jump while the process lives."""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from otel_budget.ledger import moments

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_budget.ledger.run import RunTotals
    from otel_budget.sources.base import Clock

#: Seconds by which the system's clock may drift before it is taken to have been set.
CLOCK_SET = 2.0


def steady_clock() -> Clock:
    """Return a clock that is set by the system's once and goes on by itself from there.

    Setting the system's clock would otherwise end leases, age data and lengthen runs.
    """
    steady = _steady_seconds()
    offset = time.time() - steady()
    return lambda: offset + steady()


class Boot(NamedTuple):
    """A moment of the time that goes on between processes, however the system's clock is set."""

    machine: str = ""
    """Names what the seconds count from; empty if nothing does."""
    seconds: float = 0.0

    @classmethod
    def now(cls) -> Boot:
        """Return the present one."""
        try:
            machine = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            return cls()
        return cls(machine, _steady_seconds()()) if hasattr(time, "CLOCK_BOOTTIME") else cls()

    def since(self, before: Boot) -> float | None:
        """Return the seconds since another moment; None if unknown."""
        same = bool(self.machine) and self.machine == before.machine
        return self.seconds - before.seconds if same else None


def _steady_seconds() -> Callable[[], float]:
    """Return the clock that goes on while the machine sleeps: the monotonic one may stand.

    Runs of other machines go on, and so does the wall-clock duration of those of this one.
    """
    if hasattr(time, "CLOCK_BOOTTIME"):
        return partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    if sys.platform == "darwin":
        # There CLOCK_MONOTONIC goes on, and is not what time.monotonic reads.
        return partial(time.clock_gettime, time.CLOCK_MONOTONIC)
    return time.monotonic


def move(run: RunTotals, seconds: float) -> None:
    """Put a run, and its overrides, on a clock that is ahead of the one they are on."""
    moments.move(run, seconds)
    run.overrides = run.overrides.moved(seconds)
