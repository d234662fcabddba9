"""Ceilings in shadow: judged and said beside what holds, and never enforced."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_budget.core import verdict_json
from otel_budget.core.override import Override, OverrideKind, Overrides
from otel_budget.core.reasons import Action
from otel_budget.core.uncertainty import UsageUncertainty
from otel_budget.core.verdict import LimitStatus, Verdict
from otel_budget.policy.bounds import bounds_from
from otel_budget.policy.unknown_usage import OnUnknown
from otel_budget.policy.verdicts import Rules, verdict_from_snapshot
from tests.unit.core.test_verdict_json import BALANCE, NOON

SHADOW = Rules(bounds_from({"tokens": 100}, {}, "sidecar"), revision="a", shadow=True)


def judged(tokens: int, rules: Rules = SHADOW, **facts: Any) -> Verdict:
    """Return the verdict on a run without any limit of its own, unless ``limits`` are given."""
    limits = {"limits": {}, "thresholds": {}, **facts}
    overrides = limits.pop("overrides", Overrides())
    snapshot = BALANCE._replace(
        used={"tokens": tokens}, uncertainty=limits.pop("uncertainty", BALANCE.uncertainty),
        attributes=BALANCE.attributes._replace(**limits), overrides=overrides,
    )  # fmt: skip
    return verdict_from_snapshot(snapshot, rules, NOON)


def what_would(verdict: Verdict) -> tuple[object, ...]:
    """Return what would hold, without its message."""
    assert verdict.would is not None
    return tuple(verdict.would[:4])


def test_a_ceiling_in_shadow_stops_nobody_and_says_that_it_would() -> None:
    """The verdict is that without the ceiling; ``would`` names whose limit would have stopped."""
    verdict = judged(120)
    assert (verdict.action, verdict.status) == (Action.CONTINUE, LimitStatus.OK)
    assert (verdict.limit_from, verdict.resources["tokens"].limit) == (None, None)
    assert what_would(verdict) == ("stop", "exceeded", "limit_exceeded", "sidecar")
    assert verdict.would is not None
    assert "120" in verdict.would.message


def test_below_its_warning_line_nothing_is_said_of_a_ceiling_in_shadow() -> None:
    """What would hold is what holds."""
    assert judged(10).would is None


def test_the_runs_own_limit_holds_beside_a_ceiling_in_shadow() -> None:
    """Shadow never loosens what holds, and what is the same is not said twice."""
    verdict = judged(150, limits={"tokens": 150})
    assert (verdict.action, verdict.limit_from) == (Action.STOP, "session")
    assert what_would(verdict) == ("stop", "exceeded", "limit_exceeded", "sidecar")
    assert judged(50, limits={"tokens": 50}).would is None


def test_operators_hold_runs_to_their_orders_while_ceilings_are_in_shadow() -> None:
    """A ceiling that an operator gave takes the configured one's place, and is enforced."""
    ordered = Override(OverrideKind.LIMITS, "less", at=NOON - 1, until=NOON + 9,
                       limits={"tokens": 20})  # fmt: skip
    verdict = judged(30, overrides=Overrides(limits=ordered))
    assert (verdict.action, verdict.limit_from, verdict.would) == (Action.STOP, "operator", None)
    stop = Override(OverrideKind.STOP, "enough", at=NOON - 1)
    assert judged(30, overrides=Overrides(stop=stop)).action is Action.STOP


def test_all_of_the_section_is_in_shadow_not_its_limits_alone() -> None:
    """Neither its completion threshold nor its word on unknown usage stops a run."""
    strict = dataclasses.replace(SHADOW, completion_threshold=0.99)
    verdict = judged(90, strict, limits={"tokens": 100}, progress=0.9, completion_threshold=0.8)
    assert (verdict.action, verdict.completion_threshold) == (Action.CONTINUE, 0.8)
    assert what_would(verdict)[0] == "stop"
    unknown = dataclasses.replace(SHADOW, on_unknown=OnUnknown(usage="stop"))
    some = UsageUncertainty(unknown_usage_calls=1)
    verdict = judged(1, unknown, limits={"tokens": 100}, uncertainty=some)
    assert verdict.action is Action.CONTINUE
    assert what_would(verdict)[2] == "unknown_usage"


def test_what_would_hold_goes_through_json_and_gives_the_decision_another_id() -> None:
    """A reader of before does not look at the key."""
    verdict = judged(120)
    assert verdict_json.from_json(verdict_json.to_json(verdict)) == verdict
    assert verdict_json.to_dict(judged(10))["would"] is None
    enforced = dataclasses.replace(SHADOW, ceilings={})
    assert judged(120).decision_id != judged(120, enforced).decision_id


@pytest.mark.parametrize("key", ["action", "status", "reason"])
def test_what_would_hold_is_read_strictly(key: str) -> None:
    """One without its action is no word of a sidecar."""
    data = verdict_json.to_dict(judged(120))
    del data["would"][key]
    with pytest.raises(ValueError, match=f"would.{key}"):
        verdict_json.from_dict(data)


@given(
    st.integers(0, 300), st.integers(1, 300), st.none() | st.integers(1, 300),
    st.none() | st.floats(0, 1),
)  # fmt: skip
def test_a_shadow_changes_nothing_that_holds_and_would_is_what_enforcing_gives(
    used: int, ceiling: int, own: int | None, progress: float | None
) -> None:
    """With and without the ceiling in shadow the same holds; enforced, it is what would hold."""
    limits = {} if own is None else {"tokens": own}
    facts = {"limits": limits, "progress": progress}
    ceilings = bounds_from({"tokens": ceiling}, {}, "sidecar")
    without, with_it = (
        judged(used, rules, **facts)
        for rules in (Rules(revision="a"), Rules(ceilings, revision="a", shadow=True))
    )
    enforced = judged(used, Rules(ceilings, revision="a"), **facts)
    changed = dataclasses.replace(with_it, would=None, decision_id=without.decision_id)
    assert changed == without
    said = (enforced.action, enforced.status, enforced.reason, enforced.limit_from)
    if with_it.would is None:
        assert said == (without.action, without.status, without.reason, without.limit_from)
    else:
        assert what_would(with_it) == said
