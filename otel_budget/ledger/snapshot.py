"""What policy reads of one run: a value, as of one moment."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from otel_budget.core.override import NO_OVERRIDES, Overrides
from otel_budget.core.uncertainty import NO_UNCERTAINTY, UsageUncertainty

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_budget.core.observation import RunAttributes
    from otel_budget.core.quantities import Number
    from otel_budget.core.verdict import Reason


class RunSnapshot(NamedTuple):
    """What one run has used, and how well that is known: all that policy needs."""

    session_id: str
    started_at: float | None
    """Unix time at which the run began, as it says; None if it does not."""
    used: Mapping[str, Number]
    """Per resource: seconds, tokens, calls, US dollars. Absent is unknown, never 0."""
    attributes: RunAttributes
    """What the run says of itself: its limits, thresholds, progress, state."""
    rates: Mapping[str, float]
    """Per resource, units per second; absent when it is not being spent."""
    sampled_at: float | None
    """When the newest sample was taken; None when there is no confirmed one yet."""
    silent_for: float
    """Seconds since the newest confirmed sample, whether they were watched or not."""
    gap: float
    """The usual seconds between two samples of this run."""
    trouble: Reason | None
    """Why the run's target gave nothing of late; None if it answers."""
    implausible_for: float | None
    """Seconds since its samples became implausible; None while they are not."""
    ended: bool
    """True when the run itself said that it is over."""
    watched_for: float = math.inf
    """Seconds for which it has been watched: a restarted sidecar has not waited any longer."""
    uncertainty: UsageUncertainty = NO_UNCERTAINTY
    """What is not known of the use."""
    overrides: Overrides = NO_OVERRIDES
    """What an operator has ordered, also what does not hold any more."""
    active: float | None = None
    """Seconds it was active. None: it does not say, or it is not needed."""
    active_when_shown: float | None = None
    """The same as of the newest sample."""
    unwatched_for: float = 0.0
    """Of ``silent_for``, the seconds that were not watched: they are not the run's silence."""
    lag: float = 0.0
    """Seconds by which the samples of this run arrive late, steadily."""
    also_started_at: tuple[float, ...] = ()
    """Start times of other runs of the same id that are counted together with it."""
    used_at_progress: Mapping[str, Number] = MappingProxyType({})
    """Per resource, what was used when the run reported its progress; absent is not known."""
    failing_for: float | None = None
    """Seconds since its samples cannot be taken in, as we fail at them; None while they can."""
