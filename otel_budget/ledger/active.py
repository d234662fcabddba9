"""How long a run was active: what its processes say, going on by the reader's clock.

Each process says how long the run was active up to now, its predecessors included, and what of that
it carried over from a checkpoint. As with every total, each begins from the larger of what is known
and what it carried over. Of processes that ran at the same time a second counts once.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from otel_budget import semconv

if TYPE_CHECKING:
    from otel_budget.ledger.process import Process
    from otel_budget.ledger.run import RunTotals

#: The state in which the active time goes on.
_RUNNING = "running"
#: For so many usual gaps without a sample it goes on: a process nobody hears may be gone.
_GOES_ON_GAPS = 3.0


def active_of(run: RunTotals, now: float) -> tuple[float | None, float | None]:
    """Return how long a run was active, as of ``now`` and by its newest samples.

    Neither ever goes below what its samples showed before, whatever its targets say since.
    """
    heard = active_seconds(run, None)
    if heard is None:
        return None, None
    run.active_heard = heard = max(heard, run.active_heard)
    return max(active_seconds(run, now) or 0.0, heard), heard


def active_seconds(run: RunTotals, now: float | None) -> float | None:
    """Return how long a run was active as of ``now``, by its newest samples if that is None.

    None if no process of it says.
    """
    total, until = None, -math.inf
    row = sorted(run.processes.values(), key=lambda one: (one.place, -_start(one)))
    for one in row:
        goes_on = 0.0
        if now is not None and one.place == row[-1].place:
            goes_on = min(now - (one.attributes_at or now), _GOES_ON_GAPS * max(1.0, run.gap()))
        said = _said(one, goes_on)
        if said is None:
            continue
        own = max(0.0, said - float(one.attributes.carried_over.get(semconv.ACTIVE_DURATION, 0.0)))
        alone = own if one.place >= until else max(0.0, one.place + own - until)
        total = max(total or 0.0, _start(one)) + alone
        until = max(until, one.place + own)
    return total


def _start(process: Process) -> float:
    return float(process.carried_over.get(semconv.ACTIVE_DURATION, 0.0))


def _said(process: Process, goes_on: float) -> float | None:
    """Return what a process says. goes_on: seconds since it did, if it may be active still."""
    stated = process.attributes.active
    if stated is None or process.attributes.state != _RUNNING:
        return stated
    return stated + max(0.0, goes_on)
