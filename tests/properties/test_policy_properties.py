"""The invariants of the policy: docs/design.md, section 3."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

from hypothesis import assume, given
from hypothesis import strategies as st

from otel_budget import semconv
from otel_budget.core import verdict_json
from otel_budget.core.quantities import COUNT, Number
from otel_budget.core.reasons import Action, Reason
from otel_budget.core.resources import RESOURCES, TIMES
from otel_budget.core.uncertainty import NO_UNCERTAINTY, UsageUncertainty
from otel_budget.core.verdict import LimitStatus, Verdict
from otel_budget.ledger.snapshot import RunSnapshot
from otel_budget.policy.bounds import Bounds, bound, stricter
from otel_budget.policy.forecast import completion_possible
from otel_budget.policy.outdated import redecide
from otel_budget.policy.status import SEVERITY, check, headroom
from otel_budget.policy.unknown_usage import OnUnknown
from otel_budget.policy.verdicts import IGNORED, Rules, verdict_from_snapshot, verdict_from_usage
from tests.properties.strategies import (
    AMOUNTS,
    NEAR,
    NOW,
    all_bounds,
    doubts,
    exact,
    limits,
    on_unknown,
    progress,
    rules,
    shares,
    snapshots,
    thresholds,
    thresholds_by_resource,
    used,
)  # fmt: skip

resources = st.sampled_from(tuple(RESOURCES))


def stops(verdict: Verdict) -> bool:
    """Tell whether a verdict is a stop."""
    return verdict.action is Action.STOP


def more(one: Mapping[str, Number], other: Mapping[str, Number]) -> dict[str, Number]:
    """Return what both used together, not rounded."""
    with localcontext() as context:
        context.prec = 400
        return {name: value + other[name] for name, value in one.items()}  # type: ignore[operator]


@dataclass(frozen=True)
class Situation:
    """All of a run but what it used."""

    bounds: Bounds
    at: float | None
    enough: float
    uncertainty: UsageUncertainty = NO_UNCERTAINTY
    by: OnUnknown = IGNORED


situations = st.builds(Situation, all_bounds(), progress, thresholds, doubts, on_unknown)


def own(used_: Mapping[str, Number], run: Situation) -> Verdict:
    """Return a run's own verdict."""
    return verdict_from_usage(
        "run",
        used_,
        run.bounds,
        progress=run.at,
        completion_threshold=run.enough,
        now=NOW,
        uncertainty=run.uncertainty,
        on_unknown=run.by,
    )


def worse(one: UsageUncertainty, further: UsageUncertainty) -> UsageUncertainty:
    """Return what is unknown when both are."""
    calls = (f.name for f in fields(UsageUncertainty) if f.name != "alternating")
    both = {name: getattr(one, name) + getattr(further, name) for name in calls}
    return UsageUncertainty(**both, alternating=one.alternating | further.alternating)


@given(resources, st.data())
def test_the_status_agrees_with_exact_arithmetic(resource: str, data: st.DataObject) -> None:
    """For whole numbers, seconds and money alike, also right at the lines."""
    kind = data.draw(st.sampled_from([AMOUNTS, NEAR]))
    limit, threshold = data.draw(kind[resource]), data.draw(thresholds)
    line = exact(threshold) * exact(limit)
    edges = [limit]
    if RESOURCES[resource].quantity is COUNT:
        above = -(-line.numerator // line.denominator)
        edges += [above, max(0, above - 1), max(0, int(limit) - 1)]
    value = data.draw(kind[resource] | st.sampled_from(edges))
    status = check(
        {resource: value}, {resource: bound(resource, limit, threshold, "session")}
    ).status
    if Fraction(value) >= Fraction(limit):
        assert status is LimitStatus.EXCEEDED
    elif Fraction(value) >= line:
        assert status is LimitStatus.APPROACHING
    else:
        assert status is LimitStatus.OK


@given(used, used, situations, doubts)
def test_more_use_never_turns_a_runs_stop_into_continue(
    one: dict[str, Number], extra: dict[str, Number], run: Situation, further: UsageUncertainty
) -> None:
    """At the same progress; nor does more that is unknown."""
    if stops(own(one, run)):
        later = replace(run, uncertainty=worse(run.uncertainty, further))
        assert stops(own(more(one, extra), later))


@given(snapshots(), used, doubts, rules())
def test_more_use_never_turns_a_sidecars_stop_into_continue(
    snapshot: RunSnapshot, extra: dict[str, Number], further: UsageUncertainty, by: Rules
) -> None:
    """With good data and without."""
    uncertainty = worse(snapshot.uncertainty, further)
    later = snapshot._replace(used=more(snapshot.used, extra), uncertainty=uncertainty)
    if snapshot.active is not None:
        active: Any = snapshot.active + float(extra[semconv.ACTIVE_DURATION])
        later = later._replace(active=active, active_when_shown=active)
    if stops(verdict_from_snapshot(snapshot, by, NOW)):
        assert stops(verdict_from_snapshot(later, by, NOW))


@given(used, situations, all_bounds())
def test_a_further_limit_never_loosens_a_runs_verdict(
    one: dict[str, Number], run: Situation, further: Bounds
) -> None:
    """Status and action."""
    before = own(one, run)
    after = own(one, replace(run, bounds=stricter(run.bounds, further)))
    assert SEVERITY[after.status] >= SEVERITY[before.status]
    assert stops(after) or not stops(before)


@given(snapshots(), rules(), limits, thresholds_by_resource, st.none() | thresholds)
def test_a_further_ceiling_never_loosens_a_sidecars_verdict(
    snapshot: RunSnapshot,
    by: Rules,
    further: dict[str, Number],
    lines: dict[str, float],
    enough: float | None,
) -> None:
    """Limits, warning lines, and the progress from which a run may finish."""
    ceilings = {
        name: bound(name, limit, lines.get(name, 0.8), "sidecar") for name, limit in further.items()
    }
    thresholds_ = [t for t in (by.completion_threshold, enough) if t is not None]
    tighter = replace(
        by,
        ceilings=stricter(by.ceilings, ceilings),
        completion_threshold=max(thresholds_, default=None),
    )
    before, after = (
        verdict_from_snapshot(snapshot, by, NOW),
        verdict_from_snapshot(snapshot, tighter, NOW),
    )
    assert stops(after) or not stops(before)


@given(snapshots(), rules(), resources, st.data())
def test_a_further_limit_of_the_run_never_loosens_a_sidecars_verdict(
    snapshot: RunSnapshot, by: Rules, resource: str, data: st.DataObject
) -> None:
    """A new one, or a lower one."""
    limit: Number = data.draw(NEAR[resource])
    known = snapshot.attributes.limits.get(resource)
    if known is not None:
        limit = min(known, limit)
    attributes = snapshot.attributes._replace(
        limits={**snapshot.attributes.limits, resource: limit}
    )
    before = verdict_from_snapshot(snapshot, by, NOW)
    after = verdict_from_snapshot(snapshot._replace(attributes=attributes), by, NOW)
    assert stops(after) or not stops(before)


@given(used, situations)
def test_to_mind_what_is_unknown_never_loosens_a_runs_verdict(
    one: dict[str, Number], run: Situation
) -> None:
    """It stops a run, with a reason of its own, or changes nothing."""
    careless, careful = own(one, replace(run, by=IGNORED)), own(one, run)
    assert careful.status is careless.status
    if careful.reason in (Reason.UNPRICED_CALLS, Reason.UNKNOWN_USAGE):
        assert stops(careful)
        assert careless.status is not LimitStatus.EXCEEDED
    else:
        assert careful == careless


@given(snapshots(), rules(), resources)
def test_a_resource_that_is_not_known_is_not_read_as_0(
    snapshot: RunSnapshot, by: Rules, resource: str
) -> None:
    """It is not in the verdict at all. A limited active time that is not known is the duration."""
    known = {name: value for name, value in snapshot.used.items() if name != resource}
    snapshot = snapshot._replace(used=known, active=None, active_when_shown=None)
    verdict = verdict_from_snapshot(snapshot, by, NOW)
    taken = {semconv.ACTIVE_DURATION} if semconv.DURATION in known else set()
    assert verdict.resources.keys() - taken == known.keys()
    assert resource not in verdict.headroom or resource in taken


@given(snapshots(), rules())
def test_what_is_exceeded_stops_whatever_the_data(snapshot: RunSnapshot, by: Rules) -> None:
    """And says so, with the limit that counted."""
    verdict = verdict_from_snapshot(snapshot, by, NOW)
    exceeded = [s for s in verdict.resources.values() if s.status is LimitStatus.EXCEEDED]
    assert (verdict.status is LimitStatus.EXCEEDED) == bool(exceeded)
    if exceeded:
        assert (verdict.action, verdict.reason) == (Action.STOP, "limit_exceeded")
        assert all(s.limit is not None and s.used >= s.limit for s in exceeded)


@given(snapshots(), rules())
def test_the_sidecar_and_the_run_agree_about_the_same_numbers(
    snapshot: RunSnapshot, by: Rules
) -> None:
    """With good data and no ceilings, both come to the same verdict."""
    good = snapshot._replace(silent_for=0.0, implausible_for=None)
    theirs = verdict_from_snapshot(good, Rules(revision=by.revision, on_unknown=by.on_unknown), NOW)
    bounds = {
        name: bound(name, limit, good.attributes.thresholds.get(name, 0.8), "session")
        for name, limit in good.attributes.limits.items()
    }
    enough = good.attributes.completion_threshold
    enough = 0.8 if enough is None else enough
    run = Situation(bounds, good.attributes.progress, enough, good.uncertainty, by.on_unknown)
    active = good.used[semconv.DURATION] if good.active is None else good.active
    limited = {semconv.ACTIVE_DURATION: active} if semconv.ACTIVE_DURATION in bounds else {}
    ours = own({**good.used, **limited}, run)
    same = ("action", "status", "reason", "message", "headroom", "completion_threshold")
    assert all(getattr(ours, name) == getattr(theirs, name) for name in same)


@given(snapshots(), rules())
def test_the_same_input_gives_the_same_verdict_byte_for_byte(
    snapshot: RunSnapshot, by: Rules
) -> None:
    """Also where other limits were judged in between, and in any order of the mappings."""
    first = verdict_json.to_json(verdict_from_snapshot(snapshot, by, NOW))
    bound.cache_clear()
    verdict_from_snapshot(snapshot._replace(used=dict.fromkeys(snapshot.used, 0)), Rules(), NOW)
    attributes = snapshot.attributes._replace(
        limits=dict(reversed(list(snapshot.attributes.limits.items()))),
        thresholds=dict(reversed(list(snapshot.attributes.thresholds.items()))),
    )
    reordered = snapshot._replace(attributes=attributes)
    again = replace(by, ceilings=dict(reversed(by.ceilings.items())))
    assert verdict_json.to_json(verdict_from_snapshot(snapshot, by, NOW)) == first
    assert verdict_from_snapshot(reordered, again, NOW) == verdict_from_snapshot(snapshot, by, NOW)


@given(snapshots(), rules(), progress, thresholds)
def test_a_run_that_is_no_further_never_undoes_a_sidecars_stop(
    snapshot: RunSnapshot, by: Rules, now_at: float | None, enough: float
) -> None:
    """Not by its own lax threshold either."""
    verdict = verdict_from_snapshot(snapshot, by, NOW)
    seen = snapshot.attributes.progress
    assume(stops(verdict))
    if now_at is None or (seen is not None and now_at <= seen):
        assert not redecide(verdict, now_at, enough)


@given(resources, st.data())
def test_using_exactly_the_headroom_changes_the_status_and_any_less_does_not(
    resource: str, data: st.DataObject
) -> None:
    """Of what is counted in whole numbers and in money; seconds are measured."""
    assume(resource not in TIMES)
    value = data.draw(NEAR[resource])
    bounds = {
        resource: bound(resource, data.draw(NEAR[resource]), data.draw(thresholds), "session")
    }
    before = check({resource: value}, bounds)
    room = headroom(before.resources, bounds)
    if before.status is LimitStatus.EXCEEDED:
        assert room == {}
        return
    least: Number = Decimal("1E-30") if resource == semconv.COST else 1
    less = more(room, {resource: -least})
    assert room[resource] > 0
    all_of_it = more({resource: value}, room)
    assert check(all_of_it, bounds).status is not before.status
    assert check(more({resource: value}, less), bounds).status is before.status


@given(used, all_bounds())
def test_what_remains_and_what_was_used_are_the_limit(
    one: dict[str, Number], bounds: Bounds
) -> None:
    """Remaining is never below 0, and the ratio is 1 exactly where nothing remains."""
    for name, state in check(one, bounds).resources.items():
        if name not in bounds:
            assert (state.limit, state.remaining, state.ratio) == (None, None, None)
            continue
        assert state.limit is not None
        assert state.remaining is not None
        assert state.ratio is not None
        assert state.remaining == max(exact(state.limit) - exact(state.used), 0)
        assert (state.ratio >= 1) == (state.remaining == 0)


@given(used, all_bounds(), progress | shares)
def test_the_forecast_agrees_with_exact_arithmetic(
    one: dict[str, Number], bounds: Bounds, at: float | None
) -> None:
    """All of the run takes used / progress; it fits if that is at most the limit."""
    fits = completion_possible(one, bounds, at)
    pairs = [(exact(one[name]), exact(limited.limit)) for name, limited in bounds.items()]
    if any(spent > limit for spent, limit in pairs):
        assert fits is False
    elif not pairs:
        assert fits is True
    elif not at:
        assert fits is None
    else:
        assert fits is all(spent / exact(at) <= limit for spent, limit in pairs)
