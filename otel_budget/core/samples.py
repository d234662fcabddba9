"""Samples as a target gave them, and what a value can be. Pure; the same for every source."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget import semconv
from otel_budget.core.observation import RunObservation
from otel_budget.core.validation import MAX_COUNT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


#: Declared types that are no contradiction for a judged counter; anything else is refused.
COUNTER_TYPES: Final = frozenset({None, "counter", "unknown", "untyped"})


class Sample(NamedTuple):
    """One sample as a target gave it."""

    name: str
    labels: Mapping[str, str]
    value: float
    declared: str | None = None
    """The type the target declares for it; None where types are not known."""
    timestamp: float | None = None
    """When it was taken, in Unix seconds as its exporter gives them; None if it does not: now."""


@dataclass(frozen=True, slots=True)
class Assembled:
    """The sessions of one target, and how many of its samples were refused, by reason."""

    sessions: tuple[RunObservation, ...]
    dropped: Mapping[str, int]
    times: Mapping[str, float] = field(default_factory=dict)
    """Session id to when the newest sample of its counters was taken, as its exporter gives it;
    absent if one of them bears no time, as it is of now then.
    """


def later(known: float | None, timestamp: float | None) -> float:
    """Return the later of two times of samples: a sample without one is of now."""
    at = math.inf if timestamp is None else timestamp
    return at if known is None else max(known, at)


def told_times(newest: Iterable[tuple[str, float | None]]) -> dict[str, float]:
    """Return those that are known, of pairs of session id and what ``later`` came to."""
    return {key: at for key, at in newest if at is not None and at != math.inf}


def labels_text(labels: Mapping[str, str]) -> str:
    """Return the labels besides ``session_id`` as one text, the same in whatever order they came.

    Most series of the contract have none: that is the empty text.
    """
    further = [item for item in labels.items() if item[0] != semconv.SESSION_ID]
    return ",".join(f"{name}={value!r}" for name, value in sorted(further))


def plausible(value: float, top: float = MAX_COUNT) -> bool:
    """Return whether a counter, or a share, can have this value."""
    return 0 <= value <= top  # NaN compares false
