"""What a verdict says to people: one line with the numbers that decided."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_budget.core.reasons import Basis
from otel_budget.core.verdict import LimitStatus
from otel_budget.policy.format import describe, percent
from otel_budget.policy.status import named, uncertain_resources
from otel_budget.policy.unknown_usage import unknown_calls

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otel_budget.core.uncertainty import UsageUncertainty
    from otel_budget.core.verdict import ResourceState
    from otel_budget.policy.decision_table import Decision


def not_judged(unjudged: tuple[str, ...]) -> str:
    """Say which limits hold for nothing that is known."""
    return f"; not judged, as nothing exports them: {', '.join(unjudged)}" if unjudged else ""


def message_of(
    resources: Mapping[str, ResourceState],
    decision: Decision,
    progress: float | None,
    uncertainty: UsageUncertainty,
    budgets: Sequence[str] = (),
) -> str:
    """Return the numbers that decided, and what follows.

    uncertainty: of the use. budgets: those that decided, in words; they go first.
    """
    action, reason = decision
    names = _worth_saying(resources)
    if budgets:  # of the run's own only what is past a line, too
        names = tuple(n for n in names if resources[n].status is not LimitStatus.OK)
    own = ", ".join(describe(name, resources[name]) for name in names)
    numbers = "; ".join((*budgets, own) if own else budgets)
    with_progress = "" if progress is None else f" with progress {percent(progress)}"
    if budgets and with_progress:
        with_progress = with_progress.replace(" with", ";")
    words = reason.advice
    if reason.basis is not Basis.NUMBERS:
        calls = unknown_calls(reason, uncertainty)
        words = words.format(action=action, reason=reason, calls=calls)
    return f"{numbers or 'nothing limited'}{with_progress}: {words}"


def _worth_saying(resources: Mapping[str, ResourceState]) -> tuple[str, ...]:
    """Return the resources past a line, or the one nearest to it, and those that are uncertain."""
    for state in resources.values():
        if state.status is not LimitStatus.OK or state.at_least or state.estimated:
            break
    else:
        return _nearest(resources)  # as it is with most runs at most ticks
    names = named(resources, LimitStatus.EXCEEDED) + named(resources, LimitStatus.APPROACHING)
    names = names or _nearest(resources)
    return names + tuple(name for name in uncertain_resources(resources) if name not in names)


def _nearest(resources: Mapping[str, ResourceState]) -> tuple[str, ...]:
    nearest, most = "", -1.0
    for name, state in resources.items():
        ratio = state.ratio
        if ratio is not None and ratio > most:
            nearest, most = name, ratio
    return (nearest,) if nearest else ()
