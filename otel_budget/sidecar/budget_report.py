"""How the shared budgets stand after a step: for the API, the metrics and the log."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_budget.core.budget import Budget, Group, TopUp
    from otel_budget.core.verdict import BudgetState


@dataclass(frozen=True, slots=True)
class GroupReport:
    """One group of a budget. The same object while nothing of it changes."""

    group: Group
    state: BudgetState
    """As a verdict lists it, of its present window; ``binds`` says nothing here."""
    counted_from: float
    """Unix time since when its use is counted."""
    sessions: int = 0
    """Runs that are known and belong to it, those that are over among them."""
    top_ups: tuple[TopUp, ...] = ()
    """In force, oldest first."""
    exhaustion_seconds: Mapping[str, float] = field(default_factory=dict)
    """Per resource, forecast seconds until its limit if all goes on as it does; absent: not known,
    or not before the window ends."""


@dataclass(frozen=True, slots=True)
class BudgetReport:
    """One budget with all its groups."""

    budget: Budget
    groups: Mapping[Group, GroupReport]
    """Without ``per`` one, ``()``, from the start; none of a budget over each run by itself."""
    counted_from: float | None = None
    """Unix time since when it counts; None: from the next step on."""
    sessions: int = 0
    """Runs that are known and match it."""
    refused_groups: int = 0
    """Groups past ``groups_max`` since the process began, whose runs are in the group None."""
