"""New budgets filled from history: what Prometheus has of their windows, through the same ledger.

It is done before a sidecar begins, for budgets with ``backfill: true`` of which nothing is stored.
What is counted ends where the stored ledger does, so that what is read next is counted once; a
ledger that begins has its runs from the history, too. Runs that were there at the first moment
count from then: when they used what they had used is not known.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from otel_budget.core.budget import WindowKind
from otel_budget.core.observation import Observation
from otel_budget.ledger.book_values import BookChanges, digest_of
from otel_budget.ledger.windows import span_at, span_before
from otel_budget.policy.verdicts import Rules
from otel_budget.replay.history import HistoryError, PrometheusHistory
from otel_budget.replay.kept_runs import KeptRuns
from otel_budget.replay.moments import utc
from otel_budget.sidecar.evaluator import Evaluator
from otel_budget.sidecar.factory import details_of, prometheus_settings, rules_of
from otel_budget.sidecar.storage.base import Changes, Restored
from otel_budget.sources.prometheus_reading import SOURCE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otel_budget.config.schema import SidecarConfig
    from otel_budget.core.budget import Budget
    from otel_budget.ledger.book_values import ClosedWindow, StoredBook, StoredCells
    from otel_budget.ledger.run import RunTotals
    from otel_budget.replay.history import Tick
    from otel_budget.sidecar.storage.base import Storage

logger = logging.getLogger(__name__)

#: Seconds between two moments that are looked at, at least, and how many moments there are at most.
LEAST_STEP, _MOMENTS_MOST = 15.0, 45_000
#: Seconds of history for a budget without an end.
_TOTAL: Final = 30 * 86_400.0
#: Seconds that it may take; nothing is filled then.
_TAKES_MOST: Final = 600.0
#: Stands for the same answer as at the moment before.
_THE_SAME: Final[frozenset[str]] = frozenset()


class _Collected(KeptRuns):
    """What a ledger would store, in memory."""

    def __init__(self) -> None:
        super().__init__(self._note)
        self.runs: dict[str, RunTotals] = {}
        self._books: dict[str, StoredBook] = {}
        self._cells: dict[tuple[object, ...], StoredCells] = {}
        self._closings: list[ClosedWindow] = []

    def _note(self, runs: Sequence[RunTotals]) -> None:
        self.runs.update((run.session_id, run) for run in runs)

    def commit(self, changes: Changes) -> None:
        """Take what changed."""
        super().commit(changes)
        for run in changes.archived:
            if self.runs.get(run.session_id) is run:
                del self.runs[run.session_id]
        self._books.update((book.name, book) for book in changes.books.books)
        for each in changes.books.cells:
            self._cells[each.budget, each.group, each.chunk] = each
        self._closings += changes.books.closings

    def books(self) -> BookChanges:
        """Return all of the books."""
        cells = tuple(each for each in self._cells.values() if each.cells)
        return BookChanges(tuple(self._books.values()), (), cells, tuple(self._closings))


def fill(
    config: SidecarConfig,
    storage: Storage,
    restored: Restored,
    now: Callable[[], float] = time.time,
    least_step: float = LEAST_STEP,
) -> bool:
    """Fill the new budgets of a configuration that ask for it; return whether any was filled.

    restored: what the storage had. least_step: seconds between two moments, at least. What is
    filled is stored. If the history cannot be read that is said, and the budgets count from now on.
    """
    known = {book.name: book.key for book in restored.books.books}
    wanted = tuple(
        budget
        for budget in rules_of(config).budgets
        if budget.backfill
        and budget.window.kind is not WindowKind.RUN
        and known.get(budget.name) != digest_of(budget.books_key)
    )
    if not wanted or config.source.prometheus is None:
        return False
    begins = not (restored.runs or restored.sequence)
    end = now() if begins or restored.stored_at is None else min(restored.stored_at, now())
    begin = min(_begin(budget, end) for budget in wanted)
    names = ", ".join(budget.name for budget in wanted)
    try:
        collected = asyncio.run(
            asyncio.wait_for(_replayed(config, wanted, begin, end, least_step), _TAKES_MOST)
        )
    except (HistoryError, TimeoutError) as exc:
        why = str(exc) or f"it takes more than {_TAKES_MOST:.0f} s"
        logger.error(  # noqa: TRY400 - the source is at fault
            "budgets %s are not filled from history: %s. They count from now on; what was used "
            "before is not in them", names, why,
        )  # fmt: skip
        return False
    runs = list(collected.runs.values()) if begins else []
    storage.commit(Changes(restored.sequence, runs, books=collected.books()))
    logger.info("budgets %s are filled from history, from %s to %s", names, utc(begin), utc(end))
    return True


def _begin(budget: Budget, now: float) -> float:
    """Return from when on a budget is filled: the window before the present one is in it."""
    window = budget.window
    if window.kind is WindowKind.CALENDAR:
        span = span_at(window, now)
        before = span_before(window, span)
        return span.start if before is None else before.start
    return now - (_TOTAL if window.kind is WindowKind.TOTAL else 2 * window.seconds)


async def _replayed(
    config: SidecarConfig,
    budgets: tuple[Budget, ...],
    begin: float,
    end: float,
    least_step: float,
) -> _Collected:
    """Return what a sidecar with these budgets would have stored."""
    assert config.source.prometheus is not None  # noqa: S101 - only then is there a history
    settings = prometheus_settings(config.source.prometheus)
    step = max(settings.interval, least_step, (end - begin) / _MOMENTS_MOST)
    begin = end - math.ceil((end - begin) / step) * step  # the last moment is the end
    settings = replace(settings, interval=step, details=details_of(config))
    past = PrometheusHistory(settings, begin, end, clock=time.monotonic)
    collected = _Collected()
    evaluator = Evaluator(collected, Restored(), begin)
    rules = Rules()
    async with aclosing(past.ticks()) as ticks:
        async for tick in ticks:
            _take(evaluator, tick, rules, config.verdicts.forget_after)
            rules = Rules(budgets=budgets) if rules.budgets is not budgets else rules
    for gap in past.coverage.gaps:
        logger.warning(
            "history: from %s to %s: %s; what was used then is counted when it is seen next",
            utc(gap.begin), utc(gap.end), gap.why,
        )  # fmt: skip
    return collected


def _take(evaluator: Evaluator, tick: Tick, rules: Rules, forget_after: float) -> None:
    """Do one step, and those for the new runs that it had no room for."""
    rest: Observation | None = tick.observation
    if rest is None:
        rest = Observation(SOURCE, tick.at, asked=_THE_SAME)
    while rest is not None:
        rest = evaluator.tick(rest, rules, forget_after, tick.at).rest
