"""The resources that can be limited, one row each: all that tells them apart.

What must live here: nothing else decides by a resource's name whether it is counted, what its limit
is called, or how it is shown. The names on the wire are ``semconv``'s.

A new resource that is counted is a row and a field of FurtherUsage here, its metrics in
``semconv``, its limit and threshold in ``core.limits``, and an argument of ``record_operation``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_budget import semconv
from otel_budget.core.quantities import COUNT, MONEY, SECONDS
from otel_budget.core.token_kinds import KIND_COUNTERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_budget.core.quantities import Number, Quantity


class Resource(NamedTuple):
    """One resource that can be limited."""

    name: str
    """Value of the label ``resource``, and the key in verdicts."""
    unit: str
    """Value of the label ``unit``."""
    quantity: Quantity
    """What its amounts are."""
    limit_key: str
    """Field of ResourceLimits, key of a configuration file and, with dashes, flag of a command."""
    threshold_key: str
    """The same for the share of the limit where warning begins."""
    usage_key: str
    """Field of ResourceUsage."""
    title: str
    """As a dashboard heads it."""
    about: str
    """What counts, for the help of a flag."""
    counter: semconv.Metric | None = None
    """What a process of the run counted of it. None: it is measured, and passes by itself."""
    at_progress: semconv.Metric | None = None
    """The value of the counter when the run last reported its progress."""
    by_phase: semconv.Metric | None = None
    """Of a further resource: the same as the counter by phase."""
    by_process: semconv.Metric | None = None
    """Of a further resource: what all runs of a process counted, by owner."""
    attribute: str = ""
    """Of a further resource: what it is called on a span."""

    def limit_of(self, limits: object) -> Any:
        """Return its limit, a Number or None for unlimited. limits: what has the field."""
        return getattr(limits, self.limit_key)

    def threshold_of(self, limits: object) -> Any:
        """Return the share of the limit where warning begins; None if it is not given."""
        return getattr(limits, self.threshold_key)

    @property
    def noun(self) -> str:
        """Its title within a sentence: ``tokens``, ``API calls``."""
        acronym = self.title[:2].isupper()
        return self.title if acronym else self.title[0].lower() + self.title[1:]

    @property
    def flag(self) -> str:
        """The command line flag of its limit."""
        return f"--{self.limit_key.replace('_', '-')}"


_TABLE: Final = (
    Resource(
        semconv.DURATION, "seconds", SECONDS,
        "max_duration_seconds", "duration_warning_threshold", "duration_seconds",
        "Time", "since the run began, downtime included",
    ),
    Resource(
        semconv.TOKENS, "tokens", COUNT,
        "max_tokens", "token_warning_threshold", "tokens",
        "Tokens", "input and output together",
        semconv.SESSION_TOKENS, semconv.PROGRESS_TOKENS,
    ),
    Resource(
        semconv.API_CALLS, "calls", COUNT,
        "max_api_calls", "api_call_warning_threshold", "api_calls",
        "API calls", "calls to models",
        semconv.SESSION_API_CALLS, semconv.PROGRESS_API_CALLS,
    ),
    Resource(
        semconv.COST, "usd", MONEY,
        "max_cost_usd", "cost_warning_threshold", "cost_usd",
        "Cost", "US dollars",
        semconv.SESSION_COST, semconv.PROGRESS_COST,
    ),
    Resource(
        semconv.ACTIVE_DURATION, "seconds", SECONDS,
        "max_active_seconds", "active_duration_warning_threshold", "active_seconds",
        "Active time", "without pauses and downtime",
    ),
    Resource(
        semconv.TOOL_CALLS, "calls", COUNT,
        "max_tool_calls", "tool_call_warning_threshold", "tool_calls",
        "Tool calls", "calls to tools",
        semconv.SESSION_TOOL_CALLS, semconv.PROGRESS_TOOL_CALLS,
        semconv.PHASE_TOOL_CALLS, semconv.USAGE_TOOL_CALLS, semconv.ATTR_TOOL_CALLS,
    ),
)  # fmt: skip

#: All of them by name, in the order in which they are shown.
RESOURCES: Final[Mapping[str, Resource]] = {row.name: row for row in _TABLE}
#: Names of those that are used; the others pass by themselves.
COUNTED: Final = tuple(row.name for row in _TABLE if row.counter is not None)
TIMES: Final = tuple(row.name for row in _TABLE if row.counter is None)
#: Those of them that every run counts.
BASIC: Final = (semconv.TOKENS, semconv.API_CALLS, semconv.COST)
#: The others: counts that a run has only where it counts them, or limits them. Absent is unknown.
FURTHER: Final[Mapping[str, Resource]] = {
    name: RESOURCES[name] for name in COUNTED if name not in BASIC
}
#: The metrics that are judged, and the resource each of them counts.
COUNTERS: Final = {row.counter.name: row.name for row in _TABLE if row.counter is not None}
#: Nothing of each that is counted, in its own type; kinds of tokens are counted as well.
ZERO: Final[Mapping[str, Number]] = {
    **{name: RESOURCES[name].quantity.zero for name in COUNTED},
    **dict.fromkeys(KIND_COUNTERS.values(), COUNT.zero),
}


def quantity_of(resource: str) -> Quantity:
    """Return what amounts of a resource are; of one that is not known here, a count."""
    row = RESOURCES.get(resource)
    return COUNT if row is None else row.quantity


@dataclass(frozen=True, slots=True, kw_only=True)
class FurtherUsage:
    """What a run used of further resources, over all its processes."""

    tool_calls: int = 0
    """Calls of tools, failed ones included; as far as they were reported."""
