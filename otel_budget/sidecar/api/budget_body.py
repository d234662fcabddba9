"""Shared budgets as the API shows them: by group, with what was configured."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import Field

from otel_budget import semconv
from otel_budget.core import budget_json
from otel_budget.core.budget import Mode, WhenLow
from otel_budget.core.budget_text import window_json, window_text
from otel_budget.core.quantities import as_json
from otel_budget.core.resources import COUNTED, RESOURCES, ZERO
from otel_budget.core.top_up import RESET
from otel_budget.core.verdict import LimitStatus
from otel_budget.sidecar.api.models import ABSENT, LIMIT_FROM, Amount, Body, Share, one_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_budget.core.budget import Budget, TopUp
    from otel_budget.core.quantities import Number
    from otel_budget.sidecar.budget_report import BudgetReport, GroupReport

NAME_PATTERN: Final = r"^[a-z0-9][a-z0-9-]{0,62}$"
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
Labels = dict[str, str]
_BY_RESOURCE: Final = f"By resource: {', '.join(COUNTED)}."
ResourceAmounts = Annotated[dict[str, Amount], Field(description=_BY_RESOURCE)]


class BudgetResourceBody(Body):
    """One resource of a budget: what all matching runs used of it together in the window."""

    used: Amount
    """Tokens as the budget weighs them."""
    limit: Amount
    """The limit that applies: base, top_up and carried together."""
    remaining: Amount
    """Never below 0."""
    base: Amount
    """The limit as configured."""
    top_up: Amount
    """What the top-ups in force add."""
    carried: Amount
    """From the window before; below 0 where an overrun is carried."""
    warning_at: Amount
    """The smallest use that counts as approaching."""
    ratio: float
    """Used divided by limit."""
    status: LimitStatus
    held: Amount = ABSENT
    """What is reserved and not counted yet, as the budget weighs it: `/v1/budgets` says it, and
    verdicts do not mind it."""
    at_least: bool = ABSENT
    """True when part of the use is unknown. Absent otherwise."""


class WindowBody(Body):
    """A window, with the offset of its time zone."""

    start: datetime | None
    """Null where it has none: of a budget over everything, or that has no window open."""
    end: datetime | None
    """Exclusive; null where it has none, and of a rolling one."""


class BudgetStateBody(Body):
    """How a budget that runs share stands for one group."""

    name: Name
    group: Labels
    """The values of `per`, empty where a run has none; without `per` no members. {"other": "true"}
    is the group of all that are past groups_max."""
    mode: Mode
    """`shadow`: listed, and never enforced."""
    window: WindowBody
    resets_at: datetime | None
    """When the use is forgotten at once; null where that never happens."""
    resources: dict[str, BudgetResourceBody]
    """Those that it limits."""
    limit_from: Annotated[str, Field(pattern=LIMIT_FROM)]
    """What `limit_from` of a verdict says where this decides it."""
    binds: bool
    """True if it decided the verdict in which it is listed."""


class RuledWindowBody(WindowBody):
    """The present window, and how windows follow one another."""

    rule: str | dict[str, Any]
    """As configured, with defaults."""
    text: str
    """The same in words."""


class TopUpBody(Body):
    """An addition to a budget for a time; it never changes."""

    key: str
    """The Idempotency-Key it was asked for with."""
    budget: Name
    group: Labels
    amounts: ResourceAmounts
    reason: str
    by: str
    """Empty if no name was given."""
    at: datetime
    until: datetime | Annotated[str, one_of(RESET)]
    """When it ends: with the window in which it was given, or then."""


class BudgetBody(Body):
    """A budget as configured, and how one of its groups stands."""

    name: Name
    title: str
    """Empty if none is configured."""
    mode: Mode
    when_low: WhenLow
    match: dict[str, list[str]]
    """The labels of the runs that share it, each with its values; "*" is any."""
    per: list[str]
    """One budget for each combination of the values of these labels."""
    limits: Annotated[
        dict[str, Amount],
        Field(description=f"As configured: {', '.join(RESOURCES[r].limit_key for r in COUNTED)}."),
    ]
    warning_threshold: Share
    weights: dict[str, float]
    """How much a token of a kind counts; absent counts 1."""
    carry_over: Share
    carry_overrun: bool
    groups_max: int
    counted_from: datetime | None
    """Since when use counts; null before the first tick with it."""
    sessions: int
    """Runs known here that it counts."""
    window: RuledWindowBody
    group: Labels | None = ABSENT
    """As in verdicts; null while no run matches, and where the window is `run`: what each run used
    of that is in its verdict."""
    resets_at: datetime | None = ABSENT
    """When the use is forgotten at once; null where that never happens."""
    resources: dict[str, BudgetResourceBody] = ABSENT
    limit_from: str | None = ABSENT
    """What `limit_from` of a verdict says where this decides it."""
    binds: bool = ABSENT
    """Always false: it says so in verdicts."""
    exhaustion_seconds: dict[str, float] = ABSENT
    """By resource, forecast seconds until the limit; absent where not known, or not before the
    window ends."""
    top_ups: list[TopUpBody] = ABSENT
    """In force, oldest first."""


def definition(report: BudgetReport) -> dict[str, Any]:
    """Return what is configured of a budget, and the runs it has, as JSON types."""
    budget = report.budget
    return {
        "name": budget.name,
        "title": budget.title,
        "mode": str(budget.mode),
        "when_low": str(budget.when_low),
        "match": {label: list(values) for label, values in budget.match.items()},
        "per": list(budget.per),
        "limits": {RESOURCES[r].limit_key: as_json(limit) for r, limit in budget.limits.items()},
        "warning_threshold": budget.warning_threshold,
        "weights": {kind: weight / 1000 for kind, weight in budget.weights.items()},
        "carry_over": budget.carry_over,
        "carry_overrun": budget.carry_overrun,
        "groups_max": budget.groups_max,
        "counted_from": budget_json.local_time(report.counted_from, budget.window.tz),
        "sessions": report.sessions,
        "window": _ruled(budget, {"start": None, "end": None}),
    }


def no_group() -> dict[str, Any]:
    """Return the members of the present group for a budget that no run matched yet."""
    return {
        "group": None,
        "resets_at": None,
        "resources": {},
        "limit_from": None,
        "binds": False,
        "exhaustion_seconds": {},
        "top_ups": [],
    }


def group_members(
    budget: Budget, report: GroupReport, held: Mapping[str, Number]
) -> dict[str, Any]:
    """Return the members of one group, as JSON types, with the rule of its window.

    held: what is reserved of it, per resource; absent is nothing.
    """
    state = budget_json.to_dict(report.state)
    for resource, one in state["resources"].items():
        one["held"] = as_json(held.get(resource, ZERO[resource]))
    return {
        **state,
        "window": _ruled(budget, state["window"]),
        "counted_from": budget_json.local_time(report.counted_from, budget.window.tz),
        "sessions": report.sessions,
        "exhaustion_seconds": dict(report.exhaustion_seconds),
        "top_ups": [top_up_json(budget, one) for one in report.top_ups],
    }


def top_up_json(budget: Budget, top_up: TopUp) -> dict[str, Any]:
    """Return a top-up as JSON types."""
    until = RESET if top_up.until is None else budget_json.local_time(top_up.until, _tz(budget))
    return {
        "key": top_up.key,
        "budget": top_up.budget,
        "group": budget.group_labels(top_up.group),
        "amounts": amounts_json(top_up.amounts),
        "reason": top_up.reason,
        "by": top_up.by,
        "at": budget_json.local_time(top_up.given_at, _tz(budget)),
        "until": until,
    }


def amounts_json(amounts: Mapping[str, Number]) -> dict[str, Any]:
    """Return amounts by resource as JSON types."""
    return {resource: as_json(amount) for resource, amount in amounts.items()}


def _ruled(budget: Budget, span: dict[str, Any]) -> dict[str, Any]:
    return {**span, "rule": window_json(budget.window), "text": window_text(budget.window)}


def _tz(budget: Budget) -> Any:
    return budget.window.tz


BUDGET: Final = "research-month"
STATE_EXAMPLE: Final[dict[str, Any]] = {
    "name": BUDGET,
    "group": {"user": "ann"},
    "mode": "enforce",
    "window": {"start": "2026-01-01T00:00:00.000+01:00", "end": "2026-02-01T00:00:00.000+01:00"},
    "resets_at": "2026-02-01T00:00:00.000+01:00",
    "resources": {
        semconv.TOKENS: {
            "used": 31000000,
            "limit": 50000000,
            "remaining": 19000000,
            "base": 50000000,
            "top_up": 0,
            "carried": 0,
            "warning_at": 40000000,
            "ratio": 0.62,
            "status": "ok",
        }
    },
    "limit_from": f"budget:{BUDGET}{{user=ann}}",
    "binds": False,
}
TOP_UP_EXAMPLE: Final[dict[str, Any]] = {
    "key": "2f1c8a52-6a0e-4a53-9d6d-0c5b0f6f9d10",
    "budget": BUDGET,
    "group": {"user": "ann"},
    "amounts": {semconv.TOKENS: 5000000},
    "reason": "the release is late",
    "by": "bob",
    "at": "2026-01-20T09:00:00.000+01:00",
    "until": RESET,
}
DEFINITION_EXAMPLE: Final[dict[str, Any]] = {
    "name": BUDGET,
    "title": "Research",
    "mode": "enforce",
    "when_low": "stop",
    "match": {"team": ["research"]},
    "per": ["user"],
    "limits": {"max_tokens": 50000000},
    "warning_threshold": 0.8,
    "weights": {"cache_read": 0.1},
    "carry_over": 0,
    "carry_overrun": False,
    "groups_max": 1000,
    "counted_from": "2026-01-01T00:00:00.000+01:00",
    "sessions": 3,
    "window": {
        "start": None,
        "end": None,
        "rule": {"every": "month", "time_zone": "Europe/Berlin", "at": "00:00", "day": 1},
        "text": "each month, from day 1 at 00:00 (Europe/Berlin)",
    },
}
GROUP_EXAMPLE: Final[dict[str, Any]] = {
    **DEFINITION_EXAMPLE,
    **STATE_EXAMPLE,
    "window": {**DEFINITION_EXAMPLE["window"], **STATE_EXAMPLE["window"]},
    "resources": {name: {**one, "held": 16000} for name, one in STATE_EXAMPLE["resources"].items()},
    "exhaustion_seconds": {semconv.TOKENS: 921600.0},
    "top_ups": [],
}
