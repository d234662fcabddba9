"""What policy reads of one run: a value, as of one moment."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget import semconv
from otel_budget.core.override import NO_OVERRIDES, Overrides
from otel_budget.core.reasons import Reason
from otel_budget.core.uncertainty import NO_UNCERTAINTY, UsageUncertainty
from otel_budget.ledger.call_pace import CallPace
from otel_budget.ledger.processes import used_at_progress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_budget.core.observation import RunAttributes
    from otel_budget.core.quantities import Number
    from otel_budget.ledger.freshness import Absences
    from otel_budget.ledger.run import RunTotals
    from otel_budget.ledger.targets import Targets


_NO_RATES: Final[Mapping[str, float]] = MappingProxyType({})
#: That of a run of which no call was seen.
NO_PACE: Final = CallPace()


class RunSnapshot(NamedTuple):
    """What one run has used, and how well that is known: all that policy needs."""

    session_id: str
    started_at: float | None
    """Unix time at which the run began, as it says; None if it does not."""
    used: Mapping[str, Number]
    """Per resource: seconds, tokens, calls, US dollars. Absent is unknown, never 0."""
    attributes: RunAttributes
    """What the run says of itself: its limits, thresholds, progress, state."""
    rates: Mapping[str, float]
    """Of a run that counts no calls per resource units per second; absent when it is not being
    spent."""
    sampled_at: float | None
    """When the newest sample was taken; None when there is no confirmed one yet."""
    silent_for: float
    """Seconds since the newest confirmed sample, whether they were watched or not."""
    gap: float
    """The usual seconds between two samples of this run."""
    trouble: Reason | None
    """Why the run's target gave nothing of late; None if it answers."""
    implausible_for: float | None
    """Seconds since its samples became implausible; None while they are not."""
    ended: bool
    """True when the run itself said that it is over."""
    watched_for: float = math.inf
    """Seconds for which it has been watched: a restarted sidecar has not waited any longer."""
    uncertainty: UsageUncertainty = NO_UNCERTAINTY
    """What is not known of the use."""
    overrides: Overrides = NO_OVERRIDES
    """What an operator has ordered, also what does not hold any more."""
    active: float | None = None
    """Seconds it was active. None: it does not say, or it is not needed."""
    active_when_shown: float | None = None
    """The same as of the newest sample."""
    unwatched_for: float = 0.0
    """Of ``silent_for``, the seconds that were not watched: they are not the run's silence."""
    lag: float = 0.0
    """Seconds by which the samples of this run arrive late, steadily."""
    also_started_at: tuple[float, ...] = ()
    """Start times of other runs of the same id that are counted together with it."""
    used_at_progress: Mapping[str, Number] = MappingProxyType({})
    """Per resource, what was used when the run reported its progress; absent is not known."""
    failing_for: float | None = None
    """Seconds since its samples cannot be taken in, as we fail at them; None while they can."""
    idle_for: float | None = None
    """Watched seconds in which nothing was heard of a run that is silent while it uses nothing,
    which is no silence. None of all others, and of one that has ended."""
    has_left: bool = False
    """True if its process has ended without a word: no more comes of it until another one does."""
    pace: CallPace = NO_PACE
    """How large its calls are, and how they grow. It goes on with the run: read it at once."""
    descendants: int = 0
    """How many known runs are below it, whose use is in ``used``."""


def snapshot_of(
    run: RunTotals,
    now: float,
    targets: Targets,
    absences: Absences,
    *,
    adds_restarts: bool,
    with_active: bool,
) -> RunSnapshot:
    """Return the snapshot of a run as of ``now``.

    adds_restarts: True if what the runs before it used counts, too. with_active: True if its active
    time is needed. Takes note of a run that is found to have vanished.
    """
    has_left = targets.has_left(run, now)
    totals = run.totals()
    used: dict[str, Number] = {semconv.DURATION: run.duration(now), **totals}
    at_progress = used_at_progress(run.attributes, totals, run.speakers)
    if adds_restarts and run.restarts.number:
        before = run.restarts
        used = {**before.used, **before.added_to(used)}
        at_progress = before.added_to(at_progress)
    rates = _rates(run, now) if run.rates else _NO_RATES
    since, watched_from, heard_at = run.implausible_since, run.watched_from, run.last_heard_at
    trouble = targets.trouble_of_run(run)
    attributes, idle_for = run.attributes, _idle_for(run, absences, now)
    if has_left:
        attributes = attributes._replace(state=semconv.VANISHED)
    elif idle_for is not None:
        if targets.has_gone_idle(run, idle_for, now):
            attributes = attributes._replace(state=semconv.VANISHED)
    elif run.shown_in != targets.readings or run.vanished_at is not None:
        if targets.has_vanished(run, trouble, now):
            attributes = attributes._replace(state=semconv.VANISHED)
        elif run.lost_target_at is not None:
            trouble = trouble or Reason.SOURCE_ERROR
    silent_for = max(0.0, now - heard_at)
    if has_left or idle_for is not None:
        silent_for = 0.0
    active, heard = run.active(now) if with_active else (None, None)
    return RunSnapshot(
        session_id=run.session_id,
        started_at=run.started_at,
        used=used,
        attributes=attributes,
        rates=rates,
        sampled_at=run.sampled_at,
        silent_for=silent_for,
        gap=run.gap(),
        trouble=trouble,
        implausible_for=(None if since is None else max(0.0, now - since - absences.since(since))),
        ended=run.ended_at is not None,
        watched_for=max(0.0, now - watched_from - absences.since(watched_from)),
        uncertainty=run.uncertainty,
        overrides=run.overrides,
        active=active,
        active_when_shown=heard,
        unwatched_for=absences.since(heard_at),
        lag=run.lag.seconds,
        also_started_at=run.also,
        used_at_progress=at_progress,
        failing_for=_failing_for(run, absences, now) if run.failing else None,
        idle_for=idle_for,
        has_left=has_left,
        pace=run.pace,
    )


def _rates(run: RunTotals, now: float) -> Mapping[str, float]:
    known = {resource: rate.per_second(now) for resource, rate in run.rates.items()}
    return {resource: rate for resource, rate in known.items() if rate is not None}


def _idle_for(run: RunTotals, absences: Absences, now: float) -> float | None:
    if not run.pushed or run.attributes.idle_after is None or run.ended_at is not None:
        return None
    silent = run.silent_for(now)
    return silent - absences.since(now - silent)


def _failing_for(run: RunTotals, absences: Absences, now: float) -> float:
    since = min(run.failing.values())
    return max(0.0, now - since - absences.since(since))
