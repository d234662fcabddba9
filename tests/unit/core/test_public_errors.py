"""The errors: their fields, their messages, and their way through a process pool."""

import pickle

import pytest

from otel_budget.core.exceeded import BudgetExceeded
from otel_budget.errors import (
    CheckpointError,
    ConfigFileError,
    InvalidValueError,
    ListenError,
    MissingExtraError,
    OtelBudgetError,
)
from otel_budget.policy.verdicts import verdict_from_usage

STOP = verdict_from_usage(
    "my-session", {"tokens": 5}, {}, progress=None, completion_threshold=0.8, now=0.0
)
ERRORS: list[tuple[OtelBudgetError, str, tuple[str, ...]]] = [
    (
        InvalidValueError("max_tokens", -1, "an integer", where="a.yaml:3"),
        "a.yaml:3: max_tokens: -1 is not allowed; allowed: an integer",
        ("key", "value", "allowed", "where"),
    ),
    (BudgetExceeded(STOP), f"run 'my-session': {STOP.message}", ("verdict",)),
    (
        CheckpointError("2.json", "is cut off", "1.json"),
        (
            "checkpoint 2.json: is cut off; the previous one is 1.json: "
            "pass checkpoint='1.json' to resume from it"
        ),
        ("path", "problem", "previous"),
    ),
    (
        CheckpointError("1.json", "is cut off"),
        "checkpoint 1.json: is cut off; there is no earlier checkpoint",
        ("path", "problem", "previous"),
    ),
    (ConfigFileError("a.yaml", "is a folder"), "a.yaml: is a folder", ("path", "problem")),
    (
        MissingExtraError("the sidecar", "sidecar", "starlette"),
        (
            "the sidecar needs the package 'starlette', which is not installed: "
            "pip install '.[sidecar]' in a clone of otel-budget"
        ),
        ("what", "extra", "package"),
    ),
    (
        ListenError("localhost:9464", "in use", "choose another port"),
        "cannot listen on localhost:9464: in use; choose another port",
        ("address", "problem", "advice"),
    ),
]


def _name(value: object) -> str:
    return type(value).__name__ if isinstance(value, Exception) else ""


@pytest.mark.parametrize(("error", "message", "fields"), ERRORS, ids=_name)
def test_an_error_says_what_was_wrong_and_what_to_do(
    error: OtelBudgetError, message: str, fields: tuple[str, ...]
) -> None:
    """The message is whole, and each part of it is a field too."""
    assert str(error) == message
    assert all(hasattr(error, field) for field in fields)


@pytest.mark.parametrize(("error", "message", "fields"), ERRORS, ids=_name)
def test_an_error_survives_the_way_to_another_process(
    error: OtelBudgetError, message: str, fields: tuple[str, ...]
) -> None:
    """A pool whose worker raises something it cannot unpickle breaks as a whole."""
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - made a moment ago
    assert type(again) is type(error)
    assert str(again) == message
    assert all(getattr(again, field) == getattr(error, field) for field in fields)


def test_one_class_catches_all_of_them() -> None:
    """And a refused value is a ValueError as well."""
    assert all(isinstance(error, OtelBudgetError) for error, _, _ in ERRORS)
    assert issubclass(InvalidValueError, ValueError)


def test_a_long_value_is_cut_in_the_message_and_whole_in_the_field() -> None:
    """Long enough to recognise it, short enough for a log line."""
    error = InvalidValueError("key", "x" * 5000, "less")
    assert len(str(error)) < 300
    assert error.value == "x" * 5000
