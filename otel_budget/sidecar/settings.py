"""What of the loop can be exchanged while it runs: a reload of the configuration does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from otel_budget.core.owner_labels import NO_DETAILS, Details

if TYPE_CHECKING:
    from otel_budget.policy.verdicts import Rules
    from otel_budget.sources.base import Source
    from otel_budget.sources.otlp.source import OtlpSource


@dataclass(frozen=True, slots=True)
class Settings:
    """What can be exchanged while the loop runs."""

    name: str
    """Of the source, as its readings give it."""
    source: Source
    interval: float
    """Seconds from the start of one reading to the start of the next."""
    rules: Rules
    forget_after: float
    """Seconds of silence after which a run is forgotten."""
    pushes: OtlpSource | None = None
    """What programs push to, if they may: the source itself, or one beside it."""
    details: Details = NO_DETAILS
    """What of runs is read."""
