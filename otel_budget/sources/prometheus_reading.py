"""From what a Prometheus answers to what is seen at one moment: dates, targets, bindings. No I/O.

The same for a server that is asked now, and for one that is asked what it had then.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Protocol

from otel_budget.core.bindings import Bindings
from otel_budget.core.observation import Observation
from otel_budget.sources.sample_dates import SampleDates
from otel_budget.sources.target_bindings import (
    LabelBinding,
    bindings_of,
    claimed,
    labelled,
    of_place,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from otel_budget.core.observation import Problem, RunObservation
    from otel_budget.sources.incremental.prometheus_answer import Taken
    from otel_budget.sources.prometheus_vector import Found, Run

SOURCE: Final = "prometheus"
#: Seconds; Prometheus' own default ``scrape_interval``.
USUAL_SPACING: Final = 60.0
#: Seconds without an answer after which a server may have forgotten its targets, until it has
#: scraped them again. It looks back for some minutes.
_FORGOTTEN_AFTER: Final = 60.0


class Answered(Protocol):
    """The newest answer of a server."""

    def found(self, date_of: Callable[[str, str], float]) -> Found:
        """Return the runs in it. date_of: gives when a run, by target and id, was sampled."""

    def labels(self) -> Mapping[str, list[Mapping[str, str]]]:
        """Return, of targets by job and instance, the labels of each of their ``up``."""

    def showing(self) -> AbstractSet[str]:
        """Return the targets that show a series, by job and instance; after ``found``."""


class PrometheusReading:
    """What the answers of one server show, one after the other."""

    def __init__(
        self,
        answer: Answered,
        bindings: Sequence[tuple[Sequence[str], Sequence[str]]] = (),
        *,
        first_owns: bool = False,
        session_limit: int | None = None,
    ) -> None:
        """bindings and the rest: as in PrometheusSettings."""
        self._answer, self._session_limit = answer, session_limit
        self._dates: SampleDates[Run] = SampleDates()
        self.targets: frozenset[str] | None = None
        self.down: frozenset[str] = frozenset()
        """Both as in Observation."""
        self._targets_at: float | None = None
        """When the newest answer with a target was asked for."""
        self.was_away = False
        """Whether, since then, a read failed or showed no target: the server may be a new one
        without its data."""
        self._listed_from = -math.inf
        """From when on a target without its ``up`` is one that was taken away."""
        self.bound = [LabelBinding(*each) for each in bindings]
        self._first_owns = first_owns
        self._bindings = Bindings(first_owns=first_owns)
        self.labels: dict[str, list[Mapping[str, str]]] = {}
        """Target to the labels that it was seen to have last."""

    def take(self, taken: Taken, asked_at: float) -> Found:
        """Take in the newest answer, which was asked for at a time on our own clock."""
        # By the time of asking: a slow server makes samples look older, never younger.
        offset = 0.0 if taken.evaluated_at is None else asked_at - taken.evaluated_at
        self._dates.update(taken.sampled, offset, asked_at)
        found = self._answer.found(lambda *run: self._dates.of(run, unknown=asked_at))
        # Where not each target that shows a run has its ``up``, that of another may be missing.
        whole = bool(taken.ups) and taken.ups.keys() >= self._answer.showing()
        listed = self._is_listed(asked_at, empty=not taken.ups)
        self.targets = frozenset(taken.ups) if whole and listed else None
        self._bind(whole=whole and listed)
        self.down = frozenset(target for target, up in taken.ups.items() if not up)
        return found

    def take_same(self, asked_at: float) -> None:
        """Take note that it was asked again, and answered the same as before."""
        if self._targets_at is not None and not self.was_away:
            self._targets_at = asked_at

    def observation(
        self,
        read_at: float,
        sessions: Sequence[RunObservation] = (),
        problems: Sequence[Problem] = (),
        dropped: Mapping[str, int] | None = None,
    ) -> Observation:
        """Return what was found, without what is known of the targets."""
        return Observation(
            source=SOURCE,
            read_at=read_at,
            sessions=tuple(sessions),
            problems=tuple(problems),
            dropped=dict(dropped or {}),
            spacing=USUAL_SPACING,
            session_limit=self._session_limit,
            bindings=self._bindings,
        )

    def _bind(self, *, whole: bool) -> None:
        """Find out which targets may speak for which run, after ``found``.

        whole: False if there may be targets that the answer leaves out.
        """
        showing = self._answer.showing()
        known = {} if whole else {t: each for t, each in self.labels.items() if t in showing}
        self.labels = {**known, **self._answer.labels()}
        targets = {place: [of_place(place)] for place in showing} | self.labels
        bindings = bindings_of(
            claimed(self.bound, targets), labelled(self.labels), first_owns=self._first_owns
        )
        if bindings != self._bindings:
            self._bindings = bindings

    def _is_listed(self, asked_at: float, *, empty: bool) -> bool:
        """Tell whether the server has had the time to scrape each of its targets.

        Not after it was away, or slept for so long that it has forgotten what there was.
        """
        if empty:
            self.was_away = True
            return False
        before, self._targets_at = self._targets_at, asked_at
        if before is not None and (self.was_away or asked_at - before >= _FORGOTTEN_AFTER):
            self._listed_from = asked_at + USUAL_SPACING
        self.was_away = False
        return asked_at >= self._listed_from
