"""What is asked for when room in shared budgets is reserved: values, their JSON, and refusals."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_budget.core import validation
from otel_budget.core.quantities import as_json
from otel_budget.core.resources import COUNTED, RESOURCES
from otel_budget.errors import InvalidValueError, OtelBudgetError

if TYPE_CHECKING:
    from otel_budget.core.quantities import Number

#: Seconds of a lease: where none is asked for, and at most.
DEFAULT_LEASE: Final = 60.0
LONGEST_LEASE: Final = 3600.0
#: Seconds that may lie between what was used and the word of it.
LONGEST_AGO: Final = 3600.0
_KEYS: Final = ("session_id", "resources", "lease_seconds")
_AMOUNTS: Final = f"an object with at least one of {', '.join(COUNTED)}"
#: Reads the key of a resource and its amount.
_NAMES: Final = frozenset(COUNTED)


class ReservationRequest(NamedTuple):
    """What one run may use soon, in all budgets that it shares."""

    key: str
    """Names it: the same request with the same key is the same reservation."""
    session_id: str
    amounts: Mapping[str, Number]
    """Per resource; absent is none."""
    lease_seconds: float
    asked: str
    """All that was asked for, always spelled the same."""


class ReservationRefusal(StrEnum):
    """Why a reservation is refused, or cannot be changed."""

    UNKNOWN_RUN = "unknown_run"
    UNKNOWN = "unknown_reservation"
    RUN_ENDED = "run_ended"
    EXCEEDED = "budget_exceeded"
    """What is left of a budget does not suffice, whoever holds it."""
    BUSY = "budget_busy"
    """It would, but for what others hold."""
    KEY_REUSED = "idempotency_key_reused"
    LEASE_ENDED = "lease_ended"
    RELEASED = "released"
    COMMITTED = "already_committed"
    TOO_MANY = "too_many_reservations"
    NOT_STORED = "not_stored"


class ReservationRefusedError(OtelBudgetError):
    """Say why; carries what goes with it as JSON types."""

    def __init__(self, refusal: ReservationRefusal, detail: str, **members: Any) -> None:
        self.refusal, self.detail, self.members = refusal, detail, members
        super().__init__(detail)


def request_from(key: str, data: object) -> ReservationRequest:
    """Read a request from JSON. Raises InvalidValueError."""
    fields = _object(data, _KEYS)
    session_id = validation.session_id(fields.get("session_id"))
    amounts = amounts_from("resources", fields.get("resources"))
    lease = lease_from(fields.get("lease_seconds", DEFAULT_LEASE))
    asked = {
        "session_id": session_id,
        "resources": {name: as_json(amounts[name]) for name in sorted(amounts)},
        "lease_seconds": lease,
    }
    return ReservationRequest(key, session_id, amounts, lease, json.dumps(asked))


def use_from(data: object) -> tuple[Mapping[str, Number], float]:
    """Read what was used of a reservation, and how many seconds ago the last of it was recorded.

    A resource that is absent, or null, is not known. Raises InvalidValueError.
    """
    fields = _object(data, ("used", "seconds_ago"))
    given = fields.get("used")
    if not isinstance(given, dict):
        raise InvalidValueError("used", given, f"an object of {', '.join(COUNTED)}")
    known = {name: value for name, value in given.items() if value is not None}
    ago = validation.seconds("seconds_ago", fields.get("seconds_ago", 0))
    if ago > LONGEST_AGO:
        raise InvalidValueError("seconds_ago", ago, f"seconds from 0 to {LONGEST_AGO:,.0f}")
    return {name: _amount("used", name, value) for name, value in known.items()}, ago


def extension_from(data: object) -> float:
    """Read for how many seconds a lease is to go on from now. Raises InvalidValueError."""
    return lease_from(_object(data, ("lease_seconds",)).get("lease_seconds", DEFAULT_LEASE))


def lease_from(value: object) -> float:
    """Return the seconds of a lease. Raises InvalidValueError."""
    lease = validation.seconds("lease_seconds", value, positive=True)
    if lease > LONGEST_LEASE:
        allowed = f"seconds above 0 and up to {LONGEST_LEASE:,.0f}"
        raise InvalidValueError("lease_seconds", value, allowed)
    return lease


def amounts_from(name: str, given: object) -> Mapping[str, Number]:
    """Return amounts per resource, at least one. Raises InvalidValueError."""
    if not isinstance(given, dict) or not given:
        raise InvalidValueError(name, given, _AMOUNTS)
    return {resource: _amount(name, resource, value) for resource, value in given.items()}


def _amount(name: str, resource: object, value: object) -> Number:
    key = f"{name}.{resource}"
    if resource not in _NAMES:
        raise InvalidValueError(key, value, f"one of {', '.join(COUNTED)}")
    amount = RESOURCES[str(resource)].quantity.limit_from_json(key, value)
    if amount is None:
        raise InvalidValueError(key, value, "an amount")
    return amount


def _object(data: object, keys: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise InvalidValueError("", data, f"a JSON object with {', '.join(keys)}")
    for name in data:
        if name not in keys:
            raise InvalidValueError(str(name), data[name], f"one of the keys {', '.join(keys)}")
    return data
