"""How figures are written, and which record holds which."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from evaluation.measure import CALLS, CALLS_LEFT, SCRAPES, SECONDS_LEFT
from otel_budget import semconv

if TYPE_CHECKING:
    from collections.abc import Sequence

    from evaluation.measure import Record

Results = dict[str, Any]

UNTIL: Final = {
    semconv.TOKENS: "a limit of tokens",
    semconv.COST: "a limit of cost",
    semconv.DURATION: "a limit of time",
}
LEFT: Final = {CALLS_LEFT: "Calls left", SECONDS_LEFT: "Seconds left"}
SEEN: Final = {CALLS: "each call", SCRAPES: "scrapes every 15 s"}


def percent(share: float | None, *, sign: bool = False) -> str:
    """Write a share with two digits that mean something."""
    if share is None:
        return "not told"
    size = abs(share) * 100
    text = f"{size:.1f}" if size < 9.95 else f"{size:.0f}"
    mark = "" if not sign or not float(text) else "+" if share > 0 else "-"
    return f"{mark}{text} %"


def error_of(one: Record) -> str:
    told = one.get("told"), one.get("asked")
    less = "" if told[0] == told[1] else f" ({told[0]} of {told[1]})"
    median, p90, bias = one["median"], one["p90"], one["bias"]
    return f"{percent(median)} / {percent(p90)} / {percent(bias, sign=True)}{less}"


def said(estimate: Sequence[float] | None, digits: int) -> str:
    """Write what was said, with its range if it has one."""
    if estimate is None:
        return "not told"
    value, low, high = (f"{each:.{digits}f}" for each in estimate)
    return value if low == high else f"{value} ({low} to {high})"


def records(results: Results, **wanted: object) -> list[Record]:
    return [
        record
        for record in results["scores"]
        if all(record[name] == value for name, value in wanted.items())
    ]
