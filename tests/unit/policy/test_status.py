"""Bounds, checks, decisions and forecasts, where a case as data would not say it."""

import dataclasses
import itertools
import math
from decimal import Decimal, localcontext
from typing import Any

import pytest

from otel_budget.core import verdict_json
from otel_budget.core.limits import ResourceLimits
from otel_budget.core.quantities import Number
from otel_budget.core.reasons import Action, Reason
from otel_budget.core.uncertainty import UsageUncertainty
from otel_budget.core.verdict import LimitStatus, Verdict
from otel_budget.ledger.rate import IDLE_AFTER, TIME_CONSTANT, Rate
from otel_budget.policy.bounds import Bound, Bounds, bound, bounds_from, bounds_of, stricter
from otel_budget.policy.decision_table import decide
from otel_budget.policy.forecast import completion_possible, exhaustion_seconds
from otel_budget.policy.outdated import redecide, relaxed
from otel_budget.policy.status import check
from otel_budget.policy.verdicts import Rules, verdict_from_snapshot, verdict_from_usage
from tests.unit.core.test_verdict_json import BALANCE, NOON


def own(used: dict[str, Number], limits: ResourceLimits, progress: float | None) -> Verdict:
    """Return a run's own verdict."""
    return verdict_from_usage(
        "run", used, bounds_of(limits), progress=progress, now=NOON,
        completion_threshold=limits.completion_threshold,
    )  # fmt: skip


def test_the_bounds_of_a_run_are_its_limits_with_each_ones_threshold() -> None:
    """Unlimited resources have none; types are the resources' own."""
    limits = ResourceLimits(
        max_duration_seconds=60, max_tokens=100, max_api_calls=None, max_cost_usd=Decimal("1.50"),
        duration_warning_threshold=0.5, token_warning_threshold=0.55, cost_warning_threshold=0.1,
    )  # fmt: skip
    assert bounds_of(limits) == {
        "duration": Bound(60.0, 30.0, "session"),
        "tokens": Bound(100, 55, "session"),
        "cost": Bound(Decimal("1.5"), Decimal("0.15"), "session"),
    }


@pytest.mark.parametrize("order", list(itertools.permutations(["5", "5.0", "5.00", "5E+0"])))
def test_equal_limits_are_spelled_the_same_whichever_was_asked_first(
    order: tuple[str, ...],
) -> None:
    """The same input gives the same bytes, whatever this process judged before."""
    bound.cache_clear()
    spelt = {str(bound("cost", Decimal(text), 0.8, "session")) for text in order}
    assert spelt == {str(Bound(Decimal(5), Decimal(4), "session"))}


def test_a_resource_this_version_does_not_know_is_not_judged() -> None:
    """A newer agent may limit more than this sidecar counts."""
    assert bounds_from({"searches": 5, "tokens": 5}, {}, "session").keys() == {"tokens"}


def test_of_two_bounds_the_lower_limit_and_the_lower_line_hold() -> None:
    """Each for itself."""
    one = {"tokens": Bound(100, 50, "session"), "cost": Bound(Decimal(1), Decimal(1), "session")}
    other = {"tokens": Bound(90, 80, "sidecar"), "api_calls": Bound(5, 4, "sidecar")}
    merged = {**one, "tokens": Bound(90, 50, "sidecar"), "api_calls": Bound(5, 4, "sidecar")}
    assert stricter(one, other) == merged
    assert stricter(other, one) == merged
    assert (stricter(one, {}), stricter({}, one)) == (one, one)


def test_money_does_not_depend_on_the_callers_decimal_context() -> None:
    """A run that counts with three digits is judged like any other."""
    bounds = bounds_from({"cost": Decimal("12345.6789")}, {}, "session")
    with localcontext() as context:
        context.prec = 3
        state = check({"cost": Decimal("12345.6788")}, bounds).resources["cost"]
    assert state.remaining == Decimal("0.0001")
    assert state.ratio == pytest.approx(0.99999999)


def test_a_ratio_is_never_infinite() -> None:
    """A limit next to nothing is a limit; JSON has no infinity."""
    for resource, limit, used in (
        ("duration", 1e-310, 5.0),
        ("cost", Decimal("1E-400"), Decimal(5)),
    ):
        verdict = verdict_from_usage(
            "run", {resource: used}, bounds_from({resource: limit}, {}, "session"),
            progress=None, completion_threshold=0.8, now=NOON,
        )  # fmt: skip
        assert verdict.resources[resource].ratio == float(2**53)
        assert verdict_json.from_json(verdict_json.to_json(verdict)) == verdict


def test_a_check_without_resources_is_ok() -> None:
    """Nothing used of nothing."""
    result = check({}, {})
    assert (result.status, result.should_continue) == (LimitStatus.OK, True)


@pytest.mark.parametrize(("used", "go_on"), [(79, True), (80, True), (100, False)])
def test_a_check_says_stop_only_when_a_limit_is_exceeded(used: int, *, go_on: bool) -> None:
    """What to do when one is near is the verdict's."""
    bounds = bounds_from({"tokens": 100}, {}, "session")
    assert check({"tokens": used}, bounds).should_continue is go_on


def test_an_inconclusive_status_cannot_be_decided_by_the_table() -> None:
    """No default branch means continue."""
    with pytest.raises(ValueError, match="cannot be decided without its data"):
        decide(LimitStatus.INCONCLUSIVE, 1.0, 0.8)


@pytest.mark.parametrize(
    ("remaining", "rate", "seconds"),
    [
        (100, 2.0, 50.0),
        (Decimal("0.5"), 0.25, 2.0),
        (0, 2.0, 0.0),
        (None, 2.0, None),
        (100, None, None),
        (100, 0.0, None),
        (100, -1.0, None),
        (2**53, 5e-324, None),
    ],
)
def test_exhaustion_is_forecast_while_something_is_being_spent(
    remaining: Number | None, rate: float | None, seconds: float | None
) -> None:
    """And is never infinite."""
    assert exhaustion_seconds(remaining, rate) == seconds


def test_a_verdict_of_the_sidecar_has_the_forecast_of_what_is_being_spent() -> None:
    """Not of what is unlimited, nor of what stands still."""
    resources = verdict_from_snapshot(BALANCE, Rules(), NOON).resources
    assert resources["tokens"].exhaustion_seconds == 512.0
    assert resources["duration"].exhaustion_seconds == 3600 - 1536.5
    assert resources["api_calls"].exhaustion_seconds is None
    assert resources["cost"].exhaustion_seconds is None


def test_the_same_inputs_give_the_same_decision_id_and_others_another() -> None:
    """So a replay can be held against what was decided."""
    first = verdict_from_snapshot(BALANCE, Rules(revision="a"), NOON)
    assert len(first.decision_id) == 16
    again = verdict_from_snapshot(BALANCE._replace(), Rules(revision="a"), NOON + 5)
    others = [
        verdict_from_snapshot(BALANCE, Rules(revision="b"), NOON),
        verdict_from_snapshot(
            BALANCE._replace(used={**BALANCE.used, "tokens": 831_001}),
            Rules(revision="a"), NOON,
        ),
        *(
            verdict_from_snapshot(BALANCE._replace(**change), Rules(revision="a"), NOON)
            for change in CHANGES
        ),
        verdict_from_snapshot(BALANCE, Rules(revision="a", completion_threshold=0.9), NOON),
        verdict_from_snapshot(BALANCE, Rules(stricter_ceilings(0.8), revision="a"), NOON),
        verdict_from_snapshot(BALANCE, Rules(stricter_ceilings(0.7), revision="a"), NOON),
    ]  # fmt: skip
    assert again.decision_id == first.decision_id
    assert len({first.decision_id, *(other.decision_id for other in others)}) == 1 + len(others)


CHANGES: tuple[dict[str, Any], ...] = (
    {"session_id": "other"},
    {"started_at": NOON - 5},
    {"uncertainty": UsageUncertainty(unknown_usage_calls=1)},
    {"attributes": BALANCE.attributes._replace(progress=0.5)},
    {"attributes": BALANCE.attributes._replace(thresholds={"tokens": 0.7})},
)


def stricter_ceilings(threshold: float) -> Bounds:
    """Return ceilings that differ from no ceilings in nothing but a cost."""
    return bounds_from({"cost": Decimal(5)}, {"cost": threshold}, "sidecar")


def test_unknown_use_reaches_the_verdict_and_its_reader() -> None:
    """An unpriced run under a cost limit does not read as $0.00 of it."""
    attributes = BALANCE.attributes._replace(limits={"cost": Decimal(1)})
    known = {**BALANCE.used, "cost": Decimal(0)}
    snapshot = BALANCE._replace(
        attributes=attributes,
        used=known,
        uncertainty=UsageUncertainty(unpriced_calls=1, unknown_usage_calls=2),
    )
    verdict = verdict_from_snapshot(snapshot, Rules(), NOON)
    assert verdict.message == "cost at least 0.0% ($0.00 of $1.00) with progress 40.0%: continue"
    flags = {name: state.at_least for name, state in verdict.resources.items()}
    assert flags == {"duration": False, "tokens": True, "api_calls": False, "cost": True}
    assert verdict_json.from_json(verdict_json.to_json(verdict)) == verdict
    assert (
        "at_least"
        not in verdict_json.to_dict(verdict_from_snapshot(BALANCE, Rules(), NOON))["resources"][
            "cost"
        ]
    )


def test_a_cost_forecast_with_unknown_prices_is_unknown() -> None:
    """Policy does not say yes on the strength of what nobody knows."""
    bounds = bounds_from({"cost": Decimal(1)}, {}, "session")
    spent: dict[str, Number] = {"cost": Decimal(0)}
    assert completion_possible(spent, bounds, 0.5) is True
    assert completion_possible(spent, bounds, 0.5, UsageUncertainty(unpriced_calls=1)) is None


def sidecars_stop(progress: float | None = 0.4, completion_threshold: float = 0.8) -> Verdict:
    """Return a graceful stop by the sidecar."""
    attributes = BALANCE.attributes._replace(progress=progress)
    rules = Rules(completion_threshold=completion_threshold)
    verdict = verdict_from_snapshot(BALANCE._replace(attributes=attributes), rules, NOON)
    assert (verdict.action, verdict.reason) == (Action.STOP, Reason.APPROACHING_LIMIT)
    return verdict


@pytest.mark.parametrize(
    ("progress", "go_on"), [(0.4, False), (0.79, False), (0.8, True), (1.0, True), (None, False)]
)
def test_a_graceful_stop_gives_way_to_a_run_that_got_further(
    progress: float | None, *, go_on: bool
) -> None:
    """The same table with the newer number; an unknown progress is no progress."""
    assert redecide(sidecars_stop(), progress, 0.8) is go_on


def test_a_graceful_stop_gives_way_only_past_the_stricter_completion_threshold() -> None:
    """A sidecar that wants 95 % is not content with the run's own 80 %, nor the other way."""
    stop = sidecars_stop(completion_threshold=0.95)
    assert [redecide(stop, progress, 0.8) for progress in (0.9, 0.95)] == [False, True]
    assert [redecide(sidecars_stop(), progress, 0.9) for progress in (0.85, 0.9)] == [False, True]


def test_a_stop_of_an_older_sidecar_gives_way_by_the_runs_own_threshold() -> None:
    """It does not say which one it decided with."""
    stop = dataclasses.replace(sidecars_stop(), completion_threshold=None)
    assert redecide(stop, 0.8, 0.8)


@pytest.mark.parametrize("reason", [r for r in Reason if r is not Reason.APPROACHING_LIMIT])
@pytest.mark.parametrize("status", LimitStatus)
def test_no_other_stop_gives_way(reason: Reason, status: LimitStatus) -> None:
    """However far the run is."""
    stop = dataclasses.replace(sidecars_stop(), reason=reason, status=status)
    assert not redecide(stop, 1.0, 0.1)


def test_a_held_graceful_stop_does_not_give_way() -> None:
    """Its status is not approaching: nobody knows how much was used since."""
    stop = dataclasses.replace(sidecars_stop(), status=LimitStatus.INCONCLUSIVE)
    assert not redecide(stop, 1.0, 0.8)


@pytest.mark.parametrize(
    ("own", "ceilings", "now", "gives_way"),
    [
        ({"tokens": 1000}, {}, {"tokens": 5000}, True),
        ({"tokens": 1000}, {}, {}, True),
        ({"tokens": 1000}, {}, {"tokens": 1000}, False),
        ({"tokens": 1000}, {}, {"tokens": 1001}, False),  # past its warning line all the same
        ({"tokens": 1000}, {"tokens": 900}, {"tokens": 5000}, False),
        ({}, {"tokens": 1000}, {"tokens": 5000}, False),
        ({"tokens": 1000, "api_calls": 1}, {}, {"tokens": 5000, "api_calls": 1}, False),
    ],
)
@pytest.mark.parametrize("used", [850, 1000])
def test_a_stop_under_limits_of_its_own_gives_way_to_a_run_that_has_others(
    own: Any, ceilings: Any, now: Any, used: int, *, gives_way: bool
) -> None:
    """The sidecar has not seen them yet. Its own ceilings, and what it knows to be used, stay."""
    attributes = BALANCE.attributes._replace(progress=0.1, limits=own)
    rules = Rules(bounds_from(ceilings, {}, "sidecar"))
    amounts = {"tokens": used, "api_calls": 1}
    stop = verdict_from_snapshot(BALANCE._replace(attributes=attributes, used=amounts), rules, NOON)
    assert stop.action is Action.STOP
    assert relaxed(stop, bounds_from(now, {}, "session")) is gives_way
    later = dataclasses.replace(stop, reason=Reason.OPERATOR_STOP)
    assert not relaxed(later, {})


def test_a_warning_line_of_the_sidecars_is_no_limit_of_the_runs_own() -> None:
    """It may lie below the run's, whose limit is the lower one all the same."""
    attributes = BALANCE.attributes._replace(progress=0.1, limits={"tokens": 1000})
    rules = Rules(bounds_from({"tokens": 1100}, {"tokens": 0.5}, "sidecar"))
    stop = verdict_from_snapshot(
        BALANCE._replace(attributes=attributes, used={"tokens": 600}), rules, NOON
    )
    assert stop.resources["tokens"].limit_from == "session"
    assert stop.action is Action.STOP
    assert not relaxed(stop, bounds_from({"tokens": 1000}, {}, "session"))


def test_continue_stays_continue() -> None:
    """There is nothing to give way."""
    assert redecide(own({"tokens": 1}, ResourceLimits(), None), None, 0.8)


def test_a_rate_is_what_was_spent_over_the_time_it_took() -> None:
    """From the first sample on, without a past that never was."""
    rate = Rate().observe(10, 2.0, at=2.0)
    assert rate.per_second(2.0) == 5.0
    assert Rate().per_second(0.0) is None


def test_a_rate_fades_while_nothing_is_spent_and_then_is_none() -> None:
    """An old burst stops counting."""
    rate = Rate().observe(600, 60.0, at=60.0)
    idle = rate.observe(0, TIME_CONSTANT, at=60.0 + TIME_CONSTANT)
    assert idle.per_second(120.0) == pytest.approx(600 / math.e / (60 / math.e + 60))
    assert idle.per_second(60.0 + IDLE_AFTER) is not None
    assert idle.per_second(60.0 + IDLE_AFTER + 1) is None
