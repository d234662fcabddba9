"""What one run counted in this process: the data that everything else here reads.

A record outlives its monitor: a run that is over stays visible until it has been scraped, and what
it used stays in the sums of the process. What is counted, and how, is in run_counters.py.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from otel_budget import semconv
from otel_budget.core.resources import FURTHER
from otel_budget.core.usage import ResourceUsage
from otel_budget.sdk.call_samples import CallSamples
from otel_budget.sdk.phase_counters import Further, plus
from otel_budget.sdk.run_counters import RunCounters

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from otel_budget.core.limits import ResourceLimits
    from otel_budget.ledger.call_pace import CallPace
    from otel_budget.sdk.below import Below
    from otel_budget.sdk.clock import Clock

#: What a run used in all is the sum of these over its incarnations.
_SUMS: Final = (
    "tokens", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens",
    "reasoning_tokens", "api_calls", "failed_api_calls", "unknown_usage_calls", "unpriced_calls",
    "estimated_calls", "estimated_tokens",
)  # fmt: skip


#: A progress, and the tokens, API calls and cost that this process had counted when it was
#: reported. A plain tuple: one is made at every ``should_continue``.
Report = tuple[float | None, int, int, Decimal]
#: A progress was reported, and counts have crossed a line since: it says nothing about now.
OUTGROWN: Final[Report] = (None, 0, 0, Decimal(0))


class RunRecord(RunCounters):
    """One process of a run: its counts, and what it says about itself."""

    __slots__ = (
        "__weakref__",
        "_awake",
        "_monotonic",
        "_noted",
        "awake_since",
        "awake_until",
        "began_at",
        "below",
        "calls",
        "clock",
        "closed_at",
        "follows_completed",
        "is_judged",
        "labels",
        "limits",
        "limits_from_outside",
        "parent",
        "paused",
        "paused_at",
        "paused_seconds",
        "process_began_at",
        "report",
        "resumed",
        "saves",
        "sidecar_reachable",
        "started_at",
        "state",
        "waiting",
        "waiting_since",
        "wrap_ups",
    )  # fmt: skip

    def __init__(
        self,
        session_id: str,
        limits: ResourceLimits,
        clock: Clock,
        *,
        labels: Mapping[str, str],
        carried: ResourceUsage | None = None,
        parent: str | None = None,
    ) -> None:
        """Begin counting at zero.

        labels: workflow and scope. carried: use of a resumed run. parent: as in ``parent_of``.
        """
        self.clock, self._monotonic, self._awake = clock, clock.monotonic, clock.awake
        # Milliseconds: what identifies a run must survive stores that keep some 15 digits.
        now = round(clock.time(), 3)
        super().__init__(session_id, carried or ResourceUsage(session_id, started_at=now))
        self.labels, self.parent = dict(labels), parent
        self.calls = CallSamples()
        self.below: Below | None = None
        """What runs below it counted in this process; None: there are none."""
        self.report: Report | None = None
        """The progress last reported; None before the first."""
        self._noted: tuple[Report | None, Further] = (None, self.further)
        self.take_limits(limits)
        self.limits_from_outside = False
        """True if an operator's limits may take the place of its own."""
        self.resumed = carried is not None
        self.started_at = self.carried.started_at
        # After its predecessor, whatever the clock of this host says: the order counts.
        before = self.carried.last_checkpoint_at
        begun = now if before is None else max(now, round(before + 0.001, 3))
        # Two processes that begin in one millisecond, or from one checkpoint, are not one.
        self.process_began_at = round(begun + clock.mark(), 5)
        self.follows_completed = False
        """True if the run before it under its id in this process completed."""
        self.awake_since = self._awake()
        """When this process took the run up, by the clock that active time is measured by."""
        # The wall clock may have been put back between two processes: a duration never goes down.
        elapsed = max(now - self.started_at, self.carried.duration_seconds)
        self.began_at = self._monotonic() - elapsed
        self.wrap_ups: Mapping[str, int] = {}
        """Its wrap-ups by what came of them, one of ``semconv.WRAP_UP_OUTCOMES``."""
        self.saves = False
        """True if checkpoints of it are written."""
        self._begin_to_run()
        self.closed_at: float | None = None
        self.awake_until: float | None = None
        """When it was closed, by the same clock as ``awake_since``."""
        self.sidecar_reachable: bool | None = None
        self.is_judged: Callable[[], bool] | None = None
        """Whether a verdict of the sidecar is in force; None for a run without a sidecar."""

    def _begin_to_run(self) -> None:
        self.state = semconv.RUNNING
        self.paused = False
        """True if its user paused it."""
        self.waiting = 0
        """Those that wait until it may go on; the run stands still meanwhile."""
        self.waiting_since: float | None = None
        """Unix time; None while nobody waits."""
        self.paused_at: float | None = None
        """Since when it stands still, paused or waiting; by the clock of ``awake_since``, like the
        sum of these times."""
        self.paused_seconds = 0.0

    @property
    def progress(self) -> float | None:
        """The progress last reported, 0 to 1; None if it is not known."""
        return None if self.report is None else self.report[0]

    @property
    def used_since_report(self) -> bool:
        """True if anything was counted since the progress was reported."""
        if self.report is None:
            return False
        now = (self.tokens, self.api_calls, self.cost_usd)
        return self.report[1:] != now or self.further_at_report != self.further

    @property
    def further_at_report(self) -> Further:
        """What was used of further resources when the progress was reported."""
        report, further = self._noted
        return further if report is self.report else self.further

    def _set_further(self, further: Further) -> None:
        # A report has no count of these, which would be looked up at each: so that of before is
        # kept as soon as it changes.
        if self._noted[0] is not self.report:
            self._noted = self.report, self.further
        super()._set_further(further)

    def take_limits(self, limits: ResourceLimits) -> None:
        """Be limited in this way from now on. What is limited is counted, from 0."""
        self.limits = limits
        limited = [name for name, row in FURTHER.items() if row.limit_of(limits) is not None]
        if limited:
            self.count_further(limited)

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

    def pace(self) -> CallPace:
        """Return how the run's calls are, by its active seconds. Hold the lock as you read it."""
        return self.calls.pace(self.carried, self.awake_since)

    @property
    def is_active(self) -> bool:
        """True while the active time goes on."""
        return self.paused_at is None and self.closed_at is None

    def usage(self) -> ResourceUsage:
        """Return all the run used, over all its incarnations, at one moment."""
        with self.lock:
            self.settle()
            counts, carried = self.counted(), self.carried
            together = {name: getattr(carried, name) + getattr(counts, name) for name in _SUMS}
            return replace(
                carried,
                **together,
                duration_seconds=self.duration(),
                active_seconds=self.active(),
                **{
                    FURTHER[name].usage_key: getattr(carried, FURTHER[name].usage_key) + number
                    for name, number in counts.further.items()
                },
                cost_usd=plus(carried.cost_usd, counts.cost_usd),
                checkpoints=carried.checkpoints + self.checkpoints,
                last_checkpoint_at=self.last_checkpoint_at,
            )

    def pause(self) -> None:
        """Stop the active time."""
        with self.lock:
            self.paused = True
            self._stand_or_go()

    def unpause(self) -> None:
        """Let the active time go on, unless somebody waits until the run may go on."""
        with self.lock:
            self.paused = False
            self._stand_or_go()

    def begin_waiting(self) -> None:
        """Take note that somebody waits until the run may go on: it stands still."""
        with self.lock:
            self.waiting += 1
            if self.waiting_since is None:
                self.waiting_since = self.clock.time()
            self._stand_or_go()

    def end_waiting(self) -> None:
        """Take note that one of them waits no more. A run that was paused before stays so."""
        with self.lock:
            self._waited(self.waiting - 1)

    def nobody_waits(self) -> None:
        """Forget all who wait: they are in the process that this one was forked from."""
        self._waited(0)

    def _waited(self, rest: int) -> None:
        self.waiting = max(0, rest)
        if not self.waiting:
            self.waiting_since = None
        self._stand_or_go()

    def _stand_or_go(self) -> None:
        """Stop the active time, or let it go on. Hold the lock."""
        if self.closed_at is not None:
            return
        stands = self.paused or self.waiting > 0
        if stands and self.paused_at is None:
            self.paused_at = self._awake()
        elif not stands and self.paused_at is not None:
            self.paused_seconds += self._awake() - self.paused_at
            self.paused_at = None
        standing = semconv.WAITING if self.waiting else semconv.PAUSED
        self.state = standing if stands else semconv.RUNNING

    def close(self, state: str) -> bool:
        """End the run in one of ``semconv.ENDED_STATES``; False if it had ended before."""
        with self.lock:
            if self.closed_at is not None:
                return False
            self.closed_at, self.state = self._monotonic(), state
            self.waiting, self.waiting_since = 0, None
            self.awake_until = self._awake()
            return True
