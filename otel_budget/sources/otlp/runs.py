"""The runs that are kept, by peer: how many there may be, which changed, and which are forgotten.

What a forgotten run used stays in the ledger. Should it be heard of again, what only says what was
added begins at 0: so its counters get another name then, and count beside those before.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from otel_budget import semconv
from otel_budget.core.owner_labels import NO_DETAILS, Details
from otel_budget.sources.otlp.run import PushedRun

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_budget.sources.otlp.identity import Identity
    from otel_budget.sources.otlp.run import View

#: Seconds for which metrics without a run's name wait for another signal that names it.
HELD: Final = 10.0
#: Who pushes: past that a new one is refused.
PEERS_MOST: Final = 10_000
#: Series of one run: with each change all of them are read again, while all others wait.
SERIES_OF_RUN_MOST: Final = 10_000
#: A run is forgotten after so many times its idle time, or at once for a new one past the limit
#: once it is idle.
_FORGET_AFTER: Final = 2.0
#: Seconds between two searches for what may be forgotten.
_SEARCH_EVERY: Final = 5.0


@dataclass(slots=True)
class _Peer:
    runs: dict[str, PushedRun] = field(default_factory=dict)
    """The one that was heard of last is at the end."""
    series: int = 0


class Runs:
    """All runs that are kept."""

    def __init__(
        self,
        session_limit: int,
        series_limit: int,
        idle_after: float,
        boot: str,
        details: Details = NO_DETAILS,
    ) -> None:
        """Limits are for each peer. boot: tells this life of the receiver from all others.
        details: what of runs is read.
        """
        self._details = details
        self._session_limit, self._series_limit = session_limit, series_limit
        self._idle_after, self._boot = idle_after, boot
        self._peers: dict[str, _Peer] = {}
        self._changed: dict[PushedRun, None] = {}
        self._forgotten = 0
        self._searched_at = 0.0
        self.dropped: Counter[str] = Counter()

    @property
    def process(self) -> str:
        """The name, in the ledger's keys, of what is added up from now on."""
        return f"{self._boot}.{self._forgotten}" if self._forgotten else self._boot

    def get(self, peer: str, identity: Identity, now: float) -> PushedRun | None:
        """Return a run, a new one if there may be one more; else None, and it is counted."""
        session_id = identity.session_id
        if session_id is None:
            self.dropped[semconv.BAD_SESSION_ID] += 1
            return None
        known = self._peers.get(peer)
        run = None if known is None else known.runs.pop(session_id, None)
        if known is None:
            if len(self._peers) >= PEERS_MOST:
                self.dropped[semconv.SESSION_LIMIT] += 1
                return None
            known = self._peers[peer] = _Peer()
        if run is None:
            if len(known.runs) >= self._session_limit and not self._let_idle_go(known, now):
                self.dropped[semconv.SESSION_LIMIT] += 1
                return None
            self._peers[peer] = known  # it went with the last of its runs, if that made room
            run = PushedRun(
                session_id, peer, self.process, named=identity.named, now=now, details=self._details
            )
        known.runs[session_id] = run
        return run

    def all_of(self, session_id: str) -> Iterator[PushedRun]:
        """Yield the run of an id, at each peer that pushed it."""
        for known in self._peers.values():
            if session_id in known.runs:
                yield known.runs[session_id]

    def known(self, peer: str, session_id: str) -> PushedRun | None:
        """Return a run, if it is there."""
        found = self._peers.get(peer)
        return None if found is None else found.runs.get(session_id)

    def note(self, run: PushedRun, view: View, now: float) -> None:
        """Take note that a view of a run changed."""
        run.touch(view, now)
        self._changed[run] = None
        self._settle(run)

    def has_room(self, run: PushedRun) -> bool:
        """Tell whether there may be one more series of a run; count it as dropped if not."""
        peer_has = self._peers[run.peer].series < self._series_limit
        if peer_has and run.series < SERIES_OF_RUN_MOST:
            return True
        self.dropped[semconv.SERIES_LIMIT] += 1
        return False

    def count_series(self, peer: str) -> None:
        """Take note of one more series."""
        self._peers[peer].series += 1

    def changed(self, now: float) -> list[PushedRun]:
        """Return the runs that changed and are to be shown. They are not again, until they do."""
        held = {run for run in self._changed if not run.named and now - run.began_at < HELD}
        shown = [run for run in self._changed if run not in held]
        self._changed = {run: None for run in self._changed if run in held}
        return shown

    def withdraw(self, run: PushedRun, service: str) -> None:
        """Leave out what a service pushed of a run as metrics, and the run if nothing is left."""
        if run.without(service):
            self._settle(run)
        else:
            self.remove(run)

    def _settle(self, run: PushedRun) -> None:
        """Take the series that went off those of the run's peer."""
        self._peers[run.peer].series -= run.gone
        run.gone = 0

    def remove(self, run: PushedRun) -> None:
        """Forget a run."""
        known = self._peers.get(run.peer)
        if known is None or known.runs.pop(run.session_id, None) is None:
            return
        known.series -= run.series + run.gone
        self._changed.pop(run, None)
        self._forgotten += 1
        if not known.runs:
            del self._peers[run.peer]

    def forget(self, now: float) -> None:
        """Forget the runs that were silent for long."""
        if now - self._searched_at < _SEARCH_EVERY:
            return
        self._searched_at = now
        for known in list(self._peers.values()):
            self._let_go(known, now - _FORGET_AFTER * self._idle_after)

    def _let_idle_go(self, known: _Peer, now: float) -> bool:
        """Make room for a run; return whether there is any."""
        self._let_go(known, now - self._idle_after, most=1)
        return len(known.runs) < self._session_limit

    def _let_go(self, known: _Peer, since: float, most: int | None = None) -> None:
        """Forget runs that were not heard of since then; the one that was silent longest first."""
        idle: list[PushedRun] = []
        for run in known.runs.values():
            if run.at >= since or len(idle) == most:
                break
            if run not in self._changed:
                idle.append(run)
        for run in idle:
            self.remove(run)
