"""Our own series, pushed: what an agent of this project shows on its page, one page a request.

They are read as a page is, and nothing of a page before is added: what is absent in it is absent.
Its counters must be cumulative; what an agent that resumed counts is told apart by its start.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from otel_budget import semconv
from otel_budget.core.observation import PUSHED
from otel_budget.core.owner_labels import NO_DETAILS, Details
from otel_budget.sources.otlp.run import METRICS, View, target_of
from otel_budget.sources.otlp.runs import PEERS_MOST
from otel_budget.sources.session_assembly import assemble

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from otel_budget.core.observation import RunObservation
    from otel_budget.core.samples import Sample

    #: Session id, and digest of the resource.
    _Key = tuple[str, str]

#: What a counter is declared as of which only additions are told: refused, as any other type.
DELTA = "delta"


class OwnSeries:
    """The runs that agents of this project push."""

    def __init__(
        self, session_limit: int, forget_after: float, details: Details = NO_DETAILS
    ) -> None:
        """Keep each run's newest page, to be shown again when asked.

        session_limit: runs of each peer. forget_after: seconds of silence. details:
        what of them is read.
        """
        self._details = details
        self._session_limit, self._forget_after = session_limit, forget_after
        self._newest: dict[str, dict[_Key, RunObservation]] = {}
        """By peer; the one that was heard of last is at the end."""
        self._changed: dict[tuple[str, _Key], RunObservation] = {}

    def take(
        self, samples: Iterable[Sample], peer: str, resource: str, now: float
    ) -> tuple[tuple[str, ...], Counter[str]]:
        """Take in what a resource shows; return its runs, and what was refused, by reason.

        resource: its digest.
        """
        place, view = f"{PUSHED}{peer}", View(METRICS, "")
        found = assemble(samples, target_of(peer, view), now, place, self._details)
        dropped, taken = Counter(found.dropped), []
        kept = self._newest.get(peer, {})
        has_room = peer in self._newest or len(self._newest) < PEERS_MOST
        for run in found.sessions:
            key = (run.session_id, resource)
            if key not in kept and (not has_room or len(kept) >= self._session_limit):
                dropped[semconv.SESSION_LIMIT] += max(1, len(run.counters))
                continue
            kept.pop(key, None)
            kept[key] = self._changed[peer, key] = run
            taken.append(run.session_id)
        if kept:
            self._newest[peer] = kept
        return tuple(taken), dropped

    def changed(self) -> tuple[RunObservation, ...]:
        """Return what is new, each once."""
        shown = tuple(self._changed.values())
        self._changed.clear()
        return shown

    def all_of(self, session_id: str) -> Iterator[RunObservation]:
        """Yield what is known of a run, of each process that pushed it."""
        for kept in self._newest.values():
            for (known, _), run in kept.items():
                if known == session_id:
                    yield run

    def forget(self, now: float) -> None:
        """Forget the runs that were silent for long."""
        for peer, kept in list(self._newest.items()):
            while kept:
                key = next(iter(kept))
                if now - kept[key].sampled_at < self._forget_after or (peer, key) in self._changed:
                    break
                del kept[key]
            if not kept:
                del self._newest[peer]
