"""The two clocks an agent reads, as one argument, so that tests can hand in another."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """monotonic: seconds that never jump. time: Unix seconds, which may."""

    monotonic: Callable[[], float] = time.monotonic
    time: Callable[[], float] = time.time


SYSTEM_CLOCK = Clock()
