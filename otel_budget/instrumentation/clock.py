"""The two clocks an agent reads, as one argument, so that tests can hand in another."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial


def steady_seconds() -> Callable[[], float]:
    """Return the clock that never jumps and goes on while the machine is suspended.

    ``time.monotonic`` stands still then on Linux, and a run's duration is wall-clock time.
    """
    if hasattr(time, "CLOCK_BOOTTIME"):
        return partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    return time.monotonic


_STEADY = steady_seconds()


@dataclass(frozen=True, slots=True)
class Clock:
    """monotonic: seconds that never jump. time: Unix seconds, which may."""

    monotonic: Callable[[], float] = _STEADY
    time: Callable[[], float] = time.time


SYSTEM_CLOCK = Clock()
