"""What is pushed, as a source: a request's body in, runs out.

A request is unpacked and decoded on the threads of sources/page_threads.py: a cheap one never waits
for a costly one, and who pushes costly ones takes at most half of a processor. Runs are kept by one
thread, in the order in which requests were decoded.
"""

from __future__ import annotations

import logging
import uuid
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from otel_budget.core.observation import OTLP, Observation
from otel_budget.core.owner_labels import NO_DETAILS, Details
from otel_budget.errors import OtelBudgetError
from otel_budget.logs.once import Once
from otel_budget.logs.text import one_line
from otel_budget.runtime.workers import Workers
from otel_budget.sources.otlp.pushed_runs import PushedRuns
from otel_budget.sources.page_threads import PageCost, PageThreads

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from otel_budget.core.observation import RunObservation
    from otel_budget.presets.model import Preset
    from otel_budget.sources.base import Clock
    from otel_budget.sources.decompression import Gzip, Plain
    from otel_budget.sources.otlp.messages import Logs, Metrics
    from otel_budget.sources.otlp.pushed_runs import Drained, Taken

METRICS: Final = "metrics"
logger = logging.getLogger(__name__)

#: What is odd about pushers is said once of each, and of so many.
_TOLD_MOST: Final = 1000
#: Pushers of which it is remembered what their requests cost.
_COSTS_KEPT: Final = 10_000


class TooLargeError(OtelBudgetError):
    """A body unpacks to more than is allowed."""


@dataclass(frozen=True, slots=True)
class OtlpSettings:
    """How pushed data are read, and how much of them to put up with."""

    presets: Sequence[Preset]
    idle_after: float = 1800.0
    """As in RunAttributes."""
    request_body: int = 16_000_000
    """Bytes, unpacked."""
    session_limit: int = 10_000
    series_limit: int = 500_000
    """Both of one pusher."""
    run_attributes: Sequence[str] = ()
    details: Details = NO_DETAILS
    """What of runs is read."""


class OtlpSource:
    """A source that programs push to."""

    def __init__(self, settings: OtlpSettings, clock: Clock) -> None:
        """Begin with nothing pushed."""
        self.settings, self._clock = settings, clock
        self._runs = PushedRuns(
            settings.presets,
            boot=uuid.uuid4().hex[:16],
            idle_after=settings.idle_after,
            run_attributes=settings.run_attributes,
            session_limit=settings.session_limit,
            series_limit=settings.series_limit,
            details=settings.details,
        )
        self._decoding = PageThreads()
        self._keeping = Workers("pushes")
        self._costs: OrderedDict[tuple[str, int], PageCost] = OrderedDict()
        self.knows_names = False
        """True if tokens tell pushers apart, and not their addresses."""
        self._told = Once(_TOLD_MOST)
        self._awaited = 0
        """Requests that wait to be judged."""

    reads_runs = True

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """Leave what is taken in here to who calls ``drain``; ``read`` shows none of it."""
        self._awaited += 1
        try:
            yield
        finally:
            self._awaited -= 1

    async def take(
        self, signal: str, body: bytes, packed: Plain | Gzip, content_type: str, peer: str
    ) -> Taken:
        """Take in the body of a request. packed: unpacks it. peer: who pushes.

        Raises OtlpError, UnpackError, TooLargeError; nothing of the request is taken then.
        """

        def decode() -> Metrics | Logs:
            whole = self._unpacked(body, packed)
            read = self._runs.decode_metrics if signal == METRICS else self._runs.decode_logs
            return read(whole, content_type)

        cost = self._cost_of(peer, len(body))
        async with self._decoding.turn(cost):
            decoded = await self._decoding.run(decode, cost, len(body))
        return await self._keeping.run(self._runs.take, decoded, peer, self._clock())

    async def take_hook_usage(
        self, session_id: str, tokens: int, preset: str, peer: str, *, may_begin: bool
    ) -> None:
        """Take in what a hook says that a call has just used.

        may_begin: False where a run belongs to a token: who asks here has none, and would be taken
        for its owner, if nothing was pushed of it yet.
        """

        def take(now: float) -> None:
            if may_begin or self._runs.observation_of(session_id):
                self._runs.take_hook_usage(session_id, peer, preset, tokens, now)

        await self._keeping.run(take, self._clock())

    async def drain(self) -> Observation:
        """Return the runs that changed since they were returned last."""
        drained = await self._keeping.run(self._runs.drain, self._clock())
        self._log_odd(drained)
        return self._observation(drained.sessions, drained.dropped)

    async def read(self) -> Observation:
        """Return that there is a receiver; and what was pushed, if nobody waits for it."""
        if self._awaited:
            found = self._observation((), {})
        else:
            found = await self.drain()
        return replace(found, asked=None)

    async def read_late(self) -> Observation | None:
        """Return None: nothing is ever pending."""
        return None

    async def read_run(self, session_id: str) -> Observation | None:
        """Return what was pushed of one run up to now."""
        found = await self._keeping.run(self._runs.observation_of, session_id)
        return self._observation(found, {}) if found else None

    async def close(self) -> None:
        """Let go of the threads; they start again when something is pushed."""
        self._decoding.close()
        self._keeping.shutdown()

    def _log_odd(self, drained: Drained) -> None:
        """Say, once, who pushes nothing that can be counted, and what a preset cannot count."""
        for target, words in {**drained.unmatched, **drained.uncounted}.items():
            if self._told.first((target, words)):
                logger.warning("%s: %s", one_line(target), one_line(words))

    def _observation(
        self, runs: Sequence[RunObservation], dropped: Mapping[str, int]
    ) -> Observation:
        return Observation(
            OTLP,
            self._clock(),
            sessions=tuple(runs),
            dropped=dropped,
            session_limit=self.settings.session_limit,
            asked=frozenset(run.target for run in runs),
        )

    def _unpacked(self, body: bytes, packed: Plain | Gzip) -> bytes:
        whole, most = bytearray(), self.settings.request_body
        for piece in packed.feed(body):
            whole += piece
            if len(whole) > most:
                raise TooLargeError(
                    f"the body unpacks to more than {most:,} bytes (source.otlp.request_body)"
                )
        packed.finish()
        return bytes(whole)

    def _cost_of(self, peer: str, size: int) -> PageCost:
        """Return what bodies of about a size cost: all programs of a host may be one pusher."""
        key = (peer, size.bit_length())
        cost = self._costs.pop(key, None) or PageCost()
        self._costs[key] = cost
        if len(self._costs) > _COSTS_KEPT:
            self._costs.popitem(last=False)
        return cost
