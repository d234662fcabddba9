"""What a run has used: a frozen picture of all its counts at one moment."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from otel_budget.core import validation
from otel_budget.core.resources import FURTHER, FurtherUsage
from otel_budget.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class ResourceUsage(FurtherUsage):
    """All a run used so far, over all its processes."""

    session_id: str
    """Names the run."""
    started_at: float
    """Unix time in seconds at which the run began; a resumed run keeps it."""
    duration_seconds: float = 0.0
    """Wall-clock seconds since the run began, pauses and downtime included."""
    active_seconds: float = 0.0
    """The same without pauses and downtime."""
    tokens: int = 0
    """Input and output tokens, and those given as one number."""
    input_tokens: int = 0
    """Known input tokens, cached ones included. At most ``tokens``."""
    output_tokens: int = 0
    """Known output tokens, reasoning included. At most ``tokens``."""
    cache_read_tokens: int = 0
    """Part of the input."""
    cache_write_tokens: int = 0
    """Part of the input."""
    reasoning_tokens: int = 0
    """Part of the output."""
    api_calls: int = 0
    """Calls made, failed ones included."""
    failed_api_calls: int = 0
    """Part of ``api_calls``."""
    unknown_usage_calls: int = 0
    """Calls without known tokens: ``tokens`` is "at least" while this is above 0."""
    cost_usd: Decimal = Decimal(0)
    """Known cost in US dollars."""
    unpriced_calls: int = 0
    """Calls without a price, or without one for all of it: above 0 ``cost_usd`` is "at least"."""
    estimated_calls: int = 0
    """Calls whose tokens, and price, are estimated: both are "about" while this is above 0."""
    estimated_tokens: int = 0
    """Part of ``tokens``: those of the estimated calls."""
    checkpoints: int = 0
    """Checkpoints written."""
    last_checkpoint_at: float | None = None
    """Unix time of the newest checkpoint; None before the first."""

    def to_dict(self) -> dict[str, object]:
        """Return JSON types only; money is a string. ``from_dict`` is the exact inverse.

        A further resource that was not used is left out, so that earlier versions can read it.
        """
        values = {
            name: getattr(self, name)
            for name in USAGE_KEYS
            if name not in _FURTHER_KEYS or getattr(self, name)
        }
        values["cost_usd"] = str(self.cost_usd)
        return values

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> ResourceUsage:
        """Build usage from what ``to_dict`` gave.

        Raises InvalidValueError for a missing or unknown key, or a value that is not allowed.
        """
        for key in data:
            if key not in USAGE_KEYS:
                raise InvalidValueError(key, data[key], "the keys " + ", ".join(USAGE_KEYS))
        for key in USAGE_KEYS:
            if key not in data and key not in _ADDED_KEYS:
                raise InvalidValueError(key, None, "a value: the key is missing")
        last = data["last_checkpoint_at"]
        return cls(
            session_id=validation.session_id(data["session_id"]),
            cost_usd=validation.money_text("cost_usd", data["cost_usd"]),
            last_checkpoint_at=None
            if last is None
            else validation.seconds("last_checkpoint_at", last),
            **_checked(data),
        )


_FURTHER_KEYS = tuple(row.usage_key for row in FURTHER.values())
USAGE_KEYS = (
    *(f.name for f in dataclasses.fields(ResourceUsage) if f.name not in _FURTHER_KEYS),
    *_FURTHER_KEYS,
)
#: Absent in what earlier versions wrote, which knew no estimates and no further resources.
_ADDED_KEYS = ("estimated_calls", "estimated_tokens", *_FURTHER_KEYS)
_SECONDS_KEYS = ("started_at", "duration_seconds", "active_seconds")
_COUNT_KEYS = tuple(
    key
    for key in USAGE_KEYS
    if key.endswith(("tokens", "calls")) or key in ("checkpoints", *_FURTHER_KEYS)
)


def _checked(data: Mapping[str, object]) -> dict[str, Any]:
    seconds = {key: validation.seconds(key, data[key]) for key in _SECONDS_KEYS}
    return {**seconds, **{key: validation.count(key, data.get(key, 0)) for key in _COUNT_KEYS}}
