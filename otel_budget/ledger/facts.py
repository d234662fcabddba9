"""What a run says of itself, put together from several readings.

The rule: what is missing never loosens anything. What a reading leaves unsaid for want of data is
taken from the one before, and of processes that cannot be put in order the stricter word counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from otel_budget import semconv
from otel_budget.model.reading import SessionFacts
from otel_budget.model.usage import Number

N = TypeVar("N", float, Number)


def filled(newer: SessionFacts, older: SessionFacts) -> SessionFacts:
    """Return the newer facts, with what they leave unsaid taken from the older ones."""
    merged: dict[str, object] = {}
    for name, new, old in zip(SessionFacts._fields, newer, older, strict=True):
        if isinstance(new, Mapping):
            merged[name] = {**old, **new}  # type: ignore[dict-item] # both are mappings
        else:
            merged[name] = old if new is None else new
    return SessionFacts(**merged)  # type: ignore[arg-type] # each value is of its own field's type


def strictest(one: SessionFacts, other: SessionFacts) -> SessionFacts:
    """Return the facts that hold where two processes each say something; order does not matter.

    A run is over when both say so.
    """
    states = (one.state, other.state)
    return SessionFacts(
        started_at=_one_of(max, one.started_at, other.started_at),
        incarnation_at=_one_of(max, one.incarnation_at, other.incarnation_at),
        carried_over=_each(max, one.carried_over, other.carried_over),
        limits=_each(min, one.limits, other.limits),
        thresholds=_each(min, one.thresholds, other.thresholds),
        completion_threshold=_one_of(max, one.completion_threshold, other.completion_threshold),
        progress=_one_of(min, one.progress, other.progress),
        duration=_one_of(max, one.duration, other.duration),
        unpriced_calls=_one_of(max, one.unpriced_calls, other.unpriced_calls),
        unknown_usage_calls=_one_of(max, one.unknown_usage_calls, other.unknown_usage_calls),
        estimated_calls=_one_of(max, one.estimated_calls, other.estimated_calls),
        state=min(states, key=lambda state: (state in semconv.ENDED_STATES, state or "")),
    )


def _one_of(
    choose: Callable[[Iterable[float]], float], one: float | None, other: float | None
) -> float | None:
    known = [value for value in (one, other) if value is not None]
    return choose(known) if known else None


def _each(
    choose: Callable[[N, N], N], one: Mapping[str, N], other: Mapping[str, N]
) -> dict[str, N]:
    merged = dict(one)
    for key, value in other.items():
        merged[key] = choose(merged[key], value) if key in merged else value
    return merged
