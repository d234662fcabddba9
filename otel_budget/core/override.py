"""An operator's override of one run: to stop it, or to change its ceilings for a time.

It is for the run it was given for: a resumed run has it too, another run under the same id does
not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, StrEnum, auto

from otel_budget.core import validation
from otel_budget.core.quantities import Number
from otel_budget.core.resources import RESOURCES
from otel_budget.errors import InvalidValueError, OtelBudgetError

#: Seconds an override may hold at most, where it has an end: 30 days.
LONGEST = 30 * 86_400.0
LONGEST_REASON, LONGEST_NAME = 200, 64


class OverrideKind(StrEnum):
    """What an operator can do."""

    STOP = "stop"
    """Stop, whatever the numbers say: gracefully, unless it says ``now``."""
    RELEASE = "release"
    """Take a stop back."""
    LIMITS = "limits"
    """Hold the run to other ceilings than the configured ones."""


@dataclass(frozen=True, slots=True)
class Override:
    """One override, as it was given."""

    kind: OverrideKind
    reason: str
    """One line, for people: it is shown to the run and in the log."""
    by: str = ""
    """Who gave it, by their own account; empty if they do not say."""
    at: float = 0.0
    """Unix time."""
    until: float | None = None
    """Unix time from which it does not hold any more; None holds until it is taken back."""
    limits: Mapping[str, Number | None] = field(default_factory=dict)
    """Of LIMITS: resource to its ceiling in place of the configured one, None for no ceiling. No
    resource at all takes an earlier override back."""
    now: bool = False
    """Of STOP: True if the run may not even make its last calls."""


@dataclass(frozen=True, slots=True)
class Overrides:
    """The overrides that hold for one run."""

    stop: Override | None = None
    limits: Override | None = None

    def __bool__(self) -> bool:
        """True if there is one."""
        return self.stop is not None or self.limits is not None

    def after(self, override: Override) -> Overrides:
        """Return what holds once an override is given: it takes the place of one of its kind."""
        if override.kind is OverrideKind.LIMITS:
            return replace(self, limits=override if override.limits else None)
        return replace(self, stop=override if override.kind is OverrideKind.STOP else None)

    def moved(self, seconds: float) -> Overrides:
        """Return them by a clock that is ahead of the present one by so many seconds."""
        return Overrides(_moved(self.stop, seconds), _moved(self.limits, seconds))

    def holding(self, now: float) -> Overrides:
        """Return those that hold at a Unix time."""
        if not self:
            return self
        return Overrides(_if_held(self.stop, now), _if_held(self.limits, now))


NO_OVERRIDES = Overrides()


class Refusal(Enum):
    """Why an override was not taken."""

    UNKNOWN_RUN = auto()
    RUN_ENDED = auto()
    NOT_STORED = auto()
    """It does not hold, or that is not known; it may be given again."""


class OverrideRefusedError(OtelBudgetError):
    """Say that an override was not taken, and why."""

    def __init__(self, refusal: Refusal, detail: str) -> None:
        """Keep the fields. detail: one sentence for people."""
        self.refusal = refusal
        super().__init__(detail)


def _moved(override: Override | None, seconds: float) -> Override | None:
    if override is None:
        return None
    until = None if override.until is None else override.until + seconds
    return replace(override, at=override.at + seconds, until=until)


def _if_held(override: Override | None, now: float) -> Override | None:
    over = override is None or (override.until is not None and now >= override.until)
    return None if over else override


def override_from(kind: OverrideKind, data: object, now: float) -> Override:
    """Read an override from JSON. now: Unix time at which it is given.

    Keys: ``reason``; ``by``; ``for_seconds`` (not of a release; needed with limits); of a stop
    ``now``; and of limits the names of ``ResourceLimits``, null for no ceiling. Raises
    InvalidValueError.
    """
    rows = {row.limit_key: row for row in RESOURCES.values()}
    known = {
        OverrideKind.STOP: ("reason", "by", "for_seconds", "now"),
        OverrideKind.RELEASE: ("reason", "by"),
        OverrideKind.LIMITS: ("reason", "by", "for_seconds", *rows),
    }[kind]
    if not isinstance(data, dict):
        raise InvalidValueError("", data, f"a JSON object with {', '.join(known)}")
    for key in data:
        if key not in known:
            raise InvalidValueError(str(key), data[key], f"one of the keys {', '.join(known)}")
    reason = validation.line("reason", data.get("reason"), LONGEST_REASON)
    by = validation.line("by", data["by"], LONGEST_NAME) if "by" in data else ""
    limits = {
        row.name: row.quantity.limit_from_json(key, data[key])
        for key, row in rows.items()
        if key in data
    }
    until = _until(kind, data, limits, now)
    return Override(kind, reason, by, now, until, limits, _at_once(data))


def _at_once(data: Mapping[str, object]) -> bool:
    given = data.get("now", False)
    if not isinstance(given, bool):
        raise InvalidValueError("now", given, "true or false")
    return given


def _until(
    kind: OverrideKind, data: Mapping[str, object], limits: Mapping[str, object], now: float
) -> float | None:
    if "for_seconds" not in data:
        if kind is OverrideKind.LIMITS and limits:
            allowed = "a number of seconds, as ceilings are changed for a time only"
            raise InvalidValueError("for_seconds", None, allowed, sentence=f"is missing: {allowed}")
        return None
    given = data["for_seconds"]
    seconds = validation.seconds("for_seconds", given, positive=True)
    if seconds > LONGEST:
        raise InvalidValueError("for_seconds", given, f"at most {LONGEST:.0f} seconds, 30 days")
    return now + seconds
