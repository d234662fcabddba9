"""How far a run will get: what is left until a limit, in calls and in seconds, and how surely."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget.core.resources import RESOURCES

if TYPE_CHECKING:
    from collections.abc import Mapping


class Estimate(NamedTuple):
    """An amount that is not known yet, never negative; ``low <= value <= high``, all finite.

    The range is meant to hold what comes in four cases of five; docs/forecast.md has how often it
    does.
    """

    value: float
    low: float
    """In one case of ten it is less than this."""
    high: float
    """In one case of ten it is more."""


class Forecast(NamedTuple):
    """What is left of one limited resource. None: it cannot be told."""

    calls_left: Estimate | None = None
    """Calls from now until used >= limit. A fraction: of the call that crosses the limit, the part
    that still fits counts."""
    seconds_left: Estimate | None = None
    """Seconds from now until then."""

    @property
    def whole_calls_left(self) -> int | None:
        """Calls that fit as a whole before the limit is reached; None: it cannot be told."""
        return None if self.calls_left is None else math.floor(self.calls_left.value)


#: Of a resource of which nothing can be told.
NO_FORECAST: Final = Forecast()


def ends_first(forecasts: Mapping[str, Forecast]) -> str | None:
    """Return the resource whose limit is reached first; None if none can be told.

    By the seconds left where they are known of each; else by the calls left of those of which they
    are known. Of equals the first in the order of the table of resources.
    """
    order = [name for name in RESOURCES if name in forecasts]
    order += [name for name in forecasts if name not in RESOURCES]
    seconds = {name: left.value for name in order if (left := forecasts[name].seconds_left)}
    calls = {name: left.value for name in order if (left := forecasts[name].calls_left)}
    known = seconds if len(seconds) == len(forecasts) else calls or seconds
    return min(known, key=known.__getitem__, default=None)
