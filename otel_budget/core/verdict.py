"""The answer to "may this run go on?", with the reason and all the numbers it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, NamedTuple

from otel_budget.core.quantities import Number

Origin = Literal["session", "sidecar", "operator"]


class LimitStatus(StrEnum):
    """Where use is against its limit. INCONCLUSIVE comes from the sidecar only: it cannot tell."""

    OK = "ok"
    APPROACHING = "approaching"
    EXCEEDED = "exceeded"
    INCONCLUSIVE = "inconclusive"


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
    LIMIT_EXCEEDED = "limit_exceeded"
    UNPRICED_CALLS = "unpriced_calls"
    UNKNOWN_USAGE = "unknown_usage"
    STALE_DATA = "stale_data"
    SOURCE_ERROR = "source_error"
    PARTIAL_DATA = "partial_data"
    IMPLAUSIBLE_DATA = "implausible_data"
    INTERNAL_ERROR = "internal_error"
    SIDECAR_LOST = "sidecar_lost"
    OPERATOR_STOP = "operator_stop"

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
    Reason.OPERATOR_STOP: _Row(Basis.OPERATOR, _STOP, "an operator stopped the run"),
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


class ResourceState(NamedTuple):
    """One resource of a run: what is used, of what."""

    used: Number
    """Seconds, tokens, calls or US dollars."""
    limit: Number | None
    """The limit that counted; None is unlimited."""
    remaining: Number | None
    """Never below 0; None when unlimited."""
    ratio: float | None
    """Used over limit; 1 for a limit of 0; None when unlimited."""
    status: LimitStatus
    limit_from: Origin | None = None
    """Whose limit counted: the run's own, the sidecar's, or an operator's."""
    exhaustion_seconds: float | None = None
    """Forecast seconds until the limit; None when it is not being spent, or not forecast."""
    at_least: bool = False
    """True if part of the use is unknown: it is at least ``used``."""
    estimated: bool = False
    """True if part of ``used`` is an estimate."""
    warning_at: Number | None = None
    """The smallest use that counts as approaching; None when unlimited, or not said."""


@dataclass(frozen=True, slots=True)
class LimitCheckResult:
    """All resources of a run against their limits."""

    status: LimitStatus
    """The worst of the resources'."""
    approaching: tuple[str, ...]
    """Names of the resources past their warning threshold and below their limit."""
    exceeded: tuple[str, ...]
    """Names of the resources at or past their limit."""
    resources: Mapping[str, ResourceState]
    message: str
    """One line with both numbers of each resource that is not ok."""

    @property
    def should_continue(self) -> bool:
        """True unless a limit is exceeded. What to do when one is near is the verdict's."""
        return self.status is not LimitStatus.EXCEEDED


@dataclass(frozen=True, slots=True)
class Verdict:
    """Continue or stop, why, and the numbers it came from."""

    session_id: str
    action: Action
    status: LimitStatus
    reason: str
    """A ``Reason``, or one a newer sidecar knows."""
    message: str
    """One line for people, with the numbers that decided."""
    resources: Mapping[str, ResourceState]
    evaluated_at: float
    """Unix time of the decision."""
    started_at: float | None = None
    """Unix time at which the run began: a verdict on an earlier run of the same id is not for
    this one. None: not known."""
    data_at: float | None = None
    """Unix time of the newest sample behind it; None when there is none."""
    progress: float | None = None
    """The run's own estimate it was decided with; None for unknown."""
    headroom: Mapping[str, Number] = field(default_factory=dict)
    """Per limited resource, how much more may be used before the status could change."""
    lease_seconds: float | None = None
    """How long from receipt it may be trusted; None for the run's own, which needs no lease."""
    sequence: int | None = None
    """Number of its publication; None for the run's own."""
    decision_id: str = ""
    """Follows from the inputs: the same inputs give the same id."""
    policy_revision: str = ""
    """Names the policy (the sidecar's ceilings and rules) it was decided under."""
    budgets: tuple[Mapping[str, object], ...] = ()
    """Budgets shared with other runs; always empty in this version."""
    completion_threshold: float | None = None
    """Progress from which the run may finish, as it was decided with: the stricter of the run's
    own and the sidecar's. None: not said."""
    run_state: str | None = None
    """What the run said it was doing when it was judged, one of ``semconv.SESSION_STATES``: a
    verdict on a run that has ended is history. ``vanished``: it is not seen any more, and did not
    say that it ends. None: it did not say."""
    unjudged: tuple[str, ...] = ()
    """Resources that are limited and of whose use nothing is known: those limits cannot be judged.
    They are absent from ``resources``."""
    also_started_at: tuple[float, ...] = ()
    """Unix times at which other runs of the same id began that were judged together with it, as
    they were alive at the same time: it is for each of them."""

    @property
    def should_continue(self) -> bool:
        """True for ``continue``."""
        return self.action is Action.CONTINUE

    def is_over(self, now: float) -> bool:
        """Tell whether its lease is over at a Unix time of the clock it was evaluated by."""
        return self.lease_seconds is not None and now - self.evaluated_at >= self.lease_seconds

    def number(self, sequence: int | None) -> None:
        """Give a verdict that was not handed out yet the number of its publication.

        In place: there is one for every run and tick, and a copy takes as long as to judge.
        """
        object.__setattr__(self, "sequence", sequence)
