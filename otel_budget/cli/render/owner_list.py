"""What the runs of each owner used, as lines for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otel_budget import semconv
from otel_budget.cli.render.columns import aligned, number_of
from otel_budget.core.budget import NONE
from otel_budget.core.resources import BASIC
from otel_budget.policy.format import amount

if TYPE_CHECKING:
    from collections.abc import Mapping

_HEADS: Final = {semconv.TOKENS: "TOKENS", semconv.API_CALLS: "CALLS", semconv.COST: "COST"}


def owner_table(usage: Mapping[str, Any]) -> str:
    """Return a line for each owner, as the sidecar's JSON has them."""
    heads = (usage["by"].upper(), "RUNS", "OVER", "STOPPED", *(_HEADS[name] for name in BASIC))
    rows = [_row(owner) for owner in usage["owners"]]
    if not rows:
        return "no runs"
    lines = aligned((heads, *rows), right=range(1, len(heads)))
    if usage.get("left_off"):
        lines.append(f"{usage['left_off']:,} more used less")
    return "\n".join(lines)


def _row(owner: Mapping[str, Any]) -> tuple[str, ...]:
    runs = (f"{owner[key]:,}" for key in ("runs", "over", "stopped"))
    return (owner["value"] or NONE, *runs, *(_used(owner, name) for name in BASIC))


def _used(owner: Mapping[str, Any], name: str) -> str:
    """Say what was used; ``+`` where a part is not known, ``?`` where nothing is."""
    if name not in owner["used"]:
        return "?"
    more = "+" if name in owner["at_least"] else ""
    return f"{amount(name, number_of(name, owner['used'][name]))}{more}"
