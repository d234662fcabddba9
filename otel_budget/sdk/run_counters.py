"""What one run counted in this process, added up.

``lock`` guards all counts; take it to add. It is reentrant, as a signal handler or a
finalizer may come in the middle of an addition: what that adds waits until the addition under way
is done, which adds it, too.

The phase counters are what was counted; the totals follow from them, and are kept beside them for
those who ask often.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING

from otel_budget import semconv
from otel_budget.core import validation
from otel_budget.core.resources import FURTHER
from otel_budget.errors import InvalidValueError
from otel_budget.logs.logger import logger
from otel_budget.sdk.metrics.label_cap import MAX_LENGTH, MAX_PAIRS, MAX_PAIRS_IN_ALL, LabelCap
from otel_budget.sdk.phase_counters import (
    Counts,
    Further,
    PhaseCounters,
    plus,
    summed,
    together,
)
from otel_budget.sdk.usage_arguments import OperationUsage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from otel_budget.core.usage import ResourceUsage

#: Label values folded into ``other`` in this process, by label.
FOLDED: Counter[str] = Counter()


class _Pairs:
    """How many pairs of phase and model all runs of this process have together."""

    number = 0


_PAIRS = _Pairs()


class RunCounters:
    """Counts of one process of a run. They only grow."""

    __slots__ = (
        "_cap",
        "_full",
        "api_calls",
        "busy",
        "carried",
        "checkpoint_failures",
        "checkpoints",
        "cost_room",
        "cost_usd",
        "counters_by_phase",
        "estimated_calls",
        "estimated_tokens",
        "failed_api_calls",
        "further",
        "last_checkpoint_at",
        "late",
        "lock",
        "room",
        "session_id",
        "tokens",
        "unknown_usage_calls",
        "unpriced_calls",
    )  # fmt: skip

    def __init__(self, session_id: str, carried: ResourceUsage) -> None:
        """Begin counting at zero. carried: use of a resumed run, which limits what may follow."""
        self.session_id, self.carried = session_id, carried
        self._cap, self._full = LabelCap(FOLDED), False
        self.lock = threading.RLock()
        self.busy = False
        """True in the middle of an addition."""
        self.late: deque[Callable[[], None]] = deque()
        """What came in the middle of one, to be done after it."""
        self.room = validation.MAX_COUNT - carried.tokens
        """Tokens this process may count: past a total of 2^53 no reader would take the run."""
        if carried.api_calls > validation.MAX_COUNT // 2:
            self.room = -1  # the calls may be too many first: ``add`` looks at everything
        self.cost_room = plus(Decimal(validation.MAX_COUNT), carried.cost_usd.copy_negate())
        self.tokens = self.api_calls = 0
        self.failed_api_calls = self.unknown_usage_calls = self.unpriced_calls = 0
        self.estimated_calls = self.estimated_tokens = 0
        self.cost_usd = Decimal(0)
        self.further: Further = {
            name: 0 for name, row in FURTHER.items() if getattr(carried, row.usage_key)
        }
        """Of those further resources that were counted, or are limited: absent is not counted."""
        self.counters_by_phase: dict[tuple[str, str], PhaseCounters] = {}
        self.checkpoints = self.checkpoint_failures = 0
        self.last_checkpoint_at = carried.last_checkpoint_at

    def counters(self, phase: str | None, model: str | None) -> PhaseCounters:
        """Return the counters of a phase and a model, made if need be. Hold the lock."""
        known = self.counters_by_phase.get(
            (phase or semconv.UNSPECIFIED, model or semconv.UNSPECIFIED)
        )
        if known is not None:  # its names were admitted before
            return known
        key = (
            self._cap.admit(semconv.PHASE, phase or semconv.UNSPECIFIED),
            self._cap.admit(semconv.MODEL, model or semconv.UNSPECIFIED),
        )
        if key not in self.counters_by_phase and key[1] != semconv.OTHER and self._is_full():
            key = key[0], semconv.OTHER
        return self._counters_at(key)

    def _counters_at(self, key: tuple[str, str]) -> PhaseCounters:
        before = len(self.counters_by_phase)
        counters = self.counters_by_phase.setdefault(key, PhaseCounters())
        _PAIRS.number += len(self.counters_by_phase) - before
        return counters

    def take_in(self, other: RunCounters) -> None:
        """Add the counts of another process that is over. No one else may use this one yet."""
        with other.lock:
            self.checkpoints += other.checkpoints
            self.checkpoint_failures += other.checkpoint_failures
            for key, counters in other.counters_by_phase.items():
                sums = self._counters_at(key)
                sums.counts = Counts._make(sums.counts).and_of(counters.read())
            self.further = {**dict.fromkeys(other.further, 0), **self.further}
        self.rebuild_totals()

    def _is_full(self) -> bool:
        """Tell whether there are too many pairs of phase and model; say so, once for a run."""
        if len(self.counters_by_phase) < MAX_PAIRS and _PAIRS.number < MAX_PAIRS_IN_ALL:
            return False
        if not self._full:
            self._full = True
            self._cap.count(semconv.MODEL)
        return True

    def __del__(self) -> None:
        """Make room for the pairs of other runs."""
        _PAIRS.number -= len(getattr(self, "counters_by_phase", ()))

    def add(
        self,
        counters: PhaseCounters,
        usage: OperationUsage,
        worth: Decimal | None = None,
        *,
        unpriced: bool = False,
    ) -> None:
        """Add one operation to its phase counters and to the totals. Hold the lock.

        worth: US dollars, for an operation that does not say its own cost; None: not known.
        unpriced: its price, or not all of it, is known, though it is no call. Raises
        InvalidValueError and adds nothing if a total of the run would exceed 2^53.
        """
        if self.busy:
            self.late.append(partial(self.add, counters, usage, worth, unpriced=unpriced))
            return
        try:
            self.busy = True
            self._add(counters, usage, worth, unpriced)
            self.busy = False
        except BaseException:
            self.rebuild_totals()
            raise
        if self.late:
            self.add_late()

    def _add(
        self,
        counters: PhaseCounters,
        usage: OperationUsage,
        worth: Decimal | None,
        unpriced: bool,  # noqa: FBT001 - one fact, by its name
    ) -> None:
        # Taken apart at once: ten looks at its fields would take a quarter of the whole.
        (
            used, into, out, cached, written, reasoning, call, failed, unknown, price, guess,
            extras, more,
        ) = usage  # fmt: skip
        if price is None:
            price = worth
        unpriced = unpriced or extras is not None or (price is None and call)
        tokens, rest = self.tokens + used, used - into - out
        cost = self.cost_usd if price is None else plus(self.cost_usd, price)
        if tokens > self.room or cost > self.cost_room:
            self._mind_totals(usage, price, cost)
        if more:
            self._mind_further(more)
        (
            c_into, c_out, c_rest, c_cached, c_written, c_reasoning, c_calls, c_failed, c_unpriced,
            c_unknown, c_guesses, c_guessed, a_calls, a_into, a_out, a_rest, c_cost, c_more,
        ) = counters.counts  # fmt: skip
        if unknown or guess or failed or not call:
            a_calls, a_into, a_out, a_rest = (
                a_calls + call,
                a_into + into,
                a_out + out,
                a_rest + rest,
            )
        # By this the operation is counted; should the totals not be reached, they are rebuilt.
        counters.counts = (
            c_into + into, c_out + out, c_rest + rest, c_cached + cached, c_written + written,
            c_reasoning + reasoning, c_calls + call, c_failed + failed, c_unpriced + unpriced,
            c_unknown + unknown, c_guesses + guess, c_guessed + (used if guess else 0),
            a_calls, a_into, a_out, a_rest, c_cost if price is None else plus(c_cost, price),
            together(c_more, more) if more else c_more,
        )  # fmt: skip
        self.tokens, self.cost_usd = tokens, cost
        self.api_calls += call
        self.failed_api_calls += failed
        self.unpriced_calls += unpriced
        self.unknown_usage_calls += unknown
        if guess:
            self.estimated_calls += 1
            self.estimated_tokens += used
        if more:
            self._set_further(together(self.further, more))

    def count_further(self, names: Iterable[str]) -> None:
        """Count these further resources from now on: from 0, where nothing was counted yet."""

        def show() -> None:
            self.further = {**dict.fromkeys(names, 0), **self.further}

        self.exclusively(show)

    def _set_further(self, further: Further) -> None:
        """Take what was used of further resources by now."""
        self.further = further

    def _mind_further(self, more: Further) -> None:
        for name, value in more.items():
            carried = getattr(self.carried, FURTHER[name].usage_key)
            if carried + self.further.get(name, 0) + value > validation.MAX_COUNT:
                raise InvalidValueError(name, value, "what keeps the run's total within 2^53")

    def add_late(self) -> None:
        """Add what came in the middle of an addition. Hold the lock."""
        for _ in range(len(self.late)):
            try:
                work = self.late.popleft()
            except IndexError:
                return
            try:
                work()
            except InvalidValueError as exc:
                logger.error("run %r: an operation was not counted: %s", self.session_id, exc)  # noqa: TRY400 - the arguments are at fault

    def exclusively(self, work: Callable[[], None]) -> None:
        """Do something to the counts, and nothing else in the middle of it."""
        with self.lock:
            if self.busy:
                self.late.append(partial(self.exclusively, work))
                return
            try:
                self.busy = True
                work()
                self.busy = False
            except BaseException:
                self.rebuild_totals()
                raise
            if self.late:
                self.add_late()

    def rebuild_totals(self) -> None:
        """Work the totals out of the cells: an addition did not come to its end. Hold the lock."""
        counts = self.counted()
        self.tokens, self.cost_usd = counts.tokens, counts.cost_usd
        self.api_calls, self.failed_api_calls = counts.api_calls, counts.failed_api_calls
        self.unpriced_calls = counts.unpriced_calls
        self.unknown_usage_calls = counts.unknown_usage_calls
        self.estimated_calls = counts.estimated_calls
        self.estimated_tokens = counts.estimated_tokens
        self._set_further({**dict.fromkeys(self.further, 0), **counts.further})
        self.busy = False
        self.add_late()

    def counted(self) -> Counts:
        """Return what the cells come to."""
        return summed(counters.read() for counters in list(self.counters_by_phase.values()))

    def settle(self) -> None:
        """Add what is left to be added, if an exception came between. Hold the lock."""
        if self.late and not self.busy:
            self.add_late()

    def estimated(self, model: str, usage: OperationUsage) -> OperationUsage:
        """Return a call of unknown use with the mean use of this run's other calls of its model.

        Rounded up; calls that failed, and estimates, are not in the mean. What the call does say of
        its use stays. Without any other call it is returned as it is: unknown. Hold the lock.
        """
        # What was folded into one name is no one model.
        name = None if model in (semconv.OTHER, semconv.UNSPECIFIED) else model[:MAX_LENGTH]
        counters_by_phase = [
            counters.read()
            for (_, of), counters in list(self.counters_by_phase.items())
            if of == name
        ]
        calls = sum(counters.api_calls - counters.aside_calls for counters in counters_by_phase)
        if not calls:
            return usage
        into, out, rest = (
            -(-sum(used) // calls)
            for used in zip(*(c.usual_tokens() for c in counters_by_phase), strict=True)
        )
        into, out = usage.input_tokens or into, max(usage.output_tokens, out)
        rest = usage.tokens - usage.input_tokens - usage.output_tokens or rest
        return usage._replace(
            tokens=into + out + rest,
            input_tokens=into,
            output_tokens=out,
            usage_unknown=False,
            estimated=True,
        )

    def _mind_totals(self, usage: OperationUsage, price: Decimal | None, cost: Decimal) -> None:
        carried = self.carried
        for key, value, total, after in (
            ("tokens", usage.tokens, carried.tokens + self.tokens, usage.tokens),
            ("api_call", usage.api_call, carried.api_calls + self.api_calls, usage.api_call),
            ("cost_usd", price, plus(carried.cost_usd, cost), 0),
        ):
            if total + after > validation.MAX_COUNT:
                raise InvalidValueError(key, value, "what keeps the run's total within 2^53")

    def saved(self, at: float) -> None:
        """Count a checkpoint. at: Unix time."""

        def count() -> None:
            self.last_checkpoint_at = at
            self.checkpoints += 1

        self.exclusively(count)

    def not_saved(self) -> None:
        """Count a checkpoint that could not be written."""

        def count() -> None:
            self.checkpoint_failures += 1

        self.exclusively(count)
