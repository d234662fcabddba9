"""What ``otel-budget run`` was told to do, checked before anything starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otel_budget import semconv
from otel_budget.core import validation
from otel_budget.core.limits import ResourceLimits
from otel_budget.core.resources import RESOURCES
from otel_budget.errors import InvalidValueError

if TYPE_CHECKING:
    from otel_budget.core.quantities import Number

#: Resource attributes of a run: who it is, and each limit and threshold by its key.
SESSION_ATTRIBUTE: Final = "otel_budget.session_id"
_PREFIX: Final = "otel_budget."


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One run of one program."""

    command: tuple[str, ...]
    run: str
    """Session id."""
    limits: Mapping[str, Number] = field(default_factory=dict)
    """By the limits' keys; none is no limit of the run's own."""
    warn_at: float | None = None
    """Share of each limit from which the run is told to finish; None is the default."""
    wrap_up_calls: int = 0
    """Calls that are kept back for the end."""
    agent: str | None = None
    """What the program is, where its name does not tell."""
    sidecar: str = ""
    """URL of one that is there; empty: one of its own."""
    storage: Path | None = None
    """For a sidecar of its own; None is one for this run alone."""
    summary_json: Path | None = None
    grace: float | None = None
    """Seconds; None is what fits the program."""
    strict: bool = False
    hooks: bool = True
    trust_hooks: bool = False

    @property
    def attributes(self) -> dict[str, str]:
        """The resource attributes that name the run and its limits."""
        said = dict(self.ceilings)
        if self.wrap_up_calls:
            said["wrap_up_calls"] = self.wrap_up_calls
        return {SESSION_ATTRIBUTE: self.run} | {
            _PREFIX + key: _plain(value) for key, value in said.items()
        }

    @property
    def seconds(self) -> float | None:
        """How long the run may last."""
        limit = self.limits.get(RESOURCES[semconv.DURATION].limit_key)
        return None if limit is None else float(limit)

    @property
    def ceilings(self) -> dict[str, Number]:
        """Limits and thresholds by their keys, as a configuration file has them."""
        found = dict(self.limits)
        if self.warn_at is not None:
            rows = [row for row in RESOURCES.values() if row.limit_key in self.limits]
            found |= {row.threshold_key: self.warn_at for row in rows}
        return found


def checked_limits(given: Mapping[str, object]) -> dict[str, Number]:
    """Return limits in their own types. given: by key, None where there is none.

    Raises InvalidValueError naming the flag.
    """
    found: dict[str, Number] = {}
    for row in RESOURCES.values():
        value = given.get(row.limit_key)
        if value is None:
            continue
        try:
            limits = ResourceLimits.only(**{row.limit_key: value})
        except InvalidValueError as exc:
            typed = str(value) if isinstance(value, Decimal) else value
            raise InvalidValueError(row.flag, typed, exc.allowed) from exc
        found[row.limit_key] = row.limit_of(limits)
    return found


def checked_share(flag: str, value: float | None) -> float | None:
    """Return a share above 0 and at most 1. Raises InvalidValueError."""
    return None if value is None else validation.ratio(flag, value)


def checked_file(flag: str, value: str | None) -> Path | None:
    """Return the absolute path of a file that can be written to. Raises InvalidValueError.

    Who is told of it may have another folder: the sidecar's configuration is in one of its own.
    """
    if value is None:
        return None
    found = Path(value).absolute()
    if not found.parent.is_dir() or found.is_dir():
        raise InvalidValueError(flag, value, "a file in a folder that exists")
    return found


def _plain(value: Number) -> str:
    """Return a number as a resource attribute has it, without an exponent."""
    return str(value) if isinstance(value, int) else f"{value:f}".rstrip("0").rstrip(".")
