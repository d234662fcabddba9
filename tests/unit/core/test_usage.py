"""ResourceUsage: the way there and back, and every refusal on the way back."""

import json
from dataclasses import replace
from decimal import Decimal

import pytest

from otel_budget.core.usage import USAGE_KEYS, ResourceUsage
from otel_budget.errors import InvalidValueError

FULL = ResourceUsage(
    session_id="my-session",
    started_at=1767268800.25,
    duration_seconds=512.125,
    active_seconds=500.5,
    tokens=831_000,
    input_tokens=700_000,
    output_tokens=131_000,
    cache_read_tokens=600_000,
    cache_write_tokens=50_000,
    reasoning_tokens=90_000,
    api_calls=42,
    failed_api_calls=2,
    unknown_usage_calls=1,
    cost_usd=Decimal("12.3400"),
    unpriced_calls=3,
    estimated_calls=5,
    estimated_tokens=6_000,
    tool_calls=17,
    checkpoints=4,
    last_checkpoint_at=1767269100.5,
)
COUNTS = [key for key in USAGE_KEYS if type(getattr(FULL, key)) is int]
SECONDS = ["started_at", "duration_seconds", "active_seconds", "last_checkpoint_at"]


def test_usage_comes_back_from_json_exactly() -> None:
    """Through real JSON text, with every field set, and with every default."""
    for usage in (FULL, ResourceUsage(session_id="s", started_at=0.0)):
        assert ResourceUsage.from_dict(json.loads(json.dumps(usage.to_dict()))) == usage


def test_money_is_a_string_that_keeps_its_cents() -> None:
    """A float would lose them."""
    assert FULL.to_dict()["cost_usd"] == "12.3400"


def test_every_count_is_covered_here() -> None:
    """A new field is a new refusal to test."""
    assert set(COUNTS) | set(SECONDS) | {"session_id", "cost_usd"} == set(USAGE_KEYS)


#: Absent in what earlier versions wrote.
ADDED = ("estimated_calls", "estimated_tokens", "tool_calls")


def test_what_an_earlier_version_wrote_is_read_as_without_estimates() -> None:
    """It made none, and counted no calls of tools."""
    data = FULL.to_dict()
    for key in ADDED:
        del data[key]
    assert ResourceUsage.from_dict(data) == replace(
        FULL, estimated_calls=0, estimated_tokens=0, tool_calls=0
    )


@pytest.mark.parametrize("key", [key for key in USAGE_KEYS if key not in ADDED])
def test_a_missing_key_is_refused_by_name(key: str) -> None:
    """Unknown is not 0."""
    data = FULL.to_dict()
    del data[key]
    with pytest.raises(InvalidValueError, match=f"{key}: None .*missing"):
        ResourceUsage.from_dict(data)


def test_an_unknown_key_is_refused_by_name() -> None:
    """A newer version's file is not read as if it were this one's."""
    with pytest.raises(InvalidValueError, match=r"searches: 7"):
        ResourceUsage.from_dict({**FULL.to_dict(), "searches": 7})


@pytest.mark.parametrize("key", COUNTS)
@pytest.mark.parametrize("value", [-1, 1.0, True, "5", None, float("nan"), 2**53 + 1, []])
def test_what_is_no_count_is_refused(key: str, value: object) -> None:
    """Counts are integers from 0 to 2^53."""
    with pytest.raises(InvalidValueError, match=rf"{key}: .*an integer from 0 to 2\^53"):
        ResourceUsage.from_dict({**FULL.to_dict(), key: value})


@pytest.mark.parametrize("key", SECONDS)
@pytest.mark.parametrize("value", [-1, True, "5", float("nan"), float("inf"), 10**400, []])
def test_what_is_no_number_of_seconds_is_refused(key: str, value: object) -> None:
    """Seconds are finite and at least 0."""
    with pytest.raises(InvalidValueError, match=f"{key}: .*a number of seconds from 0"):
        ResourceUsage.from_dict({**FULL.to_dict(), key: value})


@pytest.mark.parametrize("value", [1.5, 1, None, "", "abc", "NaN", "Infinity", "-1", "1e400"])
def test_what_is_no_amount_of_money_is_refused(value: object) -> None:
    """Money is a decimal string of at least 0."""
    with pytest.raises(InvalidValueError, match=r"cost_usd"):
        ResourceUsage.from_dict({**FULL.to_dict(), "cost_usd": value})


@pytest.mark.parametrize("value", ["", "-a", ".a", "a b", "ä", "a" * 129, 5, None, "a\n", "a/b"])
def test_what_is_no_session_id_is_refused(value: object) -> None:
    """The id stands in URLs, paths and labels."""
    with pytest.raises(InvalidValueError, match=r"session_id: .*1 to 128 characters"):
        ResourceUsage.from_dict({**FULL.to_dict(), "session_id": value})


@pytest.mark.parametrize("value", ["a", "7", "A.b_c:d@e-f", "a" * 128])
def test_every_allowed_session_id_is_taken(value: str) -> None:
    """Up to 128 characters, the first one a letter or a digit."""
    assert ResourceUsage.from_dict({**FULL.to_dict(), "session_id": value}).session_id == value
