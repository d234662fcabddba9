"""The sidecar's clock: Unix seconds that never jump while the process lives."""

from __future__ import annotations

import sys
import time
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_budget.sources.base import Clock


def steady_clock() -> Clock:
    """Return a clock that is set by the system's once and goes on by itself from there.

    Somebody who sets the system's clock would otherwise end leases, age data and lengthen runs.
    """
    steady = _steady_seconds()
    offset = time.time() - steady()
    return lambda: offset + steady()


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
