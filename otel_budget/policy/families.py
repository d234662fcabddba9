"""What the runs above a run have to do with its verdict.

The rules: a run that is stopped stops all below it, whatever else they are told; what stops them is
named by the nearest run above that is stopped for a reason of its own. A stop that is lifted is
lifted for them as well. A run that is gone, and stopped only for want of data, spends nothing any
more and stops nobody: what its family used is known.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from otel_budget import semconv
from otel_budget.core.budget import Mode
from otel_budget.core.reasons import Action, Basis, Reason
from otel_budget.core.resources import TIMES
from otel_budget.core.verdict import LimitStatus, judged
from otel_budget.policy.budgets import least
from otel_budget.policy.reserve import least_remaining

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_budget.core.quantities import Number
    from otel_budget.core.verdict import Verdict
    from otel_budget.policy.decision_table import Decision

STOPPED_ABOVE: Decision = (Action.STOP, Reason.PARENT_STOPPED)
_NO_DATA = frozenset(str(reason) for reason in Reason if reason.basis is Basis.NO_DATA)


class Above(NamedTuple):
    """What holds for a run because of those that it is a descendant of."""

    stopped_by: str | None = None
    """The nearest of them that is stopped for a reason of its own; None: none is."""
    message: str = ""
    """What its verdict says."""
    headroom: Mapping[str, Number] = MappingProxyType({})
    """Per resource, the least that may still be used before the status of one could change."""
    used_up: frozenset[str] = frozenset()
    """Resources of which a limit or a budget of one of them has nothing left."""
    remaining: Mapping[str, Number] = MappingProxyType({})
    """Per resource, the least that is left of a limit or a budget of one of them."""

    @property
    def said(self) -> str:
        """What people are told of the stop."""
        return f"run {self.stopped_by} is stopped, and this is a descendant of it: {self.message}"


NOTHING_ABOVE = Above()


def stopped_below(own: Verdict, above: Above) -> Verdict:
    """Return a run's own verdict, or in its place the stop that is handed on from above."""
    try:
        is_final = not own.should_continue and Reason(own.reason).is_final
    except ValueError:
        is_final = False
    if above.stopped_by is None:
        return own
    if is_final:  # with nothing of its own to finish with
        return own if own.wrap_up is None else replace(own, wrap_up=None)
    decided = f"{own.decision_id}\x1fstopped by {above.stopped_by}"
    return replace(
        own, action=Action.STOP, reason=Reason.PARENT_STOPPED, message=above.said,
        stopped_by=above.stopped_by, wrap_up=None,
        decision_id=hashlib.sha256(decided.encode()).hexdigest()[: len(own.decision_id)],
    )  # fmt: skip


def above_children(verdict: Verdict, above: Above) -> Above:
    """Return what holds for the children of a run. above: what holds for the run itself."""
    room = least(_without_times(verdict.headroom), above.headroom)
    used_up = above.used_up | _used_up(verdict)
    left = least_remaining(judged(verdict.resources), verdict.budgets)
    left = least(_without_times(left), above.remaining)
    is_gone = verdict.run_state == semconv.VANISHED and verdict.reason in _NO_DATA
    if verdict.should_continue or verdict.reason == Reason.PARENT_STOPPED or is_gone:
        return Above(above.stopped_by, above.message, room, used_up, left)
    return Above(verdict.session_id, verdict.message, room, used_up, left)


def _without_times(amounts: Mapping[str, Number]) -> dict[str, Number]:
    """Return amounts of what a family uses together."""
    return {name: amount for name, amount in amounts.items() if name not in TIMES}


def _used_up(verdict: Verdict) -> frozenset[str]:
    """Return the resources of which a run may use no more, times apart: they are its own."""
    if verdict.status is not LimitStatus.EXCEEDED:
        return frozenset()
    found = [name for name, one in judged(verdict.resources).items() if _is_used_up(one.status)]
    for budget in verdict.budgets:
        if budget.mode is Mode.ENFORCE:
            found += [name for name, one in budget.resources.items() if _is_used_up(one.status)]
    return frozenset(found).difference(TIMES)


def _is_used_up(status: LimitStatus) -> bool:
    return status is LimitStatus.EXCEEDED
