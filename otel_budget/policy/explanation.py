"""Why a verdict is what it is: the row of the decision table, and what would make it another one.

It follows from the verdict alone, as it was published: nothing is judged again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget.core.reasons import Action, Basis, Reason
from otel_budget.core.verdict import LimitStatus, judged
from otel_budget.policy.format import amount, percent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from otel_budget.core.verdict import BudgetState, ResourceState, Verdict


class Row(NamedTuple):
    """A row of the decision table in docs/design.md, section 3."""

    status: str
    progress: str
    action: str
    reason: str


_ANY: Final = "any"
_NOT_EXCEEDED: Final = "not exceeded by what is known"
_UNKNOWN_USAGE: Final = (
    "calls of unknown usage under a limit on tokens or cost, and on_unknown_usage: stop"
)
#: Status and progress of each reason's row, in the words of the design.
_ROWS: Final[Mapping[Reason, tuple[str, str]]] = {
    Reason.WITHIN_LIMITS: ("ok", _ANY),
    Reason.FINISHING: ("approaching", ">= completion_threshold"),
    Reason.APPROACHING_LIMIT: ("approaching", "< completion_threshold"),
    Reason.APPROACHING_LIMIT_PROGRESS_UNKNOWN: ("approaching", "unknown"),
    Reason.WRAP_UP: ("what is left is for the last calls", _ANY),
    Reason.BUDGET_BUSY: ("what is left is held by calls under way", _ANY),
    Reason.BUDGET_LOW: ("approaching, of a budget with when_low: finish_most", _ANY),
    Reason.LIMIT_EXCEEDED: ("exceeded", _ANY),
    Reason.UNPRICED_CALLS: (
        f"{_NOT_EXCEEDED}; unpriced calls under a limit on cost, and on_unpriced: stop", _ANY,
    ),
    Reason.UNKNOWN_USAGE: (
        f"{_NOT_EXCEEDED}; {_UNKNOWN_USAGE}", _ANY,
    ),
    Reason.STALE_DATA: ("inconclusive", _ANY),
    Reason.SOURCE_ERROR: ("inconclusive", _ANY),
    Reason.PARTIAL_DATA: ("inconclusive", _ANY),
    Reason.IMPLAUSIBLE_DATA: ("inconclusive", _ANY),
    Reason.INTERNAL_ERROR: ("inconclusive", _ANY),
    Reason.SIDECAR_LOST: ("inconclusive (in the process: no lease)", _ANY),
    Reason.OPERATOR_STOP: (_ANY, _ANY),
    Reason.PARENT_STOPPED: (_ANY, _ANY),
}  # fmt: skip
#: Who can change a limit, by whose it is.
_MENDS: Final = {
    "session": "only the run's code can raise it",
    "sidecar": "set in the sidecar's resource_limits",
    "suggested": "suggested within the sidecar's resource_limits",
    "operator": "an operator gave it: otel-budget session limits",
}


def row_of(verdict: Verdict) -> Row | None:
    """Return the row of the table that decided; None for a reason of a newer sidecar."""
    try:
        reason = Reason(verdict.reason)
    except ValueError:
        return None
    return Row(*_ROWS[reason], str(verdict.action), str(reason))


def otherwise(verdict: Verdict) -> tuple[str, ...]:
    """Return what would have had to be otherwise for another verdict, each in a sentence."""
    try:
        reason = Reason(verdict.reason)
    except ValueError:
        return ()
    if reason.basis is Basis.NO_DATA:
        held = "held" if verdict.action is Action.CONTINUE else "held, or what on_no_data says"
        return (f"good data on the run: what it does without them is {held}",)
    found = {
        Reason.OPERATOR_STOP: ("a release: otel-budget session release", ),
        Reason.PARENT_STOPPED: ("a parent that goes on: explain that run",),
        Reason.SIDECAR_LOST: ("a verdict in force, from a sidecar that is reached",),
        Reason.BUDGET_BUSY: ("calls under way that have ended: asked again then, it may go on",),
        Reason.UNPRICED_CALLS: ("a price for the calls, or on_unpriced: ignore",),
        Reason.UNKNOWN_USAGE: ("a use for the calls, or on_unknown_usage: ignore",),
    }.get(reason)  # fmt: skip
    if found is not None:
        return found
    if reason is Reason.WITHIN_LIMITS:
        return tuple(_next_lines(verdict))
    return (*_by_progress(verdict, reason), *_by_limits(verdict))


def _next_lines(verdict: Verdict) -> Iterator[str]:
    for name, room in verdict.headroom.items():
        yield f"{name} more by {amount(name, room)}: then the limit is near"


def _by_progress(verdict: Verdict, reason: Reason) -> Iterator[str]:
    threshold = verdict.completion_threshold
    line = "its completion threshold" if threshold is None else percent(threshold)
    if reason is Reason.FINISHING:
        yield f"a progress below {line}: it would have to stop"
    elif reason is Reason.APPROACHING_LIMIT:
        yield f"a progress of {line} or more, or none that is known: it might go on"
    elif reason is Reason.APPROACHING_LIMIT_PROGRESS_UNKNOWN:
        yield f"a known progress below {line}: it would have to stop"
    elif reason is Reason.WRAP_UP:
        yield "smaller calls, or fewer kept back: wrap_up_calls"
    elif reason is Reason.BUDGET_LOW:
        yield "a progress and a forecast by which it finishes within what is left of the budget"


def _by_limits(verdict: Verdict) -> Iterator[str]:
    """Say which limits would have had to be higher, and who could have raised them."""
    for name, state in judged(verdict.resources).items():
        if _binds(verdict, state.status):
            yield _higher(name, state, verdict.status)
    for budget in verdict.budgets:
        if budget.binds:
            yield from _more_of(budget)


def _binds(verdict: Verdict, status: LimitStatus) -> bool:
    return status is verdict.status and status in (LimitStatus.APPROACHING, LimitStatus.EXCEEDED)


def _higher(name: str, state: ResourceState, status: LimitStatus) -> str:
    used, origin = amount(name, state.used), state.limit_from or ""
    who = _MENDS.get(origin, f"of {origin}")
    if status is LimitStatus.EXCEEDED:
        return f"a limit on {name} above the {used} used ({who})"
    line = "its warning line" if state.warning_at is None else amount(name, state.warning_at)
    return f"{name} below {line}, where the limit is near; {used} were used ({who})"


def _more_of(budget: BudgetState) -> Iterator[str]:
    ends = budget.window.resets_at is not None
    for name, state in budget.resources.items():
        if state.status is budget.status:
            used, limit = amount(name, state.used), amount(name, state.limit)
            yield (
                f"more {name} in {budget.origin} ({used} of {limit} used): a top-up by otel-budget "
                f"budget raise{', or its next window' if ends else ''}"
            )
