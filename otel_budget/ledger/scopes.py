"""Which budgets a run counts in, and in which group of each: pure, from labels alone.

- What a run says of itself goes before what it inherits, and its parent before its grandparent.
- A budget matches a run if it matches its own labels, so completed, or those of one of its
  ancestors; the first that it matches says the group. So use counts once in each budget.
- An empty value is none. A label of ``per`` that is not there is empty.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_budget.core.budget import PRESENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from otel_budget.core.budget import Budget


def effective_labels(lineage: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """Return the labels of a run and of each of its ancestors, with what each inherits.

    lineage: what each says itself: the run, its parent, and so on.
    """
    effective: list[Mapping[str, str]] = []
    inherited: Mapping[str, str] = {}
    for own in reversed(lineage):
        said = {label: value for label, value in own.items() if value}
        inherited = {**inherited, **said}
        effective.append(inherited)
    return effective[::-1]


def matches(budget: Budget, labels: Mapping[str, str]) -> bool:
    """Tell whether a budget is for runs with these labels."""
    for label, values in budget.match.items():
        value = labels.get(label, "")
        if not value or not (value in values or PRESENT in values):
            return False
    return True


def group_in(budget: Budget, effective: Iterable[Mapping[str, str]]) -> tuple[str, ...] | None:
    """Return the group of a run in a budget; None where the budget is not for it.

    effective: as ``effective_labels`` returns them.
    """
    for labels in effective:
        if matches(budget, labels):
            return tuple([labels.get(label, "") for label in budget.per])
    return None
