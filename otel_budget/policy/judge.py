"""Verdicts: a run's own, from exact counts, and the sidecar's, from what the ledger knows.

Both come out of ``check`` and ``decide``, so they cannot disagree about the same numbers.

What the sidecar does without good data, in this order:
0. An operator's stop holds whatever the data.
1. What is known to be exceeded stays exceeded and stopped, however old the data; and so do calls
   of unknown price or use that stop a run.
2. Good data decide by the table.
3. Else the run is inconclusive: the action that its numbers gave at the last good sample is held,
   then ``on_no_data``.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from otel_budget import semconv
from otel_budget.model.doubt import NO_DOUBT, Doubt
from otel_budget.model.limits import DEFAULT_THRESHOLD
from otel_budget.model.verdict import Action, LimitStatus, Reason, Verdict
from otel_budget.policy.decide import EXCEEDED, Decision, decide, decide_without_data
from otel_budget.policy.evaluate import (
    Bounds,
    bounds_from,
    check,
    describe,
    headroom,
    in_doubt,
    stricter,
)
from otel_budget.policy.forecast import exhaustion_seconds
from otel_budget.policy.ordered import STOPPED, ceilings, said
from otel_budget.policy.unknown import UNKNOWN_USAGE, UNPRICED, OnUnknown, advice
from otel_budget.policy.words import percent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_budget.ledger.ledger import Balance
    from otel_budget.model.reading import SessionFacts
    from otel_budget.model.usage import Number
    from otel_budget.model.verdict import LimitCheckResult, ResourceState

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
    """None is auto: three times the usual spacing of the samples, at least 3 s."""
    hold: float = 300.0
    on_no_data: Action = Action.STOP
    on_unknown: OnUnknown = IGNORED
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
    doubt: Doubt = NO_DOUBT,
    on_unknown: OnUnknown = IGNORED,
) -> Verdict:
    """Return a run's own verdict from its exact counts. now: Unix time. doubt: see ``check``."""
    result = check(used, bounds, doubt)
    decision = decide(result.status, progress, completion_threshold)
    decision = _with_doubt(decision, doubt, bounds, on_unknown)
    verdict = _verdict(
        session_id, result, decision, bounds, progress=progress, doubt=doubt, now=now
    )
    verdict = dataclasses.replace(
        verdict, started_at=started_at, completion_threshold=completion_threshold
    )
    return _identified(verdict, bounds)


def judge_balance(balance: Balance, rules: Rules, now: float) -> Verdict:
    """Return the sidecar's verdict on a run. now: as in the balance, Unix time."""
    facts, orders = balance.facts, balance.orders.holding(now)
    own = bounds_from(facts.limits, facts.thresholds, "session")
    bounds = stricter(own, ceilings(rules.ceilings, rules.thresholds, orders.limits))
    result = check(balance.used, bounds, balance.doubt)
    completion_threshold = _completion_threshold(facts, rules)
    known = decide(result.status, facts.progress, completion_threshold)
    decision = _with_doubt(known, balance.doubt, bounds, rules.on_unknown)
    trouble = None if decision in _FINAL else _trouble(balance, rules)
    if trouble is not None:
        reason, since = trouble
        then = check(_used_when_last_heard(balance), bounds)
        held = decide(then.status, facts.progress, completion_threshold)
        decision = decide_without_data(held, reason, since, rules.hold, rules.on_no_data)
        result = dataclasses.replace(result, status=LimitStatus.INCONCLUSIVE)
    if orders.stop is not None:
        decision = STOPPED
    verdict = _verdict(
        balance.session_id, result, decision, bounds,
        progress=facts.progress, doubt=balance.doubt, now=now,
    )  # fmt: skip
    rates = {} if balance.ended else balance.rates  # a run that is over spends nothing any more
    resources = {
        name: dataclasses.replace(
            state, exhaustion_seconds=exhaustion_seconds(state.remaining, rates.get(name))
        )
        for name, state in verdict.resources.items()
    }
    verdict = dataclasses.replace(
        verdict,
        resources=resources,
        started_at=balance.started_at,
        data_at=balance.sampled_at,
        lease_seconds=rules.lease,
        policy_revision=rules.revision,
        completion_threshold=completion_threshold,
        run_state=facts.state,
        message=verdict.message if orders.stop is None else said(orders.stop),
    )
    return _identified(verdict, bounds)


def stale_after(balance: Balance, rules: Rules) -> float:
    """Return the seconds of silence from which a run's data are stale."""
    if rules.stale_after is not None:
        return rules.stale_after
    return max(MIN_STALE_AFTER, STALE_FACTOR * balance.gap)


def redecide(verdict: Verdict, progress: float | None, completion_threshold: float) -> bool:
    """Tell whether a run may go on under a sidecar's verdict, at the progress it reports now.

    The sidecar decides a graceful stop with the progress it last saw. The run may be further by
    now, and may then finish: the same table, with the newer number and the stricter of the two
    completion thresholds. No other stop gives way, and none to an unknown progress.
    """
    if verdict.action is Action.CONTINUE:
        return True
    if verdict.reason != Reason.APPROACHING_LIMIT or verdict.status is not LimitStatus.APPROACHING:
        return False
    if progress is None:
        return False
    if verdict.completion_threshold is not None:
        completion_threshold = max(completion_threshold, verdict.completion_threshold)
    return decide(verdict.status, progress, completion_threshold)[0] is Action.CONTINUE


def _with_doubt(
    decision: Decision, doubt: Doubt, bounds: Bounds, on_unknown: OnUnknown
) -> Decision:
    """Return the decision on what is known, or the stop for what is not."""
    if decision == EXCEEDED:
        return decision
    return on_unknown.stopped_by(doubt, bounds) or decision


def _completion_threshold(facts: SessionFacts, rules: Rules) -> float:
    own = facts.completion_threshold
    own = DEFAULT_THRESHOLD if own is None else own
    return own if rules.completion_threshold is None else max(own, rules.completion_threshold)


def _trouble(balance: Balance, rules: Rules) -> tuple[Reason, float] | None:
    """Return why a run is inconclusive, and for how many seconds while somebody listened.

    None if it is not. A sidecar that was down knows old data for old at once, but begins to hold
    only then: what it missed may still come.
    """
    if balance.implausible_for is not None:
        return Reason.IMPLAUSIBLE_DATA, min(balance.implausible_for, balance.listened_for)
    if balance.ended:
        return None  # its last sample was its last word
    overdue = balance.silent_for - stale_after(balance, rules)
    if overdue <= 0:
        return None
    return balance.trouble or Reason.STALE_DATA, min(overdue, balance.listened_for)


def _used_when_last_heard(balance: Balance) -> dict[str, Number]:
    """Return what was used as of the last good sample: the duration went on since."""
    used = dict(balance.used)
    age = max(balance.silent_for, balance.implausible_for or 0.0)
    if semconv.DURATION in used and not balance.ended:
        used[semconv.DURATION] = max(0.0, float(used[semconv.DURATION]) - age)
    return used


def _verdict(
    session_id: str,
    result: LimitCheckResult,
    decision: Decision,
    bounds: Bounds,
    *,
    progress: float | None,
    doubt: Doubt,
    now: float,
) -> Verdict:
    action, reason = decision
    return Verdict(
        session_id=session_id,
        action=action,
        status=result.status,
        reason=reason,
        message=_message(result, decision, progress, doubt),
        resources=result.resources,
        evaluated_at=now,
        progress=progress,
        headroom=headroom(result.resources, bounds),
    )


_ADVICE = {
    Reason.WITHIN_LIMITS: "continue",
    Reason.FINISHING: "nearly done, finish",
    Reason.APPROACHING_LIMIT: "stop and keep partial results",
    Reason.APPROACHING_LIMIT_PROGRESS_UNKNOWN: "continue, progress unknown",
    Reason.LIMIT_EXCEEDED: "stop",
}


def _message(
    result: LimitCheckResult, decision: Decision, progress: float | None, doubt: Doubt
) -> str:
    action, reason = decision
    named = result.exceeded + result.approaching
    if not named:
        named = _nearest(result.resources)
    named += tuple(name for name in in_doubt(result.resources) if name not in named)
    numbers = ", ".join(describe(name, result.resources[name]) for name in named)
    with_progress = "" if progress is None else f" with progress {percent(progress)}"
    said = _ADVICE.get(reason, f"{action} for want of good data ({reason})")
    if decision in (UNKNOWN_USAGE, UNPRICED):
        said = advice(decision, doubt)
    return f"{numbers or 'nothing limited'}{with_progress}: {said}"


def _nearest(resources: Mapping[str, ResourceState]) -> tuple[str, ...]:
    limited = {name: s.ratio for name, s in resources.items() if s.ratio is not None}
    return (max(limited, key=limited.__getitem__),) if limited else ()


def _identified(verdict: Verdict, bounds: Bounds) -> Verdict:
    """Return the verdict with 16 hex digits that follow from what was decided and from what."""
    parts = [verdict.session_id, verdict.action, verdict.status, verdict.reason,
             verdict.policy_revision, repr(verdict.started_at), repr(verdict.progress),
             repr(verdict.completion_threshold)]  # fmt: skip
    for name in semconv.RESOURCES:
        state, limited = verdict.resources.get(name), bounds.get(name)
        if state is not None:
            about = " about" if state.estimated else ""
            parts.append(f"{name}={state.used!r} {state.at_least}{about} of {limited!r}")
    digits = hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]
    return dataclasses.replace(verdict, decision_id=digits)
