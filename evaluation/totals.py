"""How much will it use in all? With a progress, and without one."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from evaluation.cases import every_call
from evaluation.scores import quantile
from otel_budget import semconv
from otel_budget.ledger.call_pace import CallPace
from otel_budget.policy.bounds import bounds_from
from otel_budget.policy.forecast import completion_possible, forecast_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from evaluation.runs import Run

#: Shares of its calls that a run has made: a progress as exact as can be.
PROGRESS: Final = (0.25, 0.5, 0.8)
#: Calls after which a total is guessed without any progress.
AFTER: Final = 40
STRAIGHT, BY_SIZE = "used / progress", "size of the next calls and their growth"
_STEPS: Final = 60
#: Limits that are tried, as shares of what the run used in all.
_FITTING: Final = (0.6, 0.7, 0.8, 0.9, 1.1, 1.2, 1.3, 1.4)

Record = dict[str, Any]


def with_progress(runs: Iterable[Run]) -> list[Record]:
    """Return what was used at each progress, and the error of the totals that follow from it."""
    records = []
    runs = list(runs)
    for progress in PROGRESS:
        made = [max(1, round(progress * len(run.calls))) for run in runs]
        used = [_used(run, calls) for run, calls in zip(runs, made, strict=True)]
        shares = sorted(part / run.tokens for part, run in zip(used, runs, strict=True))
        straight = [
            part * len(run.calls) / calls for part, run, calls in zip(used, runs, made, strict=True)
        ]
        sized = [_by_size(run, calls) for run, calls in zip(runs, made, strict=True)]
        records.append({
            "progress": progress,
            "used": {name: round(quantile(shares, at), 4) for name, at in _QUANTILES.items()},
            STRAIGHT: _errors(runs, straight),
            BY_SIZE: _errors(runs, sized),
        })  # fmt: skip
    return records


def fitting(runs: Sequence[Run]) -> list[Record]:
    """Return how often it is told rightly whether the rest of a run fits in a limit of tokens.

    Limits are 60 to 140 % of what the run used in all; the progress is as exact as can be.
    """
    records = []
    for progress in PROGRESS:
        told: dict[str, Counter[tuple[bool, bool | None]]] = {
            STRAIGHT: Counter(),
            BY_SIZE: Counter(),
        }
        for run in runs:
            samples = every_call(run)
            calls = max(1, round(progress * len(samples)))
            pace = _pace(run, calls)
            used = {semconv.TOKENS: samples[calls - 1].totals[semconv.TOKENS]}
            for share in _FITTING:
                bounds = bounds_from({semconv.TOKENS: round(run.tokens * share)}, {}, "session")
                for name, by in ((STRAIGHT, None), (BY_SIZE, pace)):
                    said = completion_possible(used, bounds, calls / len(samples), pace=by)
                    told[name][share > 1, said] += 1
        records.append({
            "progress": progress,
            **{
                name: {
                    "asked": found.total(),
                    "right": found[True, True] + found[False, False],
                    "yes_wrongly": found[False, True],
                    "no_wrongly": found[True, False],
                }
                for name, found in told.items()
            },
        })  # fmt: skip
    return records


def without_progress(learnt_from: Iterable[Run], runs: Iterable[Run]) -> list[Record]:
    """Return the error of guesses of a run's total after 40 calls, in runs that make more.

    learnt_from: other runs, from which the guesses take what they need.
    """
    known = [run for run in learnt_from if len(run.calls) > AFTER]
    asked = [run for run in runs if len(run.calls) > AFTER]
    return [
        {"guess": name, "runs": len(asked), **_errors(asked, [guess(run) for run in asked])}
        for name, guess in _guesses(known).items()
    ]


_QUANTILES: Final = {"p10": 0.1, "median": 0.5, "p90": 0.9}


def _guesses(known: Sequence[Run]) -> dict[str, Callable[[Run], float]]:
    total = quantile(sorted(run.tokens for run in known), 0.5)
    calls = quantile(sorted(len(run.calls) for run in known), 0.5)
    times = quantile(sorted(run.tokens / _used(run, AFTER) for run in known), 0.5)
    slope, level = _line([(math.log(_used(r, AFTER)), math.log(r.tokens)) for r in known])
    return {
        "the median total of other runs": lambda _run: total,
        "what it used, times as much as others used after it": lambda run: (
            times * _used(run, AFTER)
        ),
        "a line through the logarithms of both": lambda run: math.exp(
            level + slope * math.log(_used(run, AFTER))
        ),
        "the median number of calls of other runs, by their size and growth": lambda run: _by_size(
            run, AFTER, max(0.0, calls - AFTER)
        ),
    }


def _line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return slope and level of the line with the least squares."""
    across = sum(x for x, _ in points) / len(points)
    up = sum(y for _, y in points) / len(points)
    slope = sum((x - across) * (y - up) for x, y in points)
    slope /= sum((x - across) ** 2 for x, _ in points)
    return slope, up - slope * across


def _used(run: Run, calls: int) -> int:
    return sum(call.tokens for call in run.calls[:calls])


def _by_size(run: Run, calls: int, more: float | None = None) -> float:
    """Return what a run will have used, of which so many calls were seen.

    more: calls still to come; None: as many as there were. It is looked for as a limit that is so
    many calls away.
    """
    pace = _pace(run, calls)
    used, more = _used(run, calls), len(run.calls) - calls if more is None else more
    size = pace.next_call(semconv.TOKENS)
    if size is None:
        return math.nan
    low, high = 0.0, (more + 1) * max(size.value, 1.0)
    while _calls_in(high, pace) < more:
        low, high = high, 2 * high
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _calls_in(middle, pace) < more else (low, middle)
    return used + low


def _calls_in(tokens: float, pace: CallPace) -> float:
    left = forecast_of(semconv.TOKENS, tokens, pace).calls_left
    return math.inf if left is None else left.value


def _pace(run: Run, calls: int) -> CallPace:
    """Return what is known of a run of which so many calls were seen."""
    pace = CallPace()
    for sample in every_call(run)[:calls]:
        pace.observe(sample.totals, sample.at)
    return pace


def _errors(runs: Sequence[Run], guessed: Sequence[float]) -> Record:
    errors = sorted(
        guess / run.tokens - 1
        for run, guess in zip(runs, guessed, strict=True)
        if not math.isnan(guess)
    )
    sizes = sorted(map(abs, errors))
    return {
        "median": round(quantile(sizes, 0.5), 4),
        "p90": round(quantile(sizes, 0.9), 4),
        "bias": round(quantile(errors, 0.5), 4),
    }
