"""What a run had used when it last said how far it is.

Each process says it of its own counts. Of several that carry a run, what one counted since its own
word is newer than the progress, and so is all of one that never says how far it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_budget import semconv
from otel_budget.core.resources import ZERO, quantity_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_budget.core.observation import RunAttributes
    from otel_budget.core.quantities import Number
    from otel_budget.ledger.process import Process
    from otel_budget.ledger.run import RunTotals


def used_at_progress(run: RunTotals) -> Mapping[str, Number]:
    """Return what was used, over all processes, as of the progress in the account's facts.

    Without what is not known: that is all where a process does not say it.
    """
    attributes = run.attributes
    if attributes.progress is None or attributes.progress_tokens is None:
        return {}
    totals = run.totals()
    return {
        name: totals[name] - sum((_since(i, name) for i in run.speakers), ZERO[name])  # type: ignore[operator] # all are of one resource
        for name, said in _said(attributes).items()
        if said is not None and name in totals
    }


def _since(process: Process, name: str) -> Number:
    """Return what a process counted since it last said how far the run is."""
    if process.attributes.progress is None:
        return process.counted(name)
    said = _said(process.attributes)[name]
    if said is None:
        return ZERO[name]
    at = quantity_of(name).from_sample(said)
    since: Number = process.counted(name) - at  # type: ignore[operator] # both are of one resource
    return max(ZERO[name], since)


def _said(attributes: RunAttributes) -> Mapping[str, float | None]:
    return {
        semconv.TOKENS: attributes.progress_tokens,
        semconv.API_CALLS: attributes.progress_api_calls,
        semconv.COST: attributes.progress_cost,
    }
