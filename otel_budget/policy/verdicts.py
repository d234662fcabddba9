"""Verdicts: a run's own, from exact counts, and the sidecar's, from what the ledger knows.

Both come from ``run_status`` and ``decide``, so they cannot disagree about the same numbers.

What the sidecar does without good data, in this order:
0. An operator's stop holds whatever the data.
1. What is known to be exceeded stays exceeded and stopped, however old the data; and so do calls
   of unknown price or use that stop a run.
   So does what a budget that runs share decides for good, whatever is known of the run.
2. Good data decide by the table, own limits and budgets at once: the strictest wins.
3. Else the run is inconclusive: the action that its numbers gave at the last good sample is held,
   then ``on_no_data``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget import semconv
from otel_budget.core.limits import DEFAULT_THRESHOLD
from otel_budget.core.reasons import Action, Reason
from otel_budget.core.resources import RESOURCES
from otel_budget.core.uncertainty import NO_UNCERTAINTY, UsageUncertainty
from otel_budget.core.verdict import LimitStatus, Verdict, WouldBe
from otel_budget.policy.bounds import Bound, Bounds
from otel_budget.policy.budget_words import describe_past
from otel_budget.policy.budgets import NO_POOLS, Pools, least, worst
from otel_budget.policy.decision_table import (
    APPROACHING,
    EXCEEDED,
    FINAL,
    UNKNOWN,
    WITHIN,
    WRAPPING_UP,
    Decision,
    decide,
    decide_without_data,
    strictest,
)
from otel_budget.policy.families import NOTHING_ABOVE, STOPPED_ABOVE, Above
from otel_budget.policy.format import minutes
from otel_budget.policy.outdated import is_outgrown
from otel_budget.policy.outlook import Foretold
from otel_budget.policy.overrides import STOPPED, held_to, said
from otel_budget.policy.reserve import LastCalls, Reserved, least_remaining
from otel_budget.policy.run_limits import last_calls_of, limits_of
from otel_budget.policy.status import (
    RunStatus,
    headroom,
    named,
    run_status,
)
from otel_budget.policy.suggestion import Suggesting, workflow_of
from otel_budget.policy.unknown_usage import UNKNOWN_USAGE, UNPRICED, OnUnknown
from otel_budget.policy.verdict_message import message_of, not_judged

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from otel_budget.core.budget import Budget
    from otel_budget.core.observation import RunAttributes
    from otel_budget.core.override import Override, Overrides
    from otel_budget.core.quantities import Number
    from otel_budget.core.verdict import BudgetState, ResourceState
    from otel_budget.core.wrap_up import WrapUp
    from otel_budget.ledger.snapshot import RunSnapshot

#: Seconds. Below this a single late scrape would count as silence.
MIN_STALE_AFTER = 3.0
#: Of a run that keeps nothing back.
NO_ROOM: Final[Mapping[str, Number]] = MappingProxyType({})
#: To go on whatever is unknown.
IGNORED = OnUnknown()
#: What is decided by numbers where no more may be used, as far as is known.
_NOTHING_LEFT: Final = (EXCEEDED, UNKNOWN_USAGE, UNPRICED)
#: Hex digits of a decision's id.
_DIGITS = 16
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
    budgets: tuple[Budget, ...] = ()
    """Those that runs share, as configured."""
    suggesting: Suggesting | None = None
    """Between which bounds limits are suggested for each workflow; None: none are."""
    suggested: Mapping[str, Bounds] = field(default_factory=dict)
    """By workflow, ``ceilings`` with what is suggested for it, which is never looser."""
    shadow: bool = False
    """True if what the sidecar is configured with for every run is judged and not enforced:
    ceilings, completion threshold, and what unknown use stops. What an operator orders holds."""
    limits_from_outside: bool | frozenset[str] = False
    """True if an operator's limits may take the place of any run's own; or those workflows of whose
    runs they may. Others say so themselves."""
    text: str = field(default="", compare=False, repr=False)
    """The policy as it was configured, in JSON: what ``revision`` is the digest of."""

    def ceilings_for(self, attributes: RunAttributes) -> Bounds:
        """Return the ceilings of a run."""
        if not self.suggested:
            return self.ceilings
        return self.suggested.get(workflow_of(attributes), self.ceilings)

    def lets_outside(self, attributes: RunAttributes) -> bool:
        """Tell whether an operator's limits take the place of a run's own."""
        lets = self.limits_from_outside
        if isinstance(lets, frozenset):
            lets = bool(lets) and workflow_of(attributes) in lets
        return lets or attributes.limits_from_outside == 1

    def enforced_for(self, attributes: RunAttributes) -> Bounds:
        """Return those that hold: none in shadow."""
        return {} if self.shadow else self.ceilings_for(attributes)


def verdict_from_usage(
    session_id: str,
    used: Mapping[str, Number],
    bounds: Bounds,
    *,
    progress: float | None,
    completion_threshold: float,
    started_at: float | None = None,
    now: float,
    uncertainty: UsageUncertainty = NO_UNCERTAINTY,
    on_unknown: OnUnknown = IGNORED,
    last_calls: LastCalls | None = None,
    shared: Sequence[BudgetState] = (),
) -> Verdict:
    """Return a run's own verdict from its exact counts. now: Unix time.

    last_calls: what is kept back for them; None: nothing, and what they may use is not said.
    shared: budgets that they must fit in, too.
    """
    reserved = Reserved(bounds) if last_calls is None else last_calls.reserve(bounds)
    weighed = run_status(used, reserved.bounds, uncertainty)
    decision = decide(weighed.status, progress, completion_threshold)
    if reserved.is_reached(used):
        decision = strictest(decision, WRAPPING_UP)
    short = () if last_calls is None else last_calls.short(shared)
    if short:
        own, (decision, pooled) = decision, _by_budgets(decision, short)
        weighed = weighed._replace(status=worst((weighed.status, pooled)))
        short = short if own != decision or own == WRAPPING_UP else ()
    decision = _with_uncertainty(decision, uncertainty, bounds, on_unknown)
    about = _About(session_id, started_at, progress, completion_threshold, uncertainty, now)
    message = None
    if short:
        words = [describe_past(state, state.status) for state in short]
        message = message_of(weighed.resources, decision, progress, uncertainty, words)
    verdict = _verdict(
        about, weighed, decision, reserved.bounds, message=message, until=reserved.room(used)
    )
    if last_calls is None or verdict.should_continue:
        return verdict
    allowed = last_calls.allowance(decision, least_remaining(weighed.resources, shared))
    return replace(verdict, wrap_up=allowed, budgets=short)


def _by_budgets(decision: Decision, short: Collection[BudgetState]) -> tuple[Decision, LimitStatus]:
    """Return the decision where budgets have less left than the last calls need, and their status.

    decision: on the run's own limits.
    """
    status = worst(state.status for state in short)
    by_them = EXCEEDED if status is LimitStatus.EXCEEDED else WRAPPING_UP
    return strictest(decision, by_them), status


def verdict_from_snapshot(
    snapshot: RunSnapshot,
    rules: Rules,
    now: float,
    budgets: Pools = NO_POOLS,
    above: Above = NOTHING_ABOVE,
) -> Verdict:
    """Return the sidecar's verdict on a run.

    now: as in the balance, Unix time. budgets: those that it shares, as they stand now. above: what
    holds because of the runs that it is a descendant of.
    """
    verdict = _from_snapshot(snapshot, rules, now, budgets, above, shadow=False)
    if not (rules.shadow or budgets.would_matter(snapshot.uncertainty)):
        return verdict
    enforced = budgets.enforced
    other = _from_snapshot(snapshot, rules, now, enforced, above, shadow=True)
    return with_would(verdict, other)


def with_would(verdict: Verdict, other: Verdict) -> Verdict:
    """Return a verdict with what would hold otherwise, if that is anything else.

    other: the verdict if all that is in shadow were enforced.
    """
    would = WouldBe(
        other.action, other.status, str(other.reason), other.limit_from, other.message
    )  # fmt: skip
    if not would.differs_from(verdict):
        return verdict
    decided = "\x1f".join((verdict.decision_id, *map(str, would[:4])))
    digits = hashlib.sha256(decided.encode()).hexdigest()[:_DIGITS]
    return replace(verdict, would=would, decision_id=digits)


def _from_snapshot(
    snapshot: RunSnapshot,
    rules: Rules,
    now: float,
    budgets: Pools,
    above: Above,
    *,
    shadow: bool,
) -> Verdict:
    """Return the verdict by what holds. shadow: True for that by what is in shadow, too."""
    attributes, overrides = snapshot.attributes, snapshot.overrides.holding(now)
    bound_by = bounds_of_run(attributes, rules, overrides.limits, shadow=shadow)
    limits = limits_of(snapshot, bound_by, budgets)
    bounds, used = limits.bounds, limits.used
    weighed = run_status(used, bounds, snapshot.uncertainty)
    is_left_out = rules.shadow and not shadow
    completion_threshold = _completion_threshold(attributes, None if is_left_out else rules)
    known = decide(weighed.status, attributes.progress, completion_threshold)
    progress = attributes.progress
    if known == APPROACHING and is_outgrown(snapshot.used_at_progress, used, bounds):
        progress, known = None, UNKNOWN
    if limits.decision is not WITHIN:
        known = strictest(known, limits.decision)
    pool, status = WITHIN, weighed.status
    on_unknown = IGNORED if is_left_out else rules.on_unknown
    if budgets:
        pool = budgets.decide(attributes.progress, completion_threshold)
        if strictest(known, pool) != known:
            known, progress = pool, attributes.progress
        status = worst((status, budgets.status, limits.of_budgets))
    decision = _with_uncertainty(known, snapshot.uncertainty, budgets.limiting(bounds), on_unknown)
    trouble = None if decision[1].is_final else _trouble(snapshot, rules)
    if trouble is not None:
        then = run_status(_used_at_last_sample(snapshot), bounds)
        held = strictest(decide(then.status, progress, completion_threshold), pool)
        decision = decide_without_data(held, *trouble, rules.hold, rules.on_no_data)
        status = LimitStatus.INCONCLUSIVE
    if status is not weighed.status:
        weighed = RunStatus(status, weighed.resources)
    may_wrap_up = _may_wrap_up(decision, above, overrides.stop)
    decision, message = _overruled(decision, above, overrides.stop)
    about = _about(snapshot, rules, progress, completion_threshold, now, overrides=overrides)
    if may_wrap_up and decision[0] is Action.STOP:
        about = about._replace(wrap_up=last_calls_of(decision, snapshot, weighed, budgets, above))
    foretold = bounds and not shadow and not _is_over(snapshot)
    told = Foretold(weighed.resources, snapshot, now) if foretold else None
    return _verdict(
        about, weighed, decision, bounds, message=message, told=told, budgets=budgets, above=above,
        until=limits.room, short=limits.short,
    )  # fmt: skip


def _may_wrap_up(by_numbers: Decision, above: Above, stop: Override | None) -> bool:
    """Tell whether a run may make last calls if it is stopped. by_numbers: what its data say."""
    at_once = stop is not None and stop.now
    return by_numbers not in _NOTHING_LEFT and above.stopped_by is None and not at_once


def bounds_of_run(
    attributes: RunAttributes, rules: Rules, order: Override | None, *, shadow: bool = False
) -> Bounds:
    """Return what a run is held to. order: an operator's limits. shadow: what is in it, too."""
    configured = rules.ceilings_for(attributes) if shadow else rules.enforced_for(attributes)
    return held_to(
        attributes, configured, rules.thresholds, order, from_outside=rules.lets_outside(attributes)
    )


def _replaced(snapshot: RunSnapshot, rules: Rules, order: Override | None) -> tuple[str, ...]:
    """Return the resources of which an operator's limits take the place of the run's own."""
    if order is None or not rules.lets_outside(snapshot.attributes):
        return ()
    return tuple(name for name in RESOURCES if name in order.limits)


def verdict_on_failure(
    session_id: str,
    started_at: float | None,
    *,
    before: Verdict | None,
    overrides: Overrides,
    failing_for: float,
    rules: Rules,
    now: float,
    above: Above = NOTHING_ABOVE,
) -> Verdict:
    """Return the verdict on a run at which the sidecar fails: it needs nothing of it but its name.

    That of before is held, then ``on_no_data`` applies; what is final stays.

    before: the last one on it. overrides: those that hold. failing_for: seconds. now: Unix time.
    above: as for any other verdict.
    """
    stop, limits = overrides.stop, overrides.limits
    if before is None:
        before = Verdict(
            session_id=session_id, action=UNKNOWN[0], status=LimitStatus.INCONCLUSIVE,
            reason=Reason.INTERNAL_ERROR, message="", resources={}, evaluated_at=now,
            started_at=started_at,
            completion_threshold=rules.completion_threshold or DEFAULT_THRESHOLD,
        )  # fmt: skip
    action, status, reason, message = before.action, before.status, before.reason, before.message
    at_once = stop is not None and stop.now
    if stop is not None:
        (action, reason), message = STOPPED, said(stop)
    elif above.stopped_by is not None and (action, reason) not in FINAL:
        (action, reason), message = STOPPED_ABOVE, above.said
    elif (action, reason) not in FINAL:
        held = action, Reason.INTERNAL_ERROR
        action, reason = decide_without_data(
            held, held[1], failing_for, rules.hold, rules.on_no_data
        )
        status = LimitStatus.INCONCLUSIVE
        message = (
            f"the sidecar failed to judge this run (see its log): {action} for lack of good data"
        )
    ordered = () if limits is None else limits.limits
    replaced = tuple(name for name in before.own_limits_replaced if name in ordered)
    parts = session_id, action, reason, status, rules.revision, repr(started_at), *replaced
    decided = "\x1f".join(parts)
    return replace(
        before, action=action, status=status, reason=str(reason), message=message,
        evaluated_at=now, lease_seconds=rules.lease, policy_revision=rules.revision, sequence=None,
        would=None, stopped_by=above.stopped_by if reason == Reason.PARENT_STOPPED else None,
        ordered_at=None if stop is None else stop.at,
        wrap_up=before.wrap_up if reason == before.reason and not at_once else None,
        own_limits_replaced=replaced,
        decision_id=hashlib.sha256(decided.encode()).hexdigest()[:_DIGITS],
    )  # fmt: skip


def stale_after(snapshot: RunSnapshot, rules: Rules) -> float:
    """Return the age of a run's newest sample from which its data are stale, in seconds."""
    if rules.stale_after is not None:
        return rules.stale_after
    return snapshot.lag + max(MIN_STALE_AFTER, STALE_FACTOR * snapshot.gap)


def _with_uncertainty(
    decision: Decision,
    uncertainty: UsageUncertainty,
    limited: Collection[str],
    on_unknown: OnUnknown,
) -> Decision:
    """Return the decision on what is known, or the stop for what is not. limited: resources."""
    if decision == EXCEEDED:
        return decision
    return on_unknown.stopped_by(uncertainty, limited) or decision


def _completion_threshold(attributes: RunAttributes, rules: Rules | None) -> float:
    """Return the stricter of the run's own and the sidecar's. rules: None in shadow."""
    own = attributes.completion_threshold
    sidecars = None if rules is None else rules.completion_threshold
    own = DEFAULT_THRESHOLD if own is None else own
    return own if sidecars is None else max(own, sidecars)


def _trouble(snapshot: RunSnapshot, rules: Rules) -> tuple[Reason, float] | None:
    """Return why a run is inconclusive, and for how many seconds while it was watched.

    None if it is not. A sidecar that was down knows old data for old at once, but begins to hold
    only then: what it missed may still come.
    """
    if snapshot.failing_for is not None:
        return Reason.INTERNAL_ERROR, min(snapshot.failing_for, snapshot.watched_for)
    if snapshot.implausible_for is not None:
        return Reason.IMPLAUSIBLE_DATA, min(snapshot.implausible_for, snapshot.watched_for)
    if snapshot.ended:
        return None  # its last sample was its last word
    overdue = snapshot.silent_for - snapshot.unwatched_for - stale_after(snapshot, rules)
    if overdue <= 0:
        return None
    return snapshot.trouble or Reason.STALE_DATA, min(overdue, snapshot.watched_for)


def _used_at_last_sample(snapshot: RunSnapshot) -> dict[str, Number]:
    """Return what was used as of the last good sample: the duration went on since."""
    used = dict(snapshot.used)
    age = max(snapshot.silent_for, snapshot.implausible_for or 0.0)
    if semconv.DURATION in used and not snapshot.ended:
        used[semconv.DURATION] = max(0.0, float(used[semconv.DURATION]) - age)
    if snapshot.active_when_shown is not None:
        used[semconv.ACTIVE_DURATION] = snapshot.active_when_shown
    elif semconv.DURATION in used:
        used[semconv.ACTIVE_DURATION] = used[semconv.DURATION]
    return used


def _is_over(snapshot: RunSnapshot) -> bool:
    """Tell whether a run spends nothing any more, as far as is known."""
    return snapshot.ended or snapshot.attributes.state == semconv.VANISHED


def _overruled(
    decision: Decision, above: Above, stop: Override | None
) -> tuple[Decision, str | None]:
    """Return what holds in place of a decision on a run's own data, and the words for it.

    stop: an operator's. A run that is stopped for good by its own numbers is stopped by them.
    """
    if stop is not None:
        return STOPPED, said(stop)
    if above.stopped_by is not None and not decision[1].is_final:
        return STOPPED_ABOVE, above.said
    return decision, None


class _About(NamedTuple):
    """What a verdict says besides the resources and the decision; its fields are the verdict's."""

    session_id: str
    started_at: float | None
    progress: float | None
    completion_threshold: float
    uncertainty: UsageUncertainty
    now: float
    data_at: float | None = None
    run_state: str | None = None
    lease: float | None = None
    revision: str = ""
    also_started_at: tuple[float, ...] = ()
    gone: str = ""
    stopped_by: str | None = None
    waiting_since: float | None = None
    ordered_at: float | None = None
    wrap_up: WrapUp | None = None
    replaced: tuple[str, ...] = ()


def _about(
    snapshot: RunSnapshot,
    rules: Rules,
    progress: float | None,
    completion_threshold: float,
    now: float,
    *,
    overrides: Overrides,
) -> _About:
    stop = overrides.stop
    return _About(
        snapshot.session_id, snapshot.started_at, progress, completion_threshold,
        snapshot.uncertainty, now, snapshot.sampled_at, snapshot.attributes.state, rules.lease,
        rules.revision, snapshot.also_started_at, _gone(snapshot) + _together(snapshot),
        waiting_since=_waiting_since(snapshot.attributes),
        ordered_at=None if stop is None else stop.at,
        replaced=_replaced(snapshot, rules, overrides.limits),
    )  # fmt: skip


def _waiting_since(attributes: RunAttributes) -> float | None:
    return attributes.waiting_since if attributes.state == semconv.WAITING else None


def _gone(snapshot: RunSnapshot) -> str:
    """Say why a run is taken to be gone that is not waited for; empty of others."""
    if snapshot.has_left:
        return "; its process has ended"
    if snapshot.idle_for is None or snapshot.attributes.state != semconv.VANISHED:
        return ""
    return f"; nothing was heard of it for {minutes(snapshot.attributes.idle_after or 0.0)}"


def _together(snapshot: RunSnapshot) -> str:
    """Say that what is judged was not used by a run alone; empty of one without descendants."""
    number = snapshot.descendants
    if not number:
        return ""
    return f"; with the use of {number} {'descendant' if number == 1 else 'descendants'}"


def _verdict(
    about: _About,
    weighed: RunStatus,
    decision: Decision,
    bounds: Bounds,
    *,
    message: str | None = None,
    told: Mapping[str, ResourceState] | None = None,
    budgets: Pools = NO_POOLS,
    above: Above = NOTHING_ABOVE,
    until: Mapping[str, Number] = NO_ROOM,
    short: frozenset[str] = frozenset(),
) -> Verdict:
    """Put a verdict together.

    message: in place of the one that follows from the numbers. told: the resources with what is
    forecast of them. until: per resource, how much more may be used until the last calls begin.
    short: origins of budgets of which less is left than is kept back for them.
    """
    status, resources = weighed
    action, reason = decision
    if decision == STOPPED_ABOVE:
        about = about._replace(stopped_by=above.stopped_by)
    shared: tuple[BudgetState, ...] = ()
    if budgets:
        shared = budgets.bound_by(decision, about.progress, about.completion_threshold, short)
    unjudged = _unjudged(bounds, resources)
    return Verdict(
        session_id=about.session_id,
        action=action,
        status=status,
        reason=reason,
        message=message
        or message_of(
            resources, decision, about.progress, about.uncertainty, budgets.said_of(shared)
        )
        + not_judged(unjudged)
        + about.gone,
        resources=resources if told is None else told,
        evaluated_at=about.now,
        started_at=about.started_at,
        data_at=about.data_at,
        progress=about.progress,
        headroom=least(_least_room(weighed, bounds, budgets, above), until),
        lease_seconds=about.lease,
        decision_id=_decision_id(about, weighed, decision, bounds, budgets),
        policy_revision=about.revision,
        budgets=shared,
        completion_threshold=about.completion_threshold,
        run_state=about.run_state,
        unjudged=unjudged,
        also_started_at=about.also_started_at,
        stopped_by=about.stopped_by,
        waiting_since=about.waiting_since,
        ordered_at=about.ordered_at,
        wrap_up=about.wrap_up,
        own_limits_replaced=about.replaced,
    )


def _unjudged(bounds: Bounds, resources: Mapping[str, ResourceState]) -> tuple[str, ...]:
    if bounds.keys() <= resources.keys():  # nearly always
        return ()
    return tuple(name for name in RESOURCES if name in bounds and name not in resources)


def _least_room(
    weighed: RunStatus, bounds: Bounds, budgets: Pools, above: Above
) -> dict[str, Number]:
    """Return per resource how much more may be used before the status could change.

    The least over all that limits it; what one of them has used up has no next status.
    """
    room = headroom(weighed.resources, bounds)
    room = least(least(room, budgets.headroom), above.headroom)
    if weighed.status is LimitStatus.EXCEEDED or above.used_up:
        own = named(weighed.resources, LimitStatus.EXCEEDED)
        for name in (*own, *budgets.used_up, *above.used_up):
            room.pop(name, None)
    return room


def _decision_id(
    about: _About,
    weighed: RunStatus,
    decision: Decision,
    bounds: Bounds,
    budgets: Pools,
) -> str:
    """Return 16 hex digits that follow from what was decided and from what."""
    status, resources = weighed
    parts = [about.session_id, decision[0], status, decision[1],
             about.revision, repr(about.started_at), repr(about.progress),
             repr(about.completion_threshold)]  # fmt: skip
    if about.stopped_by is not None:
        parts.append(f"stopped by {about.stopped_by}")
    if about.waiting_since is not None:
        parts.append(f"waiting since {about.waiting_since!r}")
    if about.ordered_at is not None:
        parts.append(f"ordered at {about.ordered_at!r}")
    if about.wrap_up is not None:
        parts.append(f"may wrap up with {about.wrap_up!r}")
    if about.replaced:
        parts.append(f"in place of its own: {about.replaced!r}")
    if about.also_started_at:
        parts.append(f"also {about.also_started_at!r}")
    for name in RESOURCES:
        state = resources.get(name)
        if state is not None:
            limited = bounds.get(name)
            roughly = " about" if state.estimated else ""
            of = "None" if limited is None else _text(limited)
            parts.append(f"{name}={state.used!r} {state.at_least}{roughly} of {of}")
    if budgets:
        parts.append(budgets.digest)
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:_DIGITS]


@lru_cache(maxsize=4096)
def _text(limited: Bound) -> str:
    return repr(limited)
