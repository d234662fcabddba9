"""Contestants measured in turns, so that whatever else the machine does hits all of them alike.

A round runs every contestant once, for a few milliseconds, and each round begins with another one.
Ratios are taken within a round; what is shown is their median and quartiles over all rounds. Two
numbers measured at different times are never divided.
"""

from __future__ import annotations

import gc
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

#: Seconds between two drawings of the progress bar.
_REDRAW = 0.2


@dataclass(frozen=True, slots=True)
class Contestant:
    """Something to be timed."""

    name: str
    work: Callable[[int], object]
    """Takes how many times to do it."""
    least: int = 1
    """The fewest times that say anything: below that, starting it is what is measured."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and quartiles over the rounds."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Return the spread of at least two values."""
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(low, median, high)

    def text(self, factor: float = 1.0, digits: int = 2) -> str:
        """Return ``median (lower-upper quartile)``, each times a factor."""
        low, median, high = (
            f"{value * factor:.{digits}f}" for value in (self.low, self.median, self.high)
        )
        return f"{median} ({low}-{high})"


class Timings:
    """Seconds each contestant took for one operation, round by round."""

    def __init__(self, contestants: Sequence[Contestant]) -> None:
        """Begin without a round."""
        self._seconds: dict[str, list[float]] = {one.name: [] for one in contestants}

    def add(self, name: str, seconds: float) -> None:
        """Keep what a contestant took in this round."""
        self._seconds[name].append(seconds)

    def seconds(self, name: str) -> Spread:
        """Return the seconds of one operation."""
        return Spread.of(self._seconds[name])

    def ratio(self, name: str, beside: str) -> Spread:
        """Return how many times as long as another one a contestant took, round by round."""
        pairs = zip(self._seconds[name], self._seconds[beside], strict=True)
        return Spread.of([ours / theirs for ours, theirs in pairs])


def take_turns(
    contestants: Sequence[Contestant], *, rounds: int, turn: float, label: str
) -> Timings:
    """Time the contestants against each other. turn: seconds that one of them has in a round."""
    times = {one.name: _times(one, turn) for one in contestants}
    timings = Timings(contestants)
    for number in steps(rounds, label):
        gc.collect()
        first = number % len(contestants)
        for one in (*contestants[first:], *contestants[:first]):
            timings.add(one.name, _timed(one.work, times[one.name]) / times[one.name])
    return timings


def steps(total: int, label: str) -> Iterator[int]:
    """Count up to a total behind a progress bar, drawn only between the steps."""
    console = Console(stderr=True)
    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(
        *columns,
        console=console,
        auto_refresh=False,  # a thread that draws would be timed as well
        transient=True,
        disable=not console.is_terminal,
    )
    drawn = 0.0
    with bar:
        task = bar.add_task(label, total=total)
        for number in range(total):
            yield number
            bar.advance(task)
            if time.monotonic() - drawn > _REDRAW:
                bar.refresh()
                drawn = time.monotonic()


def _times(one: Contestant, turn: float) -> int:
    """Find out how often something can be done in one turn; this warms it up, too."""
    times = one.least
    one.work(times)  # what is loaded at the first time says nothing of the others
    taken = _timed(one.work, times)
    while taken < turn / 4:
        times *= 4
        taken = _timed(one.work, times)
    return max(one.least, round(times * turn / taken))


def _timed(work: Callable[[int], object], times: int) -> float:
    began = time.perf_counter()
    work(times)
    return time.perf_counter() - began
