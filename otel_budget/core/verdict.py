"""The answer to "may this run go on?", with the reason and all the numbers it came from."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from otel_budget import semconv
from otel_budget.core.budget import Mode, WindowSpan
from otel_budget.core.forecast import Forecast, ends_first
from otel_budget.core.quantities import Number
from otel_budget.core.reasons import Action, Reason
from otel_budget.core.wrap_up import WrapUp

OPERATOR: Final = "operator"
#: Before the session id of the run whose limit stops its descendants.
PARENT: Final = "parent:"
#: Whose limit is named of several that decide alike; others come after these, by name.
_ORIGINS: Final = (OPERATOR, "session", "sidecar", "suggested")


def by_name(origin: str) -> tuple[str, str, str]:
    """Return what sorts ``limit_from`` of budgets by name, whatever their groups are."""
    return origin.partition("{")


class LimitStatus(StrEnum):
    """Where use is against its limit. INCONCLUSIVE comes from the sidecar only: it cannot tell."""

    OK = "ok"
    APPROACHING = "approaching"
    EXCEEDED = "exceeded"
    INCONCLUSIVE = "inconclusive"


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
    limit_from: str | None = None
    """Whose limit counted: ``session``, ``sidecar``, ``operator``, ``suggested``, ``parent:ID``,
    ``budget:NAME`` or ``budget:NAME{k=v,…}``, or what a newer sidecar says."""
    exhaustion_seconds: float | None = None
    """Forecast seconds until the limit, those of ``forecast``; None when it is not being spent, or
    not forecast."""
    at_least: bool = False
    """True if part of the use is unknown: it is at least ``used``."""
    estimated: bool = False
    """True if part of ``used`` is an estimate."""
    warning_at: Number | None = None
    """The smallest use that counts as approaching; None when unlimited, or not said."""
    forecast: Forecast | None = None
    """What is left until the limit; None when unlimited, not forecast, or nothing can be told."""


def judged(resources: Mapping[str, ResourceState]) -> Mapping[str, ResourceState]:
    """Return resources whose forecast does not matter: it is not worked out for that.

    Those with forecasts that are still to be worked out have the others as ``judged``.
    """
    found: Mapping[str, ResourceState] = getattr(resources, "judged", resources)
    return found


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


class BudgetResource(NamedTuple):
    """One resource of a budget in its present window."""

    used: Number
    limit: Number
    """``base + top_up + carried``: the only one that counts."""
    remaining: Number
    """Never below 0."""
    ratio: float
    status: LimitStatus
    base: Number
    top_up: Number
    carried: Number
    """From the window before; below 0 where an overrun is carried."""
    warning_at: Number
    at_least: bool = False
    """True if part of the use is unknown: it is at least ``used``."""


@dataclass(frozen=True, slots=True)
class BudgetState:
    """How a budget stands for one group, as a verdict lists it."""

    name: str
    group: Mapping[str, str]
    mode: Mode
    window: WindowSpan
    resources: Mapping[str, BudgetResource]
    """Those that it limits."""
    origin: str
    """As ``limit_from`` names it."""
    binds: bool = False
    """True if it decided the verdict that it stands in."""
    tz: dt.tzinfo = field(default=dt.UTC, compare=False, repr=False)
    """In which its times are told."""

    @property
    def group_text(self) -> str:
        """The group in words, as ``Budget.group_text`` gives them: empty without ``per``."""
        return self.origin.removeprefix(f"budget:{self.name}").strip("{}")

    @property
    def status(self) -> LimitStatus:
        """The worst of its resources'; as it stands, whatever its mode."""
        found = {state.status for state in self.resources.values()}
        for status in (LimitStatus.EXCEEDED, LimitStatus.APPROACHING):
            if status in found:
                return status
        return LimitStatus.OK


#: What stops for the unknown, and the resources of which one is limited then: as in
#: policy.unknown_usage.
_UNKNOWN_USE: Final[Mapping[str, tuple[str, ...]]] = {
    Reason.UNKNOWN_USAGE: (semconv.TOKENS, semconv.COST),
    Reason.UNPRICED_CALLS: (semconv.COST,),
}


class WouldBe(NamedTuple):
    """What would hold if what is in shadow were enforced, beside what does."""

    action: Action
    status: LimitStatus
    reason: str
    """A ``Reason``, or one a newer sidecar knows."""
    limit_from: str | None
    """Whose limit would decide, as in ``Verdict``."""
    message: str = ""
    """One line for people, with the numbers."""

    def differs_from(self, verdict: Verdict) -> bool:
        """Tell whether it is anything else than what holds."""
        holds = verdict.action, verdict.status, str(verdict.reason), verdict.limit_from
        return self[:4] != holds


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
    budgets: tuple[BudgetState, ...] = ()
    """The budgets that the run shares with others, by name."""
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
    would: WouldBe | None = None
    """What would hold if budgets and ceilings in shadow were enforced; None: the same, or nothing
    is in shadow."""

    stopped_by: str | None = None
    """Of ``parent_stopped`` the session id of the nearest stopped run that it is a descendant of,
    which is stopped for a reason of its own."""
    waiting_since: float | None = None
    """Unix time since when a run waits until it may go on, as it says; None of one that does not.
    """
    ordered_at: float | None = None
    """Unix time at which an operator gave the stop that decided; None of any other verdict."""
    own_limits_replaced: tuple[str, ...] = ()
    """Resources of which an operator's limit, or that there is none, holds in place of the run's
    own: the run, or the sidecar's file, lets limits come from outside."""
    wrap_up: WrapUp | None = None
    """What the run may still use to finish, of a graceful stop before a limit, or while it wraps
    up; None: nothing, or it goes on."""
    knows_wrap_up: bool = field(default=True, compare=False)
    """False of a verdict of a sidecar that knows of no last calls: then the run works them out."""

    @property
    def ends_first(self) -> str | None:
        """The limited resource whose limit is forecast to be reached first; None: not known."""
        states = self.resources.items()
        return ends_first({name: s.forecast for name, s in states if s.forecast is not None})

    @property
    def limit_from(self) -> str | None:
        """Whose limit decided, as in ResourceState: of several the first in ``_ORIGINS``.

        None while nothing binds, and where it was decided for want of data. ``operator`` for an
        operator's stop.
        """
        if self.reason == Reason.OPERATOR_STOP:
            return OPERATOR
        if self.reason == Reason.PARENT_STOPPED:
            return None if self.stopped_by is None else f"{PARENT}{self.stopped_by}"
        origins = self.origins
        for origin in _ORIGINS:
            if origin in origins:
                return origin
        return min(origins, key=by_name, default=None)

    @property
    def origins(self) -> frozenset[str]:
        """Whose limits decided, all of them."""
        states = judged(self.resources).items()
        bound = [state.limit_from for name, state in states if self._is_bound_by(name, state)]
        bound += [budget.origin for budget in self.budgets if budget.binds]
        return frozenset(origin for origin in bound if origin is not None)

    def _is_bound_by(self, name: str, state: ResourceState) -> bool:
        """Tell whether a resource is what the status comes from, or what stops for the unknown."""
        if self.reason == Reason.BUDGET_LOW:
            return False  # as near as one of the run's own may be
        if self.reason == Reason.WRAP_UP and any(budget.binds for budget in self.budgets):
            return False  # one of the run's own goes before them
        unknown = _UNKNOWN_USE.get(self.reason)
        if unknown is not None:
            return name in unknown and state.limit is not None
        return state.status is self.status and self.status is not LimitStatus.OK

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
