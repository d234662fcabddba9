"""What a run had used when it last said how far it is.

Each process says it of its own counts. Of several that carry a run, what one counted since its own
word is newer than the progress, and so is all of one that never says how far it is.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from otel_budget import semconv
from otel_budget.ledger.target_series import ZERO

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_budget.core.observation import RunAttributes
    from otel_budget.core.usage import Number
    from otel_budget.ledger.process import Process
    from otel_budget.ledger.run import RunTotals


def used_at_progress(account: RunTotals) -> Mapping[str, Number]:
    """Return what was used, over all processes, as of the progress in the account's facts.

    Without what is not known: that is all where a process does not say it.
    """
    facts = account.facts
    if facts.progress is None or facts.progress_tokens is None:
        return {}
    totals = account.totals()
    return {
        name: totals[name] - sum((_since(i, name) for i in account.speakers), ZERO[name])  # type: ignore[operator] # all are of one resource
        for name, said in _said(facts).items()
        if said is not None and name in totals
    }


def _since(incarnation: Process, name: str) -> Number:
    """Return what a process counted since it last said how far the run is."""
    if incarnation.facts.progress is None:
        return incarnation.counted(name)
    said = _said(incarnation.facts)[name]
    if said is None:
        return ZERO[name]
    at = Decimal(repr(said)) if name == semconv.COST else int(said)
    since: Number = incarnation.counted(name) - at  # type: ignore[operator] # both are of one resource
    return max(ZERO[name], since)


def _said(facts: RunAttributes) -> Mapping[str, float | None]:
    return {
        semconv.TOKENS: facts.progress_tokens,
        semconv.API_CALLS: facts.progress_api_calls,
        semconv.COST: facts.progress_cost,
    }
