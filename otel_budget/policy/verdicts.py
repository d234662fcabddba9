"""Verdicts: a run's own, from exact counts, and the sidecar's, from what the ledger knows.

Both come out of ``weigh`` and ``decide``, so they cannot disagree about the same numbers.

What the sidecar does without good data, in this order:
0. An operator's stop holds whatever the data.
1. What is known to be exceeded stays exceeded and stopped, however old the data; and so do calls
   of unknown price or use that stop a run.
2. Good data decide by the table.
3. Else the run is inconclusive: the action that its numbers gave at the last good sample is held,
   then ``on_no_data``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from otel_budget import semconv
from otel_budget.core.limits import DEFAULT_THRESHOLD
from otel_budget.core.uncertainty import NO_DOUBT, UsageUncertainty
from otel_budget.core.verdict import Action, LimitStatus, Reason, Verdict
from otel_budget.policy.decision_table import (
    APPROACHING,
    EXCEEDED,
    UNKNOWN,
    Decision,
    decide,
    decide_without_data,
)
from otel_budget.policy.format import percent
from otel_budget.policy.outdated import is_outgrown
from otel_budget.policy.overrides import STOPPED, ceilings, said
from otel_budget.policy.status import (
    Bound,
    Bounds,
    Weighed,
    bounds_from,
    describe,
    headroom,
    in_doubt,
    named,
    stricter,
    weigh,
)
from otel_budget.policy.unknown_usage import UNKNOWN_USAGE, UNPRICED, OnUnknown, advice

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_budget.core.observation import RunAttributes
    from otel_budget.core.usage import Number
    from otel_budget.core.verdict import ResourceState
    from otel_budget.ledger.snapshot import RunSnapshot

#: Seconds. Below this a single late scrape would count as silence.
MIN_STALE_AFTER = 3.0
#: To go on whatever is unknown.
IGNORED = OnUnknown()
#: Decisions that no missing data can change.
_FINAL = (EXCEEDED, UNKNOWN_USAGE, UNPRICED)
#: ``stale_after: auto`` is so many times the usual spacing of a run's samples.
STALE_FACTOR = 3.0


@dataclass(frozen=True, slots=True)
class Rules:
    """How the sidecar judges: its ceilings, and what it does without data. Seconds throughout."""

    ceilings: Bounds = field(default_factory=dict)
    """Limits for every run on top of its own; absent is no ceiling."""
    thresholds: Mapping[str, float] = field(default_factory=dict)
    """Those the ceilings were made with; absent is the default."""
    completion_threshold: float | None = None
    """The sidecar's own; the higher of it and the run's counts. None: the run's alone."""
    lease: float = 15.0
    stale_after: float | None = None
    """None is auto: three times the usual spacing of the samples, at least 3 s, and what they are
    late by, steadily."""
    hold: float = 300.0
    on_no_data: Action = Action.STOP
    on_unknown: OnUnknown = IGNORED
    adds_restarts: bool = False
    """True if limits hold for all runs together that follow each other and do not complete."""
    revision: str = ""
    """Names this set of rules in every verdict."""


def judge_session(
    session_id: str,
    used: Mapping[str, Number],
    bounds: Bounds,
    *,
    progress: float | None,
    completion_threshold: float,
    started_at: float | None = None,
    now: float,
    doubt: UsageUncertainty = NO_DOUBT,
    on_unknown: OnUnknown = IGNORED,
) -> Verdict:
    """Return a run's own verdict from its exact counts. now: Unix time. doubt: see ``weigh``."""
    weighed = weigh(used, bounds, doubt)
    decision = decide(weighed.status, progress, completion_threshold)
    decision = _with_doubt(decision, doubt, bounds, on_unknown)
    about = _About(session_id, started_at, progress, completion_threshold, doubt, now)
    return _verdict(about, weighed, decision, bounds)


def judge_snapshot(balance: RunSnapshot, rules: Rules, now: float) -> Verdict:
    """Return the sidecar's verdict on a run. now: as in the balance, Unix time."""
    facts, orders = balance.facts, balance.orders.holding(now)
    own = bounds_from(facts.limits, facts.thresholds, "session")
    bounds = stricter(own, ceilings(rules.ceilings, rules.thresholds, orders.limits))
    used = balance.used
    rates = {} if balance.ended else balance.rates  # a run that is over spends nothing any more
    if semconv.ACTIVE_DURATION in bounds:
        used, rates = _with_active(balance, rates)
    weighed = weigh(used, bounds, balance.doubt, rates)
    completion_threshold = _completion_threshold(facts, rules)
    known = decide(weighed.status, facts.progress, completion_threshold)
    progress = facts.progress
    if known == APPROACHING and is_outgrown(balance.used_at_progress, used, bounds):
        progress, known = None, UNKNOWN
    decision = _with_doubt(known, balance.doubt, bounds, rules.on_unknown)
    trouble = None if decision in _FINAL else _trouble(balance, rules)
    if trouble is not None:
        reason, since = trouble
        then = weigh(_used_when_last_heard(balance), bounds)
        held = decide(then.status, progress, completion_threshold)
        decision = decide_without_data(held, reason, since, rules.hold, rules.on_no_data)
        weighed = Weighed(LimitStatus.INCONCLUSIVE, weighed.resources)
    message = None
    if orders.stop is not None:
        decision, message = STOPPED, said(orders.stop)
    about = _About(
        balance.session_id, balance.started_at, progress, completion_threshold,
        balance.doubt, now, balance.sampled_at, facts.state, rules.lease, rules.revision,
        balance.also_started_at,
    )  # fmt: skip
    return _verdict(about, weighed, decision, bounds, message)


def stale_after(balance: RunSnapshot, rules: Rules) -> float:
    """Return the age of a run's newest sample from which its data are stale, in seconds."""
    if rules.stale_after is not None:
        return rules.stale_after
    return balance.lag + max(MIN_STALE_AFTER, STALE_FACTOR * balance.gap)


def _with_active(
    balance: RunSnapshot, rates: Mapping[str, float]
) -> tuple[Mapping[str, Number], Mapping[str, float]]:
    """Return use and rates with the active time.

    Of a run that does not say how long it was active no pause is known: it is its duration.
    """
    name, active = semconv.ACTIVE_DURATION, balance.active
    if active is None:
        if semconv.DURATION not in balance.used:
            return balance.used, rates
        active = float(balance.used[semconv.DURATION])
    going_on = not balance.ended and balance.facts.state in ("running", None)
    return {**balance.used, name: active}, {**rates, name: 1.0} if going_on else rates


def _with_doubt(
    decision: Decision, doubt: UsageUncertainty, bounds: Bounds, on_unknown: OnUnknown
) -> Decision:
    """Return the decision on what is known, or the stop for what is not."""
    if decision == EXCEEDED:
        return decision
    return on_unknown.stopped_by(doubt, bounds) or decision


def _completion_threshold(facts: RunAttributes, rules: Rules) -> float:
    own = facts.completion_threshold
    own = DEFAULT_THRESHOLD if own is None else own
    return own if rules.completion_threshold is None else max(own, rules.completion_threshold)


def _trouble(balance: RunSnapshot, rules: Rules) -> tuple[Reason, float] | None:
    """Return why a run is inconclusive, and for how many seconds while somebody listened.

    None if it is not. A sidecar that was down knows old data for old at once, but begins to hold
    only then: what it missed may still come.
    """
    if balance.failing_for is not None:
        return Reason.INTERNAL_ERROR, min(balance.failing_for, balance.listened_for)
    if balance.implausible_for is not None:
        return Reason.IMPLAUSIBLE_DATA, min(balance.implausible_for, balance.listened_for)
    if balance.ended:
        return None  # its last sample was its last word
    overdue = balance.silent_for - balance.unheard_for - stale_after(balance, rules)
    if overdue <= 0:
        return None
    return balance.trouble or Reason.STALE_DATA, min(overdue, balance.listened_for)


def _used_when_last_heard(balance: RunSnapshot) -> dict[str, Number]:
    """Return what was used as of the last good sample: the duration went on since."""
    used = dict(balance.used)
    age = max(balance.silent_for, balance.implausible_for or 0.0)
    if semconv.DURATION in used and not balance.ended:
        used[semconv.DURATION] = max(0.0, float(used[semconv.DURATION]) - age)
    if balance.active_when_heard is not None:
        used[semconv.ACTIVE_DURATION] = balance.active_when_heard
    elif semconv.DURATION in used:
        used[semconv.ACTIVE_DURATION] = used[semconv.DURATION]
    return used


class _About(NamedTuple):
    """What a verdict says besides the resources and the decision; its fields are the verdict's."""

    session_id: str
    started_at: float | None
    progress: float | None
    completion_threshold: float
    doubt: UsageUncertainty
    now: float
    data_at: float | None = None
    run_state: str | None = None
    lease: float | None = None
    revision: str = ""
    also_started_at: tuple[float, ...] = ()


def _verdict(
    about: _About,
    weighed: Weighed,
    decision: Decision,
    bounds: Bounds,
    message: str | None = None,
) -> Verdict:
    """Put a verdict together. message: in place of the one that follows from the numbers."""
    status, resources = weighed
    action, reason = decision
    known = bounds.keys() <= resources.keys()  # nearly always
    unjudged = (
        ()
        if known
        else tuple(name for name in semconv.RESOURCES if name in bounds and name not in resources)
    )
    return Verdict(
        session_id=about.session_id,
        action=action,
        status=status,
        reason=reason,
        message=message or _message(resources, decision, about) + _not_judged(unjudged),
        resources=resources,
        evaluated_at=about.now,
        started_at=about.started_at,
        data_at=about.data_at,
        progress=about.progress,
        headroom=headroom(resources, bounds),
        lease_seconds=about.lease,
        decision_id=_digits(about, weighed, decision, bounds),
        policy_revision=about.revision,
        completion_threshold=about.completion_threshold,
        run_state=about.run_state,
        unjudged=unjudged,
        also_started_at=about.also_started_at,
    )


def _not_judged(unjudged: tuple[str, ...]) -> str:
    """Say which limits hold for nothing that is known."""
    return f"; not judged, for nothing exports them: {', '.join(unjudged)}" if unjudged else ""


_ADVICE = {
    Reason.WITHIN_LIMITS: "continue",
    Reason.FINISHING: "nearly done, finish",
    Reason.APPROACHING_LIMIT: "stop and keep partial results",
    Reason.APPROACHING_LIMIT_PROGRESS_UNKNOWN: "continue, progress unknown",
    Reason.LIMIT_EXCEEDED: "stop",
}


def _message(resources: Mapping[str, ResourceState], decision: Decision, about: _About) -> str:
    action, reason = decision
    names = _worth_saying(resources)
    numbers = ", ".join(describe(name, resources[name]) for name in names)
    with_progress = "" if about.progress is None else f" with progress {percent(about.progress)}"
    words = _ADVICE.get(reason, f"{action} for want of good data ({reason})")
    if decision in (UNKNOWN_USAGE, UNPRICED):
        words = advice(decision, about.doubt)
    return f"{numbers or 'nothing limited'}{with_progress}: {words}"


def _worth_saying(resources: Mapping[str, ResourceState]) -> tuple[str, ...]:
    """Return the resources past a line, or the one nearest to it, and those in doubt."""
    for state in resources.values():
        if state.status is not LimitStatus.OK or state.at_least or state.estimated:
            break
    else:
        return _nearest(resources)  # as it is with most runs at most ticks
    names = named(resources, LimitStatus.EXCEEDED) + named(resources, LimitStatus.APPROACHING)
    names = names or _nearest(resources)
    return names + tuple(name for name in in_doubt(resources) if name not in names)


def _nearest(resources: Mapping[str, ResourceState]) -> tuple[str, ...]:
    limited = [(s.ratio, name) for name, s in resources.items() if s.ratio is not None]
    return (max(limited, key=itemgetter(0))[1],) if limited else ()


def _digits(
    about: _About,
    weighed: Weighed,
    decision: Decision,
    bounds: Bounds,
) -> str:
    """Return 16 hex digits that follow from what was decided and from what."""
    status, resources = weighed
    parts = [about.session_id, decision[0], status, decision[1],
             about.revision, repr(about.started_at), repr(about.progress),
             repr(about.completion_threshold)]  # fmt: skip
    if about.also_started_at:
        parts.append(f"also {about.also_started_at!r}")
    for name in semconv.RESOURCES:
        state, limited = resources.get(name), bounds.get(name)
        if state is not None:
            roughly = " about" if state.estimated else ""
            parts.append(f"{name}={state.used!r} {state.at_least}{roughly} of {_text(limited)}")
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]


@lru_cache(maxsize=4096)
def _text(limited: Bound | None) -> str:
    return repr(limited)
