"""The runs of this process as Prometheus metrics, read straight from their counts at a scrape.

They do not go through OpenTelemetry instruments: the SDK keeps every attribute set for ever and
folds those past 2,000 into one, so after 2,000 runs every budget would vanish into an overflow
series. A run that is over stays until it has been scraped once more and then for a minute.

An application with its own endpoint registers the collector in its own registry:
``registry.register(RUNS)``.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from contextvars import ContextVar
from typing import TYPE_CHECKING

from prometheus_client.registry import Collector

from otel_budget.logs.logger import logger
from otel_budget.runtime.fork import in_child
from otel_budget.sdk.metrics import process_totals
from otel_budget.sdk.metrics.families import session_families
from otel_budget.sdk.metrics.run_group import Group
from otel_budget.sdk.run_counters import FOLDED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from prometheus_client.metrics_core import Metric

    from otel_budget.sdk.run_record import RunRecord

#: Seconds a closed run stays after it was scraped.
LINGER = 60.0
#: Closed runs kept at most, so that memory stays flat however fast runs come and go.
MAX_SCRAPED, MAX_UNSCRAPED = 1_000, 5_000
#: Seconds since the last scrape after which a scraper is taken to be gone.
SCRAPED_LATELY = 120.0
#: Seconds after which a page that was never scraped is worth a warning: two default intervals of a
#: Prometheus.
NEVER_SCRAPED = 120.0
#: Scrapers told apart; a page that anyone can ask for must not make them many.
MAX_SCRAPERS = 8
#: Who asks for the page, where the endpoint knows it; None for a look by hand.
SCRAPER: ContextVar[str | None] = ContextVar("otel_budget_scraper", default="")


class _Scraper:
    """One that scrapes this process: a sidecar, a Prometheus, a look by hand. Monotonic seconds."""

    __slots__ = ("gap", "in_vain", "last", "seen")

    def __init__(self) -> None:
        self.last: float | None = None
        self.gap = 0.0
        """Between the last two scrapes; 0 until there were two."""
        self.seen = 0
        """The number of runs that had ended when its newest whole scrape began."""
        self.in_vain = False
        """It was waited for, and did not come: a look by hand is not a scraper."""

    def scraped(self, now: float, ends: int) -> None:
        """Take note of a whole scrape."""
        self.gap = 0.0 if self.last is None else now - self.last
        self.last, self.seen, self.in_vain = now, max(self.seen, ends), False


class RunCollector(Collector):
    """Every live run of the process, and the closed ones that are still to be seen."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self.process = process_totals.ProcessUsage()
        self.registered = False
        """True once it was put into a registry, in this process or one it was forked from."""
        self._reset()

    def reset(self) -> None:
        """Show and count none of the runs so far: in a forked child they are the parent's."""
        self._reset()
        self.process.reset()

    def _reset(self) -> None:
        self._lock = threading.RLock()  # reentrant for signal handlers, like the records'
        self._scraped = threading.Condition(self._lock)
        self._groups: dict[str, Group] = {}
        self._unscraped: deque[tuple[str, Group]] = deque()
        self._lingering: deque[tuple[str, Group]] = deque()
        self._scrapes_begun = self._scrapes_done = 0
        self._mind_from = self._monotonic()
        """Since when it could be scraped; infinite once the log says that it is not."""
        self._scrapers: dict[str, _Scraper] = {}
        """By name, the one that came last at the end."""
        self.ends = 0
        """Number of runs that have ended."""
        self._listeners: list[Callable[[], None]] = []
        self.news = 0
        """Grows with whatever a reader waits for: a run began, ended, or should be looked at."""

    def add(self, record: RunRecord) -> None:
        """Show a run from now on."""
        with self._lock:
            group = self._groups.get(record.session_id)
            second = False
            if group is not None and group.live:
                second = not group.shared
                group.share(record)
            else:
                record.follows_completed = group is not None and group.completed
                self._groups[record.session_id] = Group(record)
            self.process.add(record)
            self.has_news()
        if second:
            logger.warning(
                "run %r: two monitors of it are open in this process: they count independently, "
                "and the metrics show the sum of both", record.session_id,
            )  # fmt: skip

    def closed(self, record: RunRecord) -> Sequence[RunRecord]:
        """Take note that a run has ended; it stays until it was scraped, then for a minute.

        Returns all records of the run; none if another one of it goes on.
        """
        with self._lock:
            self.process.retire(record)
            self.ends += 1
            group = self._groups.get(record.session_id)
            if group is None or record not in group.records or group.live:
                self.has_news()
                return ()
            group.closed_at = self._monotonic()
            self._unscraped.append((record.session_id, group))
            while len(self._unscraped) > MAX_UNSCRAPED:
                self._drop(*self._unscraped.popleft())
            self.has_news()
            return tuple(group.records)

    def has_news(self) -> None:
        """Take note that there is something that a reader waits for."""
        self.news += 1
        for listener in self._listeners:
            listener()

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have news told, at once and under locks; return what ends that."""
        self._listeners = [*self._listeners, listener]

        def end() -> None:
            self._listeners = [each for each in self._listeners if each is not listener]

        return end

    def groups(self) -> list[tuple[str, Group]]:
        """Return what is to be shown, without that being a scrape: id, and records."""
        with self._lock:
            self._prune()
            return list(self._groups.items())

    def pushed(self, groups: Iterable[tuple[str, Group]]) -> None:
        """Take note that some of ``groups`` were shown to a reader, as they are or were."""
        with self._lock:
            for session_id, group in groups:
                if group.closed_at is not None:
                    self._mark_scraped(session_id, group)

    @property
    def scrapes(self) -> int:
        """Number of scrapes that were answered so far."""
        with self._lock:
            return self._scrapes_done

    @property
    def scraped_ago(self) -> float | None:
        """Seconds since the last scrape; None before the first."""
        with self._lock:
            newest = max(
                (s.last for s in self._scrapers.values() if s.last is not None), default=None
            )
            return None if newest is None else self._monotonic() - newest

    def offered(self) -> None:
        """Take note that there is a page from now on."""
        with self._lock:
            if math.isfinite(self._mind_from):
                self._mind_from = self._monotonic()

    def mind_unscraped(self, where: str) -> None:
        """Say, once, that runs are shown and not scraped for long. where: names the page."""
        with self._lock:
            late = self._monotonic() - self._mind_from
            if self._scrapes_begun or late < NEVER_SCRAPED or not self._groups:
                return
            self._mind_from, runs = math.inf, len(self._groups)
        logger.warning(
            "%s shows %s, but nothing has scraped it within %.0f s: add it to the targets of "
            "Prometheus or of the sidecar (said once; docs/web-servers-and-workers.md)",
            where, "1 run" if runs == 1 else f"{runs:,} runs", late,
        )  # fmt: skip

    def unseen(self) -> bool:
        """Tell whether a run has ended, and not all who may scrape this process have seen that."""
        with self._lock:
            late = (scraper.seen < self.ends for scraper in self._scrapers.values())
            return self.registered and self.ends > 0 and (not self._scrapers or any(late))

    def wait_scraped(self, timeout: float, *, in_any_case: bool = False) -> bool:
        """Wait until everything that scrapes this process has seen the runs that ended so far.

        Of those who scrape it only those are waited for whose next scrape is due within the timeout
        (seconds), by the ones before; in_any_case: all of them, and the first if there was none.

        Returns False if an expected scrape did not come.
        """
        with self._scraped:
            now = self._monotonic()
            late = [s for s in self._scrapers.values() if s.seen < self.ends]
            if not in_any_case:
                late = [s for s in late if _scrapes(s, now)]
            due = [s for s in late if in_any_case or _is_due(s, now + timeout)]
            first = in_any_case and self.registered and not self._scrapers

            def seen() -> bool:
                return all(s.seen >= self.ends for s in due) and not (first and not self._scrapers)

            came = self._scraped.wait_for(seen, timeout)
            for scraper in due:
                scraper.in_vain = timeout > 0 and scraper.seen < self.ends
            return came and len(due) == len(late)

    def describe(self) -> Iterator[Metric]:
        """Return no names up front: registering must not count as a scrape."""
        self.registered = True
        self.offered()
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield every family of every run; counts as one scrape when all was taken."""
        with self._lock:
            self._scrapes_begun += 1
            ends = self.ends
            self._prune()
            to_show = list(self._groups.items())
            seen_closed = [(sid, g) for sid, g in to_show if g.closed_at is not None]
        yield from session_families([group.records for _, group in to_show])
        with self._scraped:
            self._scrapes_done += 1
            self._note_scraper(SCRAPER.get(), ends)
            for session_id, group in seen_closed:
                self._mark_scraped(session_id, group)
            self._scraped.notify_all()

    def shown_to(self, scraper: str | None, ends: int) -> None:
        """Take note that a scraper was given a page that another one asked for.

        ends: of the runs that had ended when it was made.
        """
        with self._scraped:
            self._note_scraper(scraper, ends)
            self._scraped.notify_all()

    def __len__(self) -> int:
        """Return the number of session ids shown."""
        return len(self._groups)

    def _note_scraper(self, name: str | None, ends: int) -> None:
        if name is None:
            return
        scraper = self._scrapers.pop(name, None) or _Scraper()
        scraper.scraped(self._monotonic(), ends)
        self._scrapers[name] = scraper
        if len(self._scrapers) > MAX_SCRAPERS:
            del self._scrapers[next(iter(self._scrapers))]

    def _mark_scraped(self, session_id: str, group: Group) -> None:
        if group.scraped:
            return
        group.scraped, group.closed_at = True, self._monotonic()
        self._lingering.append((session_id, group))
        while len(self._lingering) > MAX_SCRAPED:
            self._drop(*self._lingering.popleft())

    def _prune(self) -> None:
        now = self._monotonic()
        while self._lingering and now - (self._lingering[0][1].closed_at or 0.0) > LINGER:
            self._drop(*self._lingering.popleft())
        # A group that was scraped, or that a new run of its name has replaced, waits for nothing.
        while self._unscraped and not self._awaited(*self._unscraped[0]):
            self._unscraped.popleft()

    def _awaited(self, session_id: str, group: Group) -> bool:
        return not group.scraped and self._groups.get(session_id) is group

    def _drop(self, session_id: str, group: Group) -> None:
        if not group.live and self._groups.get(session_id) is group:
            del self._groups[session_id]


def _scrapes(scraper: _Scraper, now: float) -> bool:
    return scraper.last is not None and now - scraper.last <= SCRAPED_LATELY


def _is_due(scraper: _Scraper, by: float) -> bool:
    return not scraper.in_vain and scraper.last is not None and scraper.last + scraper.gap <= by


#: The runs of this process.
RUNS = RunCollector()
in_child(RUNS.reset)
in_child(FOLDED.clear)
