"""Who forecasts: this project's model, and what others would take instead.

Each is told the samples up to the moment and no more. The others are written out here as users
write them; Prometheus's own are asked of a real one (``prometheus``).
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget import semconv
from otel_budget.core.forecast import NO_FORECAST, Estimate
from otel_budget.core.observation import Observation, RunAttributes, RunObservation
from otel_budget.ledger.call_pace import CallPace
from otel_budget.ledger.ledger import Ledger
from otel_budget.ledger.rate import Rate
from otel_budget.policy.forecast import forecast_of
from otel_budget.policy.verdicts import Rules, verdict_from_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from evaluation.cases import Case, Sample

OURS: Final = "otel-budget"
MEAN, LAST_TEN, OF_60_S = "mean rate", "last ten calls", "60 s rate"
_TEN: Final = 10
_RUN: Final = "run"


class Answer(NamedTuple):
    """What one of them says. None: it cannot tell."""

    calls_left: Estimate | None
    seconds_left: Estimate | None


class Answered(NamedTuple):
    """A question with one answer to it."""

    case: Case
    by: str
    answer: Answer


def ours_in_process(samples: Sequence[Sample], asked: Iterable[Case]) -> Iterator[Answered]:
    """Yield what this project's model answers a run itself, from each of its calls."""
    pace, cases = CallPace(), _by_sample(asked)
    for number, sample in enumerate(samples):
        pace.observe(sample.totals, sample.at)
        for case in cases.get(number, ()):
            forecast = forecast_of(case.resource, case.remaining, pace, sample.at)
            yield Answered(case, OURS, Answer(forecast.calls_left, forecast.seconds_left))


def ours_from_scrapes(samples: Sequence[Sample], asked: Iterable[Case]) -> Iterator[Answered]:
    """Yield what stands in the sidecar's verdicts: its ledger takes in the samples."""
    ledger, cases = Ledger(), _by_sample(asked)
    for number, sample in enumerate(samples):
        ledger.apply(Observation("scrape", sample.at, (_observed(sample),)))
        snapshot = ledger.snapshot(ledger.runs[_RUN], sample.at)
        for case in cases.get(number, ()):
            limited = snapshot.attributes._replace(limits={case.resource: case.limit})
            judged = snapshot._replace(attributes=limited)
            verdict = verdict_from_snapshot(judged, Rules(), sample.at)
            forecast = verdict.resources[case.resource].forecast or NO_FORECAST
            yield Answered(case, OURS, Answer(forecast.calls_left, forecast.seconds_left))


def paces_of_scrapes(samples: Iterable[Sample]) -> Iterator[tuple[Sample, CallPace]]:
    """Yield each sample with the pace of the sidecar's ledger as of it: read it at once."""
    ledger = Ledger()
    for sample in samples:
        ledger.apply(Observation("scrape", sample.at, (_observed(sample),)))
        yield sample, ledger.snapshot(ledger.runs[_RUN], sample.at).pace


def _observed(sample: Sample) -> RunObservation:
    counters = {(resource, ""): used for resource, used in sample.totals.items()}
    said = RunAttributes(
        started_at=0.0, incarnation_at=0.0, duration=sample.at, state=semconv.RUNNING
    )
    return RunObservation(_RUN, "target", sample.at, counters, said)


def others(samples: Sequence[Sample], asked: Iterable[Case]) -> Iterator[Answered]:
    """Yield what the others answer."""
    for case in asked:
        for name, way in _WAYS.items():
            yield Answered(case, name, way(samples[: case.sample + 1], case))


def exactly(calls: float | None, seconds: float | None) -> Answer:
    """Return an answer without a range."""
    return Answer(
        None if calls is None else Estimate(calls, calls, calls),
        None if seconds is None else Estimate(seconds, seconds, seconds),
    )


def _between(begin: Sample | None, end: Sample, case: Case) -> Answer:
    """Return what follows if the use between two samples goes on at its rate.

    begin: None is the run's beginning.
    """
    resource = case.resource
    calls, seconds = float(end.calls), end.at
    used = float(end.used(resource))
    if begin is not None:
        calls, seconds = calls - begin.calls, seconds - begin.at
        used -= float(begin.used(resource))
    if used <= 0:
        return exactly(None, None)
    times = float(case.remaining) / used
    return exactly(calls * times, seconds * times if seconds > 0 else None)


def _mean(samples: Sequence[Sample], case: Case) -> Answer:
    return _between(None, samples[-1], case)


def _last_ten(samples: Sequence[Sample], case: Case) -> Answer:
    """Take the newest sample that is at least ten calls older; before that, the beginning."""
    older = [sample for sample in samples if sample.calls <= samples[-1].calls - _TEN]
    return _between(older[-1] if older else None, samples[-1], case)


def _of_60_s(samples: Sequence[Sample], case: Case) -> Answer:
    """Take the fading rates by which the ledger tells what is being spent now."""
    used, calls = Rate(), Rate()
    for before, sample in pairwise(samples):
        passed = sample.at - before.at
        spent = float(sample.used(case.resource)) - float(before.used(case.resource))
        used = used.observe(spent, passed, sample.at)
        calls = calls.observe(sample.calls - before.calls, passed, sample.at)
    now = samples[-1].at
    per_second, calls_per_second = used.per_second(now), calls.per_second(now)
    if not per_second:
        return exactly(None, None)
    seconds = float(case.remaining) / per_second
    return exactly(None if not calls_per_second else seconds * calls_per_second, seconds)


def _by_sample(asked: Iterable[Case]) -> dict[int, list[Case]]:
    found: dict[int, list[Case]] = {}
    for case in asked:
        found.setdefault(case.sample, []).append(case)
    return found


_WAYS: Final[dict[str, Callable[[Sequence[Sample], Case], Answer]]] = {
    MEAN: _mean,
    LAST_TEN: _last_ten,
    OF_60_S: _of_60_s,
}
