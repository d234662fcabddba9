"""The verdict as the API shows it, in answers and on the stream. The core renders it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from otel_budget import semconv
from otel_budget.core import verdict_json
from otel_budget.core.reasons import Action, Reason
from otel_budget.core.resources import RESOURCES
from otel_budget.core.verdict import LimitStatus
from otel_budget.sidecar.api.budget_body import STATE_EXAMPLE, BudgetStateBody
from otel_budget.sidecar.api.models import (
    ABSENT,
    LIMIT_FROM,
    Amount,
    Body,
    SessionId,
    Share,
    one_of,
)

SESSION_ID: Final = "nightly-refactoring-17"


_Range = Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=2, max_length=2)]


class ForecastBody(Body):
    """How much longer a resource lasts if the run goes on as it does. Each range is where it lies
    in four cases of five. Null: it cannot be told.
    """

    calls_left: Annotated[float, Field(ge=0)] | None
    """Calls to models until the limit is reached; of the one that reaches it, the part that still
    fits counts."""
    calls_left_range: _Range | None
    whole_calls_left: Annotated[int, Field(ge=0)] | None
    """Calls that fit as a whole before the limit is reached."""
    seconds_left: Annotated[float, Field(ge=0)] | None
    """Seconds until the limit is reached; null when none of it is being used."""
    seconds_left_range: _Range | None


class ResourceBody(Body):
    """One resource of the run: how much it has used, and of what limit."""

    used: Amount
    limit: Amount | None
    """The limit that applies; null means unlimited."""
    warning_at: Amount | None = ABSENT
    """The smallest use that counts as approaching; null when unlimited."""
    remaining: Amount | None
    """Never below 0; null when unlimited."""
    ratio: float | None
    """Used divided by limit; null when unlimited."""
    status: LimitStatus
    limit_from: Annotated[str, Field(pattern=LIMIT_FROM)] | None
    """Where the limit that applies was set: by the run itself (`session`), in the sidecar
    (`sidecar`), by an operator's override (`operator`), or by what other runs used
    (`suggested`). More may be added later."""
    exhaustion_seconds: float | None = ABSENT
    """The seconds_left of the forecast; null when none of it is being used."""
    forecast: ForecastBody = ABSENT
    """Absent when the resource is unlimited, and when nothing can be told, as after the run's end.
    """
    at_least: bool = ABSENT
    """True when part of the use is unknown (calls without a price or a token count), so the real
    use may be higher than `used`. Absent otherwise."""
    estimated: bool = ABSENT
    """True when part of the use is an estimate: calls that did not report their use are counted at
    the run's own mean. Absent otherwise."""


class WouldBody(Body):
    """What would hold if budgets and ceilings that are in shadow were enforced."""

    action: Action
    status: LimitStatus
    reason: str
    limit_from: Annotated[str, Field(pattern=LIMIT_FROM)] | None
    """Whose limit would decide."""
    message: str
    """One line for people."""


class WrapUpBody(Body):
    """What a run that is stopped in time may still use to finish: so many calls, and no more than
    this in them. Null amounts: the size of its calls is not known. None of it goes past a limit.
    """

    calls: Annotated[int, Field(ge=1)]
    tokens: Annotated[int, Field(ge=0)] | None
    cost: Amount | None
    """US dollars."""
    seconds: Annotated[float, Field(ge=0)] | None


class VerdictBody(Body):
    """Continue or stop, why, and the numbers behind it. Trust it for lease_seconds from receipt;
    after that, do what your own fail mode says. Accept keys, reasons and resources that you do not
    know.
    """

    version: Literal[1]
    session_id: SessionId
    run_started_at: float | None
    """When the run that was judged started, in Unix seconds, as the run exports it; null when it
    does not. Drop a verdict whose start differs from your own, unless yours is in
    also_started_at."""
    also_started_at: list[float] = ABSENT
    """When other runs with the same id started that were alive at the same time and judged together
    with it: the verdict applies to each of them. Absent when there are none."""
    run_state: Annotated[
        str | None,
        one_of(*semconv.RUN_STATES, None),
        Field(
            description=(
                "What the run said it was doing when it was judged; null when it does not say. A "
                f"verdict on a run that has ended ({', '.join(semconv.ENDED_STATES)}) is history: "
                f"it says nothing about another run with the same id. {semconv.VANISHED}: the "
                "run's target was removed in an orderly way, or answers without the run."
            )
        ),
    ]
    waiting_since: datetime = ABSENT
    """Since when the run waits until it may go on, as it says. Absent while it does not."""
    ordered_at: datetime = ABSENT
    """When an operator gave the stop that decided. Absent of any other verdict."""
    action: Action
    status: LimitStatus
    reason: Annotated[str, Field(examples=[str(reason) for reason in Reason])]
    limit_from: Annotated[str, Field(pattern=LIMIT_FROM)] | None = ABSENT
    """Where the limit that decided was set, as in `resources`, or of which run
    above this one (`parent:ID`), or which budget it is of (`budget:NAME`, `budget:NAME{k=v}`): of
    several operator, session, sidecar, suggested, then budgets by name. null while no limit is
    near, and where data are missing."""
    message: str
    """One line for people."""
    resources: Annotated[
        dict[str, ResourceBody],
        Field(description=f"By resource: {', '.join(RESOURCES)}. More may be added later."),
    ]
    headroom: dict[str, Amount]
    """By resource, how much more can be used before the status could change."""
    budgets: list[BudgetStateBody]
    """Budgets shared with other runs, by name."""
    progress: Share | None
    completion_threshold: Share | None
    """The progress from which a run that approaches a limit may finish."""
    data_at: datetime | None
    """When the newest sample behind this verdict was taken; null when there is none."""
    evaluated_at: datetime
    lease_seconds: Annotated[float, Field(ge=0)]
    """What is left of the lease when the verdict is sent."""
    valid_until: datetime
    """For people; programs count lease_seconds from receipt."""
    sequence: Annotated[int, Field(ge=1)]
    decision_id: str
    policy_revision: str
    unjudged: list[str]
    """Limited resources that nothing exports, so their limits cannot be judged. They are missing
    from `resources`."""
    own_limits_replaced: list[str] = ABSENT
    """Resources of which an operator's limit, or that there is none, holds in place of the run's
    own: the run, or the sidecar's file, lets limits come from outside. Absent when there are none.
    """
    ends_first: str | None
    """The limited resource whose limit is forecast to be reached first; null when none can be told.
    """
    would: WouldBody | None
    """What would hold if budgets and ceilings that are in shadow were enforced; null when that is
    the same, and when nothing is in shadow."""
    wrap_up: WrapUpBody | None
    """What a run that is stopped before a limit may still use to finish with something in hand;
    null when it is not stopped, and when nothing is left."""


class ExpiredBody(Body):
    """A run whose verdict has outlived its lease: it has not been judged since, so this says
    neither stop nor continue.
    """

    session_id: SessionId
    last_action: Action
    last_reason: str
    evaluated_at: datetime
    valid_until: datetime


VERDICT_EXAMPLE: Final[dict[str, Any]] = {
    "version": verdict_json.VERSION,
    "session_id": SESSION_ID,
    "run_started_at": 1767268800.25,
    "run_state": semconv.SESSION_STATES[0],
    "action": "stop",
    "status": "approaching",
    "reason": "approaching_limit",
    "limit_from": "session",
    "message": "tokens at 83.1% of 1,000,000 with progress 40%: stop and keep partial results",
    "resources": {
        semconv.TOKENS: {
            "used": 831000,
            "limit": 1000000,
            "warning_at": 800000,
            "remaining": 169000,
            "ratio": 0.831,
            "status": "approaching",
            "limit_from": "session",
            "exhaustion_seconds": 512.0,
            "forecast": {
                "calls_left": 23.4,
                "calls_left_range": [19.2, 27.1],
                "whole_calls_left": 23,
                "seconds_left": 512.0,
                "seconds_left_range": [418.3, 604.9],
            },
        }
    },
    "headroom": {semconv.TOKENS: 169000},
    "budgets": [STATE_EXAMPLE],
    "progress": 0.4,
    "completion_threshold": 0.8,
    "data_at": "2026-01-01T12:00:00.120Z",
    "evaluated_at": "2026-01-01T12:00:00.131Z",
    "lease_seconds": 15,
    "valid_until": "2026-01-01T12:00:15.131Z",
    "sequence": 42,
    "decision_id": "5a0f6c1e3d2b4789",
    "policy_revision": "c41d09e2",
    "unjudged": [],
    "ends_first": semconv.TOKENS,
    "would": None,
    "wrap_up": {"calls": 1, "tokens": 7240, "cost": None, "seconds": 21.5},
}
