"""What limits are suggested, as text for people: a table for each workflow, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_budget.core.resources import RESOURCES
from otel_budget.policy.suggestion import QUANTILES
from otel_budget.replay.ended_runs import NOT_RESOLVED
from otel_budget.replay.suggest import name_of, row_text
from otel_budget.replay.wording import short_amount

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_budget.replay.suggest import Advice, Row

_HEAD = ("", *(f"p{share}" for share in QUANTILES), "max", "limit")
_ENDS = {NOT_RESOLVED: "not resolved"}


def suggestion_text(advice: Sequence[Advice], *, by_workflow: bool) -> str:
    """Return the tables."""
    return "\n\n".join(_group(each, by_workflow=by_workflow) for each in advice)


def _group(advice: Advice, *, by_workflow: bool) -> str:
    name = name_of(advice.workflow, by_workflow=by_workflow)
    ends = ", ".join(f"{number:,} {_ENDS.get(end, end)}" for end, number in advice.ends.items())
    lines = [f"{name}: {advice.ended_well:,} of {advice.runs:,} runs ended well ({ends})"]
    table = [_HEAD, *(_cells(row) for row in advice.rows)]
    widths = [max(len(cells[column]) for cells in table) for column in range(len(_HEAD))]
    for first, *cells in table:
        right = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join(["", first.ljust(widths[0]), *right]).rstrip())
    return "\n".join([*lines, *(f"  {row_text(row)}" for row in advice.rows)])


def _cells(row: Row) -> tuple[str, ...]:
    found = row.suggestion
    resource = found.resource
    amounts = [*(found.quantiles.get(share) for share in QUANTILES), found.largest, found.proposed]
    said = ("-" if value is None else short_amount(resource, value) for value in amounts)
    return (RESOURCES[resource].title, *said)
