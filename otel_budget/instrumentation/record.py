"""What one run counted in this process: the data that everything else here reads.

A record outlives its monitor: a run that is over stays visible until it has been scraped, and what
it used stays in the sums of the process. Counts only grow. ``lock`` guards all counts; whoever adds
takes it, and so does whoever wants a consistent picture.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget import semconv
from otel_budget.errors import InvalidValueError
from otel_budget.instrumentation.cell import Cell, plus
from otel_budget.instrumentation.labels import MAX_LENGTH, LabelCap
from otel_budget.model import checks
from otel_budget.model.usage import ResourceUsage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_budget.instrumentation.clock import Clock
    from otel_budget.model.extras import Extras
    from otel_budget.model.limits import ResourceLimits

#: Label values folded into ``other`` in this process, by label.
FOLDED: Counter[str] = Counter()


class Amounts(NamedTuple):
    """One operation, checked and ready to be added. Parts are inside their wholes.

    A tuple, because one is made for every operation: a frozen dataclass takes five times as long.
    """

    tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    api_call: bool = False
    failed: bool = False
    usage_unknown: bool = False
    cost_usd: Decimal | None = None
    """None: the price of this call is not known."""
    estimated: bool = False
    """The tokens are the mean of other calls."""
    extras: Extras | None = None
    """What is billed beside plain tokens and is not in ``cost_usd``; None: nothing."""


#: A progress, and the tokens, API calls and cost that this incarnation had counted when it was
#: reported. A plain tuple: one is made at every ``should_continue``.
Report = tuple[float | None, int, int, Decimal]
#: A progress was reported, and counts have crossed a line since: it says nothing about now.
OUTGROWN: Final[Report] = (None, 0, 0, Decimal(0))


class SessionRecord:
    """One incarnation of a run: its counts, and what it says about itself."""

    __slots__ = (
        "__weakref__",
        "_awake",
        "_cap",
        "_monotonic",
        "api_calls",
        "awake_since",
        "awake_until",
        "began_at",
        "carried",
        "cells",
        "checkpoint_failures",
        "checkpoints",
        "clock",
        "closed_at",
        "cost_room",
        "cost_usd",
        "estimated_calls",
        "estimated_tokens",
        "failed_api_calls",
        "incarnation_at",
        "is_judged",
        "labels",
        "last_checkpoint_at",
        "limits",
        "lock",
        "paused_at",
        "paused_seconds",
        "report",
        "resumed",
        "room",
        "saves",
        "session_id",
        "sidecar_reachable",
        "started_at",
        "state",
        "tokens",
        "unknown_usage_calls",
        "unpriced_calls",
    )  # fmt: skip

    def __init__(
        self,
        session_id: str,
        limits: ResourceLimits,
        clock: Clock,
        *,
        labels: Mapping[str, str],
        carried: ResourceUsage | None = None,
    ) -> None:
        """Begin counting at zero. labels: workflow and scope. carried: use of a resumed run."""
        self.clock, self._monotonic, self._awake = clock, clock.monotonic, clock.awake
        self._cap = LabelCap(FOLDED)
        # Milliseconds: what identifies a run must survive stores that keep some 15 digits.
        now = round(clock.time(), 3)
        self.session_id, self.limits, self.labels = session_id, limits, dict(labels)
        # Reentrant: a signal handler that closes the run may come in the middle of a record.
        self.lock = threading.RLock()
        self.resumed = carried is not None
        self.carried = carried or ResourceUsage(session_id, started_at=now)
        self.started_at = self.carried.started_at
        # After its predecessor, whatever the clock of this host says: the order counts.
        before = self.carried.last_checkpoint_at
        begun = now if before is None else max(now, round(before + 0.001, 3))
        # Two processes that begin in one millisecond, or from one checkpoint, are not one.
        self.incarnation_at = round(begun + clock.mark(), 5)
        self.awake_since = self._awake()
        """When this process took the run up, by the clock that active time is measured by."""
        # The wall clock may have been put back while nobody ran: a duration never goes down.
        elapsed = max(now - self.started_at, self.carried.duration_seconds)
        self.began_at = self._monotonic() - elapsed
        self.room = checks.MAX_COUNT - self.carried.tokens
        """Tokens this incarnation may count: past a total of 2^53 no reader would take the run."""
        if self.carried.api_calls > checks.MAX_COUNT // 2:
            self.room = -1  # the calls may be too many first: ``add`` looks at everything
        self.cost_room = plus(Decimal(checks.MAX_COUNT), self.carried.cost_usd.copy_negate())
        self.tokens = self.api_calls = 0
        self.failed_api_calls = self.unknown_usage_calls = self.unpriced_calls = 0
        self.estimated_calls = self.estimated_tokens = 0
        self.cost_usd = Decimal(0)
        self.cells: dict[tuple[str, str], Cell] = {}
        self.checkpoints = self.checkpoint_failures = 0
        self.last_checkpoint_at = self.carried.last_checkpoint_at
        self.report: Report | None = None
        """The progress last reported; None before the first."""
        self.saves = False
        """True if checkpoints of it are written."""
        self.state = "running"
        self.paused_at: float | None = None
        """By the clock of ``awake_since``, like the pauses' sum."""
        self.paused_seconds = 0.0
        self.closed_at: float | None = None
        self.awake_until: float | None = None
        """When it was closed, by the same clock as ``awake_since``."""
        self.sidecar_reachable: bool | None = None
        self.is_judged: Callable[[], bool] | None = None
        """Whether a verdict of the sidecar is in force; None for a run without a sidecar."""

    def cell(self, phase: str | None, model: str | None) -> Cell:
        """Return the cell of a phase and a model, made if need be. Hold the lock."""
        known = self.cells.get((phase or semconv.UNSPECIFIED, model or semconv.UNSPECIFIED))
        if known is not None:  # its names were admitted before
            return known
        key = (
            self._cap.admit(semconv.PHASE, phase or semconv.UNSPECIFIED),
            self._cap.admit(semconv.MODEL, model or semconv.UNSPECIFIED),
        )
        cell = self.cells.get(key)
        if cell is None:
            cell = self.cells[key] = Cell()
        return cell

    def add(self, cell: Cell, amounts: Amounts, worth: Decimal | None = None) -> None:
        """Add one operation to a cell and to the totals. Hold the lock.

        worth: US dollars, for an operation that does not say its own cost; None: nobody knows.
        Raises InvalidValueError and adds nothing if a total of the run would exceed 2^53.
        """
        # Taken apart at once: ten looks at its fields would take a quarter of the whole.
        (
            used, into, out, cached, written, reasoning, api_call, failed, unknown, price, guess,
            extras,
        ) = amounts  # fmt: skip
        if price is None:
            price = worth
        tokens = self.tokens + used
        cost = self.cost_usd if price is None else plus(self.cost_usd, price)
        if tokens > self.room or cost > self.cost_room:
            self._mind_totals(amounts, price, cost)
        self.tokens, self.cost_usd = tokens, cost
        cell.input_tokens += into
        cell.output_tokens += out
        cell.unspecified_tokens += used - into - out
        cell.cache_read_tokens += cached
        cell.cache_write_tokens += written
        cell.reasoning_tokens += reasoning
        if price is not None:
            cell.cost_usd = plus(cell.cost_usd, price)
        self.unknown_usage_calls += unknown
        cell.unknown_calls += unknown
        if api_call:
            self.api_calls += 1
            cell.api_calls += 1
            self.failed_api_calls += failed
            cell.failed_api_calls += failed
        if (price is None and api_call) or extras is not None:
            self.add_unpriced(cell)
        if guess:
            self.estimated_calls += 1
            self.estimated_tokens += used
        if unknown or guess or failed or not api_call:
            cell.set_aside(amounts)

    def add_unpriced(self, cell: Cell) -> None:
        """Count one operation whose price nobody knows, or not all of it. Hold the lock."""
        self.unpriced_calls += 1
        cell.unpriced_calls += 1

    def estimated(self, model: str, amounts: Amounts) -> Amounts:
        """Return a call of unknown use with the mean use of this run's other calls of its model.

        Rounded up; calls that failed, and estimates, are not in the mean. What the call does say of
        its use stays. Without any other call it is returned as it is: unknown. Hold the lock.
        """
        # What was folded into one name is no one model.
        name = None if model in (semconv.OTHER, semconv.UNSPECIFIED) else model[:MAX_LENGTH]
        cells = [cell for (_, of), cell in self.cells.items() if of == name]
        calls = sum(cell.api_calls - cell.aside_calls for cell in cells)
        if not calls:
            return amounts
        into, out, rest = (
            -(-sum(used) // calls) for used in zip(*(c.usual_tokens() for c in cells), strict=True)
        )
        into, out = amounts.input_tokens or into, max(amounts.output_tokens, out)
        rest = amounts.tokens - amounts.input_tokens - amounts.output_tokens or rest
        return amounts._replace(
            tokens=into + out + rest,
            input_tokens=into,
            output_tokens=out,
            usage_unknown=False,
            estimated=True,
        )

    def _mind_totals(self, amounts: Amounts, price: Decimal | None, cost: Decimal) -> None:
        carried = self.carried
        for key, value, total, after in (
            ("tokens", amounts.tokens, carried.tokens + self.tokens, amounts.tokens),
            ("api_call", amounts.api_call, carried.api_calls + self.api_calls, amounts.api_call),
            ("cost_usd", price, plus(carried.cost_usd, cost), 0),
        ):
            if total + after > checks.MAX_COUNT:
                raise InvalidValueError(key, value, "what keeps the run's total within 2^53")

    @property
    def progress(self) -> float | None:
        """The progress last reported, 0 to 1; None if it is not known."""
        return None if self.report is None else self.report[0]

    @property
    def used_since_report(self) -> bool:
        """True if anything was counted since the progress was reported."""
        now = (self.tokens, self.api_calls, self.cost_usd)
        return self.report is not None and self.report[1:] != now

    def duration(self) -> float:
        """Return seconds since the run began; it stands still once the run is closed."""
        return (self._monotonic() if self.closed_at is None else self.closed_at) - self.began_at

    def active(self) -> float:
        """Return seconds the run was active: without pauses, downtime, and the machine's sleep."""
        now = self._awake() if self.awake_until is None else self.awake_until
        paused = self.paused_seconds
        if self.paused_at is not None:
            paused += now - self.paused_at
        return self.carried.active_seconds + (now - self.awake_since - paused)

    @property
    def is_active(self) -> bool:
        """True while the active time goes on."""
        return self.paused_at is None and self.closed_at is None

    def usage(self) -> ResourceUsage:
        """Return all the run used, over all its incarnations, at one moment."""
        with self.lock:
            cells, carried = list(self.cells.values()), self.carried
            return replace(
                carried,
                duration_seconds=self.duration(),
                active_seconds=self.active(),
                tokens=carried.tokens + self.tokens,
                input_tokens=carried.input_tokens + sum(c.input_tokens for c in cells),
                output_tokens=carried.output_tokens + sum(c.output_tokens for c in cells),
                cache_read_tokens=(
                    carried.cache_read_tokens + sum(c.cache_read_tokens for c in cells)
                ),
                cache_write_tokens=(
                    carried.cache_write_tokens + sum(c.cache_write_tokens for c in cells)
                ),
                reasoning_tokens=carried.reasoning_tokens + sum(c.reasoning_tokens for c in cells),
                api_calls=carried.api_calls + self.api_calls,
                failed_api_calls=carried.failed_api_calls + self.failed_api_calls,
                unknown_usage_calls=carried.unknown_usage_calls + self.unknown_usage_calls,
                cost_usd=plus(carried.cost_usd, self.cost_usd),
                unpriced_calls=carried.unpriced_calls + self.unpriced_calls,
                estimated_calls=carried.estimated_calls + self.estimated_calls,
                estimated_tokens=carried.estimated_tokens + self.estimated_tokens,
                checkpoints=carried.checkpoints + self.checkpoints,
                last_checkpoint_at=self.last_checkpoint_at,
            )

    def pause(self) -> None:
        """Stop the active time."""
        with self.lock:
            if self.paused_at is None and self.closed_at is None:
                self.paused_at, self.state = self._awake(), "paused"

    def unpause(self) -> None:
        """Let the active time go on."""
        with self.lock:
            if self.paused_at is not None and self.closed_at is None:
                self.paused_seconds += self._awake() - self.paused_at
                self.paused_at, self.state = None, "running"

    def close(self, state: str) -> bool:
        """End the run in one of ``semconv.ENDED_STATES``; False if it had ended before."""
        with self.lock:
            if self.closed_at is not None:
                return False
            self.closed_at, self.state = self._monotonic(), state
            self.awake_until = self._awake()
            return True
