"""What a pushed request says, as plain values: the same for protobuf and JSON.

What must live here: the shapes, and how much of each a request may have. Only attributes that are
asked for are in them; all others are read for a stream's identity at most, and never kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget.errors import OtelBudgetError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What an attribute may hold here; of a list or a mapping nothing is kept.
Scalar = str | int | float | bool

#: Points, or log records, in one request, with the metrics, scopes and resources they are in;
#: attributes of one of them, or of a resource.
POINTS_MOST: Final = 200_000
ATTRIBUTES_MOST: Final = 512
#: Characters of a value that is kept; what is longer is cut off, and is no session id then.
LONGEST_VALUE: Final = 512

#: The attribute of a log record that names its event.
EVENT_NAME: Final = "event.name"

SUM: Final = "sum"
GAUGE: Final = "gauge"
HISTOGRAM: Final = "histogram"
"""Also an exponential one: of both, the sum and the count."""
SUMMARY: Final = "summary"


class OtlpError(OtelBudgetError):
    """Refuse the body of a request; the message says why, in a few words and without any of it."""


class Room:
    """How much more a request may hold."""

    def __init__(self) -> None:
        """Begin with nothing taken."""
        self._left = POINTS_MOST

    def take(self, number: int) -> None:
        """Take room for so many. Raises OtlpError if there is too little."""
        self._left -= number
        if self._left < 0:
            raise OtlpError(f"more than {POINTS_MOST:,} points or records in one request")


class Resource(NamedTuple):
    """Who pushed a part of a request."""

    attributes: Mapping[str, Scalar]
    """Those that are asked for, by their own names."""
    digest: str
    """Of all its plain attributes: tells resources apart, also after a restart of either side."""


class Point(NamedTuple):
    """One point of a metric."""

    attributes: Mapping[str, Scalar]
    """As in Resource."""
    stream: str
    """Digest of the metric's name, its scope and all the point's attributes."""
    start: int
    """When counting began, in Unix nanoseconds; 0 is unknown."""
    value: float | int | None
    """Of a histogram or summary its sum; None if there is none."""
    values: int | None = None
    """Of a histogram or summary, how many values are in the sum."""


class Metric(NamedTuple):
    """One metric of one scope, with its points."""

    name: str
    unit: str
    kind: str
    """``SUM``, ``GAUGE``, ``HISTOGRAM`` or ``SUMMARY``."""
    delta: bool
    """True: each point says what was added since the one before."""
    monotonic: bool
    scope: str
    points: tuple[Point, ...]


class Record(NamedTuple):
    """One log record that may tell of usage."""

    names: tuple[str, ...]
    """What its event may be called: attribute ``event.name``, field ``eventName``, the body."""
    attributes: Mapping[str, Scalar]
    """As in Resource."""


class Metrics(NamedTuple):
    """A request with metrics."""

    resources: tuple[tuple[Resource, tuple[Metric, ...]], ...]
    """Of metrics that are asked for. A resource is there without any, too."""
    digest: bytes
    """Of the whole body: a request that comes twice is a retry."""


class Logs(NamedTuple):
    """A request with log records."""

    resources: tuple[tuple[Resource, tuple[Record, ...]], ...]
    """Of events that are asked for. A resource is there without any, too."""
    digest: bytes
    """As in Metrics."""
