"""Runs at which this program fails: each is in doubt by itself, and all others go on.

A run that cannot be judged, or stored, has the verdict of before for as long as data may be
missing, then ``on_no_data``. One that can again is as others from the next step on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_budget.ledger.findings import FailedStep, RunFailure
from otel_budget.policy.families import NOTHING_ABOVE, Above
from otel_budget.policy.verdicts import verdict_on_failure
from otel_budget.sidecar.clock import move
from otel_budget.sidecar.storage import codec
from otel_budget.sidecar.storage.records import run_body, verdict_body
from otel_budget.sidecar.verdict_cache import CachedVerdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_budget.core.verdict import Verdict
    from otel_budget.ledger.freshness import Absences
    from otel_budget.ledger.run import RunTotals
    from otel_budget.policy.verdicts import Rules


class Failing:
    """Keeps in mind which runs fail, since when."""

    def __init__(self, absences: Absences) -> None:
        """Know of none. absences: the time in which nothing is held against a run."""
        self.found: list[RunFailure] = []
        """What went wrong, until it is taken."""
        self.unjudged: dict[str, float] = {}
        """Session ids of runs that could not be judged, to since when."""
        self.unstored: dict[str, float] = {}
        """Session ids of live runs that could not be stored, to since when."""
        self._absences = absences

    def note(self, session_id: str, place: FailedStep, error: Exception, now: float) -> None:
        """Take note of what went wrong with a live run."""
        self.found.append(RunFailure(session_id, place, error))
        since = self.unstored if place is FailedStep.STORE else self.unjudged
        since.setdefault(session_id, now)

    def evaluated(
        self,
        run: RunTotals,
        before: CachedVerdict | None,
        rules: Rules,
        now: float,
        above: Above = NOTHING_ABOVE,
    ) -> CachedVerdict:
        """Return the verdict on a run that fails. above: as for any other verdict."""
        known = None if before is None else before.verdict
        if known is not None and known.started_at != run.started_at:
            known = None  # it was another run's
        ids = run.session_id
        since = min(at[ids] for at in (self.unjudged, self.unstored) if ids in at)
        return CachedVerdict(
            verdict_on_failure(
                run.session_id,
                run.started_at,
                before=known,
                overrides=run.overrides.holding(now),
                failing_for=max(0.0, now - since - self._absences.since(since)),
                rules=rules,
                now=now,
                above=above,
            )
        )

    def forget(self, session_ids: Iterable[str]) -> None:
        """Forget runs that are not known any more."""
        for session_id in session_ids:
            self.unjudged.pop(session_id, None)
            self.unstored.pop(session_id, None)

    def forget_unstored(self, session_ids: Iterable[str]) -> None:
        """Forget that runs could not be stored."""
        for session_id in session_ids:
            self.unstored.pop(session_id, None)

    def take(self) -> tuple[RunFailure, ...]:
        """Return what went wrong since this was asked last."""
        found = tuple(self.found)
        self.found.clear()
        return found


def by_wall(run: RunTotals, ahead: float) -> RunTotals:
    """Return a run as it is to be stored. ahead: seconds, of the system's clock."""
    if not ahead:
        return run
    copy = codec.from_json(codec.to_json(run))
    move(copy, ahead)
    return copy


def unstorable(
    runs: Iterable[RunTotals], verdicts: Iterable[Verdict], ahead: float
) -> dict[str, Exception]:
    """Return the runs that cannot be made rows of, by session id, and why."""
    found: dict[str, Exception] = {}
    for run in runs:
        try:
            run_body(by_wall(run, ahead), 0).encode()
        except Exception as exc:  # noqa: BLE001 - whatever it is, it costs no other run
            found[run.session_id] = exc
    for verdict in verdicts:
        try:
            verdict_body(verdict).encode()
        except Exception as exc:  # noqa: BLE001 - as above
            found[verdict.session_id] = exc
    return found
