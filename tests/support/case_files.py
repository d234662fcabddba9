"""Cases as data: tests/cases/*.yaml, read strictly, so that no case silently asserts nothing.

A file holds ``cases:``, each with a ``note`` (a sentence, and the test's id), ``given`` and
``want``. What may stand in them is written down here per file; anything else is an error.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from otel_budget import semconv
from otel_budget.core.budget import TOKEN_KINDS
from otel_budget.core.quantities import Number
from otel_budget.core.resources import RESOURCES, TIMES
from otel_budget.files.yaml_file import YamlFile
from tests.support.paths import TESTS

FOLDER = TESTS / "cases"

#: Stands for any single value.
VALUE = "a value"
#: Something of each resource.
BY_RESOURCE = dict.fromkeys(RESOURCES, VALUE)

_LIMITS = {"limits": BY_RESOURCE, "thresholds": BY_RESOURCE, "completion_threshold": VALUE}
_DOUBT = {"unpriced_calls": VALUE, "unknown_usage_calls": VALUE, "estimated_calls": VALUE}
_DECISION = {"action": VALUE, "reason": VALUE, "status": VALUE}
_SEEN = {
    "target": VALUE, "run": VALUE, "process": VALUE, "tokens": VALUE, "api_calls": VALUE,
    "cost": VALUE, "series": [{"resource": VALUE, "labels": VALUE, "value": VALUE}],
    "carried_over": BY_RESOURCE, "limits": BY_RESOURCE, "thresholds": BY_RESOURCE,
    "progress": VALUE, "duration": VALUE, "active": VALUE, "state": VALUE,
    "implausible": [VALUE], "taken": VALUE, "optional_series": VALUE, **_DOUBT,
    "follows_completed": VALUE,
}  # fmt: skip

SHAPES: dict[str, Any] = {
    "limits": {
        "given": {"resource": VALUE, "limit": VALUE, "threshold": VALUE, "used": VALUE},
        "want": {"status": VALUE, "remaining": VALUE, "ratio": VALUE, "headroom": VALUE},
    },
    "decisions": {
        "given": {**_LIMITS, "used": BY_RESOURCE, "progress": VALUE},
        "want": {**_DECISION, "approaching": [VALUE], "exceeded": [VALUE]},
    },
    "combined_limits": {
        "given": {"own": _LIMITS, "sidecar": _LIMITS, "used": BY_RESOURCE, "progress": VALUE},
        "want": {
            **_DECISION, "limit": BY_RESOURCE, "limit_from": BY_RESOURCE, "headroom": BY_RESOURCE,
            "completion_threshold": VALUE, "unjudged": [VALUE], "message": VALUE,
        },
    },
    "briefings": {
        "given": {
            "limits": BY_RESOURCE, "used": BY_RESOURCE, **_DOUBT, "kept": VALUE, "last": VALUE,
            "calls": {"number": VALUE, "tokens": VALUE, "cost": VALUE, "seconds": VALUE},
            "stopped": VALUE,
        },
        "want": {"text": VALUE, "calls_left": VALUE, "seconds_left": VALUE},
    },
    "budgets": {
        "given": {
            "own": _LIMITS, "sidecar": _LIMITS, "used": BY_RESOURCE, "progress": VALUE,
            "silent_for": VALUE, **_DOUBT, "on_no_data": VALUE, "on_unknown_usage": VALUE,
            "stopped_by_operator": VALUE,
            "budgets": [
                {
                    "name": VALUE, "user": VALUE, "mode": VALUE, "when_low": VALUE, "chosen": VALUE,
                    "limits": BY_RESOURCE, "used": BY_RESOURCE, "top_up": BY_RESOURCE,
                    "carried": BY_RESOURCE, "warning_threshold": VALUE,
                    "weights": dict.fromkeys(TOKEN_KINDS, VALUE), "resets": VALUE,
                }
            ],
        },
        "want": {
            **_DECISION, "limit_from": VALUE, "binds": [VALUE], "headroom": BY_RESOURCE,
            "message": VALUE, "would": VALUE, "remaining": VALUE, "limit": VALUE,
            "own_status": VALUE,
        },
    },
    "no_data": {
        "given": {
            **_LIMITS, "used": BY_RESOURCE, "progress": VALUE, "silent_for": VALUE,
            "spacing": VALUE, "trouble": VALUE, "implausible_for": VALUE, "ended": VALUE,
            "listened_for": VALUE, "lag": VALUE, **_DOUBT,
            "rules": {
                "stale_after": VALUE, "hold": VALUE, "on_no_data": VALUE, "on_unpriced": VALUE,
                "on_unknown_usage": VALUE,
            },
        },
        "want": _DECISION,
    },
    "ledger": {
        "given": [
            {"at": VALUE, "sees": [_SEEN], "fails": [VALUE], "partial": [VALUE], "restart": VALUE}
        ],
        "want": {
            **BY_RESOURCE, "unknown": [VALUE], "resets": VALUE, "incarnations": VALUE,
            "refused": VALUE, "superseded": VALUE, "limits": BY_RESOURCE, "progress": VALUE,
            "ended": VALUE, "implausible_for": VALUE, "silent_for": VALUE, "spacing": VALUE,
            "trouble": VALUE, "listened_for": VALUE, "at_least": [VALUE], **_DOUBT,
            "also": [VALUE], "concurrent": VALUE, "second": VALUE, "ahead": VALUE,
            "goes_on": VALUE, "restarts": VALUE,
            "started_at": VALUE,
        },
    },
    "feasibility": {
        "given": {
            "limits": BY_RESOURCE, "used": BY_RESOURCE, "progress": VALUE, **_DOUBT,
        },
        "want": {"fits": VALUE},
    },
    "messages": {
        "given": {**_LIMITS, "used": BY_RESOURCE, "progress": VALUE, **_DOUBT},
        "want": {"verdict": VALUE, "check": VALUE},
    },
    "unknown": {
        "given": {
            **_LIMITS, "used": BY_RESOURCE, "progress": VALUE, **_DOUBT, "on_unpriced": VALUE,
            "on_unknown_usage": VALUE,
        },
        "want": {**_DECISION, "message": VALUE, "at_least": [VALUE], "estimated": [VALUE]},
    },
}  # fmt: skip


class CaseError(Exception):
    """Say what is wrong with a case file."""


@dataclass(frozen=True)
class Case:
    """One case of one file."""

    file: str
    note: str
    given: Any
    want: dict[str, Any]


def read_cases(name: str) -> list[Case]:
    """Return the cases of ``tests/cases/<name>.yaml``."""
    return parse_cases(name, YamlFile.read(FOLDER / f"{name}.yaml").data)


def parse_cases(name: str, data: Mapping[str, Any]) -> list[Case]:
    """Return the cases in a decoded file. Raises CaseError for anything that is not foreseen."""
    shape = {"cases": [{"note": VALUE, **SHAPES[name]}]}
    _check(data, shape, name)
    cases = [Case(name, case["note"], case["given"], case["want"]) for case in data["cases"]]
    for case in cases:
        if not case.want:
            raise CaseError(f"{name}: {case.note}: wants nothing")
    notes = [case.note for case in cases]
    if len(set(notes)) != len(notes):
        raise CaseError(f"{name}: two cases have the same note")
    return cases


def _check(data: object, shape: Any, path: str) -> None:
    if isinstance(shape, dict):
        _check_mapping(data, shape, path)
    elif isinstance(shape, list):
        if not isinstance(data, list):
            raise CaseError(f"{path}: {data!r} is not a list")
        for index, item in enumerate(data):
            _check(item, shape[0], f"{path}[{index}]")
    elif isinstance(data, dict | list):
        raise CaseError(f"{path}: {data!r} is not a single value")


def _check_mapping(data: object, shape: dict[str, Any], path: str) -> None:
    if not isinstance(data, dict):
        raise CaseError(f"{path}: {data!r} is not a mapping")
    for key, value in data.items():
        if key not in shape:
            raise CaseError(f"{path}.{key}: unknown; known are {', '.join(shape)}")
        _check(value, shape[key], f"{path}.{key}")
    for key in {"note", "given", "want"} & shape.keys():
        if key not in data:
            raise CaseError(f"{path}: {key} is missing")


def number(resource: str, value: Any) -> Number:
    """Return an amount in the resource's own type: money as Decimal, seconds as float."""
    if value == float("inf"):
        return float(value)  # a way to say that there is no limit
    if resource == semconv.COST:
        return Decimal(str(value))
    return float(value) if resource in TIMES else int(value)


def numbers(values: Mapping[str, Any] | None) -> dict[str, Number]:
    """Return amounts by resource, each in its own type."""
    return {resource: number(resource, value) for resource, value in (values or {}).items()}
