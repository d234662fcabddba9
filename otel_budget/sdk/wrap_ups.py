"""What a run used of its last calls, and what that leaves; its guard keeps it.

A run that wrapped up stays stopped, until there is another limit: its last calls are smaller than
the others, and what is left may look like enough again.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_budget.core.reasons import Action, Reason
from otel_budget.core.wrap_up import WrapUp
from otel_budget.policy.briefing import allowance_in_words
from otel_budget.policy.reserve import GRACEFUL
from otel_budget.sdk.phase_counters import plus
from otel_budget.sdk.watermarks import NONE, Watermarks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otel_budget.core.verdict import Verdict
    from otel_budget.sdk.run_record import RunRecord

_NO_MONEY: Final = Decimal(0)
#: What a run that wraps up, or did, is not told to go on for: smaller calls, another progress or
#: none would lift them.
_KEPT_REASONS: Final = (Reason.WRAP_UP, Reason.APPROACHING_LIMIT)


class Used(NamedTuple):
    """What was used in wrap-ups: calls, tokens, US dollars, seconds."""

    calls: int = 0
    tokens: int = 0
    cost: Decimal = _NO_MONEY
    seconds: float = 0.0

    def and_of(self, other: Used) -> Used:
        """Return the sum of both."""
        return Used(
            self.calls + other.calls,
            self.tokens + other.tokens,
            plus(self.cost, other.cost),
            self.seconds + other.seconds,
        )

    def rest_of(self, allowed: WrapUp) -> WrapUp | None:
        """Return what this leaves of an allowance; None: nothing."""
        tokens = None if allowed.tokens is None else allowed.tokens - self.tokens
        cost = None if allowed.cost is None else plus(allowed.cost, self.cost.copy_negate())
        seconds = None if allowed.seconds is None else allowed.seconds - self.seconds
        rest = WrapUp(allowed.calls - self.calls, tokens, cost, seconds)
        return None if any(amount is not None and amount <= 0 for amount in rest) else rest

    def is_over(self, allowed: WrapUp) -> bool:
        """Tell whether this is more than was allowed."""
        calls, tokens, cost, seconds = allowed
        return (
            self.calls > calls
            or (tokens is not None and self.tokens > tokens)
            or (cost is not None and self.cost > cost)
            or (seconds is not None and self.seconds > seconds)
        )


class OpenBlock:
    """A wrap-up that goes on: what it may use, and what it has used."""

    def __init__(self, allowed: WrapUp, record: RunRecord) -> None:
        """Count from now on."""
        self.allowed, self._record = allowed, record
        self.refused = False
        """A call inside was refused."""
        self.goes_on = True
        """As of the last look: those who wait are woken when it changes."""
        self._others = Used()
        """Counted since, of calls that were under way before: none of its last calls."""
        with record.lock:
            record.settle()
            self._at = record.api_calls, record.tokens, record.cost_usd
        self._since = record.clock.monotonic()

    def used(self) -> Used:
        """Return what was used since it began."""
        record = self._record
        with record.lock:
            record.settle()
            calls, tokens, cost = self._begins_at()
            return Used(
                record.api_calls - calls,
                record.tokens - tokens,
                plus(record.cost_usd, cost.copy_negate()),
                max(0.0, record.clock.monotonic() - self._since),
            )

    def _begins_at(self) -> tuple[int, int, Decimal]:
        """Return the counts from which on what is used is its own. Hold the record's lock."""
        (calls, tokens, cost), others = self._at, self._others
        return calls + others.calls, tokens + others.tokens, plus(cost, others.cost)

    def leave_out(self, record: RunRecord, tokens: int, api_calls: int, cost: Decimal) -> None:
        """Take note of what a call from before has used, if it was counted in this record.

        Hold the record's lock, as it is counted.
        """
        if record is self._record:
            self._others = self._others.and_of(Used(api_calls, tokens, cost))

    def rest(self) -> WrapUp | None:
        """Return what may still be used; None: nothing."""
        return self.used().rest_of(self.allowed)

    def moments(self) -> Iterator[float]:
        """Yield when its time is up, in monotonic seconds."""
        if self.allowed.seconds is not None:
            yield self._since + self.allowed.seconds

    def marks(self) -> Watermarks:
        """Return the counts of this process at which something of it is used up."""
        with self._record.lock:
            calls, tokens, cost = self._begins_at()
        allowed = self.allowed
        return Watermarks(
            NONE.tokens if allowed.tokens is None else tokens + allowed.tokens,
            calls + allowed.calls,
            NONE.cost if allowed.cost is None else plus(cost, allowed.cost),
        )


class _Kept(NamedTuple):
    """A stop that stays once the run wrapped up."""

    stop: Verdict
    limits: object
    """What limited the run then."""


class WrapUps:
    """All wrap-ups of a run, from its first one on. Its guard's lock guards it."""

    def __init__(self) -> None:
        """Begin with none."""
        self.block: OpenBlock | None = None
        self._allowed: WrapUp | None = None
        """What the first block after a stop was allowed; None: there was none."""
        self._spent = Used()
        self._kept: _Kept | None = None

    def begin(self, stop: Verdict, allowed: WrapUp, limits: object, record: RunRecord) -> OpenBlock:
        """Open a block. allowed: what it may use. limits: what limits the run now."""
        if self._allowed is None:
            self._allowed = allowed
        if stop.reason in _KEPT_REASONS and self._kept is None:
            self._kept = _Kept(stop, limits)
        self.block = block = OpenBlock(allowed, record)
        return block

    def end(self, block: OpenBlock) -> Used:
        """Close it; return what was used in it."""
        used = block.used()
        self._spent, self.block = self._spent.and_of(used), None
        return used

    def forget(self) -> None:
        """Take note that the run may go on: another stop has an allowance of its own."""
        if self.block is None:
            self._allowed, self._spent, self._kept = None, Used(), None

    def judged(self, verdict: Verdict, limits: Callable[[Verdict], object]) -> Verdict:
        """Return the verdict of a run that wrapped up, or wraps up, without its last calls.

        limits: returns what limits the run now, as far as a stop rests on it.
        """
        kept = self._kept
        if verdict.should_continue:
            if kept is None or kept.limits != limits(kept.stop):
                return verdict
            verdict = replace(
                verdict, action=Action.STOP, reason=kept.stop.reason, status=kept.stop.status,
                message=f"{kept.stop.message}; it was told to wrap up",
                budgets=kept.stop.budgets, wrap_up=kept.stop.wrap_up,
            )  # fmt: skip
        if verdict.wrap_up is None or self._allowed is None:
            return verdict
        rest = self._spent.rest_of(self._allowed)
        return replace(verdict, wrap_up=None if rest is None else lesser(rest, verdict.wrap_up))

    def applied_to(self, verdict: Verdict, *, ends: bool) -> Verdict:
        """Return the verdict while a block is open. ends: a limit is reached, or it was revoked."""
        block = self.block
        if block is None or verdict.should_continue:
            return verdict
        rest = None if ends or verdict.reason not in GRACEFUL else block.rest()
        if rest is None:
            return replace(
                verdict, wrap_up=None, message=f"{verdict.message}; nothing is left to wrap up with"
            )
        return replace(
            verdict, action=Action.CONTINUE, reason=Reason.FINISHING, wrap_up=rest,
            message=f"{verdict.message}; it wraps up: {allowance_in_words(rest)} left",
        )  # fmt: skip


def lesser(one: WrapUp, other: WrapUp) -> WrapUp:
    """Return the less of each amount of two allowances."""
    amounts: Any = [
        min((amount for amount in both if amount is not None), default=None)
        for both in zip(one, other, strict=True)
    ]
    return WrapUp(*amounts)
