"""What happens to shared budgets, as entries of the audit log."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from otel_budget.core.audit import AuditEntry, AuditKind
from otel_budget.core.budget import OTHER
from otel_budget.core.quantities import as_json
from otel_budget.core.verdict_json import timestamp
from otel_budget.ledger.book_values import whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from otel_budget.core.budget import Budget, Group, TopUp
    from otel_budget.core.quantities import Number
    from otel_budget.ledger.book_values import BookChanges
    from otel_budget.sidecar.storage.base import SharedChanges


def edits(before: Sequence[Budget], now: Sequence[Budget], at: float) -> Iterator[AuditEntry]:
    """Yield what a configuration changes of the budgets of the one before it. at: Unix time."""
    was, are = ({one.name: one for one in budgets} for budgets in (before, now))
    for name in sorted(was.keys() | are.keys()):
        body: dict[str, Any] = {"event": "edited"}
        if name not in was:
            body = {"event": "began"}
        elif name not in are:
            body = {"event": "ended"}
        elif was[name] == are[name]:
            continue
        else:
            body["books_go_on"] = was[name].books_key == are[name].books_key
        yield AuditEntry(AuditKind.BUDGET, at, body, budget=name)


def closed(changes: BookChanges, at: float) -> Iterator[AuditEntry]:
    """Yield the windows that are over by now, not what late use adds to one that was."""
    for window in changes.closings:
        if not window.limits:
            continue
        body = {
            "event": "window_closed",
            "group": _labels(window.per, window.group),
            "start": timestamp(window.start),
            "end": None if math.isinf(window.end) else timestamp(window.end),
            "used": amounts(whole(window.used)),
            "limits": amounts(window.limits),
            "carried": amounts(window.carried),
        }
        yield AuditEntry(AuditKind.BUDGET, at, body, budget=window.budget)


def given(changes: SharedChanges, budgets: Sequence[Budget]) -> Iterator[AuditEntry]:
    """Yield the top-ups that are stored with a step. budgets: those that are configured."""
    known = {budget.name: budget for budget in budgets}
    for top_up in changes.top_ups:
        body = {
            "event": "given",
            "group": _group_of(top_up, known.get(top_up.budget)),
            "amounts": amounts(top_up.amounts),
            "reason": top_up.reason,
            "by": top_up.by,
            "until": None if top_up.until is None else timestamp(top_up.until),
            "key": top_up.key,
        }
        yield AuditEntry(AuditKind.TOP_UP, top_up.given_at, body, budget=top_up.budget)


def amounts(values: Mapping[str, Number | None]) -> dict[str, Any]:
    """Return amounts as JSON types; null is unlimited."""
    return {
        name: None if value is None or not math.isfinite(value) else as_json(value)
        for name, value in values.items()
    }


def _group_of(top_up: TopUp, budget: Budget | None) -> dict[str, str] | None:
    """Return the labels of the group that was topped up; None if they are not known any more."""
    if budget is None or (top_up.group is not None and len(top_up.group) != len(budget.per)):
        return None
    return _labels(budget.per, top_up.group)


def _labels(per: tuple[str, ...], group: Group) -> dict[str, str]:
    return {OTHER: "true"} if group is None else dict(zip(per, group, strict=False))
