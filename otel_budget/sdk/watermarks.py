"""Counts at which a verdict may become another one: below them nothing has to be looked into."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from otel_budget import semconv
from otel_budget.core.resources import FURTHER, TIMES
from otel_budget.policy.their_limits import TheirLimits
from otel_budget.sdk.phase_counters import NOTHING_FURTHER, Further, plus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_budget.core.quantities import Number
    from otel_budget.core.usage import ResourceUsage
    from otel_budget.core.verdict import Verdict
    from otel_budget.sdk.below import Below
    from otel_budget.sdk.run_record import RunRecord

_NEVER = Decimal("Infinity")
#: No count gets here. Whole numbers throughout: to compare one with a float takes twice as long.
_NO_COUNT = 1 << 62


class Watermarks(NamedTuple):
    """Counts of this process. Money is not compared with floats: a context may trap it."""

    tokens: int = _NO_COUNT
    api_calls: int = _NO_COUNT
    cost: Decimal = _NEVER
    further: Further = NOTHING_FURTHER
    """Of further resources; absent is never reached."""

    @classmethod
    def of(cls, totals: Mapping[str, Number | None], carried: ResourceUsage) -> Watermarks:
        """Return the watermarks for totals of the run; None or absent is never reached."""
        tokens, calls = totals.get(semconv.TOKENS), totals.get(semconv.API_CALLS)
        cost = totals.get(semconv.COST)
        return cls(
            _NO_COUNT if tokens is None else int(tokens) - carried.tokens,
            _NO_COUNT if calls is None else int(calls) - carried.api_calls,
            _NEVER if cost is None else plus(Decimal(cost), carried.cost_usd.copy_negate()),
            {
                name: int(total) - getattr(carried, row.usage_key)
                for name, row in FURTHER.items()
                if (total := totals.get(name)) is not None
            },
        )

    def and_of(self, other: Watermarks) -> Watermarks:
        """Return the lower of each."""
        return Watermarks(
            min(self.tokens, other.tokens),
            min(self.api_calls, other.api_calls),
            min(self.cost, other.cost),
            {
                name: min(self.further.get(name, _NO_COUNT), other.further.get(name, _NO_COUNT))
                for name in {**self.further, **other.further}
            },
        )

    def crossed_by(self, record: RunRecord) -> bool:
        """Tell whether a count of a record, with what was counted below it, has reached one."""
        below = record.below
        if below is None:
            return self.reached_by(record.tokens, record.api_calls, record.cost_usd, record.further)
        with record.lock:
            return self.less(below).reached_by(
                record.tokens, record.api_calls, record.cost_usd, record.further
            )

    def less(self, below: Below) -> Watermarks:
        """Return them for the run's own counts alone. below: what is counted besides."""
        return Watermarks(
            self.tokens - below.tokens,
            self.api_calls - below.api_calls,
            plus(self.cost, below.cost_usd.copy_negate()),
            {name: mark - below.further.get(name, 0) for name, mark in self.further.items()},
        )

    def beyond(self, record: RunRecord) -> Watermarks:
        """Return them, but never reached where a count of the record has got there: it is known."""
        return Watermarks(
            self.tokens if record.tokens < self.tokens else _NO_COUNT,
            self.api_calls if record.api_calls < self.api_calls else _NO_COUNT,
            self.cost if record.cost_usd < self.cost else _NEVER,
        )

    def reached_by(self, tokens: int, api_calls: int, cost: Decimal, further: Further) -> bool:
        """Tell whether one of these counts has reached one."""
        return (
            tokens >= self.tokens
            or api_calls >= self.api_calls
            or cost >= self.cost
            or reached(self.further, further)
        )


def reached(marks: Further, counted: Further) -> bool:
    """Tell whether a count of a further resource has reached its watermark."""
    return any(counted.get(name, 0) >= mark for name, mark in marks.items())


CROSSED = Watermarks(-1, -1, Decimal(-1))
NONE = Watermarks()


class SidecarWatermarks:
    """Counts at which the sidecar would come to another verdict, if it looked.

    It looks when it scrapes next, unless it is nudged. Its verdict says how much more may be used
    before that matters (``headroom``), counted from the use that it knew of.
    """

    def __init__(self, record: RunRecord, nudge: Callable[[], None]) -> None:
        """Know of none. nudge: asks the sidecar to look now; returns at once."""
        self._record, self._nudge = record, nudge
        self.present = NONE
        """What is not crossed, or was and has not been nudged for."""
        self.limits: TheirLimits | None = None
        """What its newest verdict limits; None before the first."""

    def renew(self, verdict: Verdict, used: Mapping[str, Number]) -> None:
        """Take the watermarks of a new verdict. used: by the run's own counts, at its receipt.

        The sidecar may know of more than the run does; then it goes on from what the run has now.
        """
        self.limits = TheirLimits(verdict, used)
        totals: dict[str, Number | None] = {}
        for resource, room in verdict.headroom.items():
            state, own = verdict.resources.get(resource), used.get(resource)
            if resource not in TIMES and state is not None and own is not None:
                known = min(state.used, own)
                totals[resource] = (
                    plus(known, Decimal(room)) if isinstance(known, Decimal) else known + room  # type: ignore[operator] # both are of one resource
                )
        self.present = Watermarks.of(totals, self._record.carried)

    def look(self) -> None:
        """Nudge, once for a verdict, if a watermark is crossed."""
        if self.present.crossed_by(self._record):
            self.present = NONE
            self._nudge()
