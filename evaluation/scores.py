"""How far answers were from what came."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from otel_budget.core.forecast import Estimate


class Score(NamedTuple):
    """Of many answers to one question. Errors are shares of what came; NaN without an answer."""

    asked: int
    told: int
    """How many of those asked were answered with a number at all."""
    median: float
    """Of the error without its sign."""
    p90: float
    bias: float
    """The median of the error: above 0, more was promised than came."""
    covered: float
    """Share of those told for which what came lay within the range."""
    below: float
    """Share of those told for which less came than its low end."""
    above: float
    """Share of those told for which more came than its high end."""
    width: float
    """The median of the range from end to end, as a share of what came."""


def score(answers: Iterable[tuple[Estimate | None, float]]) -> Score:
    """Score answers, each beside what came (above 0)."""
    answers = list(answers)
    told = [(estimate, came) for estimate, came in answers if estimate is not None]
    errors = sorted((estimate.value - came) / came for estimate, came in told)
    sizes = sorted(map(abs, errors))
    below = sum(came < estimate.low for estimate, came in told)
    above = sum(came > estimate.high for estimate, came in told)
    of = len(told) or float("nan")
    return Score(
        len(answers),
        len(told),
        quantile(sizes, 0.5),
        quantile(sizes, 0.9),
        quantile(errors, 0.5),
        (len(told) - below - above) / of,
        below / of,
        above / of,
        quantile(sorted((estimate.high - estimate.low) / came for estimate, came in told), 0.5),
    )


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return a quantile of sorted values, between two of them by the share; NaN of none."""
    if not ordered:
        return float("nan")
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
