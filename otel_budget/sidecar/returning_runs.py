"""Runs that were forgotten and turn up again: they go on from what the archive has of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_budget import semconv
from otel_budget.ledger.findings import FailedStep, RunFailure
from otel_budget.sidecar.storage.base import StorageError

if TYPE_CHECKING:
    from otel_budget.core.observation import Observation, RunObservation
    from otel_budget.ledger.ledger import Ledger
    from otel_budget.sidecar.stored_runs import StoredRuns


class ReturningRuns:
    """Brings runs back into the ledger."""

    def __init__(self, ledger: Ledger, disk: StoredRuns) -> None:
        """disk: where they are kept."""
        self._ledger, self._disk = ledger, disk

    def adopt(self, observation: Observation, now: float) -> None:
        """Bring back those that an observation shows, or tells of, before it is taken in.

        Raises StorageError.
        """
        self._adopt_archived(observation, now)
        self._adopt_told(observation, now)

    def _adopt_archived(self, observation: Observation, now: float) -> None:
        """Bring back runs that were forgotten and turn up again."""
        newest = {
            (s.session_id, s.attributes.started_at): s
            for s in observation.sessions
            if self._ledger.may_speak(s.session_id, s.target)
        }
        for session in newest.values():
            try:
                self._adopt_one(session, now)
            except StorageError:
                raise
            except Exception as exc:  # noqa: BLE001 - whatever it is, it costs no other run
                self._ledger.failures.append(
                    RunFailure(session.session_id, FailedStep.ACCOUNT, exc)
                )

    def _adopt_told(self, observation: Observation, now: float) -> None:
        """Bring back runs that were forgotten and are told to begin again."""
        for session_id, state in observation.told.items():
            if state == semconv.RUNNING and session_id not in self._ledger.runs:
                run = self._disk.take_archived(session_id, None, now)
                if run is not None:
                    self._ledger.adopt(run, now)

    def _adopt_one(self, session: RunObservation, now: float) -> None:
        session_id, start = session.session_id, session.attributes.started_at
        live = self._ledger.runs.get(session_id)
        takes_over = live is None or self._ledger.takes_over(session)
        if not takes_over and not self._ledger.lost_sight_of(session_id, start):
            return
        if not takes_over:
            known = self._disk.look_up(session_id, start, now)
            if known is not None:
                self._ledger.watch_again(known, now)
            return
        run = self._disk.take_archived(session_id, start, now)
        if run is None:
            return
        if live is not None:
            self._ledger.superseded.append(live)
        self._ledger.adopt(run, now)
