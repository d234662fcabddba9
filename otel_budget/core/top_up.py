"""What an operator asks for to add to a shared budget for a time, and why that may be refused."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final

from otel_budget.core import validation
from otel_budget.core.budget_text import group_from_labels, group_from_text
from otel_budget.core.override import LONGEST_NAME, LONGEST_REASON
from otel_budget.core.quantities import as_json
from otel_budget.core.resources import COUNTED, RESOURCES
from otel_budget.errors import InvalidValueError, OtelBudgetError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_budget.core.budget import Budget, Group
    from otel_budget.core.quantities import Number

#: Until the window ends in which it is given.
RESET: Final = "reset"
#: Seconds a top-up may hold at most, where its end is said: 400 days, as long as the history.
LONGEST_TOP_UP: Final = 400 * 86_400.0
#: Of what a client calls its request, so that a second try is no second top-up.
KEY_PATTERN: Final = re.compile(r"[\x21-\x7e]{1,128}")
_KEY_ALLOWED: Final = "1 to 128 visible ASCII characters, such as a UUID, new for each request"
_UNTIL_ALLOWED: Final = (
    f"{RESET}, a duration of up to 400 days such as 2h, or a time to come within them with its "
    "offset, such as 2026-03-01T08:00:00Z"
)
_RFC_3339: Final = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?([Zz]|[+-]\d\d:\d\d)", re.ASCII
)
_KEYS: Final = ("group", "amounts", "reason", "by", "until")


class TopUpRefusal(Enum):
    """Why a top-up was not given."""

    UNKNOWN_BUDGET = auto()
    UNKNOWN_GROUP = auto()
    KEY_REUSED = auto()
    """The key stands for another one."""
    NOT_STORED = auto()
    """It does not hold, or that is not known; it may be asked for again with the same key."""


class TopUpRefusedError(OtelBudgetError):
    """Say that a top-up was not given, and why."""

    def __init__(self, refusal: TopUpRefusal, detail: str) -> None:
        """Keep the fields. detail: one sentence for people."""
        self.refusal = refusal
        super().__init__(detail)


@dataclass(frozen=True, slots=True)
class TopUpRequest:
    """A top-up as it is asked for."""

    key: str
    """Names it: the same key again is the same top-up."""
    budget: str
    group: Group
    amounts: Mapping[str, Number]
    """Per resource that the budget limits, above 0."""
    reason: str
    by: str
    """Who asks, by their own account; empty if they do not say."""
    until: float | None
    """Unix time at which it ends; None: when the window does in which it is given."""
    asked: str
    """As in ``TopUp``."""


def key_from(text: str | None) -> str:
    """Return what an ``Idempotency-Key`` header says, with or without quotes.

    Raises InvalidValueError, also where there is none.
    """
    if text is None:
        sentence = f"is missing: {_KEY_ALLOWED}; with it a second try does nothing twice"
        raise InvalidValueError("Idempotency-Key", None, _KEY_ALLOWED, sentence=sentence)
    key = text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text
    if KEY_PATTERN.fullmatch(key) is None:
        raise InvalidValueError("Idempotency-Key", text, _KEY_ALLOWED)
    return key


def top_up_from(budget: Budget, key: str, data: object, now: float) -> TopUpRequest:
    """Read a request from JSON. now: Unix time at which it is made.

    Keys: ``group``, an object or as in a query, absent where the budget has no ``per``;
    ``amounts``, by resource or by what its limit is called; ``reason``; ``by``; ``until``, by
    default ``reset``. Raises InvalidValueError.
    """
    if not isinstance(data, dict):
        raise InvalidValueError("", data, f"a JSON object with {', '.join(_KEYS)}")
    for name in data:
        if name not in _KEYS:
            raise InvalidValueError(str(name), data[name], f"one of the keys {', '.join(_KEYS)}")
    group = _group(budget, data.get("group", {}))
    amounts = _amounts(budget, data.get("amounts"))
    reason = validation.line("reason", data.get("reason"), LONGEST_REASON)
    by = validation.line("by", data["by"], LONGEST_NAME) if "by" in data else ""
    asked_until = data.get("until", RESET)
    asked = {
        "budget": budget.name,
        "group": budget.group_text(group),
        "amounts": {name: as_json(amounts[name]) for name in sorted(amounts)},
        "reason": reason,
        "by": by,
        "until": asked_until,
    }
    until = until_from("until", asked_until, now)
    return TopUpRequest(key, budget.name, group, amounts, reason, by, until, json.dumps(asked))


def until_from(name: str, value: object, now: float) -> float | None:
    """Return the Unix time at which a top-up ends; None: when its window does.

    name: of whom it is, for the error. Raises InvalidValueError.
    """
    if value == RESET:
        return None
    refused = InvalidValueError(name, value, _UNTIL_ALLOWED)
    try:
        if isinstance(value, str) and _RFC_3339.fullmatch(value):
            until = datetime.fromisoformat(value.upper()).timestamp()
        else:
            until = now + validation.duration(name, value)
    except (ValueError, OverflowError) as exc:
        raise refused from exc
    if not now < until <= now + LONGEST_TOP_UP:
        raise refused
    return until


def _group(budget: Budget, given: object) -> Group:
    if isinstance(given, str):
        return group_from_text(budget, given)
    if not isinstance(given, dict):
        raise InvalidValueError("group", given, "an object of labels, or text such as user=ann")
    return group_from_labels(budget, given)


def _amounts(budget: Budget, given: object) -> dict[str, Number]:
    allowed = f"an object with at least one of {', '.join(budget.limits)}, each above 0"
    if not isinstance(given, dict) or not given:
        raise InvalidValueError("amounts", given, allowed)
    names = {name: name for name in COUNTED}
    names |= {RESOURCES[name].limit_key: name for name in COUNTED}
    found: dict[str, Number] = {}
    for key, value in given.items():
        resource = names.get(key)
        if resource is None or resource not in budget.limits or resource in found:
            raise InvalidValueError(f"amounts.{key}", value, _why_not(budget, resource, found))
        found[resource] = _amount(resource, f"amounts.{key}", value)
    return found


def _amount(resource: str, key: str, value: object) -> Number:
    amount = RESOURCES[resource].quantity.limit_from_json(key, value)
    if amount is None or amount <= 0:
        raise InvalidValueError(key, value, "above 0: a top-up adds")
    return amount


def _why_not(budget: Budget, resource: str | None, found: Mapping[str, Any]) -> str:
    if resource in found:
        return f"{resource} once"
    return f"what {budget.name} limits: {', '.join(budget.limits)}"
