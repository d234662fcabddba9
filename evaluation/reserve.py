"""Would the last call have fitted? A reserve of so many calls, tried under many limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from evaluation.cases import every_call
from evaluation.scores import quantile
from otel_budget.core.resources import quantity_of
from otel_budget.ledger.call_pace import CallPace

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from evaluation.cases import Sample
    from evaluation.runs import Run
    from otel_budget.core.quantities import Number

#: Calls that a reserve is as large as.
CALLS: Final = (1, 2, 3)
#: Limits, as shares of what the run used in all.
_LIMITS: Final = tuple(percent / 100 for percent in range(50, 101, 2))


def tried(runs: Iterable[Run], resource: str) -> list[dict[str, Any]]:
    """Return per size of the reserve how often it was enough, and what of the limit was left over.

    A run is told to stop after the first call that leaves no more than the reserve: so many times
    what the next call is forecast to use. Its last call is as large as the one it went on with.
    """
    walks = [(every_call(run), _sizes(run, resource)) for run in runs]
    records = []
    for calls in CALLS:
        left = [
            _left(samples, sizes, resource, share, calls)
            for samples, sizes in walks
            for share in _LIMITS
        ]
        enough = sorted(share for share in left if share is not None)
        records.append({
            "resource": resource, "calls": calls, "asked": len(left), "enough": len(enough),
            "unused": round(quantile(enough, 0.5), 4),
            "unused_p90": round(quantile(enough, 0.9), 4),
        })  # fmt: skip
    return records


def _sizes(run: Run, resource: str) -> list[float]:
    """Return what the next call is forecast to use, after each call."""
    pace, sizes = CallPace(), []
    for sample in every_call(run):
        pace.observe(sample.totals, sample.at)
        told = pace.next_call(resource)
        sizes.append(0.0 if told is None else told.value)
    return sizes


def _left(
    samples: Sequence[Sample], sizes: Sequence[float], resource: str, share: float, calls: int
) -> float | None:
    """Return the share of the limit that is left over after the last call; None: it did not fit."""
    used = [sample.used(resource) for sample in samples]
    limit: Number = quantity_of(resource).from_sample(float(used[-1]) * share)
    for number, size in enumerate(sizes):
        remaining = float(limit) - float(used[number])
        if remaining < 0 or number + 1 == len(used):
            return None
        if remaining <= calls * size:
            over = float(limit) - float(used[number + 1])
            return over / float(limit) if over >= 0 else None
    return None
