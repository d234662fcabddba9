"""All that is measured, in the order in which it is, as docs/forecast.json keeps it."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from evaluation import measure, prometheus, reserve, totals
from evaluation.cases import USED, scrapes
from evaluation.contestants import MEAN, OURS
from evaluation.measure import SCRAPES
from evaluation.runs import MODEL, demo_runs, mini_swe_runs, sessions
from otel_budget import semconv

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from evaluation.contestants import Answered
    from evaluation.runs import Run
    from evaluation.wording import Results

    Track = Callable[[Sequence[Run], str], Iterable[Run]]


#: Seconds from one scrape to the next, or from one push to the next.
EVERY: Final = (1.0, 5.0, 15.0, 60.0)
#: Sets of runs of other programs, by what the page calls them.
ELSEWHERE: Final[dict[str, Callable[[], tuple[Run, ...]]]] = {
    "Claude Code and Codex, a run each": demo_runs,
    "sessions of a workload derived from traces": sessions,
}


def measured(
    runs: Sequence[Run], others: Sequence[Run], track: Track, *, with_prometheus: bool
) -> Results:
    """Return what is found of the runs.

    others: those from which guesses may learn. track: shows how far it is.

    Raises MissingProgramError if a Prometheus is asked for, and none is installed.
    """
    version = prometheus.version() if with_prometheus else None
    answers = measure.Answers()
    for number, run in enumerate(track(runs, "the recorded runs")):
        answers.add(measure.answered(run, number))
    if with_prometheus:
        answers.add((SCRAPES, each) for each in linear(runs, track))
    return {
        "made": {
            "day": f"{datetime.now(UTC):%Y-%m-%d}",
            "python": platform.python_version(),
            "prometheus": version,
            "model": MODEL,
            "recorded": {
                "runs": len(mini_swe_runs()),
                "scored": len(runs),
                "unscored": len(others),
            },
        },
        "scores": answers.scored(),
        "coverage": answers.covered(),
        "scraped": [_scraped(runs, every) for every in EVERY],
        "other_half": _other_half(others),
        "example": answers.example(runs[0].session_id),
        "elsewhere": {name: _elsewhere(found()) for name, found in ELSEWHERE.items()},
        "reserve": [
            each
            for resource in (semconv.TOKENS, semconv.COST)
            for each in reserve.tried(runs, resource)
        ],
        "progress": totals.with_progress(runs),
        "fitting": totals.fitting(runs),
        "no_progress": totals.without_progress(others, runs),
    }


def linear(runs: Sequence[Run], track: Track) -> Iterator[Answered]:
    """Yield what a Prometheus that scraped the runs says."""
    with prometheus.replayed(runs) as server:
        for number, run in enumerate(track(runs, "Prometheus")):
            seen = scrapes(run, number)
            for resource in measure.RESOURCES:
                yield from server.answers(measure.asked_of(run, seen, resource))


def _scraped(runs: Sequence[Run], every: float) -> Results:
    """Return how this project does where runs are scraped every so many seconds."""
    answers = measure.Answers()
    for number, run in enumerate(runs):
        answers.add(measure.answered_from_scrapes(run, number, every))
    wanted = ("what", "resource", "used", "told", "asked", "median")
    return {
        "every": every,
        "scores": [{name: each[name] for name in wanted} for each in answers.scored()],
    }


def _other_half(runs: Sequence[Run]) -> Results:
    """Return how this project does on the runs that are not scored."""
    answers = measure.Answers()
    for number, run in enumerate(runs):
        answers.add(measure.answered(run, number))
    return {
        "runs": len(runs),
        "scores": [
            each
            for each in answers.scored()
            if (each["by"], each["limit"]) == (OURS, 1.0) and each["used"] in USED
        ],
        "coverage": [each for each in answers.covered() if each["used"] is None],
    }


def _elsewhere(runs: Sequence[Run]) -> Results:
    """Return what is found of other programs' runs; not all times of their calls are known."""
    answers = measure.Answers()
    for number, run in enumerate(runs):
        answers.add(measure.answered_in_process(run, number))
    wanted = (measure.CALLS_LEFT, semconv.TOKENS)
    return {
        "runs": len(runs),
        "calls": sum(len(run.calls) for run in runs),
        "scores": [
            each
            for each in answers.scored()
            if (each["what"], each["resource"]) == wanted
            and each["used"] in USED
            and each["by"] in {OURS, MEAN}
        ],
    }
