"""What a run that is stopped in time may still use to finish with something in hand."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_budget import semconv
from otel_budget.core.quantities import as_json

if TYPE_CHECKING:
    from otel_budget.core.json_fields import Fields


class WrapUp(NamedTuple):
    """The allowance of a graceful stop: so many calls, and no more than this in them.

    An amount is None where the size of a call is not known; the calls bound it then. None of it
    goes past a limit.
    """

    calls: int
    """At least 1."""
    tokens: int | None = None
    cost: Decimal | None = None
    """US dollars."""
    seconds: float | None = None


#: The phase in which a run wraps up.
WRAP_UP_PHASE: Final = "wrap_up"


def to_dict(wrap_up: WrapUp) -> dict[str, Any]:
    """Return an allowance as JSON types; money is a string."""
    return {
        "calls": wrap_up.calls,
        "tokens": wrap_up.tokens,
        "cost": None if wrap_up.cost is None else as_json(wrap_up.cost),
        "seconds": wrap_up.seconds,
    }


def from_fields(fields: Fields) -> WrapUp:
    """Return the allowance in a decoded JSON object. Raises InvalidValueError naming the field."""
    amounts: Mapping[str, Any] = {
        "tokens": fields.maybe(fields.whole, "tokens"),
        "cost": fields.maybe(fields.amount, "cost", semconv.COST),
        "seconds": fields.maybe(fields.real, "seconds"),
    }
    return WrapUp(calls=fields.whole("calls"), **amounts)
