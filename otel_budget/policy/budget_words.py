"""How a budget stands, in words: for the message of a verdict that it decided."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Final

from otel_budget.core.budget import OTHER, Mode, WindowKind
from otel_budget.core.budget_text import duration_text, shown_group
from otel_budget.core.verdict import LimitStatus
from otel_budget.policy.format import amount, percent

if TYPE_CHECKING:
    from otel_budget.core.budget import Window
    from otel_budget.core.verdict import BudgetResource, BudgetState

_CALENDAR: Final = "this {}"


def describe_budget(state: BudgetState, window: Window) -> str:
    """Say how a budget stands, with both numbers of what is past a line, else of what is nearest.

    ``budget research-month of user=ann: tokens at 102.0% (51,000,000 of 50,000,000) this month,
    which ends 2026-12-01 00:00 +01:00``.
    """
    past = [
        (name, one) for name, one in state.resources.items() if one.status is not LimitStatus.OK
    ]
    nearest = sorted(state.resources.items(), key=lambda each: -each[1].ratio)[:1]
    numbers = ", ".join(describe_resource(name, one) for name, one in past or nearest)
    shadow = " (shadow)" if state.mode is Mode.SHADOW else ""
    return f"budget {state.name}{of_group(state)}{shadow}: {numbers} {within(state, window)}"


def describe_past(state: BudgetState, status: LimitStatus) -> str:
    """Say the resources of a budget that have a status, and when all of it is forgotten.

    ``budget team of user=ann: tokens at 102.0% (1,020 of 1,000), resets 2026-12-01 00:00 +01:00``.
    """
    past = (
        describe_resource(name, one)
        for name, one in state.resources.items()
        if one.status is status
    )
    resets = state.window.resets_at
    until = "" if resets is None else f", resets {moment(resets, state.tz)}"
    return f"budget {state.name}{of_group(state)}: {', '.join(past)}{until}"


def of_group(state: BudgetState) -> str:
    """Return `` of user=ann``; empty for a budget without groups."""
    if not state.group:
        return ""
    shown = shown_group(state.group)
    return " of all other groups" if shown == OTHER else f" of {shown}"


def describe_resource(name: str, one: BudgetResource) -> str:
    """Say one resource of a budget with both numbers."""
    at = "at least" if one.at_least else "at"
    used, limit = amount(name, one.used), amount(name, one.limit)
    return f"{name} {at} {percent(one.ratio)} ({used} of {limit})"


def within(state: BudgetState, window: Window) -> str:
    """Return which window it is, and when that ends: ``this month, which ends 2026-12-01 …``."""
    words = window_words(window)
    if state.window.resets_at is None:
        return words
    return f"{words}, which ends {moment(state.window.resets_at, state.tz)}"


def window_words(window: Window) -> str:
    """Return which window is meant: ``this month``, ``in the last 24 h``, ``in all``."""
    if window.kind is WindowKind.CALENDAR:
        return _CALENDAR.format(window.every)
    if window.kind is WindowKind.ROLLING:
        return f"in the last {duration_text(window.seconds)}"
    if window.kind is WindowKind.FIRST_USE:
        return f"in this window of {duration_text(window.seconds)}"
    return "in this run" if window.kind is WindowKind.RUN else "in all"


def moment(at: float, tz: dt.tzinfo) -> str:
    """Say a moment in a zone, to the minute, with its offset: ``2026-12-01 00:00 +01:00``."""
    local = dt.datetime.fromtimestamp(at, tz)
    return f"{local:%Y-%m-%d %H:%M} {local.isoformat()[-6:]}"
