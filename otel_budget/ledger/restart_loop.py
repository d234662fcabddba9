"""Runs of one id that come one after the other, none of which completed.

Each is a run of its own and begins at 0: a job that is killed and begun again owes nothing. But a
program that is started again and again, and crashes or is stopped each time, spends its budget each
time as well. Nothing tells the two apart but how often it happens, so a row of them is counted and
told, and changes no verdict, unless the configuration has their use added up. One that ran for long
before it was replaced, as a service that is deployed again does, is not told of, unless it was told
to stop.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from otel_budget.core.quantities import Number

#: Runs without an end that may come one after the other before that is what is wrong.
LOOP_FROM = 3


class Restarts(NamedTuple):
    """The runs before one that did not complete, each begun soon after the one before."""

    number: int = 0
    since: float = 0.0
    """When the first of them was first seen."""
    used: Mapping[str, Number] = {}
    """Per resource, what all of them used."""

    @property
    def are_a_loop(self) -> bool:
        """True if that is no accident any more."""
        return self.number >= LOOP_FROM

    def added_to(self, used: Mapping[str, Number]) -> dict[str, Number]:
        """Return what the present run used with what all of them did; times are its own."""
        return {r: total + self.used.get(r, type(total)(0)) for r, total in used.items()}  # type: ignore[operator] # both are of one resource


NO_RESTARTS = Restarts()
