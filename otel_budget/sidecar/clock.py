"""The sidecar's clock: Unix seconds that never jump while the process lives."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otel_budget.sources.base import Clock


def steady_clock() -> Clock:
    """Return a clock that is set by the system's once and goes on by itself from there.

    Somebody who sets the system's clock would otherwise end leases, age data and lengthen runs.
    """
    offset = time.time() - time.monotonic()
    return lambda: offset + time.monotonic()
