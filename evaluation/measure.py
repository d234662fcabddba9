"""Ask every contestant about every case, and score what they answer."""

from __future__ import annotations

import math
from collections import defaultdict
from itertools import product
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from evaluation.cases import LIMITS, USED, cases, every_call, scrapes
from evaluation.contestants import OURS, others, ours_from_scrapes, ours_in_process
from evaluation.scores import score
from otel_budget import semconv

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from evaluation.cases import Case, Sample
    from evaluation.contestants import Answered
    from evaluation.runs import Run
    from otel_budget.core.forecast import Estimate

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
#: What a score says of ranges.
_RANGE: Final = ("covered", "below", "above", "width")

Record = dict[str, Any]
Seen = tuple[str, "Answered"]


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


def answered(run: Run, number: int) -> Iterator[Seen]:
    """Yield all answers about a run but Prometheus's. number: of the run among the others."""
    yield from answered_in_process(run, number)
    seen = scrapes(run, number)
    for resource in RESOURCES:
        asked = asked_of(run, seen, resource)
        for each in (*ours_from_scrapes(seen, asked), *others(seen, asked)):
            yield SCRAPES, each


def answered_from_scrapes(run: Run, number: int, every: float) -> Iterator[Seen]:
    """Yield what this project says of a run that is scraped every so many seconds."""
    seen = scrapes(run, number, every)
    for resource in RESOURCES:
        for each in ours_from_scrapes(seen, list(cases(run, seen, resource, limits=(1.0,)))):
            yield SCRAPES, each


def answered_in_process(run: Run, _number: int = 0) -> Iterator[Seen]:
    """Yield the answers of those who see each call."""
    seen = every_call(run)
    for resource in RESOURCES:
        asked = asked_of(run, seen, resource)
        for each in (*ours_in_process(seen, asked), *others(seen, asked)):
            yield CALLS, each


class Answers:
    """All that was answered, by question."""

    def __init__(self) -> None:
        """Begin with none."""
        self._found: dict[Question, list[Answered]] = defaultdict(list)

    def add(self, answers: Iterable[Seen]) -> None:
        """Add some."""
        for seen, each in answers:
            case = each.case
            question = Question(seen, case.resource, case.limit_share, case.used_share, each.by)
            self._found[question].append(each)

    def scored(self) -> list[Record]:
        """Return a record of each question and of what is forecast, with its score."""
        return [
            {"what": what, **question._asdict(), **_errors_of(_score(what, answers))}
            for what, resource in WHAT
            for question, answers in self._found.items()
            if question.resource == resource
        ]

    def covered(self) -> list[Record]:
        """Return how often what came was in the range, over all limits. used None: all shares."""
        records = []
        for what, resource in WHAT:
            for seen, used in product((CALLS, SCRAPES), (*USED, None)):
                one = self._covered(what, resource, seen, used)
                shown = {name: one[name] for name in ("told", *_RANGE)}
                records.append(
                    {"what": what, "resource": resource, "seen": seen, "used": used, **shown}
                )
        return records

    def example(self, session_id: str) -> Record:
        """Return what was said of the tokens of one run, scraped, when half of them are used."""
        asked = [
            each
            for question, answers in self._found.items()
            if (question.seen, question.resource) == (SCRAPES, semconv.TOKENS)
            and (question.limit, question.used) == (1.0, 0.5)
            for each in answers
            if each.case.session_id == session_id
        ]
        case = asked[0].case
        return {
            "session_id": session_id,
            "at": case.at,
            "limit": case.limit,
            "calls_left": case.calls_left,
            "seconds_left": round(case.seconds_left, _DIGITS),
            "by": {each.by: [_listed(estimate) for estimate in each.answer] for each in asked},
        }

    def _covered(self, what: str, resource: str, seen: str, used: float | None) -> Record:
        shares = USED if used is None else (used,)
        together = [
            each
            for question, answers in self._found.items()
            if (question.by, question.seen, question.resource) == (OURS, seen, resource)
            and question.used in shares
            and question.limit in LIMITS
            for each in answers
        ]
        return _rounded(_score(what, together))


def _errors_of(one: Record) -> Record:
    """Return a score without what is said of ranges but how often they hold."""
    return _rounded({name: one[name] for name in one if name == "covered" or name not in _RANGE})


def _listed(estimate: Estimate | None) -> list[float] | None:
    return None if estimate is None else [round(each, _DIGITS) for each in estimate]


def _score(what: str, answered: Iterable[Answered]) -> Record:
    one = score((getattr(each.answer, what), getattr(each.case, what)) for each in answered)
    return one._asdict()


def _rounded(record: Record) -> Record:
    """Return it as JSON has it: no more digits than mean something, and null for NaN."""
    return {
        name: None if math.isnan(value) else round(value, _DIGITS) for name, value in record.items()
    }
