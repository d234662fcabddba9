"""The part of the table about budgets that runs share: low, used up, spent too fast, crowded.

A budget in shadow stops nobody: what it would have done is told once, and as information only.
"""

from __future__ import annotations

from grafana.board import BUDGETS
from grafana.budget_promql import EACH, burn, enforced, window_seconds
from grafana.condition import OWN, Condition, Number, live
from grafana.promql import equal, select
from otel_budget import semconv
from otel_budget.core.budget import OTHER

_GROUP = (semconv.BUDGET, semconv.GROUP)
_LIMIT_OF_GROUP = (*_GROUP, semconv.RESOURCE)
#: How long a window is at least, in seconds, to be watched by pairs of windows, each with the burn
#: rate that both must have. After Google's SRE workbook, "Alerting on SLOs", whose pairs are for 30
#: days: 2 % of a month within an hour, 5 % within six. A day has its eighth gone in half an hour,
#: or its quarter in two hours; what is shorter is watched like a run.
DAY = 23 * 3600
WEEK = 6 * 86_400
BURNS = (
    (WEEK, None, ((14.4, "1h", "5m"), (6, "6h", "30m"))),
    (DAY, WEEK, ((6, "30m", "5m"), (3, "2h", "30m"))),
    (0, DAY, ((6, "5m", "1m"), (3, "30m", "5m"))),
)
#: Every window that a burn rate is taken over, for what is recorded.
BURN_WINDOWS = ("1m", "5m", "30m", "1h", "2h", "6h")


def _each(name: str, metric: semconv.Metric) -> Number:
    return Number(name, f"max by ({EACH}) ({metric.name}{{{OWN}}})", "amount")


_LIMIT = _each("limit", semconv.BUDGET_LIMIT)
_USED = _each("used", semconv.BUDGET_USED)
_SHARE = Number(
    "share", f"max by ({EACH}) ({semconv.BUDGET_UTILIZATION.name}{{{OWN}}})", "humanizePercentage"
)
_SESSIONS = Number(
    "sessions", f"max by (budget, group) ({semconv.BUDGET_SESSIONS.name}{{{OWN}}})", otherwise="0"
)
_RESETS = Number(
    "resets",
    f"max by (budget, group) ({semconv.BUDGET_RESET.name}{{{OWN}}} - time())",
    "humanizeDuration",
    "it resets in {}",
    otherwise="it does not reset by itself",
)


def _at(line: semconv.Metric) -> str:
    return f"max by ({EACH}) ({semconv.BUDGET_USED.name} >= {line.name})"


def _near() -> Condition:
    return Condition(
        "OtelBudgetPoolNear",
        # Also while it is used up: getting worse is no recovery.
        enforced(_at(semconv.BUDGET_WARNING)),
        "warning",
        "The budget {budget}{of_group} is low: {resource} at {value} of {limit} ({share}); "
        "{resets}",
        "Past its warning line. Runs that are nearly done finish, others stop with what they have; "
        "with finish_most those go on that can still finish within what is left.",
        labels=_LIMIT_OF_GROUP,
        form="amount",
        numbers=(_LIMIT, _SHARE, _RESETS),
        dashboard=BUDGETS,
    )


def _exhausted() -> Condition:
    return Condition(
        "OtelBudgetPoolExhausted",
        enforced(_at(semconv.BUDGET_LIMIT)),
        "warning",
        "The budget {budget}{of_group} is used up: {resource} at {value} of {limit} ({share}); "
        "{resets}, {sessions} runs belong to it",
        "All of its runs are told to stop, and so is each that begins, until the window ends or "
        "the budget is topped up.",
        labels=_LIMIT_OF_GROUP,
        form="amount",
        numbers=(_LIMIT, _SHARE, _RESETS, _SESSIONS),
        dashboard=BUDGETS,
    )


def _fast_burn() -> Condition:
    cases = " or ".join(_burning(*one) for one in BURNS)
    lasts = f"max by ({EACH}) ({semconv.BUDGET_EXHAUSTION.name} > 0)"
    return Condition(
        "OtelBudgetPoolFastBurn",
        # Late in a window that has much left, nothing that fast is too fast.
        enforced(f"({cases}) and {lasts}"),
        "warning",
        "The budget {budget}{of_group} is spent {value} times faster than its window allows: "
        "{resource} at {used} of {limit}{left}; {resets}",
        "It is meant to last as long as its window. At this rate it is gone before the window "
        "ends: a loop, or more runs than it was made for.",
        labels=_LIMIT_OF_GROUP,
        numbers=(
            _USED,
            _LIMIT,
            Number("left", lasts.replace(" > 0", f"{{{OWN}}}"), "humanizeDuration",
                   ", used up in {}", otherwise=""),
            _RESETS,
        ),
        dashboard=BUDGETS,
    )  # fmt: skip


def _burning(least: float, below: float | None, pairs: tuple[tuple[float, str, str], ...]) -> str:
    """Return burn rates that are too high, of windows that are so long, in seconds."""
    burns = " or ".join(
        f"(({burn(long)}) >= {rate} and ({burn(short)}) >= {rate})" for rate, long, short in pairs
    )
    return f"(({burns}) and on (budget, group) {_lasting(least, below)})"


def _lasting(least: float, below: float | None) -> str:
    """Return the groups whose windows are that long, in seconds."""
    seconds = f"{window_seconds()} >= {least}"
    return f"({seconds})" if below is None else f"({seconds} < {below})"


def _capped() -> Condition:
    crowd = select(semconv.BUDGET_SESSIONS, equal(semconv.GROUP, OTHER))
    most = f"max by (budget) ({semconv.BUDGET_GROUPS_MAX.name}{{{OWN}}})"
    sessions = f'{semconv.BUDGET_SESSIONS.name}{{group="{OTHER}",{OWN}}}'
    return Condition(
        "OtelBudgetGroupsCapped",
        f"max by (budget) ({semconv.BUDGET_GROUPS.name}) and on (budget) {crowd}",
        "warning",
        "The budget {budget} has {value} groups, {most} are allowed: {sessions} runs share the "
        "group 'other'",
        "Runs of any further group spend one limit together. Either there are more of them than "
        "groups_max, or somebody makes up values of a label.",
        labels=(semconv.BUDGET,),
        numbers=(
            Number("most", most),
            Number("sessions", f"max by (budget) ({sessions})", otherwise="0"),
        ),
        dashboard=BUDGETS,
    )


def _shadow() -> Condition:
    told = select(semconv.VERDICT_WOULD, 'limit_from!=""')
    runs = live(f"max by (session_id, limit_from) ({told} == 0)")
    return Condition(
        "OtelBudgetShadowWouldStop",
        f"count by (limit_from) ({runs} and on (session_id) {semconv.VERDICT.name} == 1)",
        "info",
        "{value} of {sessions} runs go on that {limit_from} would stop: it is in shadow",
        "A budget, or the sidecar's ceilings, that stops nobody. If it is right, enforce it; if it "
        "is not, its limit is too low.",
        labels=(semconv.LIMIT_FROM,),
        numbers=(Number("sessions", f"max({semconv.SIDECAR_SESSIONS.name}{{{OWN}}})"),),
        dashboard=BUDGETS,
    )


def conditions_of_budgets() -> tuple[Condition, ...]:
    """Return what can be wrong with a budget."""
    return (_near(), _exhausted(), _fast_burn(), _capped(), _shadow())
