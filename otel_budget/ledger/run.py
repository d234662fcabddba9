"""One run in the ledger: its processes, what they counted, and what it said about itself.

How a total comes about:
- A series is a counter (counter.py); the series of one name at one target are summed.
- A process that says when it started is one process wherever it is seen (process.py).
  Without a start time the target stands for it.
- Incarnations follow one another by their start. Each begins from the larger of what is known up
  to then and what it says it carried over from its checkpoint:
  ``total = max(total so far, carried over) + what it counted``.
  So neither a checkpoint older than the last scrape nor a scrape older than the checkpoint loses
  or doubles anything, and the order in which samples arrive does not matter.
- Several runs of one id that are alive at once are counted together: see processes.py.
- A resource that was never exported has no total: it is unknown, not 0.
"""

from __future__ import annotations

import math
from operator import itemgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget import semconv
from otel_budget.core.observation import RunAttributes
from otel_budget.core.override import NO_OVERRIDES
from otel_budget.core.token_kinds import KIND_COUNTER_NAMES, KIND_COUNTERS, disjoint
from otel_budget.core.uncertainty import UsageUncertainty
from otel_budget.ledger.findings import FindingKind
from otel_budget.ledger.freshness import Freshness
from otel_budget.ledger.process import SILENT_GAPS, UNSURE, Process
from otel_budget.ledger.processes import (
    active_seconds,
    alive,
    by_run,
    is_outlived,
    let_oldest_go,
    newest_of,
    process_of,
    said_together,
    second_target,
    totals_of,
    used_together,
)
from otel_budget.ledger.restart_loop import NO_RESTARTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from otel_budget.core.observation import RunObservation
    from otel_budget.core.quantities import Number
    from otel_budget.ledger.book_values import RunScope

_STARTS_KEPT = 20
#: Seconds within which a program pushes the rest after its end was told.
_FLUSHED_WITHIN = 10.0
_NONE: frozenset[str] = frozenset()
_NOT_FAILING: Mapping[str, float] = MappingProxyType({})
#: Seconds: two clocks that drift apart are no news at every sample.
_WORTH_STORING = 0.1
#: Seconds of active time, which grows with every sample.
_ACTIVE_WORTH_STORING = 60.0


class Observed(NamedTuple):
    """What one reading of a run brought to light."""

    resets: int = 0
    """Counters that dropped."""
    replaced: bool = False
    """True if a new process came to a run that had one."""
    concurrent: bool = False
    """True if a process is found to go on beside a newer one."""
    second: FindingKind | None = None
    """What another target is that shows the run beside the one that does."""
    alternating: frozenset[str] = _NONE
    """The resources of which a series is found to be written by several processes."""
    goes_on: bool = False
    """True if it is found to go on although it says that it is over."""


NOTHING_NEW = Observed()


class RunTotals(Freshness):
    """All the ledger knows about one run, or about several of one id that are alive at once."""

    failing = _NOT_FAILING
    """Target to since when what it shows of the run cannot be taken in, as we fail at it."""

    pushed = False
    """True if what is known of it now was pushed, or some of it."""
    heard_at = -math.inf
    """When somebody told last that it goes on, without a sample."""
    told_end: tuple[str, float] | None = None
    """The end that was told of it, and when, for as long as something may be on its way."""

    has_left = False
    """True if it vanished as its process has ended for certain."""

    booked: Mapping[str, Number] = MappingProxyType({})
    """Per resource, what of its totals is in the books of shared budgets."""
    booked_kinds: Mapping[str, int] = MappingProxyType({})
    """The same per kind of tokens, where a budget weighs them."""
    booked_unsure: tuple[int, int] = (0, 0)
    """Calls of unknown tokens, and of unknown price, that the books know of."""
    scope: RunScope | None = None
    """In which groups of budgets it counts; None: not found out yet."""
    bequeathed: Mapping[str, Number] = MappingProxyType({})
    """What runs below it used that are not known any more, or are below another one by now."""
    held_by: str | None = None
    """Session id of the parent that holds for it; after a restart, too."""
    disowned: Mapping[str, Number] = MappingProxyType({})
    """What of it, and of those below it, is in what another run was left by it."""

    knows_active = False
    """True once it was said how long the run was active."""

    def __init__(self, session_id: str, started_at: float | None, first_seen_at: float) -> None:
        """Begin with a run that was just seen for the first time."""
        super().__init__(first_seen_at)
        self.session_id = session_id
        self.started_at = started_at
        self.also: tuple[float, ...] = ()
        """Start times of other runs of the same id that were alive at the same time."""
        self.earlier: dict[str, Number] = {}
        """Per resource, what runs used that are not kept apart any more, or what was counted at
        targets that are not listened to any more."""
        self.floor: dict[str, Number] = {}
        """Per resource, what the run used at least, where nothing more of it could be read."""
        self.first_seen_at = first_seen_at
        self.known_from = first_seen_at
        """When it was first heard of: it has lasted since then at least, whatever it says."""
        self.shown_at = first_seen_at
        """When a reading showed it last, even with samples that are old or not whole."""
        self.restarts = NO_RESTARTS
        """The runs of its id before it that did not complete, if they came one after the other."""
        self.superseded: tuple[float, ...] = ()
        """Start times of runs of the same id that are over; the newest few."""
        self.unsure: dict[str, int] = {}
        """What an earlier version stored of ``uncertainty``: some, without a number."""
        self.processes: dict[str, Process] = {}
        self.attributes = RunAttributes()
        """What the newest process says of the run."""
        self._alive: list[Process] = []
        """Those that count in ``attributes``, if there are several; as of the last sample."""
        self.ended_at: float | None = None
        self.went_on = False
        """True once it went on although it said that it is over."""
        self.shown_in = 0
        """Number of the reading that showed it last, as the ledger counts them."""
        self.lost_target_at: float | None = None
        """Since when its target gives nothing; None if it answers."""
        self.vanished_at: float | None = None
        """When it was found not to be there any more, without having said that it ends."""
        self.resets = 0
        self._totals: dict[str, Number] | None = None
        self._uncertainty: UsageUncertainty | None = None
        """Both as of the newest change; None if they have to be worked out again."""
        self.lacking = False
        """True if the newest reading lacks a counter that was there before."""
        self.overrides = NO_OVERRIDES
        """What an operator has ordered for this run."""
        self.active_shown = 0.0
        """The most active seconds its samples ever showed; only where they are limited."""
        self.active_stored = 0.0
        """Active seconds that are on disk, or about to be; only where they are limited."""
        self.revision = 0
        """Grows whenever something worth storing changed."""

    @property
    def began_at(self) -> float:
        """When the run began on our own clock, by what its newest process showed last.

        Not after it was first heard of: a duration that it sets back does not take that away.
        """
        if len(self.processes) == 1:
            (only,) = self.processes.values()
            if only.began_at is not None:
                return min(only.began_at, self.known_from)
        newest = self.processes.values() if self.also else (self._alive or self.newest())
        for processes in (newest, self.processes.values()):
            known = [i.began_at for i in processes if i.began_at is not None]
            if known:
                return min(*known, self.known_from)
        return self.first_seen_at

    @property
    def targets(self) -> set[str]:
        """The targets at which its newest process was seen, and those that go on beside it."""
        return {target for i in self.speakers or self.newest() for target in i.target_series}

    def fails(self, target: str, now: float) -> None:
        """Take note that what a target shows could not be taken in, or in part only."""
        self.failing = {target: now, **self.failing}
        self.forget_sums()

    def works(self, target: str) -> None:
        """Take note that what a target shows could be taken in again."""
        self.failing = {place: at for place, at in self.failing.items() if place != target}

    @property
    def implausible_since(self) -> float | None:
        """When a target of a process that is alive began to give implausible values, else None.

        A target that is gone no longer matters: another one has been seen twice since, in order.
        """
        for process in self.processes.values():
            for series in process.target_series.values():
                if series.implausible_since is not None:
                    return self._implausible_since()
        return None  # as it is with most runs at every sample

    def _implausible_since(self) -> float | None:
        target_series = [
            series for i in self.speakers or self.newest() for series in i.target_series.values()
        ]
        sound = [v.seen_before for v in target_series if v.implausible_since is None]
        alive_from = max((at for at in sound if at is not None), default=0.0)
        since = (v.implausible_since for v in target_series if v.seen_at >= alive_from)
        return min((at for at in since if at is not None), default=None)

    def observe(
        self, reading: RunObservation, *, confirmed: bool, read_at: float | None = None
    ) -> Observed:
        """Take in one reading of this run.

        confirmed: False when the source says that something is missing: values still count, but
        they do not make the run fresh. read_at: when it arrived, if that is known.
        """
        before, trouble, began_at = self.totals(), self.implausible_since, self.began_at
        uncertainty = self.uncertainty
        if let_oldest_go(self.processes, self.newest):
            self.forget_sums()
        number = len(self.processes)
        process = self._process_of(reading, confirmed=confirmed)
        if process is None:
            return NOTHING_NEW
        replaced = 0 < number < len(self.processes) and process.started_at is not None
        whole = confirmed and not reading.implausible
        taken = process.observe(reading, whole=whole)
        resets, new = taken.resets, taken.new
        others = len(self.processes) != number
        if taken.counted or taken.stated or others:
            self._totals = None
        series = process.target_series[reading.target]
        jumps = taken.counted and bool(series.branches)
        if taken.stated or others or jumps:
            self._uncertainty = None
        self.resets += resets + replaced
        self.lacking = taken.lacking
        after = self.totals()
        if confirmed and reading.counters and new and not taken.lacking:
            self.mark_fresh(series, before, after, read_at)
        self._take_attributes(reading)
        self._flush(read_at)
        if (
            (before is not after and before != after)
            or resets
            or trouble != self.implausible_since
            or ((unsure := self.uncertainty) is not uncertainty and unsure != uncertainty)
        ):
            self.revision += 1
        if others or taken.kept or began_at - self.began_at > _WORTH_STORING:
            self.revision += 1
        outlived = (
            new
            and len(self.processes) > 1
            and is_outlived(self.processes.values(), process, reading.sampled_at)
        )
        second = (
            second_target(
                self.processes.values(), process, reading.target, reading.sampled_at - self.silence
            )
            if new and series.seen_before is None
            else None
        )
        if not (resets or replaced or outlived or jumps or second or taken.goes_on):
            return NOTHING_NEW  # as it is with most runs at every sample
        alternating = self.uncertainty.alternating - uncertainty.alternating
        return Observed(resets, replaced, outlived, second, alternating, taken.goes_on)

    def _process_of(self, reading: RunObservation, *, confirmed: bool) -> Process | None:
        """Return the process a reading is about; None if it cannot be told which one it is."""
        if len(self.processes) == 1:
            ((key, only),) = self.processes.items()
            started_at = reading.attributes.incarnation_at
            if started_at is not None and only.started_at == started_at and not self.also:
                return only  # as it is with most runs at every sample
        else:
            key = ""
        process = process_of(
            self.processes, reading, also=self.also, attributes=self.attributes,
            run_started_at=self.started_at, confirmed=confirmed,
        )  # fmt: skip
        if key and key not in self.processes:
            self.revision += 1  # it says by now when it started
        return process

    def totals(self) -> dict[str, Number]:
        """Return tokens, API calls and cost over all processes, as far as they are known."""
        if self._totals is None:
            processes = self.processes.values()
            if self.also or self.earlier:
                self._totals = used_together(processes, self.earlier)
            else:
                self._totals = totals_of(processes)
            for resource, least in self.floor.items():
                self._totals[resource] = max(self._totals.get(resource, least), least)
        return self._totals

    def token_kinds(self) -> dict[str, int]:
        """Return how many of its tokens are of each kind, as far as that is known; see
        core/token_kinds.py. They add up to no more than its tokens do.
        """
        series = (s for i in self.processes.values() for s in i.target_series.values())
        if not self.earlier and all(KIND_COUNTER_NAMES.isdisjoint(s.sums) for s in series):
            return {}  # as it is with all runs where nothing weighs tokens
        names = KIND_COUNTERS.values()
        used = used_together(self.processes.values(), self.earlier, names)
        shown = {kind: int(used[name]) for kind, name in KIND_COUNTERS.items() if name in used}
        return disjoint(shown, int(self.totals().get(semconv.TOKENS, 0))) if shown else {}

    @property
    def uncertainty(self) -> UsageUncertainty:
        """What is not known of the use, over all processes."""
        if self._uncertainty is None:
            self._uncertainty = self._sum_uncertainty()
        return self._uncertainty

    def _sum_uncertainty(self) -> UsageUncertainty:
        calls = {
            name: sum(process.unsure.get(name, 0) for process in self.processes.values())
            for name in UNSURE
        }
        alternating = frozenset[str]().union(*[i.alternating for i in self.processes.values()])
        known = {name: max(calls[name], self.unsure.get(name, 0)) for name in UNSURE}
        return UsageUncertainty(**known, alternating=alternating)

    def duration(self, now: float) -> float:
        """Return seconds since the run began; it stands still while no process carries the run."""
        if self.ended_at is not None and self.attributes.duration is not None:
            return self.attributes.duration
        ended_at = self.vanished_at if self.has_left else self.ended_at
        return max(0.0, (now if ended_at is None else ended_at) - self.began_at)

    def active(self, now: float) -> tuple[float | None, float | None]:
        """Return how long it was active, as of ``now`` and by its newest samples; None: unknown.

        Neither ever goes below what its samples showed before, whatever its targets say since.
        """
        gap, processes = self.gap(), self.processes.values()
        shown = active_seconds(processes, gap, None)
        if shown is None and not self.knows_active:
            return None, None
        self.knows_active = True  # also should the target that says it fall silent
        self.active_shown = shown = max(shown or 0.0, self.active_shown)
        return max(active_seconds(processes, gap, now) or 0.0, shown), shown

    def note_active(self, seconds: float) -> None:
        """Take note of a limited active time: it is stored now and then, as its samples are not."""
        if seconds - self.active_stored > _ACTIVE_WORTH_STORING:
            self.active_stored = seconds
            self.revision += 1

    def supersede(self, start: float) -> None:
        """Note that a run of this id is over: what is left of it is not taken for a new one."""
        if start not in self.superseded:
            self.superseded = (*self.superseded, start)[-_STARTS_KEPT:]

    def follow(self, other: RunTotals) -> None:
        """Take the place of another run of the same id: it is over, unless it goes on after all."""
        self.superseded = other.superseded
        for start in (other.started_at, *other.also):
            if start is not None and start != self.started_at:
                self.supersede(start)

    def has_been_away(self, at: float) -> bool:
        """Tell whether nothing was heard of it for a while before a sample taken at ``at``."""
        return self.silent_for(at) > self.silence

    @property
    def confirmed_at(self) -> float:
        """When its newest confirmed sample was taken, or it was first seen."""
        return self.first_seen_at if self.sampled_at is None else self.sampled_at

    @property
    def may_be_resumed(self) -> bool:
        """True if its end is not its last word: its program goes on with it when it is asked to."""
        return self.pushed and self.attributes.idle_after is not None

    @property
    def last_heard_at(self) -> float:
        """When its newest confirmed sample was taken, or it was last told that it goes on."""
        return max(self.confirmed_at, self.heard_at)

    def forget_sums(self) -> None:
        """Have the totals, and what is uncertain, worked out again."""
        self._totals = self._uncertainty = None
        self.revision += 1

    def changed(self, at: float) -> None:
        """Work everything out again: others count together with it, as of ``at``."""
        self.forget_sums()
        self.sampled_at = at
        self.sum_up(at)
        self.count_from(self.totals(), at)

    def newest(self) -> list[Process]:
        """Return the process that started last; several where none says when it did.

        Of several runs that of each.
        """
        if len(self.processes) == 1:
            return list(self.processes.values())
        if not self.also:
            return newest_of(self.processes.values())
        return [i for run in by_run(self.processes.values()) for i in newest_of(run)]

    @property
    def speakers(self) -> Iterable[Process]:
        """The processes whose word is in ``attributes``."""
        return self._alive if len(self.processes) > 1 else self.processes.values()

    @property
    def silence(self) -> float:
        """Seconds without a sample after which a process of it is not surely alive."""
        return SILENT_GAPS * max(1.0, self.gap())

    def _take_attributes(self, reading: RunObservation) -> None:
        stated, at = reading.attributes, reading.sampled_at
        if self.started_at is None and stated.started_at is not None:
            self.started_at = stated.started_at
            self.revision += 1
        self.sum_up(at)

    def bequeath(self, amounts: Mapping[str, Number]) -> None:
        """Keep what a run below it used that is not below it any more."""
        if amounts:
            known = self.bequeathed
            self.bequeathed = {**known, **{k: known.get(k, 0) + n for k, n in amounts.items()}}  # type: ignore[operator] # both are of one resource
            self.revision += 1

    def hold_by(self, parent: str | None) -> None:
        """Take note of which parent holds for it."""
        if parent != self.held_by:
            self.held_by = parent
            self.revision += 1

    def disown(self, amounts: Mapping[str, Number]) -> None:
        """Take note of what of it was left to the run above it."""
        self.disowned = dict(amounts)
        self.revision += 1

    def told(self, state: str, now: float) -> None:
        """Take note of its state as a hook of its program tells it, or what started that.

        One that runs is watched anew: it can be talked to, whatever was known of it. An end holds
        until it is seen to use more.
        """
        for process in self.processes.values():
            process.told(state, now)
        ended = state in semconv.ENDED_STATES
        if not ended:
            self.watch_anew(now)
            self.heard_at = now
        self.revision += 1
        self.sum_up(now)
        self.told_end = None if self.ended_at is None or not ended else (state, self.ended_at)

    def _flush(self, read_at: float | None) -> None:
        """Let an end hold that was told of it just now: what was on its way does not refute it."""
        if self.told_end is None or read_at is None:
            return
        state, at = self.told_end
        if read_at - at > _FLUSHED_WITHIN:
            self.told_end = None
        elif self.ended_at is None:
            self.told(state, at)

    def find_alive(self) -> None:
        """Find out which of several processes are alive."""
        if len(self.processes) > 1:
            self._alive = alive(self.processes.values(), self.confirmed_at - self.silence)

    def _counts(self, process: Process) -> bool:
        """Tell whether a process counts in what is known of the run."""
        return len(self.processes) == 1 or process in self._alive

    def sum_up(self, at: float) -> None:
        """Put together what its processes say, as of a sample taken at ``at``."""
        if len(self.processes) == 1:
            (only,) = self.processes.values()
            attributes = only.attributes
        else:
            self.find_alive()
            attributes = said_together(self._alive)
        ended = attributes.state in semconv.ENDED_STATES
        if ended and any(i.goes_on for i in self.processes.values() if self._counts(i)):
            ended, attributes = False, attributes._replace(state=semconv.RUNNING)
            self.went_on = True
        if ended != (self.ended_at is not None):
            self.ended_at = at if ended else None
        if _lasting(attributes) != _lasting(self.attributes):
            self.revision += 1
        self.attributes = attributes


#: Returns the attributes that matter after a restart; the duration goes on by the clock. All of
#: them at once: it is asked twice for every sample.
_lasting: Final = itemgetter(*map(RunAttributes._fields.index, (
    "limits", "thresholds", "completion_threshold", "progress", "state", "progress_tokens",
    "progress_api_calls", "progress_cost", "progress_further", "labels", "parent",
    "wrap_up_calls",
)))  # fmt: skip
