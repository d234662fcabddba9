"""What a source measured: samples as they were found, not yet accounted for and not judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from otel_budget.core.bindings import Bindings
from otel_budget.core.quantities import Number
from otel_budget.core.reasons import Reason

#: Begins the target of what a program pushes, which can be asked nowhere: then who pushed.
PUSHED: Final = "otlp://"
#: The source of a reading that is made of such targets alone.
OTLP: Final = "otlp"
#: Begins the target of what a run that ended handed over itself; then the address it came from.
HANDED_OVER: Final = "handover://"
#: The source of a reading that is made of such targets alone.
HANDOVER: Final = "handover"
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


@lru_cache(maxsize=10_000)
def _one_of_each(items: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    return MappingProxyType(dict(items))


def shared_labels(labels: Mapping[str, str]) -> Mapping[str, str]:
    """Return labels as an object that equal ones share: most runs have those of many others."""
    return _one_of_each(tuple(sorted(labels.items())))


class RunAttributes(NamedTuple):
    """What a target shows of a run besides its counters. None: it shows nothing of it.

    They are stored as a row: new fields go to the end.
    """

    started_at: float | None = None
    """Unix time at which the run began, by the agent's clock: half of its identity."""
    incarnation_at: float | None = None
    """Unix time at which this process began or resumed the run, by the agent's clock."""
    carried_over: Mapping[str, Number] = _NOTHING
    """Per resource, what this process carried over from a checkpoint."""
    limits: Mapping[str, Number] = _NOTHING
    """Per resource, the run's own limit; infinite is unlimited, absent is not said."""
    thresholds: Mapping[str, float] = _NOTHING
    """Per resource, the run's own warning threshold; absent is the default."""
    completion_threshold: float | None = None
    progress: float | None = None
    """The run's last estimate, 0 to 1."""
    duration: float | None = None
    """Seconds since the run began, as the agent measured it."""
    state: str | None = None
    """One of ``semconv.SESSION_STATES``."""
    unpriced_calls: float | None = None
    """Calls without a known price."""
    unknown_usage_calls: float | None = None
    """Calls without known tokens."""
    estimated_calls: float | None = None
    """Calls whose tokens are estimated."""
    optional_series: float | None = None
    """How many limits, reserves and estimates of progress the run has. With fewer of them seen,
    what is absent is missing; with as many, it is not there any more."""
    active: float | None = None
    """Seconds the run was active, without pauses and downtime, as the agent measured them."""
    progress_tokens: float | None = None
    """What this process had used when it reported ``progress``; and the same of calls and US
    dollars."""
    progress_api_calls: float | None = None
    progress_cost: float | None = None
    follows_completed: float | None = None
    """1 if the run before it under its id, in the same process, completed."""
    progress_further: Mapping[str, float] | None = None
    """Per further resource, what this process had used when it reported ``progress``."""
    idle_after: float | None = None
    """Seconds of silence that are none yet: its program tells only what it has used just now. After
    them it is taken to be gone. None: it is seen at intervals, and its silence is one."""
    labels: Mapping[str, str] | None = None
    """Whose the run is, in its own words: ``workflow`` and the scope labels that it has; none is
    empty. Equal ones are one object. None: it does not say."""
    parent: str | None = None
    """Session id of the run whose descendant it is, in its own words; None: of none."""
    wrap_up_calls: float | None = None
    """Calls that the run keeps back for its end."""
    waiting_since: float | None = None
    """Unix time since when it waits until it may go on; None: it does not, or does not say."""
    limits_from_outside: float | None = None
    """1 if an operator's limits may take the place of its own; None: they may not."""

    @property
    def optional_shown(self) -> int:
        """How many of the series are seen whose number ``optional_series`` says."""
        return len(self.limits) + (self.progress is not None) + (self.wrap_up_calls is not None)


class RunObservation(NamedTuple):
    """One run as one target showed it at one moment."""

    session_id: str
    target: str
    """Names the place it was seen at, the same one in every reading."""
    sampled_at: float
    """When the samples were taken, in seconds on the reader's own clock."""
    counters: Mapping[tuple[str, str], Number]
    """(resource, further labels as text) to the raw value of that series."""
    attributes: RunAttributes = RunAttributes()
    implausible: tuple[str, ...] = ()
    """Metrics of this run with a value that cannot be, or of a contradictory type: dropped. What
    they would have said is unknown."""
    process: str = ""
    """Names the process at the target, which may be seen at several; empty: the target does. It
    matters where the process does not say when it started."""
    follows: bool = False
    """True if ``incarnation_at`` is not what the process says, but when the source found it at the
    target, after the process before it there had ended."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A target, or the whole source, that did not give what it should."""

    target: str
    """As in RunObservation; empty for the source as a whole."""
    reason: Reason
    """SOURCE_ERROR: it gave nothing. PARTIAL_DATA: it says that something is missing."""
    detail: str
    """For people, with the address and what went wrong."""


@dataclass(frozen=True, slots=True)
class Observation:
    """One reading of a source: everything it found, and what it could not find."""

    source: str
    """``scrape``, ``prometheus``, ``otlp`` or ``handover``."""
    read_at: float
    """When the reading was complete, in seconds on the reader's own clock."""
    sessions: tuple[RunObservation, ...] = ()
    problems: tuple[Problem, ...] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Reason to number of samples refused: ``implausible``, ``type``, ``session_id``, …"""
    spacing: float = 1.0
    """Seconds between two samples of a series, until two of them were seen."""
    least_spacing: float = 0.0
    """Seconds between two readings of it that nothing hastened: however quickly some samples came
    one after another, the next one may be that far."""
    session_limit: int | None = None
    """Runs that may be known at one target, all together; None is no limit."""
    asked: frozenset[str] | None = None
    """The targets that were asked, if it was not all of them; the others are as they were."""
    targets: frozenset[str] | None = None
    """All there are, whether or not they answer; None if that is not known. Without what was added
    to their labels on the way."""
    down: frozenset[str] = frozenset()
    """Those of them that gave nothing when they were scraped, beside those with a problem."""
    left: frozenset[str] = frozenset()
    """Those of them whose process has ended for certain: nobody listens where one did."""
    pending: frozenset[str] = frozenset()
    """Those of them that have not answered yet: what they showed stays as it is, for now."""
    unmatched: Mapping[str, str] = field(default_factory=dict)
    """Targets that answer and show nothing that can be counted, to what is wrong, for people; empty
    if there is no target at all. They are no problems: what is known stays as it is."""
    answered: bool = True
    """False if there were targets to ask, or to find out about, and none of them answered."""

    listed: bool = True
    """False if it could not be found out which targets there are."""
    told: Mapping[str, str] = field(default_factory=dict)
    """Session id to what somebody who knows has just told of the run: one of
    ``semconv.SESSION_STATES``. A hook of its program, or what started it."""
    bindings: Bindings | None = None
    """Which of its targets may speak for which run; None if that is as it was."""

    @property
    def ok(self) -> bool:
        """True if the source, or at least one of its targets, answered, even without a run."""
        return self.answered and self.read

    @property
    def read(self) -> bool:
        """True if the source was read, although perhaps none of its targets is there."""
        return self.listed and not any(
            not problem.target and problem.reason is Reason.SOURCE_ERROR
            for problem in self.problems
        )

    def is_of(self, target: str) -> bool:
        """Tell whether it says how a target is now: it does of all but those that are not asked,
        or have not answered yet.
        """
        return target not in self.pending and (self.asked is None or target in self.asked)


def is_pushed(target: str) -> bool:
    """Tell whether what a target shows was pushed: no list names it, and nobody takes it away."""
    return target.startswith(PUSHED)


def is_handed_over(target: str) -> bool:
    """Tell whether what a target shows is the last word of a run that ended, and comes once."""
    return target.startswith(HANDED_OVER)


def plain_target(target: str) -> str:
    """Return a target without the labels that were added to it on the way, as in ``a/b{c="d"}``."""
    return target.partition("{")[0]
