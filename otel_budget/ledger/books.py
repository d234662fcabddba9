"""The books: what runs used of the budgets that they share, by budget, group and window.

- What is booked is the increase of a run's totals since it was booked last, at the time of its
  sample, in full, once in each budget that the run counts in. Never less than nothing, never twice.
- A run that is read from the storage is booked as it was stored: both are stored in one commit.
- A budget counts from the tick in which it appears, and runs that are known then from then. Other
  limits, a title, a warning line or a mode change nothing here. With another ``match``, ``per``,
  ``window`` or ``weights`` it begins anew, and what was goes to the history. One that is taken out
  ends, and goes on where it was if it comes back.
- A run keeps for what it used the labels that it had then.
- Groups are bounded: runs for which there is no place go to the group None, loudly.

Budgets of ``window: run`` have no books: what counts is the run's own.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget import semconv
from otel_budget.core.budget import WindowKind
from otel_budget.core.token_kinds import WHOLE_WEIGHT
from otel_budget.ledger.book_values import (
    NO_RESOURCES,
    BookChanges,
    ClosedWindow,
    GroupUse,
    RunScope,
    StoredBook,
    StoredBooks,
    StoredCell,
    StoredCells,
    add,
    digest_of,
    weighed,
)
from otel_budget.ledger.budget_book import BudgetBook, GrantedIn
from otel_budget.ledger.findings import Finding, FindingKind
from otel_budget.ledger.scopes import effective_labels, group_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from otel_budget.core.budget import Budget, BudgetKey, Group
    from otel_budget.core.quantities import Number
    from otel_budget.ledger.book_values import LostUse
    from otel_budget.ledger.run import RunTotals

_NO_LABELS: Final[Mapping[str, str]] = {}
_NO_KINDS: Final[Mapping[str, int]] = {}
#: Combinations of labels of which it is kept in which groups they are, at most.
_KNOWN_MOST: Final = 20_000
#: Books of budgets that were taken out, at most.
_ENDED_MOST: Final = 200
#: Seconds for which they are kept.
_ENDED_KEPT: Final = 400 * 86_400.0


class _Ended(NamedTuple):
    """The books of a budget that is not in force."""

    header: StoredBook
    cells: tuple[StoredCells, ...]


class Books:
    """All that was used of shared budgets."""

    def __init__(self, findings: list[Finding]) -> None:
        """Begin without a budget. findings: what is found is added."""
        self.budgets: tuple[Budget, ...] = ()
        self.inherited: Callable[[RunTotals], Sequence[Mapping[str, str]]] = lambda _run: ()
        """Returns what the ancestors of a run say of themselves, the nearest first."""
        self.granted_in: GrantedIn = lambda _key, _start, _at: {}
        """As in BudgetBook."""
        self._findings = findings
        self._books: dict[str, BudgetBook] = {}
        self._ended: dict[str, _Ended] = {}
        self._headers: dict[str, StoredBook] = {}
        """Of books that ended, what is not on disk yet."""
        self._gone: set[str] = set()
        self._closings: list[BudgetBook] = []
        """Books that ended, with what of them is not on disk yet."""
        self._loose: list[ClosedWindow] = []
        self._cells: list[StoredCells] = []
        """What is not on disk of budgets that ended while this did not run."""
        self._lost: list[LostUse] = []
        self._clock_set = 0.0
        self._damaged_at: float | None = None
        self._is_read = False
        """True if it is not known yet which of what was stored is in force."""
        self._ahead = 0.0
        self._weighs = False
        """True if a budget weighs kinds of tokens."""
        self._generation = 0
        self._revisions = itertools.count(1)
        self._by_itself: dict[str, int] = {}
        """Of budgets without books, how many runs count in them, each by itself."""
        self._known: dict[int, tuple[Mapping[str, str], tuple[BudgetKey, ...]]] = {}
        self._shared: dict[tuple[BudgetKey, ...], tuple[BudgetKey, ...]] = {}

    # What policy, API and metrics ask.

    @property
    def is_open(self) -> bool:
        """True if there is a budget."""
        return bool(self.budgets)

    def keys_of(self, run: RunTotals) -> tuple[BudgetKey, ...]:
        """Return the budgets and groups in which a run counts now, by name.

        Also those of ``window: run``. Equal ones are one object.
        """
        scope, labels = run.scope, run.attributes.labels
        inherited = () if run.attributes.parent is None else tuple(self.inherited(run))
        if (
            scope is not None
            and scope.generation == self._generation
            and (scope.labels is labels or scope.labels == labels)
            and scope.inherited == inherited
        ):
            return scope.keys
        return self._assign(run, labels, inherited)

    def use_of(self, name: str, group: Group) -> GroupUse:
        """Return what a group used of a budget. Raises KeyError for one that has no books."""
        return self._books[name].use_of(group)

    def groups_of(self, name: str) -> Iterable[Group]:
        """Return the groups of a budget of which something is known; None is that of the rest."""
        book = self._books.get(name)
        return () if book is None else list(book.groups)

    def by_itself(self, name: str) -> int:
        """Return how many runs a budget of ``window: run`` counts, each by itself."""
        return self._by_itself.get(name, 0)

    def refused(self, name: str) -> int:
        """Return for how many runs so far there was no place in a budget for their own group."""
        book = self._books.get(name)
        return 0 if book is None else book.refused

    def take_changed(self) -> set[BudgetKey]:
        """Return, once, of which groups something else is to be said than before."""
        changed: set[BudgetKey] = set()
        for name, book in self._books.items():
            if book.changed:
                changed.update((name, group) for group in book.changed)
                book.changed = set()
        return changed

    def has(self, budgets: tuple[Budget, ...]) -> bool:
        """Tell whether these budgets are in force, and no others."""
        return budgets is self.budgets and not self._is_read

    # What goes in.

    def use_budgets(
        self,
        budgets: tuple[Budget, ...],
        runs: Iterable[RunTotals],
        now: float,
        rivals: Iterable[RunTotals] = (),
    ) -> None:
        """Take note which budgets there are from now on.

        runs: all that are known. rivals: others of their ids, which count once they are judged.
        """
        if self.has(budgets):
            return
        self._is_read = False
        known, weighed = list(runs), self._weighs
        self._weighs = any(budget.weights for budget in budgets)
        for run in (*known, *rivals):
            if not self.is_open:
                self.begin_at_present(run)
            elif self._weighs and not weighed:
                run.booked_kinds = run.token_kinds()
        self._take_over({b.name: b for b in budgets if b.window.kind is not WindowKind.RUN}, now)
        self.budgets = budgets
        self._count_again(known)

    def _take_over(self, wanted: Mapping[str, Budget], now: float) -> None:
        """Have a book for each budget, and no other."""
        for name in list(self._books):
            if name not in wanted:
                self._end(name, now)
            elif self._books[name].budget.books_key != wanted[name].books_key:
                self._begin_anew(wanted[name], now)
        for name, budget in wanted.items():
            book = self._books.get(name)
            if book is None:
                book = self._books[name] = self._resumed(budget, now) or self._new(budget, now)
                self._take_lost(book)
            else:
                book.budget = budget
        self._end_unwanted(now)

    def _count_again(self, runs: Iterable[RunTotals]) -> None:
        """Find out anew in which groups runs count."""
        self._generation += 1
        self._known.clear()
        self._shared.clear()
        self._by_itself.clear()
        for book in self._books.values():
            book.is_full = False
            for group_book in book.groups.values():
                group_book.members = 0
        for run in runs:
            run.scope = None
            if self.is_open:
                self.keys_of(run)

    def begin_at_present(self, run: RunTotals) -> None:
        """Count a run from what it has used up to now."""
        run.booked, run.scope = run.totals(), None
        run.booked_unsure = _unsure_of(run)
        if self._weighs:
            run.booked_kinds = run.token_kinds()

    def take(self, run: RunTotals, at: float) -> None:
        """Book what a run used since it was booked last. at: when its sample was taken."""
        totals, booked = run.totals(), run.booked
        if totals is booked:
            return  # as it is with most runs at every sample
        increase, fell = _increase(booked, totals)
        run.booked = _larger(booked, totals) if fell else totals
        partly = _newly_unsure(run)
        if not increase and not partly:
            return
        plain, tokens = increase, increase.get(semconv.TOKENS)
        if tokens is not None:
            plain = {**increase, semconv.TOKENS: int(tokens) * WHOLE_WEIGHT}
        kinds, run.booked_kinds = run.booked_kinds, run.token_kinds() if self._weighs else _NO_KINDS
        for name, group in self.keys_of(run):
            book = self._books.get(name)
            if book is None:
                continue
            weights = book.budget.weights
            if weights and tokens is not None:
                counted = weighed(int(tokens), kinds, run.booked_kinds, weights)
                book.take(group, {**increase, semconv.TOKENS: counted}, at, partly)
            else:
                book.take(group, plain, at, partly)

    def leave(self, run: RunTotals) -> None:
        """Take note that a run is not in the ledger any more."""
        if run.scope is not None and run.scope.generation == self._generation:
            self._leave(run.scope.keys)
        run.scope = None

    def _leave(self, keys: Iterable[BudgetKey]) -> None:
        """Count a run less in its groups."""
        for name, group in keys:
            book = self._books.get(name)
            if book is not None:
                book.leave(group)
            elif name in self._by_itself:
                self._by_itself[name] -= 1

    def advance(self, now: float) -> None:
        """Let windows end that are over."""
        for book in self._books.values():
            book.advance(now)

    # Groups.

    def _assign(
        self,
        run: RunTotals,
        labels: Mapping[str, str] | None,
        inherited: tuple[Mapping[str, str], ...],
    ) -> tuple[BudgetKey, ...]:
        """Find out in which groups a run counts from now on."""
        before = run.scope
        if before is not None and before.generation != self._generation:
            before = None
        wanted = self._groups_by_labels(labels or _NO_LABELS, inherited)
        known = {} if before is None else dict(before.keys)
        if len(self._shared) >= _KNOWN_MOST:
            self._shared.clear()
        found = tuple([(name, self._placed(run, name, group, known)) for name, group in wanted])
        found = self._shared.setdefault(found, found)
        if before is not None:
            self._leave(before.keys)
            if before.labels is not None and before.keys != found and before.labels != labels:
                self._report_change(run, before.labels, labels or _NO_LABELS)
        run.scope = RunScope(self._generation, labels, inherited, found)
        return found

    def _placed(self, run: RunTotals, name: str, group: Group, known: Mapping[str, Group]) -> Group:
        """Count a run in a group, or with those that find no place. known: where it was before."""
        book = self._books.get(name)
        if book is None:
            self._by_itself[name] = self._by_itself.get(name, 0) + 1
            return group
        if not book.has_place(group):
            if known.get(name, ()) is not None:
                self._refuse(book, run, group)
            group = None
        book.open(group).members += 1
        return group

    def _groups_by_labels(
        self, labels: Mapping[str, str], inherited: tuple[Mapping[str, str], ...]
    ) -> tuple[BudgetKey, ...]:
        """Return the group in each budget that labels match, if there were room for all."""
        if not inherited:
            known = self._known.get(id(labels))
            if known is not None:
                return known[1]
        effective = effective_labels((labels, *inherited))
        found = ((budget.name, group_in(budget, effective)) for budget in self.budgets)
        groups = tuple(sorted((name, group) for name, group in found if group is not None))
        if not inherited:
            if len(self._known) >= _KNOWN_MOST:
                self._known.clear()
            self._known[id(labels)] = (labels, groups)
        return groups

    def _refuse(self, book: BudgetBook, run: RunTotals, group: Group) -> None:
        """Count a run that finds no place for its group, and flag the first."""
        book.refused += 1
        if not book.is_full:
            book.is_full = True
            said = f"{book.budget.group_text(group)[:200]} is beyond {book.budget.groups_max}"
            self._findings.append(
                Finding(FindingKind.GROUPS_FULL, run.session_id, (), book.budget.name, said)
            )

    def _report_change(
        self, run: RunTotals, before: Mapping[str, str], after: Mapping[str, str]
    ) -> None:
        changed = sorted(k for k in {*before, *after} if before.get(k) != after.get(k))
        targets = tuple(sorted(run.targets))
        self._findings.append(
            Finding(FindingKind.LABELS_CHANGED, run.session_id, targets, ", ".join(changed)[:200])
        )

    # Budgets that come and go.

    def _end(self, name: str, now: float) -> None:
        """End the book of a budget that is not there any more; it may come back."""
        book = self._books.pop(name)
        book.close_all()
        header = book.header(now, self._ahead)
        self._ended[name] = _Ended(header, tuple(book.all_cells()))
        self._headers[name] = header
        self._closings.append(book)

    def _begin_anew(self, budget: Budget, now: float) -> None:
        """Close the book of a budget that counts in another way from now on."""
        book = self._books.pop(budget.name)
        book.close_all()
        for group in list(book.groups):
            book.let_go(group)
        self._closings.append(book)
        self._books[budget.name] = self._new(budget, now)

    def _new(self, budget: Budget, now: float) -> BudgetBook:
        book = BudgetBook(budget, now, self._revisions)
        book.granted_in = self.granted_in
        return book

    def _resumed(self, budget: Budget, now: float) -> BudgetBook | None:
        """Return the book of a budget that was there before, and counted in the same way."""
        ended = self._ended.pop(budget.name, None)
        self._headers.pop(budget.name, None)
        if ended is None:
            return None
        if ended.header.key != digest_of(budget.books_key):
            self._gone.add(budget.name)
            self._closed(ended.header, ended.cells)
            return None
        book = self._new(budget, ended.header.counted_from)
        book.advance(now)
        moved = ended.header.ahead - self._ahead + self._clock_set
        book.restore(ended.cells, moved, self._damaged_at)
        book.advance(now)
        return book

    def _take_lost(self, book: BudgetBook) -> None:
        """Have a book know of which groups part could not be read."""
        for lost in [each for each in self._lost if each.budget == book.budget.name]:
            book.lost(lost)
            self._lost.remove(lost)

    def _end_unwanted(self, now: float) -> None:
        """Note when books ended that were stored, and let those go that did so long ago."""
        for name, ended in list(self._ended.items()):
            if ended.header.ended_at is None:
                header = ended.header._replace(ended_at=now)
                self._ended[name] = _Ended(header, self._closed(header, ended.cells))
                self._cells += self._ended[name].cells
                self._headers[name] = header
        oldest = sorted(self._ended, key=lambda name: self._ended[name].header.ended_at or now)
        too_many = len(oldest) - _ENDED_MOST
        for number, name in enumerate(oldest):
            ended_at = self._ended[name].header.ended_at or now
            if number < too_many or now - ended_at > _ENDED_KEPT:
                del self._ended[name]
                self._headers.pop(name, None)
                self._gone.add(name)

    def _closed(
        self, header: StoredBook, stored: tuple[StoredCells, ...]
    ) -> tuple[StoredCells, ...]:
        """Put stored cells of a budget that ended while nobody looked into the history.

        Returns them so marked.
        """
        used: dict[Group, list[StoredCell]] = {}
        for each in stored:
            used.setdefault(each.group, []).extend(c for c in each.cells if not c.closed)
        for group, cells in used.items():
            if not cells:
                continue
            amounts: dict[str, Number] = {}
            for cell in cells:
                add(amounts, cell.used)
            self._loose.append(
                ClosedWindow(
                    header.name, group, header.per, min(cell.start for cell in cells),
                    max(cell.end for cell in cells), amounts, {}, {}, header.counted_from,
                    any(cell.at_least for cell in cells),
                )
            )  # fmt: skip
        return tuple(
            each._replace(cells=tuple(cell._replace(closed=True) for cell in each.cells))
            for each in stored
        )

    # The storage.

    def restore(self, stored: StoredBooks, clock_set: float = 0.0) -> None:
        """Take in what was stored, before it is known which budgets there are.

        clock_set: seconds by which the system's clock was set since.
        """
        headers = {header.name: header for header in stored.books}
        cells: dict[str, list[StoredCells]] = {}
        for each in stored.cells:
            cells.setdefault(each.budget, []).append(each)
            if each.budget not in headers:  # its row was lost
                per = ("",) * len(each.group or ())
                lost = StoredBook(each.budget, each.key, per, each.counted_from)
                headers[each.budget] = lost
        for name, header in headers.items():
            of = header.key, header.counted_from
            own = tuple(c for c in cells.get(name, ()) if (c.key, c.counted_from) == of)
            self._ended[name] = _Ended(header, own)
        self._lost += stored.lost
        self._damaged_at = stored.damaged_at
        self._clock_set = clock_set
        self._is_read = bool(headers)

    def note_wall_clock(self, ahead: float) -> None:
        """Take note by how many seconds the system's clock is ahead of that of the steps.

        By that a next process begins.
        """
        if ahead != self._ahead:
            self._ahead = ahead
            for book in self._books.values():
                book.header_is_stored = False

    def unstored(self) -> BookChanges:
        """Return what is to be written."""
        headers, cells, closings = dict(self._headers), [*self._cells], [*self._loose]
        for book in (*self._closings, *self._books.values()):
            changed, closed = book.unstored()
            cells += changed
            closings += closed
        for name, book in self._books.items():
            if not book.header_is_stored:
                headers[name] = book.header(None, self._ahead)
        gone = tuple(sorted(self._gone))
        return BookChanges(tuple(headers.values()), gone, tuple(cells), tuple(closings))

    def stored(self) -> None:
        """Take note that all of it is on disk."""
        for book in (*self._closings, *self._books.values()):
            book.stored()
        self._closings.clear()
        self._loose.clear()
        self._cells.clear()
        self._headers.clear()
        self._gone.clear()

    def all_unstored(self) -> None:
        """Take note that nothing of it is on disk."""
        for book in self._books.values():
            book.all_unstored()
        self._headers = {name: ended.header for name, ended in self._ended.items()}
        self._cells = [cells for ended in self._ended.values() for cells in ended.cells]


def _unsure_of(run: RunTotals) -> tuple[int, int]:
    """Return how many calls it made of unknown tokens, and of unknown price."""
    unsure = run.uncertainty
    return unsure.unknown_usage_calls, unsure.unpriced_calls


def _newly_unsure(run: RunTotals) -> frozenset[str]:
    """Return of which resources a run used more that is unknown, and take note of it."""
    unsure, booked = _unsure_of(run), run.booked_unsure
    if unsure == booked:
        return NO_RESOURCES
    run.booked_unsure = max(unsure[0], booked[0]), max(unsure[1], booked[1])
    rows = zip((semconv.TOKENS, semconv.COST), unsure, booked, strict=True)
    return frozenset(resource for resource, calls, known in rows if calls > known)


def _increase(
    booked: Mapping[str, Number], totals: Mapping[str, Number]
) -> tuple[dict[str, Number], bool]:
    """Return what is more than was booked, 0 of what was not known, and whether any is less."""
    increase: dict[str, Number] = {}
    fell = False
    for resource, total in totals.items():
        before = booked.get(resource)
        if before is None:
            increase[resource] = total
        elif total > before:
            increase[resource] = total - before  # type: ignore[operator] # all are of one resource
        elif total < before:
            fell = True
    return increase, fell or not booked.keys() <= totals.keys()


def _larger(booked: Mapping[str, Number], totals: Mapping[str, Number]) -> dict[str, Number]:
    """Return the larger of each amount."""
    larger = dict(booked)
    for resource, total in totals.items():
        known = larger.get(resource)
        larger[resource] = total if known is None else max(known, total)
    return larger
