"""Ask every contestant about every case, and score what they answer."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from evaluation.cases import LIMITS, USED, cases, every_call, scrapes
from evaluation.contestants import OURS, others, ours
from evaluation.scores import score
from otel_budget import semconv

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from evaluation.cases import Case, Sample
    from evaluation.contestants import Answered
    from evaluation.runs import Run

#: How a run is seen: each call in the process, or its counters every 15 s.
CALLS, SCRAPES = "calls", "scrapes"
CALLS_LEFT, SECONDS_LEFT = "calls_left", "seconds_left"
RESOURCES: Final = (semconv.TOKENS, semconv.COST, semconv.DURATION)
#: What is forecast. Seconds until a limit of time are no forecast: they pass by themselves.
WHAT: Final = (
    (CALLS_LEFT, semconv.TOKENS),
    (CALLS_LEFT, semconv.COST),
    (CALLS_LEFT, semconv.DURATION),
    (SECONDS_LEFT, semconv.TOKENS),
    (SECONDS_LEFT, semconv.COST),
)
#: Shares of which the picture is drawn; only of a limit at the run's own total.
_FURTHER_USED: Final = (0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.9)
_DIGITS: Final = 4

Record = dict[str, Any]


class Question(NamedTuple):
    """What cases are scored together."""

    seen: str
    resource: str
    limit: float
    used: float
    by: str


def asked_of(run: Run, samples: Sequence[Sample], resource: str) -> list[Case]:
    """Return all that is asked about a resource of a run."""
    asked = list(cases(run, samples, resource))
    if resource == semconv.TOKENS:
        asked += cases(run, samples, resource, limits=(1.0,), used=_FURTHER_USED)
    return asked


def asked_of_runs(runs: Sequence[Run]) -> dict[str, list[Case]]:
    """Return per run what is asked about it where it is scraped."""
    return {
        run.session_id: [
            case for resource in RESOURCES for case in asked_of(run, scrapes(run, number), resource)
        ]
        for number, run in enumerate(runs)
    }


def answers(
    runs: Sequence[Run], further: Iterable[Answered] = ()
) -> dict[Question, list[Answered]]:
    """Return all answers about the runs, by question. further: others, from scrapes."""
    found: dict[Question, list[Answered]] = defaultdict(list)
    for seen, answered in (*_answered(runs), *((SCRAPES, each) for each in further)):
        case = answered.case
        question = Question(seen, case.resource, case.limit_share, case.used_share, answered.by)
        found[question].append(answered)
    return found


def scored(found: dict[Question, list[Answered]]) -> list[Record]:
    """Return a record of each question and of what is forecast, with its score."""
    return [
        {"what": what, **question._asdict(), **_rounded(_score(what, answered))}
        for what, resource in WHAT
        for question, answered in found.items()
        if question.resource == resource
    ]


def covered(found: dict[Question, list[Answered]]) -> list[Record]:
    """Return how often what came lay within the range, over all limits; used None: all shares."""
    records = []
    for what, resource in WHAT:
        for seen in (CALLS, SCRAPES):
            for used in (*USED, None):
                together = [
                    each
                    for question, answered in found.items()
                    if (question.by, question.seen, question.resource) == (OURS, seen, resource)
                    and question.limit in LIMITS
                    and (question.used == used if used else question.used in USED)
                    for each in answered
                ]
                one = _rounded(_score(what, together))
                records.append({
                    "what": what, "resource": resource, "seen": seen, "used": used,
                    "told": one["told"], "covered": one["covered"],
                })  # fmt: skip
    return records


def _answered(runs: Sequence[Run]) -> Iterator[tuple[str, Answered]]:
    ways: dict[str, Callable[[Run, int], list[Sample]]] = {
        CALLS: lambda run, _number: every_call(run),
        SCRAPES: scrapes,
    }
    for number, run in enumerate(runs):
        for seen, samples_of in ways.items():
            samples = samples_of(run, number)
            for resource in RESOURCES:
                asked = asked_of(run, samples, resource)
                for answered in (*ours(samples, asked), *others(samples, asked)):
                    yield seen, answered


def _score(what: str, answered: Iterable[Answered]) -> Record:
    one = score((getattr(each.answer, what), getattr(each.case, what)) for each in answered)
    return one._asdict()


def _rounded(record: Record) -> Record:
    """Return it as JSON has it: no more digits than mean something, and null for NaN."""
    return {
        name: None if value != value else round(value, _DIGITS)  # noqa: PLR0124 - NaN alone differs
        for name, value in record.items()
    }
