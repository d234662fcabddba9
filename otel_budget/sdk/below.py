"""What the runs below a run have counted in its process, beside what it counts itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from otel_budget import semconv
from otel_budget.core.resources import FURTHER
from otel_budget.sdk.phase_counters import Further, plus

if TYPE_CHECKING:
    from otel_budget.core.quantities import Number
    from otel_budget.sdk.run_counters import RunCounters

_COUNTS: Final = (
    "tokens", "api_calls", "unpriced_calls", "unknown_usage_calls", "estimated_calls",
)  # fmt: skip


@dataclass(slots=True)
class Below:
    """Counts, over all incarnations of those runs. Read and changed under the lock of the run."""

    tokens: int = 0
    api_calls: int = 0
    unpriced_calls: int = 0
    unknown_usage_calls: int = 0
    estimated_calls: int = 0
    cost_usd: Decimal = Decimal(0)
    further: Further = field(default_factory=dict)
    _noted: tuple[object, Below | None] = (None, None)
    """A report of the run's progress, and what was counted by then."""

    def __bool__(self) -> bool:
        """True if anything was counted."""
        counted = any(getattr(self, name) for name in _COUNTS)
        return counted or bool(self.cost_usd) or any(self.further.values())

    def less(self, other: Below) -> Below:
        """Return what it has more than another one."""
        counts = {name: getattr(self, name) - getattr(other, name) for name in _COUNTS}
        cost = plus(self.cost_usd, other.cost_usd.copy_negate())
        further = {name: n - other.further.get(name, 0) for name, n in self.further.items()}
        return Below(**counts, cost_usd=cost, further=further)

    def add(self, more: Below, report: object) -> None:
        """Take in what was counted since. report: the present one of the run's progress."""
        if self._noted[0] is not report:
            self._noted = report, self.less(Below())
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(more, name))
        self.cost_usd = plus(self.cost_usd, more.cost_usd)
        known = self.further
        if more.further:
            self.further = {**known, **{k: known.get(k, 0) + n for k, n in more.further.items()}}

    def used(self) -> dict[str, Number]:
        """Return what was used, by resource."""
        return {
            semconv.TOKENS: self.tokens,
            semconv.API_CALLS: self.api_calls,
            semconv.COST: self.cost_usd,
            **self.further,
        }

    def at(self, report: object) -> Below:
        """Return it as it was when the run reported its progress. report: the present one."""
        known, then = self._noted
        return self if then is None or known is not report else then


def counts_of(record: RunCounters) -> Below:
    """Return what a run has counted by now, and brought along. Hold its lock."""
    carried = record.carried
    counts = {name: getattr(carried, name) + getattr(record, name) for name in _COUNTS}
    further = {
        name: getattr(carried, FURTHER[name].usage_key) + number
        for name, number in record.further.items()
    }
    return Below(**counts, cost_usd=plus(carried.cost_usd, record.cost_usd), further=further)


def together(used: dict[str, Number], below: Below) -> dict[str, Number]:
    """Return what a run used, by resource, with what was counted below it."""
    total = dict(used)
    for name, more in below.used().items():
        own = total.get(name, 0)
        total[name] = plus(own, more) if isinstance(own, Decimal) else own + more  # type: ignore[operator,arg-type] # both are of one resource
    return total
