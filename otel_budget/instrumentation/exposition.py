"""The runs of this process as Prometheus metrics, read straight from their counts at a scrape.

They do not go through OpenTelemetry instruments: the SDK keeps every attribute set for ever and
folds those past 2,000 into one, so after 2,000 runs every budget would vanish into an overflow
series. A run that is over stays until it has been scraped once more and then for a minute.

An application with an endpoint of its own registers the collector in its own registry:
``registry.register(SESSIONS)``.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from prometheus_client.registry import Collector

from otel_budget.instrumentation import process_metrics
from otel_budget.instrumentation.families import session_families
from otel_budget.instrumentation.forked import in_child
from otel_budget.instrumentation.merge import merged
from otel_budget.instrumentation.record import FOLDED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.metrics_core import Metric

    from otel_budget.instrumentation.record import SessionRecord

logger = logging.getLogger("otel_budget")

#: Seconds a closed run stays after it was scraped.
LINGER = 60.0
#: Closed runs kept at most, so that memory stays flat however fast runs come and go.
MAX_SCRAPED, MAX_UNSCRAPED = 1_000, 5_000
#: Seconds since the last scrape after which nobody is taken to be scraping any more.
SCRAPED_LATELY = 120.0
#: Seconds after which a page that was never scraped is worth a warning: two default intervals of a
#: Prometheus.
NEVER_SCRAPED = 120.0
#: Records of one session id kept one by one.
MAX_SHARED = 8


class Group:
    """All records of one session id that share a life: they are added up in the exposition.

    A record that closes while another one is live stays in the sum: leaving, it would look like a
    counter reset. Past ``MAX_SHARED`` records those that are closed are kept as one.
    """

    __slots__ = ("closed_at", "records", "scraped", "shared")

    def __init__(self, record: SessionRecord) -> None:
        """Begin with one record."""
        self.records = [record]
        self.closed_at: float | None = None
        self.scraped = self.shared = False

    @property
    def live(self) -> bool:
        """True while at least one of the records is open."""
        return any(record.closed_at is None for record in self.records)

    def share(self, record: SessionRecord) -> None:
        """Take in another record of the same id."""
        self.shared = True
        record.started_at = self.records[0].started_at  # one run, as everybody outside sees it
        if len(self.records) >= MAX_SHARED:
            over = [known for known in self.records if known.closed_at is not None]
            if len(over) > 1:  # the first stays where it is: what it carried over is the group's
                kept = [known for known in self.records if known not in over[1:]]
                self.records = [merged(over) if known is over[0] else known for known in kept]
        self.records.append(record)


class SessionCollector(Collector):
    """Every live run of the process, and the closed ones that are still to be seen."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Begin empty."""
        self._monotonic = monotonic
        self.process = process_metrics.ProcessUsage()
        self.registered = False
        """True once it was put into a registry, in this process or one it was forked from."""
        self._begin_anew()

    def begin_anew(self) -> None:
        """Show and count none of the runs so far: in a forked child they are the parent's."""
        self._begin_anew()
        self.process.begin_anew()

    def _begin_anew(self) -> None:
        self._lock = threading.RLock()  # reentrant for signal handlers, like the records'
        self._scraped = threading.Condition(self._lock)
        self._groups: dict[str, Group] = {}
        self._unscraped: deque[tuple[str, Group]] = deque()
        self._lingering: deque[tuple[str, Group]] = deque()
        self._scrapes_begun = self._scrapes_done = 0
        self._last_scrape: float | None = None
        self._mind_from = self._monotonic()
        """Since when it could be scraped; infinite once it is said that nobody does."""
        self._scrape_gap = 0.0
        """Seconds between the last two scrapes; 0 until there were two."""
        self._waited_in_vain = -1
        """Number of scrapes begun when somebody last waited for one that did not come."""

    def add(self, record: SessionRecord) -> None:
        """Show a run from now on."""
        with self._lock:
            group = self._groups.get(record.session_id)
            second = False
            if group is not None and group.live:
                second = not group.shared
                group.share(record)
            else:
                self._groups[record.session_id] = Group(record)
            self.process.add(record)
        if second:
            logger.warning(
                "session %s has two monitors open in this process: they count independently, and "
                "their counts are added up in the exposition", record.session_id,
            )  # fmt: skip

    def closed(self, record: SessionRecord) -> None:
        """Take note that a run has ended; it stays until it was scraped, then for a minute."""
        with self._lock:
            self.process.retire(record)
            group = self._groups.get(record.session_id)
            if group is None or record not in group.records or group.live:
                return
            group.closed_at = self._monotonic()
            self._unscraped.append((record.session_id, group))
            while len(self._unscraped) > MAX_UNSCRAPED:
                self._drop(*self._unscraped.popleft())

    @property
    def scrapes(self) -> int:
        """Number of scrapes that were answered so far."""
        with self._lock:
            return self._scrapes_done

    @property
    def scraped_ago(self) -> float | None:
        """Seconds since the last scrape; None before the first."""
        with self._lock:
            return None if self._last_scrape is None else self._monotonic() - self._last_scrape

    def offered(self) -> None:
        """Take note that there is a page from now on."""
        with self._lock:
            if math.isfinite(self._mind_from):
                self._mind_from = self._monotonic()

    def mind_unscraped(self, where: str) -> None:
        """Say, once, that runs are shown and nobody has looked for long. where: names the page."""
        with self._lock:
            late = self._monotonic() - self._mind_from
            if self._scrapes_begun or late < NEVER_SCRAPED or not self._groups:
                return
            self._mind_from, runs = math.inf, len(self._groups)
        logger.warning(
            "%s shows %s runs, and nothing has scraped it within %.0f s: add it to the targets of "
            "Prometheus, or of the sidecar (said once; docs/web-servers-and-workers.md)",
            where, runs, late,
        )  # fmt: skip

    def wait_scraped(self, timeout: float) -> bool:
        """Wait for a scrape that begins from now on to be over; not at all if nobody scrapes, or
        if by the scrapes so far none is due within the timeout (seconds).

        Returns False when there was somebody to wait for and no scrape came.
        """
        with self._scraped:
            last, now = self._last_scrape, self._monotonic()
            if last is None or now - last > SCRAPED_LATELY:
                return True
            if self._waited_in_vain == self._scrapes_begun:  # a look by hand is not a scraper
                return False
            if last + self._scrape_gap > now + timeout:
                return False
            target = self._scrapes_begun + 1
            scraped = self._scraped.wait_for(lambda: self._scrapes_done >= target, timeout)
            if not scraped and timeout > 0:
                self._waited_in_vain = self._scrapes_begun
            return scraped

    def describe(self) -> Iterator[Metric]:
        """Return no names up front: registering must not count as a scrape."""
        self.registered = True
        self.offered()
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield every family of every run; counts as one scrape when all was taken."""
        with self._lock:
            self._scrapes_begun += 1
            number = self._scrapes_begun
            self._prune()
            to_show = list(self._groups.items())
            seen_closed = [(sid, g) for sid, g in to_show if g.closed_at is not None]
        yield from session_families([group.records for _, group in to_show])
        with self._scraped:
            now = self._monotonic()
            self._scrape_gap = 0.0 if self._last_scrape is None else now - self._last_scrape
            self._last_scrape = now
            self._scrapes_done = max(self._scrapes_done, number)
            for session_id, group in seen_closed:
                self._mark_scraped(session_id, group)
            self._scraped.notify_all()

    def __len__(self) -> int:
        """Return the number of session ids shown."""
        return len(self._groups)

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


#: The runs of this process.
SESSIONS = SessionCollector()
in_child(SESSIONS.begin_anew)
in_child(FOLDED.clear)
