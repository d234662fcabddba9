"""What the books say and what of them is stored: values, and the arithmetic of amounts.

Inside the books tokens are counted in thousandths, as a token may weigh less than one; what they
say is in whole tokens, rounded up, so that no use is lost. Money is exact.
"""

from __future__ import annotations

import hashlib
from decimal import Decimal
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget import semconv
from otel_budget.core.resources import COUNTED
from otel_budget.core.token_kinds import WHOLE_WEIGHT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_budget.core.budget import BudgetKey, Group, WindowSpan
    from otel_budget.core.quantities import Number

#: A value of a budget that limits nothing of it yet.
NO_AMOUNTS: Final[Mapping[str, Number]] = {}
NO_RESOURCES: Final[frozenset[str]] = frozenset()
#: What part of is unknown where a row is lost.
EVERY_RESOURCE: Final = frozenset(COUNTED)


class GroupUse(NamedTuple):
    """What a group used of a budget in its present window."""

    used: Mapping[str, Number]
    """Per counted resource, whether or not it is limited; absent where no use of it was noticed."""
    span: WindowSpan
    """Of FIRST_USE without an open window infinite on both sides."""
    carried: Mapping[str, Number]
    """Per limited resource, what the window before left; below 0 for an overrun."""
    counted_from: float
    """Unix time since which the budget is counted: what was used before is not in it."""
    revision: int
    """Another one whenever something of this is another, but for ``sessions``."""
    sessions: int
    """Runs in the ledger that count in it now."""
    opened_at: float | None
    """When the open window of FIRST_USE opened."""
    at_least: frozenset[str] = NO_RESOURCES
    """Resources of which it used more than that: in calls of unknown use, or in lost rows."""


class RunScope(NamedTuple):
    """In which groups a run counts, and what that follows from."""

    generation: int
    labels: Mapping[str, str] | None
    inherited: tuple[Mapping[str, str], ...]
    keys: tuple[BudgetKey, ...]


class ClosedWindow(NamedTuple):
    """What a group used in a window that is over."""

    budget: str
    group: Group
    per: tuple[str, ...]
    """The labels of the group, as of then."""
    start: float
    end: float
    used: Mapping[str, Number]
    limits: Mapping[str, Number]
    """In force when it closed, with what was carried and granted; empty if that is not known."""
    carried: Mapping[str, Number]
    """Carried into it from the window before."""
    counted_from: float
    """Of the books that it is of."""
    at_least: bool = False
    """True if part of the use of a resource that is limited is unknown."""


class StoredBook(NamedTuple):
    """One budget's books, without their cells."""

    name: str
    key: str
    """Digest of ``Budget.books_key``."""
    per: tuple[str, ...]
    counted_from: float
    ended_at: float | None = None
    """When the budget was taken out of the configuration; None while it is in force."""
    ahead: float = 0.0
    """Seconds by which the system's clock is ahead of the one that its times are of."""


class StoredCell(NamedTuple):
    """A window, or a bucket of one, of a group."""

    start: float
    end: float
    used: Mapping[str, Number]
    """Tokens in thousandths."""
    carried: Mapping[str, Number]
    closed: bool
    """True if it is in the history already."""
    at_least: frozenset[str]
    """Resources of which part of the use is unknown."""


class StoredCells(NamedTuple):
    """Cells that are written together."""

    budget: str
    group: Group
    chunk: str
    cells: tuple[StoredCell, ...]
    key: str
    """As of the book that they are of; and so is ``counted_from``."""
    counted_from: float


class LostUse(NamedTuple):
    """A group of which part of what it used could not be read."""

    budget: str
    group: Group
    used: Mapping[str, Number] = NO_AMOUNTS
    """What it had used at least in the present window, as of ``at``, in whole tokens; as far as
    that is known from elsewhere."""
    at: float | None = None


class StoredBooks(NamedTuple):
    """All books as they were stored."""

    books: tuple[StoredBook, ...] = ()
    cells: tuple[StoredCells, ...] = ()
    lost: tuple[LostUse, ...] = ()
    damaged_at: float | None = None
    """When it was written last, if it comes out of a damaged file: what was over by then is in the
    history, if it is anywhere."""


class BookChanges(NamedTuple):
    """What of the books is not on disk as it is."""

    books: tuple[StoredBook, ...] = ()
    gone: tuple[str, ...] = ()
    """Names of books of which nothing is kept but their history."""
    cells: tuple[StoredCells, ...] = ()
    """Those without a cell are to be deleted."""
    closings: tuple[ClosedWindow, ...] = ()
    """What is to be added to closed windows, which may be stored already; tokens in thousandths,
    ``limits`` empty where only late use is added."""

    def __bool__(self) -> bool:
        """True if there is anything to write."""
        return bool(self.books or self.gone or self.cells or self.closings)


NO_BOOK_CHANGES: Final = BookChanges()
NO_BOOKS: Final = StoredBooks()


def digest_of(books_key: str) -> str:
    """Return a short name of what books depend on."""
    return hashlib.blake2b(books_key.encode(), digest_size=12).hexdigest()


def add(to: dict[str, Number], increase: Mapping[str, Number]) -> None:
    """Add amounts."""
    for resource, more in increase.items():
        known = to.get(resource)
        to[resource] = more if known is None else known + more  # type: ignore[operator] # all are of one resource


def added(one: Mapping[str, Number], other: Mapping[str, Number]) -> dict[str, Number]:
    """Return the sum of amounts."""
    both = dict(one)
    add(both, other)
    return both


def shortfall(known: Mapping[str, Number], least: Mapping[str, Number]) -> dict[str, Number]:
    """Return by how much known amounts are below those that they are at least."""
    return {
        resource: amount if resource not in known else amount - known[resource]  # type: ignore[operator] # all are of one resource
        for resource, amount in least.items()
        if resource not in known or amount > known[resource]
    }


def take_off(of: dict[str, Number], amounts: Mapping[str, Number]) -> None:
    """Subtract amounts that were added before."""
    for resource, less in amounts.items():
        of[resource] = of[resource] - less  # type: ignore[operator] # as in add


def whole(amounts: Mapping[str, Number]) -> dict[str, Number]:
    """Return amounts with whole tokens, rounded up."""
    tokens = amounts.get(semconv.TOKENS)
    if tokens is None:
        return dict(amounts)
    return {**amounts, semconv.TOKENS: -(-int(tokens) // WHOLE_WEIGHT)}


def weighed(
    tokens: int, before: Mapping[str, int], after: Mapping[str, int], weights: Mapping[str, int]
) -> int:
    """Return what so many more tokens count, in thousandths.

    before, after: how many there were of each kind; what is of none counts whole. Should more of
    the kinds have come than tokens, as they were learnt late, those that weigh most count.
    """
    row = [(weights.get(kind, WHOLE_WEIGHT), n - before.get(kind, 0)) for kind, n in after.items()]
    total, left = 0, tokens
    for weight, more in sorted(row, reverse=True):
        counted = min(max(0, more), left)
        total, left = total + counted * weight, left - counted
    return total + left * WHOLE_WEIGHT


def carried_from(
    limits: Mapping[str, Number],
    used: Mapping[str, Number],
    carried: Mapping[str, Number],
    granted: Mapping[str, Number],
    *,
    share: float,
    overrun: bool,
) -> dict[str, Number]:
    """Return what a window leaves to the next, per limited resource; without what is nothing.

    limits: the fresh allowance. used: in whole tokens. carried: into this window. granted: by
    top-ups in force at its end. What is left of the allowance and of what was carried goes on, up
    to ``share`` of the fresh allowance; a grant does not, but what it covered is no overrun.
    """
    left: dict[str, Number] = {}
    for resource, limit in limits.items():
        fresh = _sum(limit, carried.get(resource))
        spent = used.get(resource, type(limit)(0))
        unused = fresh - spent  # type: ignore[operator] # all are of one resource
        over = -_sum(unused, granted.get(resource))
        most = Decimal(repr(share)) * Decimal(limit)
        if unused > 0 and share > 0:
            least = min(Decimal(unused), most)
            left[resource] = least if isinstance(limit, Decimal) else int(least)
        elif over > 0 and overrun:
            left[resource] = -over
    return {resource: amount for resource, amount in left.items() if amount}


def _sum(one: Number, other: Number | None) -> Number:
    return one if other is None else one + other  # type: ignore[operator] # both are of one resource
