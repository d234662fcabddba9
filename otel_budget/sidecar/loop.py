"""The sidecar's heartbeat: read, evaluate, store, publish; again and again.

- A tick never overlaps the next one; one that outlasts its interval delays it, and is counted.
- A reading does not wait for slow targets: what they give is evaluated when it is there.
- Whatever a source does, every run is judged again at least every third of its lease: without new
  data, its age is what is new.
- The time in which this process did not run is not held against any run as silence, and after it
  the source is read before anything is judged.

What a step does with its reading, and what becomes of one that fails, is in steps.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

from otel_budget.core.observation import Observation, Problem, plain_target
from otel_budget.core.reasons import Reason
from otel_budget.core.reservation import ReservationRefusedError
from otel_budget.sidecar.batches import Batches
from otel_budget.sidecar.event_log import EventLog
from otel_budget.sidecar.handovers import HandoverOutcome, Handovers
from otel_budget.sidecar.nudging import NudgeOutcome, Nudging
from otel_budget.sidecar.order_queue import OrderQueue
from otel_budget.sidecar.process_absence import Missed
from otel_budget.sidecar.refused_pushes import RefusedPushes
from otel_budget.sidecar.steps import Steps

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
    from typing import Any

    from otel_budget.core.audit import AuditPage, AuditQuery
    from otel_budget.core.budget import BudgetKey, Group, TopUp
    from otel_budget.core.observation import RunObservation
    from otel_budget.core.override import Override, Overrides
    from otel_budget.core.quantities import Number
    from otel_budget.core.top_up import TopUpRequest
    from otel_budget.core.verdict import Verdict
    from otel_budget.ledger.book_values import ClosedWindow
    from otel_budget.ledger.freshness import Spell
    from otel_budget.ledger.owner_use import OwnerUse
    from otel_budget.policy.override_effect import Effect
    from otel_budget.sidecar.api.broadcaster import VerdictBroadcaster
    from otel_budget.sidecar.budget_report import BudgetReport
    from otel_budget.sidecar.evaluator import Evaluator
    from otel_budget.sidecar.metrics import SidecarMetrics
    from otel_budget.sidecar.reservations import Order, Reserved, Result
    from otel_budget.sidecar.settings import Settings
    from otel_budget.sources.base import Clock, Source

    #: Waits until one of the tasks is done, or for so many seconds.
    Wait = Callable[[Collection[asyncio.Task[Any]], float], Awaitable[object]]

logger = logging.getLogger(__name__)


#: Seconds the last reading may take once the process was asked to end, and the ticks from then on.
LAST_READ, LAST_STEP = 1.5, 2.5
#: Seconds a source may take to let go of its connections.
LAST_CLOSE = 0.5
#: Seconds between two tries to judge when the lease is very short or judging fails.
_LEAST_PAUSE = 0.05
#: A run that nothing is known of hastens the next reading, to so many seconds after the present one
#: began, and to so many times what that took.
_LEAST_SPACING, _SHARE = 1.0, 10.0


async def wait_first(tasks: Collection[asyncio.Task[Any]], seconds: float) -> None:
    """Wait until one of the tasks is done, or for so many seconds."""
    await asyncio.wait(tasks, timeout=max(0.0, seconds), return_when=asyncio.FIRST_COMPLETED)


class Loop:
    """Reads one source, has the evaluator judge, and hands the verdicts to one broadcaster."""

    def __init__(
        self,
        settings: Settings,
        *,
        evaluator: Evaluator,
        broadcaster: VerdictBroadcaster,
        metrics: SidecarMetrics,
        clock: Clock,
        absent: Callable[[], list[Spell]] = list,
        wait: Wait = wait_first,
    ) -> None:
        """absent: returns when the process did not run since it was asked last. wait: replaced by
        tests, which don't sleep.
        """
        self.settings = settings
        self._evaluator, self._broadcaster, self._metrics = evaluator, broadcaster, metrics
        evaluator.set_follower_check(broadcaster.is_followed)
        self._clock, self._wait = clock, wait
        self._next: Settings | None = None
        self._retired: set[Source] = set()
        self._stopping, self._read_now = asyncio.Event(), asyncio.Event()
        self._took = 0.0
        """Seconds the last tick took."""
        self._reading: asyncio.Task[Observation] | None = None
        self._late: asyncio.Task[Observation | None] | None = None
        """Waits for those that had not answered when the last reading ended."""
        self._pending: frozenset[str] = frozenset()
        self._began_at = self._due_at = self._tried_at = clock()
        self._reads_first = self._cut_short = self._again = False
        """Whether to read before judging, whether the present reading had no time of its own to
        wait for answers, and whether it takes the place of such a one."""
        self._event_log = EventLog(clock, evaluator.seen_at)
        self._missed = Missed(absent, clock, metrics.note_absence, self._event_log.log_absence)
        self._steps = Steps(
            evaluator, broadcaster, metrics, clock, event_log=self._event_log, missed=self._missed
        )
        self._thread = self._steps.thread
        self.refused_pushes = RefusedPushes()
        self._nudging, self._pushed = Nudging(self.evaluate), Batches(self._judge_pushed)
        self._handovers = Handovers(self.evaluate, self._handed_over, clock)
        self._orders = OrderQueue(self._take_orders)

    @property
    def ready(self) -> bool:
        """True once the source was read: that targets are not there (yet) is no failure of it."""
        return self._steps.ready

    @property
    def unmatched(self) -> int:
        """As in ``sidecar.api.host.Host``."""
        return self._steps.unmatched

    @property
    def budgets(self) -> Mapping[str, BudgetReport] | None:
        """As in ``sidecar.api.host.Host``."""
        return self._steps.budgets

    @property
    def held(self) -> Mapping[BudgetKey, Mapping[str, Number]]:
        """As in ``sidecar.api.host.Host``."""
        return self._steps.held

    @property
    def unjudged_for(self) -> float:
        """Return the seconds since all runs were last judged, and the verdicts published."""
        return self._clock() - self._steps.evaluated_at

    @property
    def step_takes(self) -> float:
        """Return the seconds that the present tick has taken so far; 0 between two."""
        return self._thread.busy_for

    @property
    def gave_up(self) -> bool:
        """True once the end could not wait for a tick: it is under way, and uses the storage."""
        return self._thread.gave_up

    def stop(self) -> None:
        """Ask the loop to end with one last tick."""
        self._stopping.set()
        self._thread.end_within(LAST_STEP)

    def change_settings(self, settings: Settings) -> None:
        """Use other settings from the next tick on."""
        for waiting in (self._next, self.settings):
            if waiting is not None and waiting.source is not settings.source:
                self._retired.add(waiting.source)
        self._next = settings

    async def publish_restored(self) -> None:
        """Publish a verdict on every run the storage knows, before anybody can ask for one.

        The source may take its time, or hang: what was stopped before a restart stays stopped.
        """
        await self.evaluate(None)
        self._metrics.note_restored()

    async def run(self) -> None:
        """Tick until told to stop, then once more, so that the last word is a fresh one.

        The source is closed then.
        """
        stopping = asyncio.create_task(self._stopping.wait())
        read_now = asyncio.create_task(self._read_now.wait())
        while not self._stopping.is_set():
            pause = await self._begin_tick()
            tasks: list[asyncio.Task[Any]] = [stopping, read_now]
            tasks += [task for task in (self._reading, self._late) if task is not None]
            await self._wait(tasks, pause)
            self._note_absence()
            if read_now.done():
                self._read_now.clear()
                read_now = asyncio.create_task(self._read_now.wait())
            if self._reading is not None and self._reading.done():
                await self._take_reading(self._reading.result())
            elif self._late is not None and self._late.done():
                await self._take_late(self._late.result())
            elif self._until_renewal() <= 0 and not self._stopping.is_set():
                await self.evaluate(None)
        stopping.cancel()
        read_now.cancel()
        await self._last_tick()
        self._cancel_late()
        self._thread.threads.shutdown()
        for source in {*self._retired, self.settings.source}:
            await _close(source)

    async def tick(self) -> None:
        """Read the source, however long it takes, and judge."""
        await self._take_settings()
        self._began_at = self._clock()
        await self._finish_tick(await self._read())

    async def _begin_tick(self) -> float:
        """Start to read if it is time to; return the seconds until there is something to do."""
        if self._reading is not None:
            return self._until_renewal()
        await self._take_settings()
        now = self._clock()
        if now < self._due_at:
            return min(self._due_at - now, self._until_renewal())
        self._cancel_late()
        self._began_at, self._reading = now, asyncio.create_task(self._read())
        return self._until_renewal()

    async def _take_reading(self, observation: Observation) -> None:
        """Finish the tick, unless the reading was cut short: then read again first, but once."""
        self._again = self._cut_short and bool(observation.problems)
        self._cut_short = False
        if self._again:
            self._reading, self._due_at = None, self._clock()
            return
        await self._finish_tick(observation)

    async def _finish_tick(self, observation: Observation) -> None:
        self._reading = None
        await self.evaluate(observation)
        now, interval = self._clock(), self.settings.interval
        took = now - self._began_at
        self._took = took
        self._metrics.note_tick(took, overran=took > interval)
        self._due_at = max(self._began_at + interval, now)
        self._pending = observation.pending
        if self._pending:
            self._late = asyncio.create_task(self._read_late())

    async def _take_late(self, observation: Observation | None) -> None:
        """Judge what has come since the reading ended; wait for the rest until the next one."""
        self._late = None
        if observation is None:
            return
        await self.evaluate(observation)
        self._pending -= observation.asked or frozenset()
        if self._pending:
            self._late = asyncio.create_task(self._read_late())

    def _cancel_late(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    async def evaluate(self, observation: Observation | None) -> None:
        """Take in an observation, judge every run and publish; without one, only judge.

        Of more new runs than one tick takes in, the rest follows, until the next reading is due;
        others have their turn in between.
        """
        until = self._clock() + self.settings.interval
        async with self._thread.lock:
            rest, _ = await self._evaluate_once(observation)
        while rest is not None and self._clock() < until and not self._stopping.is_set():
            async with self._thread.lock:
                rest, _ = await self._evaluate_once(rest)
        if observation is not None and observation.asked is None:
            self._event_log.log_waiting(rest)

    async def judge_pushed(self) -> bool:
        """Judge all that was pushed up to now; return whether it is stored and published.

        What is not stays in the ledger, and is stored with the next step that can be.
        """
        return await self._pushed.next()

    async def _judge_pushed(self) -> bool:
        pushes = self.settings.pushes
        if pushes is None:
            return False
        pushed = await pushes.drain()
        self._metrics.note_samples(pushed)
        rest: Observation | None = pushed
        is_stored = True
        while rest is not None:  # nobody shows it a second time
            async with self._thread.lock:
                rest, done = await self._evaluate_once(rest)
            is_stored = is_stored and done
        await self._note_refused(pushed.sessions)
        return is_stored

    async def _note_refused(self, pushed: Sequence[RunObservation]) -> None:
        if not pushed:
            return
        async with self._thread.lock:
            refused = await self._thread.threads.run(self._evaluator.turned_away, pushed)
        self.refused_pushes.note(((s.session_id, plain_target(s.target)) for s in pushed), refused)

    async def nudge(self, session_id: str) -> NudgeOutcome:
        """Read one run now, whatever the time, and judge it."""
        source, pushed = self.settings.source, self._evaluator.is_pushed(session_id)
        if not (source.reads_runs or pushed):
            return NudgeOutcome.IMPOSSIBLE
        observation = await source.read_run(session_id) if source.reads_runs else None
        if observation is None and pushed:
            # What it pushed is judged already; that it is old may be new.
            observation = Observation(self.settings.name, self._clock(), asked=frozenset())
        if observation is None:
            self._read_soon()
            return NudgeOutcome.UNKNOWN
        await self._nudging.judge(observation)
        return NudgeOutcome.DONE

    async def hook_seen(
        self, session_id: str, *, state: str | None, tokens: int | None, preset: str, peer: str
    ) -> None:
        """Take in what a hook tells of a run; see ``sidecar.api.host.Host``."""
        pushes = self.settings.pushes
        if tokens is not None and pushes is not None:
            begins = not pushes.knows_names
            with pushes.awaited():
                await pushes.take_hook_usage(session_id, tokens, preset, peer, may_begin=begins)
                await self.judge_pushed()
        if state is not None:
            told = Observation(
                self.settings.name, self._clock(), asked=frozenset(), told={session_id: state}
            )
            await self._nudging.judge(told)

    async def hand_over(
        self, runs: Sequence[RunObservation], dropped: Mapping[str, int]
    ) -> list[HandoverOutcome]:
        """Judge and store the last state of runs; see ``sidecar.api.host.Host``."""
        return await self._handovers.take(runs, dropped, self.settings.interval)

    async def _handed_over(self, runs: Sequence[RunObservation]) -> list[HandoverOutcome]:
        async with self._thread.lock:
            return await self._thread.threads.run(self._evaluator.handed_over, runs)

    def _read_soon(self) -> None:
        """Read everything soon: there is a run that nothing is known of. Not at any price."""
        spacing = max(_LEAST_SPACING, _SHARE * self._took)
        self._due_at = min(self._due_at, self._began_at + spacing)
        self._read_now.set()

    async def apply_override(
        self, session_id: str, override: Override, client: str
    ) -> tuple[Verdict, Effect]:
        """Apply an operator's override to a run; see ``sidecar.api.host.Host``."""
        async with self._thread.lock:
            now = self._begin_evaluation()
            result = await self._steps.take_override(session_id, override, self.settings, now)
        self._event_log.log_override(session_id, override, client, result.effect)
        return next(v for v in result.verdicts if v.session_id == session_id), result.effect

    async def overrides_of(self, session_id: str, most: int) -> tuple[Overrides, list[Override]]:
        """Return the overrides that hold for a run, and the newest that were given."""
        async with self._thread.lock:
            return await self._thread.threads.run(
                self._evaluator.overrides_of, session_id, most, self._clock()
            )

    async def top_up(self, asked: TopUpRequest, client: str) -> TopUp:
        """Add to a shared budget; see ``sidecar.api.host.Host``."""
        async with self._thread.lock:
            now = self._begin_evaluation()
            given = await self._steps.take_top_up(asked, self.settings, now)
        self._event_log.log_top_up(given, client, again=given.given_at < now)
        return given

    async def reserve(self, order: Order) -> Reserved:
        """Do an order on a reservation; see ``sidecar.api.host.Host``."""
        result = await self._orders.do(order)
        if isinstance(result, ReservationRefusedError):
            raise result
        return result

    async def _take_orders(self, orders: Sequence[Order]) -> Sequence[Result]:
        async with self._thread.lock:
            return await self._steps.take_orders(orders, self.settings, self._clock())

    async def closed_windows(
        self, budget: str, groups: Sequence[Group], most: int
    ) -> list[ClosedWindow]:
        """Return windows of a budget that are over; see ``sidecar.api.host.Host``."""
        async with self._thread.lock:
            return await self._thread.threads.run(
                self._evaluator.closed_windows, budget, groups, most
            )

    async def use_by(self, label: str) -> list[OwnerUse]:
        """Return what the runs of each value of a label used; see ``sidecar.api.host.Host``."""
        async with self._thread.lock:
            return await self._thread.threads.run(self._evaluator.use_by, label)

    async def audit_log(self, query: AuditQuery) -> AuditPage:
        """Return entries of the audit log; see ``sidecar.api.host.Host``."""
        async with self._thread.lock:
            return await self._thread.threads.run(self._evaluator.audit_log, query)

    def _note_absence(self) -> None:
        """Take note of the time in which this process did not run."""
        if not self._missed.look(self.settings.interval):
            return
        self._cancel_late()  # it had no time to wait; the source is read first
        self._cut_short = self._reading is not None and not self._again
        if (
            not self._reads_first
        ):  # else a process that is starved again and again would never judge
            self._reads_first, self._tried_at = True, self._clock()

    def _begin_evaluation(self) -> float:
        """Tell the evaluator when this process did not run; return the time of the next tick."""
        self._note_absence()
        self._reads_first = False
        self._evaluator.add_absences(self._missed.take())
        return self._clock()

    async def _evaluate_once(
        self, observation: Observation | None
    ) -> tuple[Observation | None, bool]:
        """Do one tick; return what of the observation is left for another one, and whether all
        else is stored.
        """
        now = self._begin_evaluation()
        if observation is None or observation.asked is None:
            self._tried_at = now
        return await self._steps.take(observation, self.settings, now)

    async def _read(self) -> Observation:
        """Return an observation; of a source that raises, one that says so."""
        name = self.settings.name
        try:
            return await self.settings.source.read()
        except Exception as exc:
            logger.exception("the source %s failed to read", name)
            problem = Problem("", Reason.SOURCE_ERROR, f"{type(exc).__name__}: {exc}")
            return Observation(name, self._clock(), problems=(problem,))

    async def _read_late(self) -> Observation | None:
        try:
            return await self.settings.source.read_late()
        except Exception:
            logger.exception("the source %s failed to read", self.settings.name)
            return None

    async def _last_tick(self) -> None:
        if self.gave_up:
            return
        last = self._reading or asyncio.create_task(self._read())
        await self._wait([last], LAST_READ)
        if last.done():
            await self._finish_tick(last.result())
            return
        last.cancel()
        await asyncio.gather(last, return_exceptions=True)
        await self.evaluate(None)

    async def _take_settings(self) -> None:
        if self._next is None:
            return
        if self._next.source is not self.settings.source:
            async with self._thread.lock:
                self._evaluator.restart_freshness(self._clock())
            self._due_at = self._tried_at = self._clock()
            self._cancel_late()
        self.settings, self._next = self._next, None
        self._broadcaster.lease = self.settings.rules.lease
        self._event_log.note_new_settings()
        while self._retired:
            await _close(self._retired.pop())
        self._due_at = min(self._due_at, self._clock() + self.settings.interval)

    def _until_renewal(self) -> float:
        pause = max(_LEAST_PAUSE, self._broadcaster.renew_after)
        return self._tried_at + pause - self._clock()


async def _close(source: Source) -> None:
    with contextlib.suppress(TimeoutError):  # the system closes the rest
        await asyncio.wait_for(source.close(), LAST_CLOSE)
