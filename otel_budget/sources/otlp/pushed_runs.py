"""All runs that are pushed: what was taken of each, and what is new since the ledger was told.

- What counts is what the presets count, or our own series; all else is dropped unread.
- A request that comes twice, byte for byte, is a retry, and counts once. So does an event with an
  id of its own.
- All is bounded for each peer: runs, series, what is remembered of requests and events. What is
  refused is counted, by reason.
- A run that nothing names is shown after some seconds only: another signal of the same program may
  name it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget.core.observation import PUSHED
from otel_budget.core.owner_labels import NO_DETAILS, Details
from otel_budget.core.validation import SESSION_ID_PATTERN
from otel_budget.logs.text import one_line
from otel_budget.presets.counting import uncounted
from otel_budget.semconv import DUPLICATE, IMPLAUSIBLE
from otel_budget.sources.otlp import decoding
from otel_budget.sources.otlp.contract import OwnSeries
from otel_budget.sources.otlp.identity import Identities, Identity
from otel_budget.sources.otlp.known_resources import KnownResources
from otel_budget.sources.otlp.logs_intake import LogsIntake
from otel_budget.sources.otlp.messages import Metrics
from otel_budget.sources.otlp.metrics_intake import MetricsIntake
from otel_budget.sources.otlp.remembered import Remembered
from otel_budget.sources.otlp.run import HOOKS, View, target_of
from otel_budget.sources.otlp.runs import Runs
from otel_budget.sources.otlp.wanted import Wanted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from otel_budget.core.observation import RunObservation
    from otel_budget.core.quantities import Number
    from otel_budget.presets.model import Preset
    from otel_budget.sources.otlp.messages import Logs
    from otel_budget.sources.otlp.run import PushedRun

#: Requests that are remembered: one that comes twice counts once.
REQUESTS_MOST: Final = 4_096
#: An own run, too, is forgotten after so many times the idle time.
_FORGET_AFTER: Final = 2.0


class Taken(NamedTuple):
    """What became of a request."""

    sessions: tuple[str, ...] = ()
    """The runs of which it says anything."""
    counted: int = 0
    """Values, or records, that count."""
    dropped: Mapping[str, int] = {}
    """Reason to the number of those that should have counted and could not."""
    repeated: bool = False
    """True if the same request was taken before."""


@dataclass(frozen=True, slots=True)
class Drained:
    """What is new; the fields are those of an Observation."""

    sessions: tuple[RunObservation, ...] = ()
    """Each view of a run that changed, whole."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    uncounted: Mapping[str, str] = field(default_factory=dict)
    """Target to what of it a preset could not count, for people."""
    unmatched: Mapping[str, str] = field(default_factory=dict)
    """Target to who pushes nothing there that can be counted, for people; each once."""


class PushedRuns:
    """The state of a receiver. Not for several threads at once; ``decode_…`` may run in any."""

    def __init__(
        self,
        presets: Sequence[Preset],
        *,
        boot: str,
        idle_after: float = 1800.0,
        run_attributes: Sequence[str] = (),
        session_limit: int = 10_000,
        series_limit: int = 500_000,
        details: Details = NO_DETAILS,
    ) -> None:
        """Begin without a run.

        presets: what may read what is pushed. boot: names this life of the receiver; no other one
        may ever have the same. idle_after: as in RunAttributes. run_attributes: those that name a
        run, asked first of all. session_limit, series_limit: for each peer. details:
        what of runs is read.
        """
        self._wanted = Wanted(presets, run_attributes, details)
        self._idle_after = idle_after
        self._runs = Runs(session_limit, series_limit, idle_after, boot, details)
        self._own = OwnSeries(session_limit, _FORGET_AFTER * idle_after, details)
        self._known = known = KnownResources(presets)
        identities = Identities(run_attributes)
        self._metrics = MetricsIntake(self._wanted, identities, known, self._runs, self._own)
        self._logs = LogsIntake(self._wanted, identities, known, self._runs)
        self._requests = Remembered[tuple[str, bytes]](REQUESTS_MOST)
        self._dropped: Counter[str] = Counter()

    def decode_metrics(self, body: bytes, content_type: str) -> Metrics:
        """Decode a request to ``/v1/metrics``. Raises OtlpError."""
        return decoding.decode_metrics(body, content_type, self._wanted)

    def decode_logs(self, body: bytes, content_type: str) -> Logs:
        """Decode a request to ``/v1/logs``. Raises OtlpError."""
        return decoding.decode_logs(body, content_type, self._wanted)

    def take_metrics(self, body: bytes, content_type: str, peer: str, now: float) -> Taken:
        """Take in the body of a request to ``/v1/metrics``. Raises OtlpError: nothing was taken.

        peer: who pushes. now: seconds on the reader's own clock.
        """
        return self.take(self.decode_metrics(body, content_type), peer, now)

    def take_logs(self, body: bytes, content_type: str, peer: str, now: float) -> Taken:
        """Take in the body of a request to ``/v1/logs``, as ``take_metrics`` does."""
        return self.take(self.decode_logs(body, content_type), peer, now)

    def take(self, request: Metrics | Logs, peer: str, now: float) -> Taken:
        """Take in a request that was decoded; if that fails half-way, sent again it is new."""
        key = (peer, request.digest)
        if not self._requests.add(key):
            return Taken(repeated=True)
        try:
            return self._take(request, peer, now)
        except BaseException:
            self._requests.discard(key)  # better counted twice in part than not at all
            raise

    def _take(self, request: Metrics | Logs, peer: str, now: float) -> Taken:
        sessions, counted = dict[str, None](), 0
        if isinstance(request, Metrics):
            for resource, metrics in request.resources:
                origin = self._known.of(peer, resource, now)
                found, number = self._metrics.take(origin, resource, metrics, now)
                sessions, counted = sessions | found, counted + number
        else:
            for resource, records in request.resources:
                origin = self._known.of(peer, resource, now)
                found, number = self._logs.take(origin, resource, records, now)
                sessions, counted = sessions | found, counted + number
        dropped = self._take_dropped()
        dropped.pop(DUPLICATE, None)  # it counts, once
        return Taken(tuple(sessions), counted, dropped)

    def take_hook_usage(
        self, session_id: str, peer: str, preset: str, tokens: int, now: float, *, calls: int = 0
    ) -> Taken:
        """Take in what a hook tells of one call: another view of what its program pushes.

        peer: who asks; a run that is pushed is its first origin's. preset: its program's.
        tokens: of the call. calls: 1 if it is a call that no other hook tells of.
        """
        pushed = self._runs.all_of(session_id)
        run = min(pushed, key=lambda one: one.began_at, default=None)
        if run is None:
            named = session_id if SESSION_ID_PATTERN.fullmatch(session_id) else None
            run = self._runs.get(peer, Identity(named), now)
        if run is None:
            return Taken(dropped=self._take_dropped())
        view = View(HOOKS, preset)
        run.usage(view).add_tokens(tokens, calls)
        self._runs.note(run, view, now)
        return Taken((session_id,), 1)

    def drain(self, now: float) -> Drained:
        """Return what is new, and forget what was silent for long. Call it at every tick."""
        runs, words = self._runs.changed(now), dict[str, list[str]]()
        sessions = list(self._own.changed())
        for run in runs:
            sessions += self._observed(run, run.take_changed(), words)
        self._runs.forget(now)
        self._own.forget(now)
        self._take_dropped()
        dropped, self._dropped = self._dropped, Counter()
        return Drained(
            tuple(sessions),
            dict(dropped),
            {target: one_line("; ".join(dict.fromkeys(said))) for target, said in words.items()},
            {f"{PUSHED}{peer}": why for peer, why in self._known.uncounted(now).items()},
        )

    def observation_of(self, session_id: str) -> tuple[RunObservation, ...]:
        """Return all that is known of a run, view by view; empty if it is not pushed."""
        found = list(self._own.all_of(session_id))
        for run in self._runs.all_of(session_id):
            found += run.observations(run.pushed_at, self._idle_after)
        return tuple(found)

    def amounts_of(self, session_id: str) -> dict[str, dict[str, Number]]:
        """Return what each view of a run says by role, parts of tokens among them.

        By target, as in RunObservation. A role that is absent is unknown.
        """
        return {
            target_of(run.peer, view): run.amounts(view)
            for run in self._runs.all_of(session_id)
            for view in run.pushed_at
        }

    def _observed(
        self, run: PushedRun, views: Iterable[View], words: dict[str, list[str]]
    ) -> Iterable[RunObservation]:
        """Yield what views show; note what their presets could not count."""
        for view in views:
            for page in run.pages.get(view, {}).values():
                news = page.news()
                if news is None:
                    continue
                # A value that cannot be was counted as it came.
                self._dropped.update({r: n for r, n in news.dropped.items() if r != IMPLAUSIBLE})
                said = uncounted(news)
                if said:
                    words.setdefault(target_of(run.peer, view), []).append(said)
        return run.observations(views, self._idle_after)

    def _take_dropped(self) -> dict[str, int]:
        """Return what was dropped just now, and keep it for the next drain."""
        dropped = {reason: n for reason, n in self._runs.dropped.items() if n}
        self._runs.dropped.clear()
        self._dropped.update(dropped)
        return dropped
