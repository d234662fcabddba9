"""What a Prometheus query API is asked for: all of it in one query. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_budget.sources.culprits import INSTANCE
from otel_budget.sources.prometheus_vector import ANSWERS, MARK, NAME, SAMPLED, UP, judged
from otel_budget.sources.session_assembly import NEEDED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_budget.presets.model import Preset


def whole(matchers: Sequence[str], preset: Preset | None, more: Sequence[str] = ()) -> str:
    """Return the query for the raw series and, as further series, for their sample times, and for
    which targets there are.

    more: matchers for the first two alone.
    """
    braces = "{" + ",".join((*matchers, *more)) + "}"
    # One time for each set of labels: all counters of a run are sampled together.
    times = " or ".join(f"timestamp({name}{braces})" for name in judged(preset))
    up = f"{UP}{{{','.join(matchers)}}}"
    # What answers comes first: of two series that differ in their names alone the first stays.
    return (
        f"{_marked(up, ANSWERS)} or {series(matchers, preset, more)} or {_marked(times, SAMPLED)}"
    )


def places(matchers: Sequence[str], preset: Preset | None) -> str:
    """Return the query for the targets that show a series."""
    return f"count by (job, {INSTANCE}) ({series(matchers, preset)})"


def sizes(matchers: Sequence[str]) -> str:
    """Return the query for how many samples each target shows; cheap, however many those are.

    The server keeps it of each of its targets, as it does ``up``.
    """
    return f"max by (job, {INSTANCE}) (scrape_samples_scraped{{{','.join(matchers)}}})"


def series(matchers: Sequence[str], preset: Preset | None, more: Sequence[str] = ()) -> str:
    """Return the selector of the raw series."""
    needed = NEEDED if preset is None else preset.counted
    return "{" + ",".join((f'{NAME}=~"{"|".join(needed)}"', *matchers, *more)) + "}"


def _marked(expression: str, label: str) -> str:
    """Return an expression for the same with a mark; what else the label holds stays behind it."""
    return f'label_replace({expression}, "{label}", "{MARK}$1", "{label}", "(.*)")'
