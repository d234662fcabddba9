"""What is older than what it is held against: a sidecar's stop, and a progress.

A run is ahead of what was scraped of it, in two things only: how far it is, and its own limits. And
what it used may be ahead of how far it last said it is: a progress from before a count crossed a
line says nothing about now.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_budget.core.reasons import LIMIT_STOPS, Action, Reason
from otel_budget.core.verdict import LimitStatus
from otel_budget.policy.decision_table import decide
from otel_budget.policy.status import status_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_budget.core.quantities import Number
    from otel_budget.core.verdict import ResourceState, Verdict
    from otel_budget.policy.bounds import Bound, Bounds


def redecide(verdict: Verdict, progress: float | None, completion_threshold: float) -> bool:
    """Tell whether a run may go on under a sidecar's verdict, at the progress it reports now.

    The sidecar decides a graceful stop with the progress it last saw. The run may be further by
    now, and may then finish: the same table, with the newer number and the stricter of the two
    completion thresholds. No other stop gives way, and none to an unknown progress.
    """
    if verdict.action is Action.CONTINUE:
        return True
    if progress is None or not is_graceful(verdict):
        return False
    if verdict.completion_threshold is not None:
        completion_threshold = max(completion_threshold, verdict.completion_threshold)
    return decide(verdict.status, progress, completion_threshold)[0] is Action.CONTINUE


def is_graceful(verdict: Verdict) -> bool:
    """Tell whether a verdict is a stop that a run which is nearly done need not obey."""
    approaching = verdict.status is LimitStatus.APPROACHING
    return verdict.reason == Reason.APPROACHING_LIMIT and approaching


def is_outgrown(at: Mapping[str, Number], used: Mapping[str, Number], bounds: Bounds) -> bool:
    """Tell whether a count crossed a line between two uses of a run.

    at: what was used when the run said how far it is, as far as that is known; used: by now.
    """
    return any(
        status_of(at[name], bound) is not status_of(used[name], bound)
        for name, bound in bounds.items()
        if name in at and name in used
    )


def relaxed(verdict: Verdict, own: Bounds) -> bool:
    """Tell whether a sidecar's stop was for limits of the run's own that it has not any more.

    own: the run's present ones. What the sidecar knows to be used is held against them; limits that
    are not the run's stay, those of budgets among them.
    """
    if verdict.reason not in LIMIT_STOPS or any(budget.binds for budget in verdict.budgets):
        return False
    past = {n: s for n, s in verdict.resources.items() if s.status is verdict.status}
    return bool(past) and all(_is_relaxed(state, own.get(name)) for name, state in past.items())


def _is_relaxed(state: ResourceState, own: Bound | None) -> bool:
    if state.limit is None or state.limit_from != "session":
        return False
    if own is not None and float(own.limit) == float(state.limit):
        return False  # the warning line it is past may be the sidecar's
    return status_of(state.used, own) is LimitStatus.OK
