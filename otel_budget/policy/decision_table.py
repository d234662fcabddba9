"""Continue or stop. The table of the design, section 3, and nothing else.

No row is latched: what the numbers say now is the decision. No default branch means "continue":
a status that is not in the table is an error.
"""

from __future__ import annotations

from otel_budget.core.reasons import Action, Basis, Reason
from otel_budget.core.verdict import LimitStatus

Decision = tuple[Action, Reason]

WITHIN: Decision = (Action.CONTINUE, Reason.WITHIN_LIMITS)
FINISHING: Decision = (Action.CONTINUE, Reason.FINISHING)
APPROACHING: Decision = (Action.STOP, Reason.APPROACHING_LIMIT)
UNKNOWN: Decision = (Action.CONTINUE, Reason.APPROACHING_LIMIT_PROGRESS_UNKNOWN)
LOW: Decision = (Action.STOP, Reason.BUDGET_LOW)
WRAPPING_UP: Decision = (Action.STOP, Reason.WRAP_UP)
EXCEEDED: Decision = (Action.STOP, Reason.LIMIT_EXCEEDED)

#: What the numbers can say, the strictest last.
_STRICTNESS = {
    decision: number
    for number, decision in enumerate(
        (WITHIN, FINISHING, UNKNOWN, APPROACHING, LOW, WRAPPING_UP, EXCEEDED)
    )
}

#: Every decision there can be on a run, but those that only the run itself takes.
DECISIONS: tuple[Decision, ...] = tuple(
    (action, reason)
    for reason in Reason
    if reason.basis not in (Basis.NO_SIDECAR, Basis.HELD)
    for action in reason.actions
)
#: Those that no lack of data can change.
FINAL = tuple(decision for decision in DECISIONS if decision[1].is_final)


def decide(status: LimitStatus, progress: float | None, completion_threshold: float) -> Decision:
    """Return action and reason for a status that is known.

    progress: 0 to 1, None for unknown. Raises ValueError for INCONCLUSIVE: what to do without
    data depends on for how long there is none, see ``decide_without_data``.
    """
    if status is LimitStatus.OK:
        return WITHIN
    if status is LimitStatus.EXCEEDED:
        return EXCEEDED
    if status is LimitStatus.APPROACHING:
        if progress is None:
            return UNKNOWN
        return FINISHING if progress >= completion_threshold else APPROACHING
    raise ValueError(f"status {status!r} cannot be decided without its data")


def strictest(one: Decision, other: Decision) -> Decision:
    """Return the stricter of two decisions by numbers. Raises KeyError for any other."""
    return one if _STRICTNESS[one] >= _STRICTNESS[other] else other


def decide_without_data(
    known: Decision, reason: Reason, inconclusive_for: float, hold: float, on_no_data: Action
) -> Decision:
    """Return action and reason for a run without good data.

    known: what its last known numbers say. That action is held for ``hold`` seconds, then
    ``on_no_data`` applies. The caller has already stopped a run that is known to be exceeded.
    """
    return (known[0] if inconclusive_for <= hold else on_no_data), reason
