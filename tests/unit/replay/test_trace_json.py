"""A line of a trace: what it says, and what is refused with its place."""

import json
from decimal import Decimal
from typing import Any

import pytest

from otel_budget.core.limits import ResourceLimits
from otel_budget.errors import InvalidValueError
from otel_budget.replay.trace import TraceLine, Use
from otel_budget.replay.trace_json import read_line, write_line
from otel_budget.sdk.pricing.prices import Prices

PRICES = Prices()
WHERE = "runs.jsonl:7"


def read(text: str) -> TraceLine:
    """Read one line."""
    return read_line(text, WHERE, PRICES)


def line(**keys: Any) -> TraceLine:
    """Read one line of run r1 at 1 s."""
    return read(json.dumps({"t": 1.0, "session_id": "r1", **keys}))


def use(**keys: Any) -> Use:
    """Return what a use is read as."""
    found = line(use=keys).use
    assert found is not None
    return found


def test_the_three_lines_of_the_contract_are_read() -> None:
    """Start, use and end."""
    start = line(
        start=True,
        labels={"team": "a", "user": "x"},
        limits={"max_tokens": 100_000},
        parent=None,
    )
    assert start.start
    assert start.labels == {"team": "a", "user": "x"}
    assert start.limits == ResourceLimits.only(max_tokens=100_000)
    used = line(
        use={
            "input_tokens": 2647,
            "cache_read_tokens": 2112,
            "output_tokens": 72,
            "api_calls": 1,
            "cost_usd": "0.01",
        },
        progress=0.1,
    )
    assert used.use == Use(
        {"tokens": 2719, "api_calls": 1, "cost": Decimal("0.01")},
        kinds={"input": 2647, "cache_read": 2112, "output": 72},
    )
    assert used.progress == 0.1
    end = line(end="completed", resolved=True)
    assert (end.end, end.resolved) == ("completed", True)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-01-01T12:00:00Z", 1767268800.0),
        ("2026-01-01T13:00:00.250+01:00", 1767268800.25),
        ("2026-01-01t12:00:00z", 1767268800.0),
        ("2026-01-01T12:00:00.250000000000Z", 1767268800.25),
        ("2016-12-31T23:59:60.5Z", 1483228800.5),
        ("2017-01-01T05:29:60+05:30", 1483228800.0),
    ],
)
def test_a_time_may_be_rfc_3339(text: str, seconds: float) -> None:
    """With its offset."""
    assert line(t=text).at == seconds


def test_what_is_not_split_is_all_tokens_and_null_is_a_call_of_unknown_usage() -> None:
    """As record_operation takes it; unknown is not 0."""
    assert use(tokens=500, api_calls=1, cost_usd=0) == Use(
        {"tokens": 500, "api_calls": 1, "cost": Decimal(0)}
    )
    assert use(tokens=None, api_calls=2, cost_usd="0.5").unknown_usage_calls == 2
    assert use(tokens=None).unknown_usage_calls == 1
    assert use(input_tokens=100, output_tokens=None, api_calls=1).unknown_usage_calls == 1


def test_a_call_without_cost_and_model_is_unpriced() -> None:
    """Its cost is unknown, not 0."""
    assert use(tokens=5, api_calls=3).unpriced_calls == 3
    assert use(tokens=5, api_calls=3, cost_usd=1).unpriced_calls == 0
    assert use(tokens=5).unpriced_calls == 0, "no call was made"


def test_a_model_prices_a_use_by_the_list_of_the_sdk() -> None:
    """Cached tokens at their own price."""
    found = use(input_tokens=1000, cache_read_tokens=800, output_tokens=10, api_calls=1,
                model="gpt-4o", provider="openai")  # fmt: skip
    assert found.unpriced_calls == 0
    assert found.amounts["cost"] > 0
    assert use(input_tokens=1, output_tokens=1, api_calls=1, model="no-such").unpriced_calls == 1


BAD = [
    ('{"t": 1, "session_id": "r1", "tokens": 5}', "tokens"),
    ('{"t": 1, "session_id": "r1", "use": {"token": 5}}', "use.token"),
    ('{"t": 1, "session_id": "r1", "use": {"tokens": -5}}', "tokens"),
    ('{"t": 1, "session_id": "r1", "use": {"cost_usd": -0.1}}', "cost_usd"),
    ('{"t": 1, "session_id": "r1", "use": {"cost_usd": "-0.1"}}', "cost_usd"),
    ('{"t": 1, "session_id": "r1", "use": {"cost_usd": "NaN"}}', "cost_usd"),
    ('{"t": 1, "session_id": "r1", "use": {"api_calls": -1}}', "api_calls"),
    ('{"t": 1, "session_id": "r1", "use": {"api_calls": null}}', "api_calls"),
    ('{"t": 1, "session_id": "r1", "use": {"tokens": true}}', "tokens"),
    ('{"t": 1, "session_id": "r1", "use": {"tokens": 1.5}}', "tokens"),
    ('{"t": 1, "session_id": "r1", "use": {"tokens": 9007199254740993}}', "tokens"),
    ('{"t": 1, "session_id": "r1", "use": {"input_tokens": 5, "cache_read_tokens": 6}}',
     "cache_read_tokens and cache_write_tokens together"),
    ('{"t": 1, "session_id": "r1", "use": []}', "use"),
    ('{"session_id": "r1"}', "t"),
    ('{"t": 1}', "session_id"),
    ('{"t": true, "session_id": "r1"}', "t"),
    ('{"t": 1e999, "session_id": "r1"}', "t"),
    ('{"t": NaN, "session_id": "r1"}', ""),
    ('{"t": 1767268800000, "session_id": "r1"}', "t"),
    ('{"t": "2026-01-01", "session_id": "r1"}', "t"),
    ('{"t": "2026-01-01T12:00:00", "session_id": "r1"}', "t"),
    ('{"t": "2026-13-01T12:00:00Z", "session_id": "r1"}', "t"),
    ('{"t": "2026-01-01T12:00:60Z", "session_id": "r1"}', "t"),
    ('{"t": 1, "t": 2, "session_id": "r1"}', "t"),
    ('{"t": 1, "session_id": "r 1"}', "session_id"),
    ('{"t": 1, "session_id": "r1", "start": 1}', "start"),
    ('{"t": 1, "session_id": "r1", "limits": {"max_tokens": 5}}', "limits"),
    ('{"t": 1, "session_id": "r1", "start": true, "limits": {"max_tokens": -5}}', "max_tokens"),
    ('{"t": 1, "session_id": "r1", "start": true, "limits": {"tokens": 5}}', "tokens"),
    ('{"t": 1, "session_id": "r1", "start": true, "limits": {"cls": 5}}', "cls"),
    ('{"t": 1, "session_id": "r1", "start": true, "limits": {"self": 5}}', "self"),
    ('{"t": 1, "session_id": "r1", "start": true, "limits": {"token_warning_threshold": 2}}',
     "token_warning_threshold"),
    ('{"t": 1, "session_id": "r1", "start": true, "labels": {"a b": "x"}}', "labels"),
    ('{"t": 1, "session_id": "r1", "start": true, "labels": {"a": 5}}', "labels.a"),
    ('{"t": 1, "session_id": "r1", "start": true, "parent": "r 1"}', "parent"),
    ('{"t": 1, "session_id": "r1", "progress": 1.1}', "progress"),
    ('{"t": 1, "session_id": "r1", "end": "done"}', "end"),
    ('{"t": 1, "session_id": "r1", "end": "completed", "resolved": 1}', "resolved"),
    ('{"t": 1, "session_id": "r1", "resolved": true}', "resolved"),
    ("[]", ""),
    ("{", ""),
    ("[" * 30_000, ""),
    ('{"t": ' + "9" * 5000 + ', "session_id": "r1"}', ""),
]  # fmt: skip


@pytest.mark.parametrize(("text", "key"), BAD, ids=[text[:70] for text, _ in BAD])
def test_what_cannot_be_is_refused_with_file_line_and_key(text: str, key: str) -> None:
    """Nothing is left out of a trace silently."""
    with pytest.raises(InvalidValueError) as caught:
        read(text)
    assert caught.value.where == WHERE
    assert caught.value.key == key


def test_a_line_that_is_written_is_read_as_the_same() -> None:
    """With all that a history can say."""
    lines = [
        TraceLine(1.5, "r1", WHERE, start=True, labels={"workflow": "w"}, parent="r0",
                  limits=ResourceLimits.only(max_tokens=5, max_cost_usd=Decimal("0.0000001"),
                                             token_warning_threshold=0.5)),
        TraceLine(2.0, "r1", WHERE, use=Use({"tokens": 5, "api_calls": 3}, 1, 2), progress=0.5),
        TraceLine(2.0, "r1", WHERE, use=Use({"api_calls": 3}, 0, 3), progress_unknown=True),
        TraceLine(2.0, "r1", WHERE, use=Use({"cost": Decimal("0.25"), "tool_calls": 2}, 1, 1)),
        TraceLine(2.5, "r1", WHERE, use=Use({"tokens": 9}, kinds={"input": 5, "cache_read": 2})),
        TraceLine(3.0, "r1", WHERE, end="failed", resolved=False),
    ]  # fmt: skip
    assert [read(write_line(one)) for one in lines] == lines
