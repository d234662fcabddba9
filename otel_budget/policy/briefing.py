"""What a model is told of its budget: a counter that it can see from the start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from otel_budget.core.forecast import ends_first

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_budget.core.quantities import Number
    from otel_budget.core.verdict import LimitCheckResult


@dataclass(frozen=True, slots=True)
class Briefing:
    """What remains of a run's budget; ``str`` of it is the sentence or two for the model."""

    calls_left: int | None
    """Whole calls to the model until a limit; None: it cannot be told."""
    seconds_left: float | None
    used: Mapping[str, Number]
    """Of each limited resource."""
    limits: Mapping[str, Number]
    text: str

    def __str__(self) -> str:
        """Return the text."""
        return self.text


def of(result: LimitCheckResult) -> Briefing:
    """Return the briefing on a run. result: with forecasts."""
    limited = {name: s for name, s in result.resources.items() if s.limit is not None}
    forecasts = {name: s.forecast for name, s in limited.items() if s.forecast is not None}
    first = ends_first(forecasts)
    calls = None if first is None else forecasts[first].whole_calls_left
    seconds = None if first is None else forecasts[first].seconds_left
    return Briefing(
        calls_left=calls,
        seconds_left=None if seconds is None else seconds.value,
        used={name: state.used for name, state in limited.items()},
        limits={name: state.limit for name, state in limited.items() if state.limit is not None},
        text=result.message,
    )
