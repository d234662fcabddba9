"""The sidecar's tick with budgets that runs share, beside the same tick without."""

from __future__ import annotations

import gc
import random
import tempfile
import time
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.report import Goal, Report
from benchmarks.rounds import Spread, steps
from otel_budget import semconv
from otel_budget.core.budget import Budget, Window, WindowKind
from otel_budget.core.observation import (
    Observation,
    RunAttributes,
    RunObservation,
    shared_labels,
)
from otel_budget.policy.verdicts import Rules
from otel_budget.sidecar.evaluator import Evaluator
from otel_budget.sidecar.main import GC_THRESHOLDS
from otel_budget.sidecar.storage.sqlite.storage import open_sqlite

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_budget.core.quantities import Number

_BEGAN = 2_000_000_000.0
_WARM_UP = 3
"""Ticks in which the runs are new, or their first leases end."""
_CHANGING = 0.01
_USERS, _TEAMS = 330, 10
_FAR: Mapping[str, Number] = {semconv.TOKENS: 10**13, semconv.COST: Decimal(10**9)}
#: 1 + 10 + 3 x 330 groups.
_BUDGETS = (
    Budget("all", Window(WindowKind.TOTAL), _FAR),
    Budget("team-day", Window(WindowKind.CALENDAR, every="day"), _FAR, per=("team",)),
    Budget("user-month", Window(WindowKind.CALENDAR, every="month"), _FAR, per=("user",)),
    Budget("user-rolling", Window(WindowKind.ROLLING, seconds=86_400.0), _FAR, per=("user",)),
    Budget("user-session", Window(WindowKind.FIRST_USE, seconds=18_000.0), _FAR, per=("user",)),
)
_WITHOUT, _WITH = "no budgets", "5 budgets, 1,001 groups"


class _Fleet:
    """Runs of which some go on from one tick to the next."""

    def __init__(self, runs: int) -> None:
        self._calls = [1] * runs
        self._random = random.Random(1)  # noqa: S311 - which runs go on, the same each time
        self._labels = [
            shared_labels({"team": f"t{user % _TEAMS}", "user": f"u{user}"})
            for user in range(_USERS)
        ]

    def observation(self, at: float) -> Observation:
        """Let a share of the runs go on; return what a source would read of all of them."""
        calls = self._calls
        for number in self._random.sample(range(len(calls)), int(len(calls) * _CHANGING)):
            calls[number] += 1
        runs = tuple(self._run(number, at) for number in range(len(calls)))
        return Observation("scrape", at, runs)

    def _run(self, number: int, at: float) -> RunObservation:
        calls = self._calls[number]
        counters: dict[tuple[str, str], Number] = {
            (semconv.TOKENS, ""): 1200 * calls + number,
            (semconv.API_CALLS, ""): calls,
            (semconv.COST, ""): Decimal(calls) / 80,
        }
        attributes = RunAttributes(
            started_at=_BEGAN - 100 - number * 0.001,
            incarnation_at=_BEGAN - 100 - number * 0.001,
            limits={"tokens": 10**12},
            duration=100.0 + at - _BEGAN,
            state="running",
            labels=self._labels[number % _USERS],
        )
        target = "http://127.0.0.1:1/metrics"
        return RunObservation(f"run-{number:06}", target, at, counters, attributes)


def run(*, quick: bool) -> Report:
    """Measure ticks of evaluators that read the same."""
    gc.set_threshold(*GC_THRESHOLDS)
    size, ticks = (2_000, 12) if quick else (100_000, 6)
    seconds = _seconds(size, ticks)
    rows = [
        (name, Spread.of(seconds[name]).text(1e3, digits=0), _ratio(seconds, name).text(digits=3))
        for name in (_WITHOUT, _WITH)
    ]
    goal = Goal(f"with budgets, {size:,} runs", _ratio(seconds, _WITH).median, 1.15, digits=3)
    return Report(
        title="Budgets that runs share: what they add to a tick",
        about=(
            f"Evaluator.tick of {size:,} runs, with its transaction, from what a source read: "
            f"{_CHANGING:.0%} of them changed, a fifth of the leases renewed. The budgets: one for "
            "all, one a team and day, three a user (month, the last 24 hours, 5 hours from first "
            "use), of tokens and cost, none near its limit. CPU time of two evaluators that read "
            f"the same, in turns, {ticks} ticks. What changes of the budgets costs the same "
            "however many runs share them, so the ratio is larger with fewer runs."
        ),
        columns=("", "tick, ms of CPU", "of a tick without budgets"),
        rows=tuple(rows),
        goals=(goal,),
    )


def _ratio(seconds: Mapping[str, list[float]], name: str) -> Spread:
    pairs = zip(seconds[name], seconds[_WITHOUT], strict=True)
    return Spread.of([one / other for one, other in pairs])


def _seconds(size: int, ticks: int) -> dict[str, list[float]]:
    """Return the CPU seconds of each contestant's ticks."""
    fleet = _Fleet(size)
    rules = {_WITHOUT: Rules(), _WITH: Rules(budgets=_BUDGETS)}
    names = list(rules)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    with ExitStack() as stack:
        evaluators = {name: _evaluator(stack) for name in names}
        for number in steps(_WARM_UP + ticks, f"{size:,} runs"):
            observation = fleet.observation(_BEGAN + number)
            first = number % len(names)
            for name in (*names[first:], *names[:first]):
                gc.collect()
                took = _tick(evaluators[name], observation, rules[name], _BEGAN + number)
                if number >= _WARM_UP:
                    seconds[name].append(took)
    return seconds


def _evaluator(stack: ExitStack) -> Evaluator:
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    storage, restored = open_sqlite(str(Path(folder) / "bench.db"))
    stack.callback(storage.close)
    return Evaluator(storage, restored, _BEGAN)


def _tick(evaluator: Evaluator, observation: Observation, rules: Rules, now: float) -> float:
    began = time.process_time()
    rest: Observation | None = observation
    while rest is not None:  # new runs are taken in a batch at a time
        rest = evaluator.tick(rest, rules, 3600.0, now).rest
    return time.process_time() - began
