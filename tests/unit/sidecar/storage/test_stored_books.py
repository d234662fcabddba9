"""The books of shared budgets through the storage: what the next process knows of them."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from otel_budget import semconv
from otel_budget.core.budget import Budget, Window, WindowKind
from otel_budget.core.verdict import Verdict
from otel_budget.ledger.book_values import NO_BOOK_CHANGES
from otel_budget.ledger.ledger import Ledger
from otel_budget.sidecar.storage.base import Changes, Restored, Storage
from otel_budget.sidecar.storage.sqlite.storage import open_sqlite
from tests.unit.ledger.test_books import DAY, DAYS, HOUR, MIDNIGHT, TOTAL, Counted, budget

WINDOWS = {
    "total": TOTAL,
    "day": DAY,
    "rolling": Window(WindowKind.ROLLING, DAYS),
    "first use": Window(WindowKind.FIRST_USE, 5 * HOUR),
}


class Process(Counted):
    """A process with a storage, which may be killed."""

    def __init__(self, path: Path, *budgets: Budget, now: float) -> None:
        self.path, self.kept = str(path), budgets
        self.begin(now)

    def begin(self, now: float) -> None:
        """Begin with what is stored."""
        self.now = now
        self.storage: Storage
        self.storage, self.restored = open_sqlite(self.path, lambda: self.now)
        self.ledger = Ledger()
        self.tokens = getattr(self, "tokens", {})
        for run in self.restored.runs:
            self.ledger.adopt(run, now)
        self.ledger.books.restore(self.restored.books, self.restored.clock_set)
        self.edit(*self.kept)

    def store(self, verdicts: tuple[Verdict, ...] = ()) -> None:
        """Store all there is."""
        books = self.ledger.books.unstored()
        self.storage.commit(
            Changes(1, list(self.ledger.runs.values()), verdicts=verdicts, books=books)
        )
        self.ledger.books.stored()

    def restart(self, now: float) -> None:
        """Be killed after the newest commit, and begin again."""
        self.storage.close()
        self.begin(now)


Open = Callable[..., Process]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Return what begins a process with budgets, at ``now``."""
    begun: list[Process] = []

    def begin(*budgets: Budget, now: float) -> Process:
        begun.append(Process(tmp_path / "db", *budgets, now=now))
        return begun[-1]

    yield begin
    for process in begun:
        process.storage.close()


@pytest.mark.parametrize("window", WINDOWS.values(), ids=list(WINDOWS))
def test_a_killed_process_goes_on_where_it_was(window: Window, opened: Open) -> None:
    """What was used since the newest commit is read again, and booked once."""
    process = opened(budget(window=window, per=("user",)), now=MIDNIGHT)
    process.use("one", 100, MIDNIGHT + 61, user="ann", cost="0.1")
    process.use("two", 30, MIDNIGHT + 3700, user="bob")
    process.store()
    process.use("one", 7, MIDNIGHT + 3800, user="ann", cost="0.3")
    before = process.said("all", "ann")
    process.restart(MIDNIGHT + 3900)
    assert process.used("all", "ann") == 100
    process.use("one", 0, MIDNIGHT + 4000, user="ann", cost="0.3")
    after = process.said("all", "ann")
    assert after.used == before.used == {semconv.TOKENS: 107, semconv.COST: Decimal("0.3")}
    assert (after.counted_from, after.opened_at) == (before.counted_from, before.opened_at)
    assert not after.at_least
    assert process.used("all", "bob") == 30
    assert not process.said("all", "bob").at_least


def test_only_what_changed_is_written(opened: Open) -> None:
    """A group that uses nothing is not written again."""
    process = opened(budget(per=("user",)), now=MIDNIGHT)
    process.use("one", 100, MIDNIGHT + 1, user="ann")
    process.use("two", 30, MIDNIGHT + 2, user="bob")
    process.store()
    assert process.ledger.books.unstored() == NO_BOOK_CHANGES
    process.use("two", 1, MIDNIGHT + 3, user="bob")
    changes = process.ledger.books.unstored()
    assert [cells.group for cells in changes.cells] == [("bob",)]
    assert (changes.books, changes.closings) == ((), ())


def test_windows_that_are_over_are_kept_one_row_each(opened: Open) -> None:
    """A late sample is added to its window, and nothing else changes."""
    process = opened(budget(window=DAY), now=MIDNIGHT)
    for day in range(4):
        process.use("one", 10 + day, MIDNIGHT + day * DAYS + 5)
        process.store()
    process.use("late", 500, MIDNIGHT + 3 * DAYS + 9, late=2 * DAYS + 7)
    process.store()
    windows = process.storage.closed_windows("all", (), -1)
    assert [(w.start, w.used[semconv.TOKENS]) for w in windows] == [
        (MIDNIGHT + 2 * DAYS, 12),
        (MIDNIGHT + 1 * DAYS, 511),
        (MIDNIGHT, 10),
    ]
    assert {w.limits[semconv.TOKENS] for w in windows} == {1000}
    assert process.storage.closed_windows("all", (), 1) == windows[:1]
    assert process.storage.closed_windows("all", ("ann",), -1) == []
    assert process.used() == 13


def test_a_window_that_ended_while_nobody_looked_is_closed_and_carried(opened: Open) -> None:
    """Its limits are those in force when that is noticed."""
    process = opened(budget(window=DAY, carry_over=0.5), now=MIDNIGHT)
    process.use("one", 900, MIDNIGHT + 5)
    process.store()
    process.restart(MIDNIGHT + DAYS + 60)
    assert (process.said().used, process.said().carried) == ({}, {semconv.TOKENS: 100})
    process.store()
    (closed,) = process.storage.closed_windows("all", (), -1)
    assert closed.used == {semconv.TOKENS: 900}


def test_edits_while_nobody_looked_are_edits(opened: Open) -> None:
    """Another match begins anew; what is taken out ends, and goes on when it is back."""
    process = opened(budget(), budget("other"), now=MIDNIGHT)
    process.use("one", 900, MIDNIGHT + 5, team="core")
    process.store()
    process.kept = (budget(match={"team": ("core",)}),)
    process.restart(MIDNIGHT + 10)
    process.use("one", 7, MIDNIGHT + 15, team="core")
    assert (process.used(), process.said().counted_from) == (7, MIDNIGHT + 10)
    process.store()
    process.kept = (*process.kept, budget("other"))
    process.restart(MIDNIGHT + 20)
    process.use("one", 1, MIDNIGHT + 25, team="core")
    assert (process.used(), process.used("other")) == (8, 901)
    process.store()
    windows = process.storage.closed_windows("all", (), -1)
    assert [w.used[semconv.TOKENS] for w in windows] == [900]


def test_a_row_that_cannot_be_read_costs_its_group_alone(opened: Open) -> None:
    """That is counted anew, at least from what verdicts said of it, and says so."""
    process = opened(budget(per=("user",)), now=MIDNIGHT)
    process.use("one", 100, MIDNIGHT + 1, user="ann")
    process.use("two", 30, MIDNIGHT + 2, user="bob")
    process.store()
    process.storage.close()
    with contextlib.closing(sqlite3.connect(process.path)) as db, db:
        db.execute(
            "UPDATE budget_cells SET body = replace(body, '100000', '000007') WHERE body LIKE ?",
            ("%ann%",),
        )
    process.begin(MIDNIGHT + 10)
    process.use("one", 5, MIDNIGHT + 15, user="ann")
    assert semconv.TOKENS in process.said("all", "ann").at_least
    assert process.used("all", "ann") == 5
    assert process.used("all", "bob") == 30
    assert not process.said("all", "bob").at_least
    process.store()
    process.restart(MIDNIGHT + 20)
    assert semconv.TOKENS in process.said("all", "ann").at_least


@pytest.mark.parametrize("moved", [-3 * HOUR, 3 * HOUR])
def test_buckets_move_with_a_clock_that_was_set(moved: float) -> None:
    """None leaves its window earlier than it would have."""
    window = Window(WindowKind.ROLLING, DAYS)
    before = Counted(budget(window=window), now=MIDNIGHT)
    before.use("one", 100, MIDNIGHT + 61)
    cells = before.ledger.books.unstored()
    after = Counted(now=MIDNIGHT)
    restored = Restored()
    books = restored.books._replace(books=cells.books, cells=cells.cells)
    after.ledger.books.restore(books, moved)
    after.edit(budget(window=window), at=MIDNIGHT + moved + 100)
    after.tick(MIDNIGHT + moved + DAYS + 60)
    assert after.used() == 100
    after.tick(MIDNIGHT + moved + DAYS + 180)
    assert after.used() is None


def test_disk_and_memory_are_flat_over_the_years(opened: Open) -> None:
    """Whoever comes and goes: what is kept is the windows of 400 days, and of those present two."""
    windows = {
        "hours": Window(WindowKind.CALENDAR, every="hour"),
        "days": DAY,
        "months": Window(WindowKind.CALENDAR, every="month"),
        "rolling": WINDOWS["rolling"],
        "first": WINDOWS["first use"],
    }
    budgets = [budget(name, window=window, per=("user",)) for name, window in windows.items()]
    process = opened(*budgets, now=MIDNIGHT)
    sizes = {}
    for day in range(900):
        at = MIDNIGHT + day * DAYS + 14 * HOUR
        for user in (f"u{day % 7}", f"v{day // 100}"):
            process.use(f"{user}-{day}", 10, at, user=user)
        for run in process.ledger.forget(at + HOUR, 600.0):
            process.tokens.pop(f"{run.session_id} 0.0", None)
        process.store()
        if day in (460, 884):  # as far into a month, and as many users in it
            sizes[day] = _sizes(process)
    before, after = sizes[460], sizes[884]
    for what, number in after.items():
        assert number <= 1.1 * before[what], (what, before, after)


def _sizes(process: Process) -> dict[str, int]:
    """Return how much there is of it on disk and in memory."""
    books = process.ledger.books
    with contextlib.closing(sqlite3.connect(process.path)) as db:
        found = {
            table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - constants
            for table in ("budget_book", "budget_cells", "budget_window")
        }
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        (free,) = db.execute("PRAGMA freelist_count").fetchone()
    kept = [book for one in books._books.values() for book in one.groups.values()]
    return {
        **found,
        "pages of books": pages - free,
        "groups": len(kept),
        "cells": sum(len(book.cells) for book in kept),
        "due": sum(len(one._due) for one in books._books.values()),
    }


def test_what_calls_of_unknown_use_make_at_least_survives_a_restart(opened: Open) -> None:
    """They are in the books as they were stored, and what was unknown then is not new later."""
    process = opened(budget(window=DAY, per=("user",)), now=MIDNIGHT)
    process.use("one", 100, MIDNIGHT + 1, user="ann", unknown=2)
    process.use("two", 100, MIDNIGHT + 1, user="bob")
    process.store()
    process.restart(MIDNIGHT + 60)
    assert process.said("all", "ann").at_least == {semconv.TOKENS}
    assert not process.said("all", "bob").at_least
    process.use("one", 10, MIDNIGHT + DAYS + 1, user="ann", unknown=2)
    assert not process.said("all", "ann").at_least
    process.store()
    assert [w.at_least for w in process.storage.closed_windows("all", ("ann",), -1)] == [True]
    assert [w.at_least for w in process.storage.closed_windows("all", ("bob",), -1)] == [False]
