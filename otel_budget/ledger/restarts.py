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

from otel_budget import semconv

if TYPE_CHECKING:
    from otel_budget.core.quantities import Number
    from otel_budget.ledger.run import RunTotals

#: Seconds within which the next run has to begin after the one before it began, or was last heard,
#: to be of the same row.
_WITHIN = 600.0
#: Seconds that a run of such a row lasted at most, unless it was stopped.
_LASTED = 3600.0
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


def restarts_after(run: RunTotals, successor: RunTotals, *, any_length: bool = False) -> Restarts:
    """Return the runs before ``successor``, which takes the place of ``run``.

    any_length: True if those that lasted for long are in a row, too.
    """
    heard_at, state = max(run.heard_at, run.first_seen_at), run.attributes.state
    late = successor.first_seen_at - heard_at > _WITHIN
    lasted = heard_at - run.first_seen_at > _LASTED and state != semconv.STOPPED
    lasted = lasted and not any_length
    done = state == semconv.COMPLETED or successor.attributes.follows_completed
    if late or lasted or done:
        return NO_RESTARTS
    before = run.restarts
    used = dict(before.used)
    for resource, total in run.totals().items():
        used[resource] = used.get(resource, type(total)(0)) + total  # type: ignore[operator]
    since = before.since if before.number else run.first_seen_at
    return Restarts(before.number + 1, since, used)
