"""Which runs go on when a budget with ``when_low: finish_most`` is low: as many as can finish.

- The rest of a run follows from its progress and its pace: progress is a share of its calls, so
  n calls at progress p make n (1 - p) / p to come, each as large as its size and growth say. Where
  its calls say nothing, the straight line: what p used, over p. What it used since it said how far
  it is is taken off.
- Unknown progress is no progress: such a run cannot be told to finish within anything.
- The least rest goes first, as long as it fits in what is left of the budget.
- A run that was told to go on is not stopped because another one came, nor because others used
  more; only if its own forecast grew, and does not fit any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget import semconv
from otel_budget.policy.forecast import use_of_calls

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_budget.core.budget import BudgetKey, Group
    from otel_budget.core.quantities import Number
    from otel_budget.ledger.call_pace import CallPace

#: Share by which sums of floats may be off: what just fits does, and what is the same did not grow.
_ROUNDING: Final = 1e-9

Amounts = Mapping[str, float]
"""Per resource, as floats: forecasts are no exact numbers."""


class Candidate(NamedTuple):
    """A run that shares a budget which is low."""

    session_id: str
    used: Amounts
    """What it used of each resource that the budget limits, as the budget counts it."""
    rest: Amounts | None
    """What it still needs; None if that cannot be told."""

    @property
    def expected(self) -> dict[str, float]:
        """What it will have used when it is done."""
        rest = self.rest or {}
        return {name: self.used.get(name, 0.0) + amount for name, amount in rest.items()}


class Choice(NamedTuple):
    """A run that was told to go on in a budget that is low."""

    budget: str
    group: Group
    session_id: str
    started_at: float | None
    expected: Amounts
    """What it was expected to have used in the end, when it was told."""

    @property
    def key(self) -> BudgetKey:
        """The budget and the group."""
        return self.budget, self.group

    def is_of(self, started_at: float | None) -> bool:
        """Tell whether it is of the run that began then, and not of another one of its id."""
        return None in (self.started_at, started_at) or self.started_at == started_at


def rest_of(
    used: Mapping[str, Number],
    at_progress: Mapping[str, Number],
    progress: float | None,
    pace: CallPace,
    resources: Iterable[str],
) -> dict[str, float] | None:
    """Return what a run still needs of each resource; None if that cannot be told.

    used: by now. at_progress: as of when it said how far it is; what is absent is taken to be as
    now. progress: 0 to 1.
    """
    if not progress:
        return None
    calls, to_come = float(used.get(semconv.API_CALLS, 0)), 0.0
    if calls:
        to_come = _still(float(at_progress.get(semconv.API_CALLS, calls)), calls, progress)
    rest = {}
    for name in resources:
        size = pace.size_of(name) if calls and pace.tells_growth else None
        if name == semconv.API_CALLS and calls:
            rest[name] = to_come
        elif size is not None:
            rest[name] = use_of_calls(to_come, size)
        else:
            amount = float(used.get(name, 0))
            rest[name] = _still(float(at_progress.get(name, amount)), amount, progress)
    return rest


def _still(then: float, now: float, progress: float) -> float:
    """Return what is still to come if so much made so much progress; then: when it was reported."""
    left = then / progress - now
    return left if left > 0 or progress >= 1 else now * (1 - progress) / progress


def choose(
    candidates: Iterable[Candidate],
    remaining: Amounts,
    limits: Amounts,
    chosen: Mapping[str, Amounts],
) -> dict[str, Amounts]:
    """Return the runs that go on: session id to what each is expected to have used in the end.

    remaining: what is left of the budget. limits: by which rests of several resources are compared.
    chosen: those that were told to go on, with what was expected of them then.
    """
    room = dict(remaining)
    found: dict[str, Amounts] = {}
    asking: list[tuple[bool, float, str, Candidate]] = []
    for one in candidates:
        before = chosen.get(one.session_id)
        if one.rest is None:
            continue
        if before is not None and not _grew(before, one.expected):
            found[one.session_id] = before
            _take(room, one.rest)
        else:
            size = max((_share(n, r, limits) for n, r in one.rest.items()), default=0.0)
            asking.append((before is None, size, one.session_id, one))
    for _, _, session_id, one in sorted(asking):
        rest = one.rest or {}
        if all(amount <= _fitting(room.get(name, 0.0)) for name, amount in rest.items()):
            found[session_id] = one.expected
            _take(room, rest)
    return found


def _grew(before: Amounts, now: Amounts) -> bool:
    return any(
        amount > before.get(name, 0.0) * (1 + _ROUNDING) + _ROUNDING for name, amount in now.items()
    )


def _share(name: str, amount: float, limits: Amounts) -> float:
    limit = limits.get(name, 0.0)
    return amount / limit if limit > 0 else amount


def _fitting(room: float) -> float:
    return room * (1 + _ROUNDING)


def _take(room: dict[str, float], rest: Amounts) -> None:
    for name, amount in rest.items():
        room[name] = room.get(name, 0.0) - amount
