"""The clocks an agent reads, as one argument, so that tests can hand in others.

While the machine sleeps (suspend, hibernation) wall-clock time goes on and work does not: what is
promised in wall-clock time is measured by ``monotonic``, what a run did by ``awake``. A process
alone that is frozen (SIGSTOP, a paused container) looks to both like one that waits for a slow
call; a virtual machine that is paused has no clock that goes on.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial


def steady_seconds() -> Callable[[], float]:
    """Return the clock that never jumps and goes on while the machine sleeps.

    ``time.monotonic`` stands still then on Linux and on macOS; on Windows it goes on.
    """
    if hasattr(time, "CLOCK_BOOTTIME"):
        return partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    if sys.platform == "darwin":
        # There CLOCK_MONOTONIC goes on, and is not what time.monotonic reads.
        return partial(time.clock_gettime, time.CLOCK_MONOTONIC)
    return time.monotonic


_STEADY, _AWAKE = steady_seconds(), time.monotonic


def process_mark() -> float:
    """Return less than a millisecond, another one for processes of a host that begin at once.

    Hundredths of a millisecond: a store of metrics that keeps 15 digits of a time keeps them.
    """
    return os.getpid() % 100 / 100_000


@dataclass(frozen=True, slots=True)
class Clock:
    """monotonic: seconds that never jump. time: Unix seconds, which may. awake: see above."""

    monotonic: Callable[[], float] = _STEADY
    time: Callable[[], float] = time.time
    awake: Callable[[], float] = _AWAKE
    """Like monotonic, but stands still while the machine sleeps (on Windows it cannot tell)."""
    mark: Callable[[], float] = process_mark
    """What is added to the start of a process, in seconds."""


SYSTEM_CLOCK = Clock()
