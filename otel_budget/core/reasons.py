"""Actions, and the reasons for them: a row of the table is all that a reason is, besides its rule.

The rule that gives a reason is in ``policy``. What is final, what is advised and what the metric of
the decisions shows follow from the row.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Action(StrEnum):
    """What the run is to do."""

    CONTINUE = "continue"
    STOP = "stop"


class Basis(StrEnum):
    """What a reason rests on."""

    NUMBERS = "numbers"
    """Use, limits and progress."""
    UNKNOWN_USE = "unknown_use"
    """Calls of which the use or the price is unknown."""
    NO_DATA = "no_data"
    """The sidecar has no good data on the run, which is inconclusive."""
    OPERATOR = "operator"
    PARENT = "parent"
    """The verdict on a run that it is a descendant of."""
    HELD = "held"
    """Calls under way hold what is left; only the run itself says so."""
    NO_SIDECAR = "no_sidecar"
    """The run has no verdict from its sidecar; only the run itself says so."""


class Reason(StrEnum):
    """Why; ``_TABLE`` below has a row for each, and each row is found on its reason.

    A reader accepts others too: a newer sidecar may know more of them.
    """

    WITHIN_LIMITS = "within_limits"
    FINISHING = "finishing"
    APPROACHING_LIMIT = "approaching_limit"
    APPROACHING_LIMIT_PROGRESS_UNKNOWN = "approaching_limit_progress_unknown"
    BUDGET_LOW = "budget_low"
    WRAP_UP = "wrap_up"
    LIMIT_EXCEEDED = "limit_exceeded"
    UNPRICED_CALLS = "unpriced_calls"
    UNKNOWN_USAGE = "unknown_usage"
    STALE_DATA = "stale_data"
    SOURCE_ERROR = "source_error"
    PARTIAL_DATA = "partial_data"
    IMPLAUSIBLE_DATA = "implausible_data"
    INTERNAL_ERROR = "internal_error"
    SIDECAR_LOST = "sidecar_lost"
    BUDGET_BUSY = "budget_busy"
    OPERATOR_STOP = "operator_stop"
    PARENT_STOPPED = "parent_stopped"

    basis: Basis
    actions: tuple[Action, ...]
    """Those that may go with it."""
    meaning: str
    """For people, after the reason and a colon."""
    advice: str
    """The end of a verdict's message, with ``{action}``, ``{reason}``, and ``{calls}``: how many
    calls of which something is unknown. Empty: what decides it has a message of its own."""
    is_final: bool
    """True if no lack of data can change it."""


class _Row(NamedTuple):
    basis: Basis
    actions: tuple[Action, ...]
    meaning: str
    advice: str = ""
    is_final: bool = False


_CONTINUE, _STOP, _EITHER = (Action.CONTINUE,), (Action.STOP,), (Action.CONTINUE, Action.STOP)
_HELD = "{action} for lack of good data ({reason})"

#: All that a reason needs besides its name above and the place in ``policy`` that decides it:
#: metrics, messages, the API's description and the dashboards follow from it.
_TABLE = {
    Reason.WITHIN_LIMITS: _Row(Basis.NUMBERS, _CONTINUE, "no limit is near", "continue"),
    Reason.FINISHING: _Row(
        Basis.NUMBERS, _CONTINUE, "a limit is near, and the run is nearly done",
        "nearly done, finish",
    ),
    Reason.APPROACHING_LIMIT: _Row(
        Basis.NUMBERS, _STOP, "a limit is near, and the run is not nearly done",
        "stop and keep partial results",
    ),
    Reason.APPROACHING_LIMIT_PROGRESS_UNKNOWN: _Row(
        Basis.NUMBERS, _CONTINUE, "a limit is near, and the run's progress is unknown",
        "continue, progress unknown",
    ),
    Reason.BUDGET_LOW: _Row(
        Basis.NUMBERS, _STOP, "a budget is low, and what is left is for runs that can finish",
        "stop and keep partial results, what is left is for runs that can still finish",
        is_final=True,
    ),
    Reason.WRAP_UP: _Row(
        Basis.NUMBERS, _STOP, "what is left of a limit is for the run's last calls",
        "stop and wrap up, what is left is for the last calls",
        is_final=True,
    ),
    Reason.LIMIT_EXCEEDED: _Row(
        Basis.NUMBERS, _STOP, "a limit is reached", "stop", is_final=True
    ),
    Reason.UNPRICED_CALLS: _Row(
        Basis.UNKNOWN_USE, _STOP, "calls have no price, and on_unpriced is 'stop'",
        "stop: {calls} without a price, and on_unpriced is 'stop': give the model a price "
        "(OTEL_BUDGET_PRICES), or record cost_usd",
        is_final=True,
    ),
    Reason.UNKNOWN_USAGE: _Row(
        Basis.UNKNOWN_USE, _STOP, "the usage of calls is unknown, and on_unknown_usage is 'stop'",
        "stop: {calls} of unknown usage, and on_unknown_usage is 'stop': have the API report "
        "usage, or record the tokens",
        is_final=True,
    ),
    Reason.STALE_DATA: _Row(Basis.NO_DATA, _EITHER, "a run fell silent", _HELD),
    Reason.SOURCE_ERROR: _Row(Basis.NO_DATA, _EITHER, "the source failed", _HELD),
    Reason.PARTIAL_DATA: _Row(Basis.NO_DATA, _EITHER, "part of an answer is missing", _HELD),
    Reason.IMPLAUSIBLE_DATA: _Row(Basis.NO_DATA, _EITHER, "a value that cannot be", _HELD),
    Reason.INTERNAL_ERROR: _Row(Basis.NO_DATA, _EITHER, "the sidecar failed at the run", _HELD),
    Reason.SIDECAR_LOST: _Row(
        Basis.NO_SIDECAR, _STOP,
        "the run has no verdict from its sidecar, and on_sidecar_loss is 'stop'",
    ),
    Reason.BUDGET_BUSY: _Row(
        Basis.HELD, _STOP, "what is left of a limit is held by calls that are under way"
    ),
    Reason.OPERATOR_STOP: _Row(Basis.OPERATOR, _STOP, "an operator stopped the run"),
    Reason.PARENT_STOPPED: _Row(
        Basis.PARENT, _STOP, "a run that it is a descendant of is stopped",
        "stop: a run that it is a descendant of is stopped",
        is_final=True,
    ),
}  # fmt: skip
for _reason in Reason:
    for _name, _value in _TABLE[_reason]._asdict().items():
        setattr(_reason, _name, _value)


def reasons_for(*bases: Basis) -> tuple[Reason, ...]:
    """Return the reasons that rest on one of these, in the order of the table."""
    return tuple(reason for reason in Reason if reason.basis in bases)


NO_DATA = reasons_for(Basis.NO_DATA)
"""Why a run is inconclusive."""
LIMIT_STOPS = tuple(r for r in reasons_for(Basis.NUMBERS) if Action.CONTINUE not in r.actions)
"""Why a run is to stop by its numbers alone."""
