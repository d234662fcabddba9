"""The book of one budget: what each of its groups used, by window or bucket.

A cell is a window; of ROLLING a bucket: a minute, a sixtieth of a window of less than an hour, a
1440th of one of more than a day. Use goes to the cell of its time. A rolling window holds a
bucket until all of it has left. The present window and the one before it are kept, also those
ahead of a clock that was set back; what is older, or over, is in the history (``closings``), and
use that comes late is added to it there.

Each question costs what changed since the last: sums are kept, and what is due next is in a heap.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from otel_budget import semconv
from otel_budget.core.budget import WindowKind, WindowSpan
from otel_budget.core.token_kinds import WHOLE_WEIGHT
from otel_budget.ledger.book_values import (
    EVERY_RESOURCE,
    NO_AMOUNTS,
    NO_RESOURCES,
    ClosedWindow,
    GroupUse,
    StoredBook,
    StoredCell,
    StoredCells,
    add,
    carried_from,
    digest_of,
    shortfall,
    take_off,
    whole,
)
from otel_budget.ledger.windows import span_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from otel_budget.core.budget import Budget, BudgetKey, Group
    from otel_budget.core.quantities import Number
    from otel_budget.ledger.book_values import LostUse

#: Seconds of a bucket; a window has at least so many, and at most so many of a longer one.
_BUCKET, _BUCKETS_LEAST, _BUCKETS_MOST = 60.0, 60, 1440
#: Buckets that are stored together.
_CHUNK: Final = 24
#: Windows without use that are gone through one by one to find what is carried over.
_EMPTY_MOST: Final = 64
GrantedIn = Callable[["BudgetKey", float, float], "Mapping[str, Number]"]
_NO_WINDOW: Final = WindowSpan(-math.inf)


class Cell:
    """A window of a group, or a bucket of one."""

    __slots__ = ("at_least", "carried", "closed", "end", "start", "used")

    def __init__(self, start: float, end: float, carried: Mapping[str, Number] = NO_AMOUNTS):
        self.start, self.end, self.carried = start, end, carried
        self.used: dict[str, Number] = {}
        self.closed = False
        self.at_least: frozenset[str] = NO_RESOURCES
        """Resources of which part of the use is unknown."""

    def stored(self) -> StoredCell:
        """Return it as it is stored."""
        used = dict(self.used)
        return StoredCell(self.start, self.end, used, self.carried, self.closed, self.at_least)

    @classmethod
    def of(cls, stored: StoredCell) -> Cell:
        """Return what was stored."""
        cell = cls(stored.start, stored.end, stored.carried)
        cell.used = dict(stored.used)
        cell.closed, cell.at_least = stored.closed, stored.at_least
        return cell


class GroupBook:
    """What one group used."""

    __slots__ = ("cells", "members", "present", "revision", "total", "use")

    def __init__(self) -> None:
        self.cells: dict[float, Cell] = {}
        """By start."""
        self.present: Cell | None = None
        """Of the present window; of ROLLING always None."""
        self.total: dict[str, Number] = {}
        """Of ROLLING what is in all cells."""
        self.members = 0
        """Runs in the ledger that count in it."""
        self.revision = 0
        self.use: GroupUse | None = None
        """As it was asked for last."""

    @property
    def is_empty(self) -> bool:
        """True if nothing of it is worth a place."""
        return not self.members and not any(cell.used for cell in self.cells.values())


class BudgetBook:
    """The groups of one budget. All times are Unix time of the clock that ``advance`` is told."""

    def __init__(self, budget: Budget, counted_from: float, revisions: Iterator[int]) -> None:
        """Begin empty. revisions: gives numbers, none twice."""
        self.budget, self.counted_from, self._revisions = budget, counted_from, revisions
        self.groups: dict[Group, GroupBook] = {}
        self.changed: set[Group] = set()
        """Groups of which something else is to be said than before, until they are taken."""
        self.refused = 0
        """Runs so far that found no place of their own."""
        self.is_full = False
        """True if the last run that wanted a place found none."""
        self.granted_in: GrantedIn = lambda _key, _start, _at: NO_AMOUNTS
        """Returns what top-ups granted a group in its window that began then, as of a moment."""
        self.header_is_stored = False
        self._key = digest_of(budget.books_key)
        self._kind = budget.window.kind
        self._rolls = self._kind is WindowKind.ROLLING
        self._width = _bucket_of(budget.window.seconds) if self._rolls else 0.0
        self._now = counted_from
        self._span = self._span_at(counted_from)
        """Of CALENDAR and TOTAL, the present window."""
        self._kept_from = self._start_before()
        """Windows that ended by then are in the history alone."""
        self._due: list[tuple[float, int, Group, float]] = []
        """Of ROLLING and FIRST_USE: when a cell leaves, a number, and the cell."""
        self._number = 0
        self._unstored: set[tuple[Group, str]] = set()
        self._closings: dict[tuple[Group, float], ClosedWindow] = {}

    # What is asked of it.

    def use_of(self, group: Group) -> GroupUse:
        """Return what a group used in the present window; nothing of one that is not known."""
        book = self.groups.get(group)
        if book is None:
            return GroupUse({}, self._present_span(None), {}, self.counted_from, 0, 0, None)
        use = book.use
        if use is None or use.revision != book.revision:
            cell = book.present
            used = book.total if self._rolls else (cell.used if cell else NO_AMOUNTS)
            opened = self._kind is WindowKind.FIRST_USE and cell is not None
            use = book.use = GroupUse(
                whole(used), self._present_span(cell), cell.carried if cell else NO_AMOUNTS,
                self.counted_from, book.revision, book.members,
                cell.start if opened and cell else None, self._at_least(book),
            )  # fmt: skip
        if use.sessions != book.members:
            use = book.use = use._replace(sessions=book.members)
        return use

    def _at_least(self, book: GroupBook) -> frozenset[str]:
        cells = book.cells.values() if self._rolls else [book.present] if book.present else []
        found = [cell.at_least for cell in cells if cell.at_least]
        return NO_RESOURCES.union(*found) if found else NO_RESOURCES

    def _present_span(self, cell: Cell | None) -> WindowSpan:
        if self._rolls:
            return span_at(self.budget.window, self._now)
        if self._kind is WindowKind.FIRST_USE:
            return _NO_WINDOW if cell is None else WindowSpan(cell.start, cell.end, cell.end)
        return self._span

    # What it takes in.

    def has_place(self, group: Group) -> bool:
        """Tell whether a group is known, or may be."""
        return group in self.groups or len(self.groups) < self._most

    @property
    def _most(self) -> int:
        """Groups there may be: the one past all is beside them."""
        return self.budget.groups_max + (None in self.groups)

    def open(self, group: Group) -> GroupBook:
        """Return the book of a group, made if need be."""
        book = self.groups.get(group)
        if book is None:
            book = self.groups[group] = GroupBook()
            book.revision = next(self._revisions)
            if self._carries and self._kind is WindowKind.CALENDAR:
                book.present = self._cell(group, book, self._span.start, self._span.end)
        return book

    def leave(self, group: Group) -> None:
        """Take note that a run does not count in a group any more."""
        book = self.groups.get(group)
        if book is None:
            return
        book.members -= 1
        if self.budget.per and book.is_empty:
            self.let_go(group)

    def take(
        self,
        group: Group,
        increase: Mapping[str, Number],
        at: float,
        at_least: frozenset[str] = NO_RESOURCES,
    ) -> None:
        """Book what was used, as of its sample. at_least: resources of which more was, unknown."""
        book = self.open(group)
        cell = book.present
        if cell is None or not cell.start <= at < cell.end:
            used = at_least or any(increase.values())
            if self._kind is WindowKind.FIRST_USE and not used:
                return  # that nothing is used yet is no first use
            cell = self._cell_for(group, book, at)
        if cell is None:
            self._late(group, at, increase, at_least)
            return
        add(cell.used, increase)
        if at_least:
            cell.at_least |= at_least
        if cell.closed:
            self._close(group, cell, increase)
        if self._rolls:
            add(book.total, increase)
        self._touch(group, book, cell)

    def _cell_for(self, group: Group, book: GroupBook, at: float) -> Cell | None:
        """Return the cell of a moment; None if it is in the history alone."""
        if self._rolls:
            start = math.floor(at / self._width) * self._width
            end = start + self._width
            if end + self.budget.window.seconds <= self._now:
                return None
            return book.cells.get(start) or self._cell(group, book, start, end)
        if self._kind is WindowKind.FIRST_USE:
            return self._first_use_cell(group, book, at)
        span = self._span if self._span.start <= at < self._span.end else self._span_at(at)
        cell = book.cells.get(span.start)
        if cell is None and span.end <= self._kept_from:
            return None
        if cell is None:
            cell = self._cell(group, book, span.start, span.end)
            cell.closed = span.end <= self._now
        if span.start == self._span.start:
            book.present = cell
        return cell

    def _first_use_cell(self, group: Group, book: GroupBook, at: float) -> Cell | None:
        """Return the window that holds a moment, opened by it if none does.

        A moment before the newest window and after the one before it is counted in the newest:
        it would have opened then.
        """
        newest = max(book.cells.values(), key=lambda cell: cell.start, default=None)
        if newest is None or at >= newest.end:
            carried = NO_AMOUNTS if newest is None else self._left_by(group, newest)
            if newest is not None:
                self._end(group, newest)
            for start in [s for s, cell in book.cells.items() if cell is not newest]:
                self._drop(group, book, start)
            cell = self._cell(group, book, at, at + self.budget.window.seconds, carried)
            book.present = cell if at + self.budget.window.seconds > self._now else None
            if book.present is None:
                self._end(group, cell)
            return cell
        for cell in book.cells.values():
            if cell.start <= at < cell.end:
                return cell
        return newest if at > newest.start - self.budget.window.seconds else None

    def _late(
        self,
        group: Group,
        at: float,
        increase: Mapping[str, Number],
        at_least: frozenset[str],
    ) -> None:
        """Add use to a window of which only the history is kept."""
        if self._rolls:
            span = self._tile(at)
        elif self._kind is WindowKind.FIRST_USE:
            span = WindowSpan(at, at + self.budget.window.seconds)
        else:
            span = self._span_at(at)
        self._add_closing(group, span.start, span.end, increase, at_least=at_least)
        book = self.groups[group]
        if self._rolls and book.is_empty:
            self.let_go(group)

    # What passes.

    def advance(self, now: float) -> None:
        """Let windows and buckets end that are over."""
        self._now = now
        while self._due and self._due[0][0] <= now:
            _, _, group, start = heapq.heappop(self._due)
            book = self.groups.get(group)
            cell = None if book is None else book.cells.get(start)
            if book is None or cell is None:
                continue
            if self._rolls:
                self._leave_cell(group, book, cell)
            else:
                self._leave_window(group, book, cell)
        if self._kind is WindowKind.CALENDAR and not self._span.start <= now < self._span.end:
            self._span = self._span_at(now)
            self._kept_from = self._start_before()
            for group, book in list(self.groups.items()):
                self._turn(group, book)

    def _tile(self, at: float) -> WindowSpan:
        """Return as what use of a rolling window is in the history: a row for each length of it."""
        seconds = self.budget.window.seconds
        start = math.floor(at / seconds) * seconds
        return WindowSpan(start, start + seconds)

    def _leave_cell(self, group: Group, book: GroupBook, cell: Cell) -> None:
        """Let a bucket leave that is out of the window as a whole."""
        take_off(book.total, cell.used)
        if not cell.closed:
            span = self._tile(cell.start)
            self._add_closing(group, span.start, span.end, cell.used, at_least=cell.at_least)
        self._drop(group, book, cell.start)
        self._changes(group, book)
        if book.is_empty:
            self.let_go(group)

    def _leave_window(self, group: Group, book: GroupBook, cell: Cell) -> None:
        """End a window from first use; it is kept for as long again, or for what it leaves."""
        self._end(group, cell)
        book.present = None if book.present is cell else book.present
        kept_until = cell.end + self.budget.window.seconds
        if self._now < kept_until:
            self._expect(group, cell, kept_until)
        elif self._leaves_something(group, book, cell):
            self._expect(group, cell, self._now + self.budget.window.seconds)
        else:
            self._drop(group, book, cell.start)
        self._changes(group, book)
        if self.budget.per and book.is_empty:
            self.let_go(group)

    def _leaves_something(self, group: Group, book: GroupBook, cell: Cell) -> bool:
        """Tell whether the next window, whenever it opens, needs this one.

        Of a group without runs only for an overrun: its place may be wanted.
        """
        if not self._carries or any(start > cell.start for start in book.cells):
            return False
        left = self._left_by(group, cell)
        if self.budget.per and not book.members:
            return any(amount < 0 for amount in left.values())
        return bool(left)

    def _turn(self, group: Group, book: GroupBook) -> None:
        """Begin another window of a group. It may be one before, if the clock was set back."""
        for cell in sorted(book.cells.values(), key=lambda cell: cell.start):
            if cell.end <= self._span.start:
                self._end(group, cell)
        present = book.cells.get(self._span.start)
        if self._carries and present is None:
            before = [cell for cell in book.cells.values() if cell.end <= self._span.start]
            last = max(before, key=lambda cell: cell.start, default=None)
            carried = NO_AMOUNTS if last is None else self._left_by(group, last)
            present = self._cell(group, book, self._span.start, self._span.end, carried)
        book.present = present
        for start in [s for s, cell in book.cells.items() if cell.end <= self._kept_from]:
            self._drop(group, book, start)
        self._changes(group, book)
        if self.budget.per and book.is_empty:
            self.let_go(group)

    def _left_by(self, group: Group, cell: Cell) -> Mapping[str, Number]:
        """Return what a window, and those without use after it, leave to the present one."""
        budget, used, carried = self.budget, whole(cell.used), cell.carried
        if not self._carries:
            return NO_AMOUNTS
        granted, end = self._granted(group, cell), cell.end
        for _ in range(_EMPTY_MOST):
            before = carried
            carried = carried_from(
                budget.limits, used, carried, granted,
                share=budget.carry_over, overrun=budget.carry_overrun,
            )  # fmt: skip
            used, granted = {}, NO_AMOUNTS
            if self._kind is not WindowKind.CALENDAR or end >= self._span.start:
                break
            if carried == before and end != cell.end:
                break
            end = self._span_at(end).end
        return carried

    def _granted(self, group: Group, cell: Cell) -> Mapping[str, Number]:
        """Return what top-ups granted in a window when it ended: what they cover is no overrun.

        It may have ended while nobody looked.
        """
        return self.granted_in((self.budget.name, group), cell.start, min(cell.end, self._now))

    @property
    def _carries(self) -> bool:
        return self.budget.carry_over > 0 or self.budget.carry_overrun

    # History, and what is to be stored.

    def _end(self, group: Group, cell: Cell) -> None:
        """Put a window into the history, once."""
        if cell.closed:
            return
        cell.closed = True
        self._unstored.add((group, self._chunk(cell)))
        self._close(group, cell, cell.used, whole_window=True)

    def _close(
        self, group: Group, cell: Cell, more: Mapping[str, Number], *, whole_window: bool = False
    ) -> None:
        limits: dict[str, Number] = {}
        if whole_window:
            limits = dict(self.budget.limits)
            for amounts in (cell.carried, self._granted(group, cell)):
                add(limits, {r: amount for r, amount in amounts.items() if r in limits})
            # An overrun may take all of a limit, and no more: as while the window was open.
            limits = {r: max(limit, type(limit)(0)) for r, limit in limits.items()}
        span = self._tile(cell.start) if self._rolls else WindowSpan(cell.start, cell.end)
        self._add_closing(
            group, span.start, span.end, more,
            limits=limits, carried=cell.carried, at_least=cell.at_least,
        )  # fmt: skip

    def _add_closing(
        self,
        group: Group,
        start: float,
        end: float,
        more: Mapping[str, Number],
        *,
        limits: Mapping[str, Number] = NO_AMOUNTS,
        carried: Mapping[str, Number] = NO_AMOUNTS,
        at_least: frozenset[str] = NO_RESOURCES,
    ) -> None:
        partly = not at_least.isdisjoint(self.budget.limits)
        known = self._closings.get((group, start))
        used = {} if known is None else dict(known.used)
        add(used, more)
        if known is not None:
            limits, partly = limits or known.limits, partly or known.at_least
            carried = carried or known.carried
        self._closings[group, start] = ClosedWindow(
            self.budget.name, group, self.budget.per, start, end, used, limits, carried,
            self.counted_from, partly,
        )  # fmt: skip

    def close_all(self) -> None:
        """Put all that is not in the history yet there: the budget ends."""
        for group, book in self.groups.items():
            for cell in book.cells.values():
                self._end(group, cell)

    def header(self, ended_at: float | None = None, ahead: float = 0.0) -> StoredBook:
        """Return the book without its cells. ahead: as in StoredBook."""
        budget = self.budget
        return StoredBook(budget.name, self._key, budget.per, self.counted_from, ended_at, ahead)

    def unstored(self) -> tuple[list[StoredCells], list[ClosedWindow]]:
        """Return the cells, and what is to be added to the history, that are not on disk."""
        cells = [self._stored_cells(group, chunk) for group, chunk in self._unstored]
        return cells, list(self._closings.values())

    def stored(self) -> None:
        """Take note that all of it is on disk."""
        self._unstored.clear()
        self._closings.clear()
        self.header_is_stored = True

    def all_unstored(self) -> None:
        """Take note that nothing of it is on disk."""
        self.header_is_stored = False
        self._unstored |= self._places()

    def _places(self) -> set[tuple[Group, str]]:
        """Return the groups and chunks that there is anything in."""
        return {
            (group, self._chunk(cell))
            for group, book in self.groups.items()
            for cell in book.cells.values()
        }

    def all_cells(self) -> Iterable[StoredCells]:
        """Return all cells as they are stored."""
        return [self._stored_cells(group, chunk) for group, chunk in self._places()]

    def _stored_cells(self, group: Group, chunk: str) -> StoredCells:
        book = self.groups.get(group)
        if self._rolls:
            first = int(chunk) * _CHUNK
            starts = [(first + n) * self._width for n in range(_CHUNK)]
        else:
            starts = [float(chunk)]
        known = {} if book is None else book.cells
        cells = tuple([known[start].stored() for start in starts if start in known])
        return StoredCells(self.budget.name, group, chunk, cells, self._key, self.counted_from)

    def restore(
        self,
        stored: Iterable[StoredCells],
        moved: float = 0.0,
        damaged_at: float | None = None,
    ) -> None:
        """Take in cells as they were stored.

        moved: seconds by which the present clock is ahead of theirs. Windows of the calendar stay
        where they are: which of their use was on which side of a boundary is not known.
        damaged_at: when they were written last, if rows among them may be older copies: a bucket
        that had left the window by then is in the history.
        """
        lasts = self.budget.window.seconds
        for each in stored:
            group = each.group
            book = self.groups.setdefault(group, GroupBook())
            for one in each.cells:
                if self._rolls and damaged_at is not None and one.end + lasts <= damaged_at:
                    continue
                cell = self._moved(Cell.of(one), moved) if moved else Cell.of(one)
                if moved:
                    self._unstored |= {(group, each.chunk), (group, self._chunk(cell))}
                if cell.start in book.cells:
                    add(book.cells[cell.start].used, cell.used)
                    book.cells[cell.start].at_least |= cell.at_least
                else:
                    book.cells[cell.start] = cell
                    self._expect(group, cell)
                if self._rolls:
                    add(book.total, cell.used)
                elif self._is_present(cell) and (
                    book.present is None or book.present.start < cell.start
                ):
                    book.present = cell
            self._changes(group, book)
        if self._kind is WindowKind.CALENDAR:
            for group, book in list(self.groups.items()):
                self._turn(group, book)

    def _moved(self, cell: Cell, seconds: float) -> Cell:
        """Return a cell on another clock; a bucket not earlier than it was."""
        if self._rolls:
            cell.start = math.ceil((cell.start + seconds) / self._width) * self._width
            cell.end = cell.start + self._width
        elif self._kind is WindowKind.FIRST_USE:
            cell.start, cell.end = cell.start + seconds, cell.end + seconds
        return cell

    def _is_present(self, cell: Cell) -> bool:
        """Tell whether a window is the present one; of FIRST_USE also one that lies ahead."""
        begun = self._kind is WindowKind.FIRST_USE or cell.start <= self._now
        return begun and self._now < cell.end

    def lost(self, lost: LostUse) -> None:
        """Take note that part of what a group used could not be read, and what is known of it."""
        group, at = lost.group, self._now if lost.at is None else min(lost.at, self._now)
        book = self.open(group)
        known = whole(book.total if self._rolls else book.present.used if book.present else {})
        more: dict[str, Number] = {
            resource: int(used) * WHOLE_WEIGHT if resource == semconv.TOKENS else used
            for resource, used in shortfall(known, lost.used).items()
        }
        if more:
            self.take(group, more, at)
        cell = book.present or self._cell_for(group, book, self._now)
        if cell is not None:
            cell.at_least = EVERY_RESOURCE
            self._touch(group, book, cell)

    def _cell(
        self,
        group: Group,
        book: GroupBook,
        start: float,
        end: float,
        carried: Mapping[str, Number] = NO_AMOUNTS,
    ) -> Cell:
        cell = book.cells[start] = Cell(start, end, carried)
        self._expect(group, cell)
        self._unstored.add((group, self._chunk(cell)))
        return cell

    def _expect(self, group: Group, cell: Cell, at: float | None = None) -> None:
        """Note when a cell leaves, where that is not the same for all. None: its window."""
        if self._rolls or self._kind is WindowKind.FIRST_USE:
            self._number += 1
            leaves = cell.end + (self.budget.window.seconds if self._rolls else 0.0)
            leaves = leaves if at is None else at
            heapq.heappush(self._due, (leaves, self._number, group, cell.start))

    def _drop(self, group: Group, book: GroupBook, start: float) -> None:
        self._unstored.add((group, self._chunk(book.cells.pop(start))))

    def let_go(self, group: Group) -> None:
        """Forget a group: its place is free."""
        for start in list(self.groups[group].cells):
            self._drop(group, self.groups[group], start)
        del self.groups[group]
        self.is_full = False

    def _touch(self, group: Group, book: GroupBook, cell: Cell) -> None:
        self._unstored.add((group, self._chunk(cell)))
        self._changes(group, book)

    def _changes(self, group: Group, book: GroupBook) -> None:
        book.revision = next(self._revisions)
        self.changed.add(group)

    def _chunk(self, cell: Cell) -> str:
        if not self._rolls:
            return repr(cell.start)
        return str(round(cell.start / self._width) // _CHUNK)

    def _start_before(self) -> float:
        """Return when the window before the present one began, where there are any."""
        if self._kind is not WindowKind.CALENDAR:
            return -math.inf
        return self._span_at(self._span.start - 1).start

    def _span_at(self, at: float) -> WindowSpan:
        return span_at(self.budget.window, at, self.counted_from)


def _bucket_of(seconds: float) -> float:
    """Return the seconds of a bucket of a rolling window."""
    return min(seconds / _BUCKETS_LEAST, max(_BUCKET, seconds / _BUCKETS_MOST))
