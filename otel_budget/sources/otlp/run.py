"""One run as one peer pushes it: what its metrics, its log records and its hooks say.

The three are views of the same programs: in the ledger the larger counts, once, and for each of its
presets apart, as programs of two kinds under one id use something each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget.core.observation import PUSHED, RunAttributes, RunObservation, shared_labels
from otel_budget.core.owner_labels import NO_DETAILS, Details
from otel_budget.sources.otlp import own_limits
from otel_budget.sources.otlp.events import EventUsage
from otel_budget.sources.otlp.series import SeriesPage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from otel_budget.core.quantities import Number
    from otel_budget.presets.model import Preset
    from otel_budget.sources.otlp.own_limits import OwnLimits

METRICS: Final = "metrics"
LOGS: Final = "logs"
HOOKS: Final = "hooks"
#: Processes of one run and view that are kept apart. The ledger keeps what one counted that goes.
PAGES_MOST: Final = 100


class View(NamedTuple):
    """What one kind of signal says by one preset."""

    signal: str
    preset: str


class PushedRun:
    """One run, as far as one peer pushed it."""

    def __init__(
        self, session_id: str, peer: str, process: str, *, named: bool, now: float,
        details: Details = NO_DETAILS,
    ) -> None:  # fmt: skip
        """process: names, in the ledger's keys, what is added up here.

        named: False for the run of those that name none. details: what of it is read.
        """
        self._details = details
        self.session_id, self.peer, self.named = session_id, peer, named
        self.process = process
        self.pages: dict[View, dict[tuple[str, str], SeriesPage]] = {}
        """By the digest of a resource, and the process in the ledger's keys."""
        self.events: dict[View, EventUsage] = {}
        self.own: OwnLimits = own_limits.NONE
        self._owner: dict[str, str] = {}
        """Whose it is; empty where several say so of a run that is of all."""
        self.pushed_at: dict[View, float] = {}
        """When a view was last heard of."""
        self.changed: dict[View, None] = {}
        self.gone = 0
        """Series that went with a page, until they are taken off their peer's."""
        self._went = 0
        self.began_at = self.at = now

    def touch(self, view: View, now: float) -> None:
        """Take note that a view was heard of."""
        self.pushed_at[view] = self.at = now
        self.changed[view] = None

    def take_changed(self) -> tuple[View, ...]:
        """Return the views that changed; they are not again, until they do."""
        changed, self.changed = tuple(self.changed), {}
        return changed

    def limit(self, own: OwnLimits, now: float) -> None:
        """Take the limits that one of its programs says it has; who says none takes none away."""
        if own not in (self.own, own_limits.NONE):
            self.own = own
            for view in self.pushed_at:
                self.touch(view, now)

    def belongs_to(self, owner: Mapping[str, str], now: float) -> None:
        """Take whose it is by one of its programs: the newest word on each label counts.

        For the run of all that are not told apart, none does of which there were several.
        """
        known = self._owner
        if not self.named:
            owner = {
                name: value if known.get(name, value) == value else ""
                for name, value in owner.items()
            }
        if not owner.items() <= known.items():
            known.update(owner)
            for view in self.pushed_at:
                self.touch(view, now)

    @property
    def owner(self) -> Mapping[str, str] | None:
        """Whose it is, as RunAttributes.labels has it."""
        return shared_labels({n: v for n, v in self._owner.items() if v}) if self._owner else None

    def page(
        self, view: View, preset: Preset, resource: str, process: str, service: str
    ) -> SeriesPage:
        """Return the series of one process; beyond ``PAGES_MOST`` the oldest page goes.

        process: names it in the ledger's keys. What is added up from 0 again, as its page went,
        gets another name there.
        """
        pages = self.pages.setdefault(view, {})
        key = (resource, process)
        page = pages.pop(key, None)
        if page is None:
            again = f"-{self._went}" if self._went and process == self.process else ""
            page = SeriesPage(preset, f"{process}{again}.{resource}", service, self._details)
        pages[key] = page  # the one that was heard of last is at the end
        if len(pages) > PAGES_MOST:
            self.gone += len(pages.pop(next(iter(pages))))
            self._went += 1
        return page

    def usage(self, view: View) -> EventUsage:
        """Return what its events add up to."""
        found = self.events.get(view)
        if found is None:
            found = self.events[view] = EventUsage(self.process)
        return found

    @property
    def series(self) -> int:
        """How many series are kept of it."""
        return sum(len(page) for pages in self.pages.values() for page in pages.values())

    def without(self, service: str) -> bool:
        """Leave out what a service pushed as metrics; return whether anything else is left."""
        before = self.series
        for view, pages in list(self.pages.items()):
            self.pages[view] = {k: page for k, page in pages.items() if page.service != service}
            if not self.pages[view]:
                del self.pages[view], self.pushed_at[view]
                self.changed.pop(view, None)
        self.gone += before - self.series
        return bool(self.pages or self.events)

    def amounts(self, view: View) -> dict[str, Number]:
        """Return what a view says by role, parts of tokens among them; absent is unknown."""
        told = self.events.get(view)
        found = {} if told is None else dict(told.amounts)
        for page in self.pages.get(view, {}).values():
            if page.run is None:
                continue
            for role, value in page.run.amounts.items():
                known = found.get(role)
                found[role] = value if known is None else known + value  # type: ignore[operator] # one role is one type
        return found

    def observations(
        self, views: Iterable[View], idle_after: float | None
    ) -> Iterator[RunObservation]:
        """Yield what views show, all of their series; one that shows nothing is left out."""
        for view in views:
            found = self._observation(view, idle_after)
            if found.counters or found.implausible:
                yield found

    def _observation(self, view: View, idle_after: float | None) -> RunObservation:
        told = self.events.get(view)
        counters = {} if told is None else dict(told.counters)
        if told is not None and self._details.token_kinds:
            counters |= told.kinds()
        unknown, unpriced = (0, 0) if told is None else (told.unknown, told.unpriced)
        implausible = dict.fromkeys(self.own.unread)
        for page in self.pages.get(view, {}).values():
            for key, value in page.counters():
                # There under two resources, which a program completes as it goes: it is one stream.
                counters[key] = max(value, counters.get(key, value))
            if page.run is not None:
                implausible |= dict.fromkeys(page.run.implausible)
                unknown += page.run.at_least
            priced, lost = page.lost_additions()
            unpriced += priced
            unknown += lost
            if page.run is None:
                implausible |= dict.fromkeys(page.lost)
        attributes = RunAttributes(
            limits=self.own.limits, thresholds=self.own.thresholds,
            unpriced_calls=float(unpriced) or None, unknown_usage_calls=float(unknown) or None,
            optional_series=self.own.shown, idle_after=idle_after,
            labels=self.owner, wrap_up_calls=self.own.wrap_up_calls,
        )  # fmt: skip
        return RunObservation(
            self.session_id, target_of(self.peer, view), self.pushed_at[view], counters, attributes,
            tuple(sorted(implausible)), f"{PUSHED}{self.peer}/{view.preset}",
        )  # fmt: skip


def target_of(peer: str, view: View) -> str:
    """Return the target of what a peer pushes, as core/observation.py has it."""
    labels = f'signal="{view.signal}"' + (f',preset="{view.preset}"' if view.preset else "")
    return f"{PUSHED}{peer}{{{labels}}}"
