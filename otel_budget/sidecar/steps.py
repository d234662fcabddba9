"""One step of the loop: judged in the evaluator's thread, then published, noted and logged.

- What is slow for the processor or the disk runs in a thread of its own, so the HTTP side stays
  awake, and nothing that hangs elsewhere holds it up.
- A tick that raises is logged and counted, publishes nothing, and does not end the loop: should all
  of them raise, the leases run out, and each reader does what its own fail mode says.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from otel_budget.core.override import OverrideRefusedError, Refusal
from otel_budget.core.reservation import ReservationRefusal, ReservationRefusedError
from otel_budget.core.top_up import TopUpRefusal, TopUpRefusedError
from otel_budget.sidecar.evaluator_thread import EvaluatorThread, GaveUpError
from otel_budget.sidecar.storage.base import StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otel_budget.core.budget import BudgetKey, TopUp
    from otel_budget.core.observation import Observation
    from otel_budget.core.override import Override
    from otel_budget.core.quantities import Number
    from otel_budget.core.top_up import TopUpRequest
    from otel_budget.sidecar.api.broadcaster import VerdictBroadcaster
    from otel_budget.sidecar.budget_report import BudgetReport
    from otel_budget.sidecar.evaluator import Evaluator
    from otel_budget.sidecar.event_log import EventLog
    from otel_budget.sidecar.metrics import SidecarMetrics
    from otel_budget.sidecar.process_absence import Missed
    from otel_budget.sidecar.reservations import Order, Result
    from otel_budget.sidecar.settings import Settings
    from otel_budget.sidecar.tick_result import TickResult
    from otel_budget.sources.base import Clock

logger = logging.getLogger(__name__)


class Steps:
    """Does steps; callers hold the lock of ``thread`` from before they look at the time."""

    def __init__(
        self,
        evaluator: Evaluator,
        broadcaster: VerdictBroadcaster,
        metrics: SidecarMetrics,
        clock: Clock,
        *,
        event_log: EventLog,
        missed: Missed,
    ) -> None:
        """Begin with a source that was not read yet."""
        self.thread = EvaluatorThread(clock)
        self.ready = False
        """True once the source was read: that targets are not there (yet) is no failure of it."""
        self.unmatched = 0
        """As in ``sidecar.api.host.Host``."""
        self.budgets: Mapping[str, BudgetReport] | None = None
        """How the shared budgets stand, by name; None until there was a step."""
        self.held: Mapping[BudgetKey, Mapping[str, Number]] = {}
        """What is reserved of each group of a budget of which something is."""
        self.evaluated_at = clock()
        """When all runs were last judged and published."""
        self._evaluator, self._broadcaster = evaluator, broadcaster
        self._metrics, self._event_log, self._missed = metrics, event_log, missed

    async def take(
        self, observation: Observation | None, settings: Settings, now: float
    ) -> tuple[Observation | None, bool]:
        """Take in an observation and judge; return what of it is left for another step, and
        whether all else is stored and published. None: only judge.
        """
        whole = observation is not None and observation.asked is None
        if observation is not None and whole:
            self._metrics.note_observation(observation)
            self._event_log.log_observation(observation)
        self._evaluator.rest = None
        try:
            result = await self.thread.run_tick(
                self._evaluator.tick, observation, settings.rules, settings.forget_after, now
            )
        except StorageError as exc:
            self._event_log.log_not_stored(exc)
            self._metrics.note_failed_tick()
            return self._evaluator.rest, False
        except GaveUpError:
            return None, False
        except Exception:
            # Whatever it was, the runs out there still want to be judged at the next tick.
            logger.exception("this tick failed; no verdict was published")
            self._metrics.note_failed_tick()
            return self._evaluator.rest, False
        finally:
            self._missed.note_step(now, settings.interval)
        if observation is not None and whole and observation.read:
            self.ready, self.unmatched = True, len(observation.unmatched)
        if observation is None or whole:
            self.evaluated_at = now
        self._publish(result)
        return result.rest, True

    async def take_override(
        self, session_id: str, override: Override, settings: Settings, now: float
    ) -> TickResult:
        """Apply an operator's override to a run and judge that; return once it is published.

        Raises OverrideRefusedError; the override does not hold then, or nobody knows.
        """
        try:
            result = await self.thread.run_tick(
                self._evaluator.apply_override,
                session_id,
                override,
                settings.rules,
                settings.forget_after,
                now,
            )
        except StorageError as exc:
            self._event_log.log_not_stored(exc)
            detail = "the override could not be stored and is not in force: the log says why"
            raise OverrideRefusedError(Refusal.NOT_STORED, detail) from exc
        except GaveUpError as exc:
            detail = "the sidecar is ending: whether the override was stored is not known"
            raise OverrideRefusedError(Refusal.NOT_STORED, detail) from exc
        self._publish(result)
        return result

    async def take_top_up(self, asked: TopUpRequest, settings: Settings, now: float) -> TopUp:
        """Add to a shared budget and judge; return what was given once it is published.

        Raises TopUpRefusedError, and InvalidValueError where there is no reset to hold until; it
        does not hold then, or nobody knows.
        """
        try:
            result = await self.thread.run_tick(
                self._evaluator.top_up, asked, settings.rules, settings.forget_after, now
            )
        except StorageError as exc:
            self._event_log.log_not_stored(exc)
            detail = "the top-up could not be stored and is not in force: the log says why"
            raise TopUpRefusedError(TopUpRefusal.NOT_STORED, detail) from exc
        except GaveUpError as exc:
            detail = "the sidecar is ending: whether the top-up was stored is not known"
            raise TopUpRefusedError(TopUpRefusal.NOT_STORED, detail) from exc
        self._publish(result)
        if result.granted is None:
            raise RuntimeError("a step that takes a top-up gives one")
        return result.granted

    async def take_orders(
        self, orders: Sequence[Order], settings: Settings, now: float
    ) -> Sequence[Result]:
        """Do orders on reservations; return what came of each once it is stored.

        Raises ReservationRefusedError if nothing could be stored: nothing was done then, or nobody
        knows.
        """
        try:
            found = await self.thread.run_step(self._evaluator.reserve, orders, settings.rules, now)
        except StorageError as exc:
            self._event_log.log_not_stored(exc)
            detail = "it could not be stored and is not in force: the sidecar's log says why"
            raise ReservationRefusedError(ReservationRefusal.NOT_STORED, detail) from exc
        except GaveUpError as exc:
            detail = "the sidecar is ending: whether it was stored is not known"
            raise ReservationRefusedError(ReservationRefusal.NOT_STORED, detail) from exc
        self.held = self._evaluator.held(now)
        return found

    def _publish(self, result: TickResult) -> None:
        self.budgets, self.held = result.budgets, result.held
        self._broadcaster.publish(result.evaluated, result.forgotten)
        for note in (self._metrics.note_result, self._event_log.log_result):
            try:
                note(result)
            except Exception:
                logger.exception(
                    "what came of this tick could not be noted in metrics or log; it was published"
                )
