"""Lines of a trace: what one run began with, used, and ended as, in the order of time."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from otel_budget.core.limits import ResourceLimits
    from otel_budget.core.quantities import Number

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class Use(NamedTuple):
    """What a run used since the line before it."""

    amounts: Mapping[str, Number] = _NOTHING
    """Per counted resource, the increase; none is below 0. Absent: nothing."""
    unknown_usage_calls: int = 0
    """Calls whose tokens are not known."""
    unpriced_calls: int = 0
    """Calls whose cost, or part of it, is not known."""
    kinds: Mapping[str, int] = _NOTHING
    """Kind of ``core.token_kinds`` to tokens, parts inside their wholes; empty where they are not
    split."""


class TraceLine(NamedTuple):
    """One line: of one run at one time."""

    at: float
    """Unix time, in seconds."""
    session_id: str
    where: str
    """For people: FILE:LINE."""
    start: bool = False
    """True if the run begins."""
    labels: Mapping[str, str] = _NOTHING
    limits: ResourceLimits | None = None
    """The run's own, from its start; None: it has none."""
    parent: str | None = None
    use: Use | None = None
    progress: float | None = None
    """The run's own estimate, 0 to 1; None: not said on this line."""
    end: str | None = None
    """One of ``semconv.ENDED_STATES``, where the run ends."""
    resolved: bool | None = None
    """Whether the run did what it was for; None: not judged."""
    progress_unknown: bool = False
    """True if the run says that it does not know its progress any more."""
