"""ResourceLimits: defaults, refusals, files, and the way there and back."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from otel_budget import Orchestrator
from otel_budget.config.ceilings import CeilingsConfig
from otel_budget.core.limits import LIMIT_KEYS, THRESHOLD_KEYS, ResourceLimits
from otel_budget.core.resources import RESOURCES
from otel_budget.errors import ConfigFileError, InvalidValueError

COUNTS = ("max_tokens", "max_api_calls")
NAN, INF = float("nan"), float("inf")


def limits(**values: Any) -> ResourceLimits:
    """Return limits made of whatever a caller may pass."""
    return ResourceLimits(**values)


def test_the_defaults_are_those_of_the_contract() -> None:
    """An hour, a million tokens, a thousand calls, no limit on cost; warnings at 80 %."""
    assert limits().to_dict() == {
        "max_duration_seconds": 3600,
        "max_tokens": 1_000_000,
        "max_api_calls": 1000,
        "max_cost_usd": None,
        "checkpoint_interval": 300,
        "duration_warning_threshold": 0.8,
        "token_warning_threshold": 0.8,
        "api_call_warning_threshold": 0.8,
        "cost_warning_threshold": 0.8,
        "completion_threshold": 0.8,
        "on_unpriced": "ignore",
        "on_unknown_usage": "ignore",
    }


@pytest.mark.parametrize("value", ["warn", "", None, True, 1, "STOP"])
@pytest.mark.parametrize("key", ["on_unpriced", "on_unknown_usage"])
def test_what_to_do_about_the_unknown_is_one_of_a_few_words(key: str, value: object) -> None:
    """The refusal says which."""
    with pytest.raises(InvalidValueError, match=f"{key}: .* allowed: 'ignore' or .*'stop'"):
        limits(**{key: value})


def test_a_price_cannot_be_estimated() -> None:
    """A use can: the run has others to go by."""
    assert limits(on_unknown_usage="estimate").on_unknown_usage == "estimate"
    with pytest.raises(InvalidValueError, match="on_unpriced"):
        limits(on_unpriced="estimate")


def test_limits_of_an_earlier_version_are_still_read() -> None:
    """Its checkpoints do not have the newer keys."""
    old = limits(max_tokens=7).to_dict()
    del old["on_unpriced"], old["on_unknown_usage"]
    assert ResourceLimits.from_dict(old) == limits(max_tokens=7)


def test_limits_cannot_be_changed_in_place() -> None:
    """They are a value: a monitor is given others through update_limits."""
    with pytest.raises(AttributeError):
        limits().max_tokens = 5  # type: ignore[misc] # the point of the test


@pytest.mark.parametrize("key", ["max_duration_seconds", *COUNTS, "max_cost_usd"])
def test_no_limit_and_a_limit_of_0_are_both_allowed(key: str) -> None:
    """None is unlimited, 0 permits nothing: two different things."""
    assert getattr(limits(**{key: None}), key) is None
    assert getattr(limits(**{key: 0}), key) == 0


@pytest.mark.parametrize("key", LIMIT_KEYS)
@pytest.mark.parametrize(
    "value", [-1, -0.5, NAN, INF, -INF, True, False, "5", "", [5], {"a": 1}, 2**53 + 1, 10**400]
)
def test_what_is_no_limit_is_refused_with_key_value_and_what_is_allowed(
    key: str, value: object
) -> None:
    """The error has the fields, and the message all of them."""
    with pytest.raises(InvalidValueError) as caught:
        limits(**{key: value})
    error = caught.value
    assert (error.key, error.value, error.where) == (key, value, "")
    assert error.allowed
    shown = repr(value)[:200]
    assert str(error).startswith(f"{key}: {shown}")
    assert str(error).endswith(f"is not allowed; allowed: {error.allowed}")


@pytest.mark.parametrize("key", ["max_duration_seconds", *COUNTS, "max_cost_usd"])
def test_an_integer_too_long_to_be_written_out_is_refused_too(key: str) -> None:
    """Python refuses to print it; the refusal does not."""
    with pytest.raises(InvalidValueError, match=r"int too long to print"):
        limits(**{key: 10**5000})


@pytest.mark.parametrize("key", THRESHOLD_KEYS)
@pytest.mark.parametrize("value", [0, 0.0, -0.1, 1.0000001, 2, 80, None])
def test_a_threshold_outside_0_to_1_is_refused(key: str, value: object) -> None:
    """0 is outside, 1 is inside."""
    with pytest.raises(InvalidValueError, match=r"a number above 0 and at most 1"):
        limits(**{key: value})
    assert getattr(limits(**{key: 1}), key) == 1.0


@pytest.mark.parametrize("value", [0, 0.0, None])
def test_a_checkpoint_interval_of_0_is_refused(value: object) -> None:
    """Time must pass between two automatic checkpoints."""
    with pytest.raises(InvalidValueError, match=r"checkpoint_interval: .*above 0"):
        limits(checkpoint_interval=value)


@pytest.mark.parametrize("key", COUNTS)
def test_a_count_must_be_whole(key: str) -> None:
    """1e6 is a million, half a token is none."""
    assert getattr(limits(**{key: 1e6}), key) == 1_000_000
    assert type(getattr(limits(**{key: 1e6}), key)) is int
    with pytest.raises(InvalidValueError, match=r"an integer from 0 to 2\^53"):
        limits(**{key: 0.5})


def test_a_float_amount_of_money_is_the_decimal_it_was_written_as() -> None:
    """0.1 dollars are exactly ten cents."""
    assert limits(max_cost_usd=0.1).max_cost_usd == Decimal("0.1")
    assert limits(max_cost_usd=Decimal("1.10")).max_cost_usd == Decimal("1.1")
    assert limits(max_cost_usd=3).max_cost_usd == Decimal(3)


@pytest.mark.parametrize("value", [Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity")])
def test_money_that_is_no_amount_is_refused(value: Decimal) -> None:
    """Decimal has such values of its own."""
    with pytest.raises(InvalidValueError, match=r"max_cost_usd"):
        limits(max_cost_usd=value)


def test_minus_zero_is_zero() -> None:
    """A sign nobody meant does not show up in what people read."""
    assert str(limits(max_duration_seconds=-0.0).max_duration_seconds) == "0.0"
    assert str(limits(max_cost_usd=-0.0).max_cost_usd) == "0.0"


def test_an_unknown_key_is_refused_with_the_known_ones() -> None:
    """A misspelt limit is no limit, which nobody would notice."""
    with pytest.raises(InvalidValueError, match=r"max_token: 5 .*max_tokens") as caught:
        ResourceLimits.from_mapping({"max_token": 5})
    assert all(key in caught.value.allowed for key in LIMIT_KEYS)


def test_the_section_of_a_file_is_read_and_what_is_absent_takes_the_default(tmp_path: Path) -> None:
    """Other sections of the file are somebody else's."""
    file = tmp_path / "limits.yaml"
    file.write_text(
        "workflow: demo\nresource_limits:\n  max_tokens: 2_000_000\n  max_cost_usd: 0.1\n"
        "  max_duration_seconds: null\n"
    )
    read = ResourceLimits.from_yaml(file)
    assert read == limits(max_tokens=2_000_000, max_cost_usd=0.1, max_duration_seconds=None)
    assert ResourceLimits.from_yaml(str(file)) == read


@pytest.mark.parametrize("text", ["", "other: 1\n", "resource_limits:\n", "resource_limits: {}\n"])
def test_a_file_without_the_section_gives_the_defaults(tmp_path: Path, text: str) -> None:
    """So does an empty one."""
    file = tmp_path / "limits.yaml"
    file.write_text(text)
    assert ResourceLimits.from_yaml(file) == limits()


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("resource_limits:\n  max_tokens: -5\n", 2, "max_tokens"),
        ("resource_limits:\n  max_tokens: 5\n  max_token: 6\n", 3, "max_token"),
        ("a: 1\n\nresource_limits: {max_tokens: yes}\n", 3, "max_tokens"),
        ("resource_limits:\n  max_cost_usd: .nan\n", 2, "max_cost_usd"),
        ("resource_limits:\n  completion_threshold: 80\n", 2, "completion_threshold"),
        ("resource_limits:\n  checkpoint_interval: 0\n", 2, "checkpoint_interval"),
        ("resource_limits:\n  max_tokens: 5\n  max_tokens: 6\n", 3, "resource_limits.max_tokens"),
        ("resource_limits: [1]\n", 1, "resource_limits"),
    ],
)
def test_a_refusal_from_a_file_has_the_file_and_the_line(
    tmp_path: Path, text: str, line: int, key: str
) -> None:
    """So that it can be found."""
    file = tmp_path / "limits.yaml"
    file.write_text(text)
    with pytest.raises(InvalidValueError) as caught:
        ResourceLimits.from_yaml(file)
    assert (caught.value.key, caught.value.where) == (key, f"{file}:{line}")
    assert str(caught.value).startswith(f"{file}:{line}: {key}: ")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Not a bare OSError."""
    with pytest.raises(ConfigFileError, match=r"missing\.yaml: cannot be read"):
        ResourceLimits.from_yaml(tmp_path / "missing.yaml")


def test_limits_come_back_from_their_dict_exactly() -> None:
    """Money is a string in between."""
    first = limits(max_cost_usd=Decimal("0.10"), max_tokens=None, token_warning_threshold=0.55)
    data = first.to_dict()
    assert data["max_cost_usd"] == "0.10"
    assert ResourceLimits.from_dict(data) == first


def test_a_dict_with_money_as_a_number_is_refused() -> None:
    """It was not written by to_dict."""
    with pytest.raises(InvalidValueError, match=r"max_cost_usd: 0.1 .*decimal string"):
        ResourceLimits.from_dict({**limits().to_dict(), "max_cost_usd": 0.1})


def test_every_resource_has_its_fields_here_and_in_the_sidecars_ceilings() -> None:
    for row in RESOURCES.values():
        assert {row.limit_key, row.threshold_key} <= set(LIMIT_KEYS) & set(
            CeilingsConfig.model_fields
        )


def test_only_limits_nothing_but_what_it_is_given(tmp_path: Path) -> None:
    """By name, in a file, and for an orchestrator; thresholds keep their defaults."""
    wanted = ResourceLimits(
        max_duration_seconds=None, max_tokens=None, max_api_calls=None, max_cost_usd=Decimal(5),
        cost_warning_threshold=0.5,
    )  # fmt: skip
    assert ResourceLimits.only(max_cost_usd=5, cost_warning_threshold=0.5) == wanted
    section = {"only": True, "max_cost_usd": 5, "cost_warning_threshold": 0.5}
    file = tmp_path / "limits.yaml"
    file.write_text(json.dumps({"resource_limits": section}))
    assert ResourceLimits.from_yaml(file) == wanted
    orchestrator = Orchestrator({"resource_limits": section})
    assert orchestrator.monitor.limits == wanted
    orchestrator.monitor.close(timeout=0)
    assert ResourceLimits.only(max_tokens=None) == ResourceLimits.only()
    defaults = {"resource_limits": {"only": False, "max_cost_usd": 5}}
    file.write_text(json.dumps(defaults))
    assert ResourceLimits.from_yaml(file) == ResourceLimits(max_cost_usd=Decimal(5))


def test_only_is_as_strict_as_the_rest(tmp_path: Path) -> None:
    """An unknown name is no limit; it is a word of files, and no limit itself."""
    with pytest.raises(InvalidValueError, match=r"max_token: 5 is not allowed"):
        ResourceLimits.only(max_token=5)
    file = tmp_path / "limits.yaml"
    file.write_text("resource_limits:\n  only: 1\n")
    with pytest.raises(InvalidValueError, match=r"limits.yaml:2: only: 1 .* true or false"):
        ResourceLimits.from_yaml(file)
    with pytest.raises(InvalidValueError, match=r"^only: True is not allowed"):
        ResourceLimits.from_mapping({"only": True})
