"""Did the last calls fit? What ``wrap_up_calls`` keeps back, tried under many limits.

The reserve is that of the policy. In the process it is asked for after each call; from scrapes by
the ledger's pace at each sample, and the call that is under way then is made before the run hears
of its stop. The recording goes on to the run's own end: its calls after the stop are taken for the
last ones, as large as they were.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from evaluation.cases import every_call, scrapes
from evaluation.contestants import paces_of_scrapes
from evaluation.measure import CALLS, SCRAPES
from evaluation.scores import quantile
from otel_budget.core.resources import quantity_of
from otel_budget.ledger.call_pace import CallPace
from otel_budget.policy.reserve import reserve_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from evaluation.cases import Sample
    from evaluation.runs import Run
    from otel_budget.core.quantities import Number

#: Calls that are kept back.
KEPT: Final = (1, 2, 3, 5)
#: Limits, as shares of what the run used in all.
_LIMITS: Final = tuple(percent / 100 for percent in range(50, 101, 2))
#: Calls that are under way when a run is told to stop.
_UNDER_WAY: Final = {CALLS: 0, SCRAPES: 1}


class _Walk(NamedTuple):
    """One run as it was seen."""

    calls: Sequence[Sample]
    """What was used after each call."""
    asked: Sequence[tuple[Sample, Mapping[int, float | None]]]
    """Each sample, with what is then kept back of the resource for so many calls; None: nothing."""
    under_way: int


class _End(NamedTuple):
    """How a run ended that was told to wrap up."""

    wanted: int
    """Calls that were kept back, or that it made until its own end if these are fewer."""
    fitted: int
    """How many of them fitted, one after the other."""
    unused: float
    """Share of the limit that is left after the last of them."""


def tried(runs: Sequence[Run], resource: str) -> list[dict[str, Any]]:
    """Return how often the last calls fitted, and what of the limit was left over.

    A record for each number of calls that are kept back, and each way to see the runs. ``one``:
    cases in which one last call fitted; ``all``: in which all fitted that were kept back.
    """
    records = []
    for seen in (CALLS, SCRAPES):
        walks = [_walk(run, number, resource, seen) for number, run in enumerate(runs)]
        for kept in KEPT:
            ends = [_end(walk, resource, share, kept) for walk in walks for share in _LIMITS]
            asked = [end for end in ends if end.wanted]
            unused = sorted(end.unused for end in asked if end.fitted)
            records.append({
                "resource": resource, "seen": seen, "calls": kept, "asked": len(asked),
                "one": sum(end.fitted > 0 for end in asked),
                "all": sum(end.fitted == end.wanted for end in asked),
                "unused": round(quantile(unused, 0.5), 4) if unused else None,
                "unused_p90": round(quantile(unused, 0.9), 4) if unused else None,
            })  # fmt: skip
    return records


def _walk(run: Run, number: int, resource: str, seen: str) -> _Walk:
    calls = every_call(run)
    paced = _paces(calls) if seen == CALLS else paces_of_scrapes(scrapes(run, number))
    asked = [
        (sample, {kept: reserve_of(resource, kept, pace) for kept in KEPT})
        for sample, pace in paced
    ]
    return _Walk(calls, asked, _UNDER_WAY[seen])


def _paces(samples: Iterable[Sample]) -> Iterator[tuple[Sample, CallPace]]:
    """Yield each sample with the pace as of it, which goes on: read it at once."""
    pace = CallPace()
    for sample in samples:
        pace.observe(sample.totals, sample.at)
        yield sample, pace


def _end(walk: _Walk, resource: str, share: float, kept: int) -> _End:
    """Return how a run ends that keeps calls back from a limit, a share of what it used in all.

    Where its own end comes with the call that is under way, it needs none of them: 0 are wanted.
    """
    calls = walk.calls
    total = calls[-1].used(resource)
    limit: Number = quantity_of(resource).from_sample(float(total) * share) if share < 1 else total
    made = len(calls)
    for sample, reserves in walk.asked:
        left, reserve = float(limit) - float(sample.used(resource)), reserves[kept]
        if left <= 0 or (reserve is not None and left < reserve):
            made = min(made, sample.calls + walk.under_way)
            break
    wanted = calls[made : made + kept]
    fitted = [one for one in wanted if one.used(resource) <= limit]
    after = fitted[-1] if fitted else calls[made - 1]
    unused = 1 - float(after.used(resource)) / float(limit)
    return _End(len(wanted), len(fitted), max(0.0, unused))
