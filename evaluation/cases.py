"""What is asked of a forecast, and what came: a run at a moment, under a limit.

A limit is a share of what the run used in all, so that the recording tells when it was reached. A
moment is the first sample at which a share of the limit is used. Nothing here knows how a forecast
is made.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget import semconv
from otel_budget.core.resources import TIMES, quantity_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from evaluation.runs import Run
    from otel_budget.core.quantities import Number

#: Shares of the limit that are used at the moments that are asked about.
USED: Final = (0.25, 0.5, 0.8)
#: Limits, as shares of what the run used in all.
LIMITS: Final = (1.0, 0.8, 0.6)
#: Seconds from one scrape to the next.
SCRAPED_EVERY: Final = 15.0
#: Seconds by which the first scrape of each run is later than that of the run before it.
_PHASE: Final = 4.0


class Sample(NamedTuple):
    """What is seen of a run at one time."""

    at: float
    """Seconds since its first call."""
    totals: Mapping[str, Number]
    """Per counted resource, what it used until then."""

    @property
    def calls(self) -> int:
        """Calls made until then."""
        return int(self.totals[semconv.API_CALLS])

    def used(self, resource: str) -> Number:
        """Return what was used of a resource until then."""
        return self.at if resource in TIMES else self.totals[resource]


class Case(NamedTuple):
    """One question, and what came."""

    session_id: str
    resource: str
    limit_share: float
    """The limit, as a share of what the run used in all."""
    used_share: float
    """The share of the limit that was asked for."""
    sample: int
    """Number of the sample after which it is asked."""
    at: float
    """When that was taken, in seconds since the run's first call."""
    limit: Number
    remaining: Number
    """Units until the limit; above 0."""
    calls_left: float
    """What came: calls until the limit was reached, the call that crosses it by its part."""
    seconds_left: float
    """What came: seconds until the limit was reached, at the end of the call that crosses it."""


def every_call(run: Run) -> list[Sample]:
    """Return what the process itself sees: each of its calls."""
    tokens = accumulate(call.tokens for call in run.calls)
    costs = accumulate(call.cost for call in run.calls)
    return [
        Sample(call.at, {semconv.TOKENS: used, semconv.API_CALLS: made, semconv.COST: cost})
        for made, (call, used, cost) in enumerate(zip(run.calls, tokens, costs, strict=True), 1)
    ]


def scrapes(run: Run, number: int, every: float = SCRAPED_EVERY) -> list[Sample]:
    """Return what a scrape sees every so many seconds, from after the first call to after the last.

    number: of the run among others; the runs are not scraped in step with their calls.
    """
    seen = every_call(run)
    times = [sample.at for sample in seen]
    at = number * _PHASE % every
    samples: list[Sample] = []
    while not samples or samples[-1].calls < len(seen):
        samples.append(Sample(at, seen[bisect_right(times, at) - 1].totals))
        at += every
    return samples


def cases(
    run: Run,
    samples: Sequence[Sample],
    resource: str,
    limits: Sequence[float] = LIMITS,
    used: Sequence[float] = USED,
) -> Iterator[Case]:
    """Yield what can be asked about one resource of a run.

    Left out is a share that no sample shows: the one that passes it is at the limit already.
    """
    calls = every_call(run)
    total = float(calls[-1].used(resource))
    for limit_share in limits:
        limit = calls[-1].used(resource)
        if limit_share != 1:
            limit = quantity_of(resource).from_sample(total * limit_share)
        position, at = _reached(calls, resource, limit)
        for share in used:
            found = _first(samples, resource, float(limit) * share)
            if found is None or samples[found].used(resource) >= limit:
                continue
            sample = samples[found]
            remaining = limit - sample.used(resource)  # type: ignore[operator]  # of one type
            yield Case(
                run.session_id, resource, limit_share, share, found, sample.at, limit, remaining,
                position - sample.calls, at - sample.at,
            )  # fmt: skip


def _first(samples: Sequence[Sample], resource: str, used: float) -> int | None:
    """Return the number of the first sample at which so much is used."""
    reached = (n for n, sample in enumerate(samples) if float(sample.used(resource)) >= used)
    return next(reached, None)


def _reached(calls: Sequence[Sample], resource: str, limit: Number) -> tuple[float, float]:
    """Return after how many calls, as a fraction, and when a limit was reached."""
    number = next(n for n, sample in enumerate(calls) if sample.used(resource) >= limit)
    crossing = calls[number]
    before = calls[number - 1].used(resource) if number else 0
    part = float(limit - before) / float(crossing.used(resource) - before)  # type: ignore[operator]
    at = float(limit) if resource in TIMES else crossing.at
    return number + part, at
