"""Calls at once near a limit: how far over it they go, and how much of it is used."""

from __future__ import annotations

import asyncio
import random
import statistics
import threading
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.report import Goal, Report
from otel_budget import BudgetExceeded, ResourceLimits, ResourceMonitor
from otel_budget.genai.reported_call import Expected, ReportedCall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SIZE, _SPREAD = 150, 0.3
"""Tokens of a call in the mean, and the standard deviation of random ones as a share of it."""
_EXPECTED = Expected(100, 80)
_SECONDS = 0.001
_STREAMS, _ROOMS = (2, 16, 128), (1, 10, 100)
_SEED = 20


class _Outcome(NamedTuple):
    over: float
    """Tokens beyond the limit, as a share of it."""
    usable: float
    """Tokens up to the limit, as a share of it."""
    calls_over: int


async def _reserving(monitor: ResourceMonitor, size: int, pause: Callable[[], object]) -> None:
    call = await ReportedCall.begin("otel_budget.bench", monitor, expected=_EXPECTED)
    await pause()  # type: ignore[misc] # a coroutine here
    call.close(input=size - 50, output=50)


def _reserving_in_thread(monitor: ResourceMonitor, size: int, pause: Callable[[], object]) -> None:
    call = ReportedCall("otel_budget.bench", monitor, expected=_EXPECTED)
    pause()
    call.close(input=size - 50, output=50)


async def _checking(monitor: ResourceMonitor, size: int, pause: Callable[[], object]) -> None:
    monitor.raise_if_stopped()
    await pause()  # type: ignore[misc] # a coroutine here
    monitor.record_operation(size, api_call=True)


def _checking_in_thread(monitor: ResourceMonitor, size: int, pause: Callable[[], object]) -> None:
    monitor.raise_if_stopped()
    pause()
    monitor.record_operation(size, api_call=True)


class _Later:
    """Counts a call when the next one of its stream has begun, as LiteLLM's callbacks do."""

    def __init__(self) -> None:
        self._left: deque[tuple[ResourceMonitor, int]] = deque()

    async def call(self, monitor: ResourceMonitor, size: int, pause: Callable[[], object]) -> None:
        monitor.raise_if_stopped()
        self.count()
        await pause()  # type: ignore[misc] # a coroutine here
        self._left.append((monitor, size))

    def in_thread(self, monitor: ResourceMonitor, size: int, pause: Callable[[], object]) -> None:
        monitor.raise_if_stopped()
        self.count()
        pause()
        self._left.append((monitor, size))

    def count(self) -> None:
        """Count what came before."""
        while self._left:
            try:
                monitor, size = self._left.popleft()
            except IndexError:
                return
            monitor.record_operation(size, api_call=True)


def _sizes(seed: int, *, known: bool) -> Iterator[int]:
    chance = random.Random(seed)  # noqa: S311 - a play, seeded
    while True:
        yield _SIZE if known else max(60, round(chance.gauss(_SIZE, _SPREAD * _SIZE)))


def _play(ways: str, streams: int, room: int, seed: int, *, known: bool, tasks: bool) -> _Outcome:
    limits = ResourceLimits.only(max_tokens=room * _SIZE)
    monitor, sizes, later = ResourceMonitor(limits), _sizes(seed, known=known), _Later()
    lock = threading.Lock()

    def next_size() -> int:
        with lock:
            return next(sizes)

    if tasks:
        call = {"ours": _reserving, "checks": _checking, "later": later.call}[ways]

        async def stream() -> None:
            try:
                while True:
                    await call(monitor, next_size(), lambda: asyncio.sleep(_SECONDS))
            except BudgetExceeded:
                return

        async def together() -> None:
            await asyncio.gather(*(stream() for _ in range(streams)))

        asyncio.run(together())
    else:
        work = {
            "ours": _reserving_in_thread,
            "checks": _checking_in_thread,
            "later": later.in_thread,
        }[ways]
        _in_threads(streams, monitor, work, next_size)
    later.count()
    report = monitor.get_usage_report()
    monitor.close(timeout=0)
    used, limit = report.tokens, room * _SIZE
    return _Outcome(max(0, used - limit) / limit, min(used, limit) / limit, report.api_calls - room)


def _in_threads(
    streams: int,
    monitor: ResourceMonitor,
    work: Callable[[ResourceMonitor, int, Callable[[], object]], None],
    next_size: Callable[[], int],
) -> None:
    barrier, waits = threading.Barrier(streams), threading.Event()

    def stream() -> None:
        barrier.wait()
        try:
            while True:
                work(monitor, next_size(), lambda: waits.wait(_SECONDS))
        except BudgetExceeded:
            return

    threads = [threading.Thread(target=stream) for _ in range(streams)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class _Cell(NamedTuple):
    over: float
    usable: float

    @property
    def text(self) -> str:
        return f"{self.over:.1%} / {self.usable:.1%}"


def run(*, quick: bool) -> Report:
    """Play all of them."""
    trials = 3 if quick else 10
    rows: list[tuple[str, ...]] = []
    known_cells: list[tuple[int, _Cell]] = []
    random_cells: list[tuple[int, _Cell]] = []
    for tasks in (True, False):
        for known in (True, False):
            for streams in _STREAMS:
                for room in _ROOMS:
                    cells = [
                        _cell(ways, streams, room, trials, known=known, tasks=tasks)
                        for ways in ("ours", "checks", "later")
                    ]
                    if room >= 10:
                        (known_cells if known else random_cells).append((room, cells[0]))
                    what = f"{streams} {'tasks' if tasks else 'threads'}, room for {room}"
                    sizes = "one size" if known else "random sizes"
                    rows.append((f"{what}, {sizes}", *(cell.text for cell in cells)))
    large = [cell for room, cell in random_cells if room == _ROOMS[-1]]
    return Report(
        title="Calls at once near a limit",
        about=(
            "Streams of calls that begin together, each until it is refused. Left the overrun of "
            "the limit on tokens (p95), right how much of it was used (mean). With reservations as "
            "the adapters take them; without: asked before, counted after, which is also what "
            "pydantic-ai's UsageLimits do (their logic, not their code); and counted in callbacks "
            "when the next call has begun, as LiteLLM's budgets do (likewise). A call takes 1 ms "
            f"and {_SIZE} tokens, or a random number with {_SPREAD:.0%} of it as standard "
            f"deviation; nobody is told before. {trials} trials each, seeded."
        ),
        columns=("", "with reservations", "checked before, counted after", "counted in callbacks"),
        rows=tuple(rows),
        goals=(
            _goal_over("calls of one size, room for 10 and more", [c for _, c in known_cells]),
            _goal_usable("calls of one size, room for 10 and more", [c for _, c in known_cells]),
            _goal_over("calls of random size, room for 10 and more", [c for _, c in random_cells]),
            _goal_usable("calls of random size, room for 10", [c for _, c in random_cells]),
            _goal_over("calls of random size, room for 100", large),
            _goal_usable("calls of random size, room for 100", large),
        ),
    )


def _goal_over(text: str, cells: list[_Cell]) -> Goal:
    return Goal(f"{text}, overrun p95 in %", max(c.over for c in cells) * 100, 1.0)


def _goal_usable(text: str, cells: list[_Cell]) -> Goal:
    least = min(cell.usable for cell in cells) * 100
    return Goal(f"{text}, used in %", least, 100.0, at_least=95.0)


def _cell(ways: str, streams: int, room: int, trials: int, *, known: bool, tasks: bool) -> _Cell:
    outcomes = [
        _play(ways, streams, room, _SEED * 1000 + trial, known=known, tasks=tasks)
        for trial in range(trials)
    ]
    overs = sorted(outcome.over for outcome in outcomes)
    p95 = overs[min(len(overs) - 1, int(len(overs) * 0.95))]
    return _Cell(p95, statistics.fmean(outcome.usable for outcome in outcomes))
