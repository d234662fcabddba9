"""What is written is read back exactly, and what is spoilt is refused in one way."""

import contextlib
import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_budget.core import sse, verdict_json
from otel_budget.core.limits import ResourceLimits
from otel_budget.core.usage import USAGE_KEYS, ResourceUsage
from otel_budget.core.verdict import Verdict
from otel_budget.errors import InvalidValueError
from otel_budget.ledger.snapshot import RunSnapshot
from otel_budget.policy.verdicts import Rules, verdict_from_snapshot
from tests.properties.strategies import (
    NOW,
    counts,
    money,
    rules,
    seconds,
    session_ids,
    snapshots,
    thresholds,
)  # fmt: skip

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)

usages = st.builds(
    ResourceUsage,
    session_id=session_ids,
    cost_usd=money,
    last_checkpoint_at=st.none() | seconds,
    **dict.fromkeys(("started_at", "duration_seconds", "active_seconds"), seconds),
    **{
        key: counts
        for key in USAGE_KEYS
        if key.endswith(("tokens", "calls")) or key == "checkpoints"
    },
)
all_limits = st.builds(
    ResourceLimits,
    max_duration_seconds=st.none() | seconds,
    max_tokens=st.none() | counts,
    max_api_calls=st.none() | counts,
    max_cost_usd=st.none() | money,
    checkpoint_interval=st.floats(0, 2**53, exclude_min=True),
    duration_warning_threshold=thresholds,
    token_warning_threshold=thresholds,
    api_call_warning_threshold=thresholds,
    cost_warning_threshold=thresholds,
    completion_threshold=thresholds,
)


@st.composite
def published(draw: st.DrawFn) -> Verdict:
    """Return a verdict as a sidecar may publish it."""
    verdict = verdict_from_snapshot(draw(snapshots()), draw(rules()), NOW)
    return dataclasses.replace(
        verdict,
        session_id=draw(session_ids),
        message=draw(st.text(st.characters(exclude_categories=["Cs"]))),
        reason=draw(st.just(verdict.reason) | st.text("abc_", min_size=1)),
        sequence=draw(st.none() | st.integers(0)),
        evaluated_at=draw(st.integers(0, 4_000_000_000_000)) / 1000,
    )


@given(published())
def test_a_verdict_comes_back_from_its_json_exactly(verdict: Verdict) -> None:
    """And is written again byte for byte."""
    text = verdict_json.to_json(verdict)
    assert verdict_json.from_json(text) == verdict
    assert verdict_json.to_json(verdict_json.from_json(text)) == text


@given(published())
def test_a_verdict_comes_back_out_of_the_stream_exactly(verdict: Verdict) -> None:
    """Whatever its message holds."""
    decoder = sse.EventDecoder()
    lines = sse.verdict_frame(verdict).split("\n")
    (event,) = [event for line in lines for event in decoder.feed(line)]
    assert verdict_json.from_json(event.data) == verdict


@given(usages)
def test_usage_comes_back_from_json_exactly(usage: ResourceUsage) -> None:
    """Down to the last digit of the money."""
    again = ResourceUsage.from_dict(json.loads(json.dumps(usage.to_dict())))
    assert again == usage
    assert str(again.cost_usd) == str(usage.cost_usd)


@given(all_limits)
def test_limits_come_back_from_json_exactly(limits: ResourceLimits) -> None:
    """Down to the last digit of the money."""
    again = ResourceLimits.from_dict(json.loads(json.dumps(limits.to_dict())))
    assert again == limits
    assert str(again.max_cost_usd) == str(limits.max_cost_usd)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return every (container, key) of a decoded JSON value."""
    keys = range(len(value)) if isinstance(value, list) else value
    found = []
    for key in keys if isinstance(value, dict | list) else ():
        found += [(value, key), *places(value[key])]
    return found


@given(snapshots(), rules(), json_values, st.data())
def test_a_spoilt_verdict_is_read_or_refused_and_nothing_else(
    snapshot: RunSnapshot, by: Rules, value: Any, data: st.DataObject
) -> None:
    """Any value in any place: a verdict or an InvalidValueError, never a bare exception."""
    spoilt = verdict_json.to_dict(verdict_from_snapshot(snapshot, by, NOW))
    container, key = data.draw(st.sampled_from(places(spoilt)))
    container[key] = value
    with contextlib.suppress(InvalidValueError):
        read = verdict_json.from_dict(spoilt)
        assert verdict_json.from_json(verdict_json.to_json(read)) == read


@given(json_values | st.text() | st.binary())
def test_whatever_else_arrives_is_refused(value: Any) -> None:
    """As text that may not even be JSON; nothing random is a whole verdict."""
    text = value if isinstance(value, str | bytes) else json.dumps(value)
    with pytest.raises(InvalidValueError):
        verdict_json.from_json(text)


@given(st.sampled_from(USAGE_KEYS), json_values)
def test_spoilt_usage_is_read_or_refused_and_nothing_else(key: str, value: Any) -> None:
    """Any value in any field."""
    good = ResourceUsage(session_id="run", started_at=0.0).to_dict()
    with contextlib.suppress(InvalidValueError):
        usage = ResourceUsage.from_dict({**good, key: value})
        assert ResourceUsage.from_dict(usage.to_dict()) == usage
