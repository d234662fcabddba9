"""The books of shared budgets as JSON and back: exact, each row sealed with a digest.

Each row says itself of which budget and group it is, so that it is found in a damaged file as
well. What is not as it was written raises one of UNREADABLE_ROW.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from otel_budget.core.resources import COUNTED
from otel_budget.ledger.book_values import (
    EVERY_RESOURCE,
    NO_RESOURCES,
    ClosedWindow,
    StoredBook,
    StoredCell,
    StoredCells,
    added,
    whole,
)
from otel_budget.sidecar.storage.records import sealed, unsealed
from otel_budget.sidecar.storage.stored_values import (
    dump_number,
    load_amounts,
    load_moment,
    load_real,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_budget.core.budget import Group
    from otel_budget.core.quantities import Number

#: How every row begins: what of the books it is.
HEADER, CELLS, WINDOW = "header", "cells", "window"
_KIND: Final = "book"


def group_key(group: Group) -> str:
    """Return a group as the text that it is stored under."""
    return json.dumps(group)


def group_of(text: str) -> Group:
    """Return the group that is stored under a text."""
    return _group(json.loads(text))


def header_body(book: StoredBook, commit: int) -> str:
    """Return the text of a book's row. commit: the number of the one that writes it."""
    return _sealed(HEADER, commit, {**book._asdict()})


def cells_body(cells: StoredCells, commit: int) -> str:
    """Return the text of a row of cells."""
    rows = [
        (c.start, c.end, _amounts(c.used), _amounts(c.carried), c.closed, sorted(c.at_least))
        for c in cells.cells
    ]
    return _sealed(CELLS, commit, {**cells._asdict(), "cells": rows})


def window_body(window: ClosedWindow, commit: int) -> str:
    """Return the text of a closed window's row."""
    amounts = {name: _amounts(getattr(window, name)) for name in ("used", "limits", "carried")}
    return _sealed(WINDOW, commit, {**window._asdict(), **amounts})


def kind_of(body: bytes) -> tuple[str, int]:
    """Return what of the books a row is, and the number of the commit that wrote it."""
    data = json.loads(unsealed(body, _KIND))
    return str(data["book"]), int(data["commit"])


def header_of(body: bytes) -> StoredBook:
    """Return the book in a row."""
    data = _unsealed(body, HEADER)
    return StoredBook(
        _text(data["name"]), _text(data["key"]), _texts(data["per"]),
        load_real(data["counted_from"]), load_moment(data["ended_at"]), load_real(data["ahead"]),
    )  # fmt: skip


def cells_of(body: bytes) -> StoredCells:
    """Return the cells in a row."""
    data = _unsealed(body, CELLS)
    cells = [
        StoredCell(
            load_real(start), _end(end), _loaded(used), load_amounts(carried), closed is True,
            _resources(at_least),
        )
        for start, end, used, carried, closed, at_least in data["cells"]
    ]  # fmt: skip
    return StoredCells(
        _text(data["budget"]), _group(data["group"]), _text(data["chunk"]), tuple(cells),
        _text(data["key"]), load_real(data["counted_from"]),
    )  # fmt: skip


def window_of(body: bytes) -> ClosedWindow:
    """Return the closed window in a row, with tokens in thousandths."""
    data = _unsealed(body, WINDOW)
    return ClosedWindow(
        _text(data["budget"]), _group(data["group"]), _texts(data["per"]),
        load_real(data["start"]), _end(data["end"]), _loaded(data["used"]),
        load_amounts(data["limits"]), load_amounts(data["carried"]),
        load_real(data["counted_from"]), data["at_least"] is True,
    )  # fmt: skip


def merged(known: ClosedWindow, more: ClosedWindow) -> ClosedWindow:
    """Return a closed window with what is to be added to it."""
    return known._replace(
        end=max(known.end, more.end),
        used=added(known.used, more.used),
        limits=more.limits or known.limits,
        carried=more.carried or known.carried,
        at_least=known.at_least or more.at_least,
    )


def in_whole_tokens(window: ClosedWindow) -> ClosedWindow:
    """Return a closed window as it is told."""
    return window._replace(used=whole(window.used))


def _sealed(kind: str, commit: int, data: dict[str, Any]) -> str:
    body = {"book": kind, "commit": commit, **data}
    return sealed(json.dumps(body, separators=(",", ":")), _KIND)


def _unsealed(body: bytes, kind: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(unsealed(body, _KIND))
    if data["book"] != kind:
        raise ValueError(f"it is of the kind {data['book']!r}")
    return data


def _amounts(amounts: Mapping[str, Number]) -> dict[str, int | float | str]:
    return {resource: dump_number(amount) for resource, amount in amounts.items()}


def _loaded(values: Mapping[str, Any]) -> dict[str, Number]:
    """Return what was used; never less than nothing."""
    amounts = load_amounts(values)
    if not amounts.keys() <= set(COUNTED) or any(amount < 0 for amount in amounts.values()):
        raise ValueError(f"what was used is {values!r}")
    return amounts


def _resources(value: Any) -> frozenset[str]:
    """Return of which resources part is unknown; a version before told of all or none."""
    if isinstance(value, bool):
        return EVERY_RESOURCE if value else NO_RESOURCES
    return EVERY_RESOURCE.intersection(_texts(value))


def _end(value: Any) -> float:
    """Return when a window ends; of a total it does not."""
    return float("inf") if value == float("inf") else load_real(value)


def _group(value: Any) -> Group:
    return None if value is None else _texts(value)


def _texts(values: Any) -> tuple[str, ...]:
    return tuple(map(_text, values))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a name is {value!r}")
    return value
