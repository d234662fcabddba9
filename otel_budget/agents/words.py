"""What models and users are told at hooks: one line each, with the numbers that decided."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Final

from otel_budget.core.budget import Mode
from otel_budget.core.reasons import Basis, Reason
from otel_budget.core.resources import RESOURCES
from otel_budget.core.verdict import LimitStatus
from otel_budget.policy.budget_words import describe_past
from otel_budget.policy.format import amount, describe, first_to_end

if TYPE_CHECKING:
    from otel_budget.core.verdict import BudgetState, Verdict

_OWN: Final = "otel-budget: "


def lines_of(verdict: Verdict) -> set[tuple[str, str]]:
    """Return the warning lines that a run is past, its own and its budgets': of what, and limit."""
    own = {
        (name, str(state.limit))
        for name, state in verdict.resources.items()
        if state.status is LimitStatus.APPROACHING
    }
    return own | {
        (f"{budget.origin} {name}", str(one.limit))
        for budget in _enforced(verdict)
        for name, one in budget.resources.items()
        if one.status is LimitStatus.APPROACHING
    }


def brief_text(verdict: Verdict) -> str:
    """Tell the model that a limit is near. verdict: one with a line that is crossed."""
    near = [
        (state.ratio, name, state.remaining)
        for name, state in verdict.resources.items()
        if state.status is LimitStatus.APPROACHING
        and state.ratio is not None
        and state.remaining is not None
    ]
    near += [
        (one.ratio, name, one.remaining)
        for budget in _enforced(verdict)
        for name, one in budget.resources.items()
        if one.status is LimitStatus.APPROACHING
    ]
    _, name, left = max(near)
    calls = first_to_end(verdict).removesuffix(" left")
    return (
        f"{_OWN}{_numbers(verdict, LimitStatus.APPROACHING)}: {amount(name, left)} left"
        f"{f', {calls}' if calls else ''}. "
        "Wrap up: finish what you have begun, and begin nothing new."
    )


def final_text(verdict: Verdict) -> str:
    """Tell the model that its next answer is the last."""
    how = "at its limit" if _basis(verdict) is Basis.NUMBERS else "stopped"
    if verdict.reason == Reason.WRAP_UP:
        how = "near its limit, and what is left is for your answer"
    return (
        f"{_OWN}this run is {how}: {_why(verdict)}. No more tools are run. "
        "Give your final answer now, with what you have."
    )


def end_text(verdict: Verdict) -> str:
    """Tell the user why nothing more is done, and how it may go on."""
    return f"{_OWN}stopped: {_why(verdict)}. {_how_on(verdict)}".rstrip()


def not_counted_text() -> str:
    """Tell the user that the hooks are there, and the numbers are not."""
    return (
        f"{_OWN}budget not engaged: nothing is counted of this run, although the model was called. "
        "Its telemetry does not arrive: see `otel-budget doctor`."
    )


def _enforced(verdict: Verdict) -> list[BudgetState]:
    return [budget for budget in verdict.budgets if budget.mode is Mode.ENFORCE]


def _numbers(verdict: Verdict, status: LimitStatus) -> str:
    """Return what has a status, of the run's own and of what it shares; what decided goes first."""
    shared = [b for b in _enforced(verdict) if b.status is status]
    shared.sort(key=lambda budget: not budget.binds)
    found = verdict.resources.items()
    own = [describe(name, state) for name, state in found if state.status is status]
    said = [describe_past(budget, status) for budget in shared]
    return ", ".join(said + own if any(b.binds for b in shared) else own + said)


def _why(verdict: Verdict) -> str:
    """Return the numbers that decided; where it is not numbers, the verdict's own words."""
    if _basis(verdict) is Basis.NUMBERS:
        for status in (LimitStatus.EXCEEDED, LimitStatus.APPROACHING):
            if numbers := _numbers(verdict, status):
                return numbers
    return verdict.message.rstrip(".")


def _basis(verdict: Verdict) -> Basis | None:
    try:
        return Reason(verdict.reason).basis
    except ValueError:
        return None  # a newer sidecar's


def _how_on(verdict: Verdict) -> str:
    """Return how a stopped run may go on; empty where nothing but data helps."""
    run = verdict.session_id
    basis = _basis(verdict)
    if basis is Basis.OPERATOR:
        return f'To go on: otel-budget session release {run} --reason "..."'
    if basis is not Basis.NUMBERS:
        return ""
    bound = next((budget for budget in verdict.budgets if budget.binds), None)
    if bound is not None:
        return _raise(bound)
    past = [
        (name, state)
        for name, state in verdict.resources.items()
        if state.status in (LimitStatus.EXCEEDED, LimitStatus.APPROACHING) and name in RESOURCES
    ]
    own = [name for name, state in past if state.limit_from == "session"]
    if own:
        flags = " ".join(f"{RESOURCES[name].flag} N" for name in own)
        return f"To go on: start it again with a higher limit of its own ({flags})"
    flags = " ".join(f"{RESOURCES[name].flag} N" for name, _ in past)
    return f'To go on: otel-budget session limits {run} {flags} --for 1h --reason "..."'


def _raise(budget: BudgetState) -> str:
    """Return how runs go on that a budget which they share has stopped."""
    near = [name for name, one in budget.resources.items() if one.status is budget.status]
    flags = " ".join(f"{RESOURCES[name].flag} N" for name in near if name in RESOURCES)
    group = f" --group {shlex.quote(budget.group_text)}" if budget.group else ""
    return f'To go on: otel-budget budget raise {budget.name}{group} {flags} --reason "..."'
