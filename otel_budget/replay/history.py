"""The history of runs in a Prometheus: what a sidecar would have read there, from tick to tick.

It is asked for raw samples with the times they were taken at, chunk by chunk, and not for values at
steps: a step hides when a sample was taken, and what happened between two. What of it is current at
a tick is past_answer.py's to say; runs are made of it by the code that reads a live server.

Nothing is left out in silence: a chunk that cannot be read ends the history with an error, one that
is partial makes what is judged by it ``partial_data``, as live, and times for which the server has
nothing at all are listed.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field, replace
from itertools import pairwise
from statistics import median_low
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget.core.observation import Problem
from otel_budget.core.reasons import Reason
from otel_budget.errors import OtelBudgetError
from otel_budget.replay.moments import utc
from otel_budget.replay.past_answer import LOOK_BACK, Moments, PastAnswer
from otel_budget.sources.http import Fetcher, FetchError, RefusedError, SlowError
from otel_budget.sources.prometheus_api import (
    AnswerError,
    QueryRefusedError,
    parse_answer,
    parse_matrix,
)
from otel_budget.sources.prometheus_reading import PrometheusReading
from otel_budget.sources.prometheus_vector import NAME, UP, history_selector

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        Awaitable,
        Callable,
        Iterable,
        Iterator,
        Mapping,
        Sequence,
    )

    from otel_budget.core.observation import Observation
    from otel_budget.sources.base import Clock
    from otel_budget.sources.prometheus import PrometheusSettings
    from otel_budget.sources.prometheus_api import Matrix, Series

#: Bytes that the answer for a chunk is meant to have: what is in memory at once follows from it.
_CHUNK_BYTES: Final = 8_000_000
#: Seconds of the first chunk; how long the next ones are follows from what it brings.
_FIRST_CHUNK: Final = 600.0
#: Ticks in a chunk, at most: Prometheus gives 11,000 points of a series, and no more.
_CHUNK_TICKS: Final = 10_000
#: Times a chunk may be longer than the one before.
_GROWTH: Final = 4.0
#: Tries of a query whose answer does not come for a reason that may pass, and seconds in between.
_TRIES, _PAUSE = 3, 1.0
#: Spacings of the samples from which on there is none is a gap.
_GAP_SPACINGS: Final = 3
#: Gaps of which the times are kept; all are counted. And what else is kept to be said.
_GAPS_KEPT, _REMARKS_KEPT = 100, 20


class HistoryError(OtelBudgetError):
    """A history that cannot be read as a whole; the message says from when to when, and why."""


class Gap(NamedTuple):
    """A time for which something is missing, in Unix seconds."""

    begin: float
    end: float
    why: str


class Tick(NamedTuple):
    """A moment at which a sidecar would judge."""

    at: float
    """Unix seconds."""
    observation: Observation | None
    """What it would have read; None: the same as at the tick before."""


@dataclass(slots=True)
class Coverage:
    """What of a history was read, and what is missing of it."""

    begin: float
    end: float
    """Unix seconds."""
    read_to: float
    queries: int = 0
    samples: int = 0
    gaps: list[Gap] = field(default_factory=list)
    """The first of them."""
    gap_count: int = 0
    gap_seconds: float = 0.0
    begun_before: set[str] = field(default_factory=set)
    """Ids of runs that were there at the first tick: what they had used by then is known, and not
    when they used it."""
    remarks: dict[str, None] = field(default_factory=dict)
    """What else the server says, and what a preset cannot count."""

    def remark(self, said: Iterable[str]) -> None:
        """Take note of what else there is to say, each once, and not without end."""
        for text in said:
            if len(self.remarks) < _REMARKS_KEPT:
                self.remarks[text] = None

    def note_gap(self, gap: Gap) -> None:
        """Take note that something is missing."""
        self.gap_count += 1
        self.gap_seconds += gap.end - gap.begin
        if self.gaps and self.gaps[-1].why == gap.why and self.gaps[-1].end >= gap.begin:
            self.gap_count -= 1
            self.gaps[-1] = self.gaps[-1]._replace(end=gap.end)
        elif len(self.gaps) < _GAPS_KEPT:
            self.gaps.append(gap)


class PrometheusHistory:
    """What the server of some settings has of a range of time."""

    def __init__(
        self,
        settings: PrometheusSettings,
        begin: float,
        end: float,
        *,
        clock: Clock,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """begin, end: Unix seconds. clock: times requests. pause: waits before another try.

        Raises HistoryError for an empty range.
        """
        if not (math.isfinite(begin) and math.isfinite(end) and begin < end):
            raise HistoryError(
                f"the range from {utc(begin)} to {utc(end)} is empty: --from has to be before --to"
            )
        self._settings, self._pause = settings, pause
        self._api = settings.url.rstrip("/") + "/api/v1/"
        self._fetcher = Fetcher(clock, settings.timeout, settings.body_size_limit)
        self._begin, self._end = round(begin * 1000), round(end * 1000)
        self._step = max(1, round(settings.interval * 1000))
        self._most = _CHUNK_TICKS
        """Ticks that the next chunk may have."""
        self.answer = PastAnswer(settings.preset, settings.replica_labels, settings.details)
        self._reading = PrometheusReading(
            self.answer,
            settings.bindings,
            first_owns=settings.first_owns,
            session_limit=settings.session_limit,
        )
        self.coverage = Coverage(begin, end, begin)
        self._gaps = _Gaps(self._begin, settings.interval)
        self._gives_marks: bool | None = None
        """Whether NaN is the mark of an end; None: there was none yet."""
        self._settles = False
        """Whether the same answer may show at the next tick which targets there are."""

    async def ticks(self) -> AsyncGenerator[Tick, None]:
        """Yield every tick in the order of time. Raises HistoryError."""
        try:
            at, ticks = self._begin, max(1, int(_FIRST_CHUNK * 1000 // self._step))
            after = self._begin - LOOK_BACK
            while at <= self._end:
                self._most = min(ticks, _CHUNK_TICKS)
                chunk = await self._chunk(after, at)
                for tick in self._ticks_in(chunk):
                    yield tick
                after, at = chunk.moments.last, chunk.moments.last + self._step
                if after < self._end < at:
                    at = self._end
                ticks = self._next_length(chunk)
                self.coverage.read_to = after / 1000
            self._finish()
        finally:
            await self._fetcher.close()

    def _finish(self) -> None:
        for gap in self._gaps.until(self._end):
            self.coverage.note_gap(gap)
        if not self.coverage.samples:
            matchers = ", ".join(self._settings.matchers) or "without matchers"
            raise HistoryError(
                f"{self._api}query has no sample of any run from {utc(self._begin / 1000)} to "
                f"{utc(self._end / 1000)} ({matchers}): is it the right server, range and matchers?"
            )

    async def _chunk(self, after: int, first: int) -> _Chunk:
        """Return the samples after a time and up to a tick as far ahead as one answer holds."""
        while True:
            last = min(first + (self._most - 1) * self._step, max(first, self._end))
            last -= (last - first) % self._step
            moments = Moments(first, last, self._step)
            try:
                return await self._read(after, moments)
            except (RefusedError, SlowError, QueryRefusedError) as exc:
                if self._most <= 1 or first == last:
                    raise self._error(after, last, exc) from exc
                self._most = max(1, min(self._most, (last - first) // self._step + 1) // 2)
            except (FetchError, AnswerError) as exc:
                raise self._error(after, last, exc) from exc

    def _error(self, after: int, last: int, exc: OtelBudgetError) -> HistoryError:
        return HistoryError(
            f"{self._api}query cannot be read from {utc(after / 1000)} to {utc(last / 1000)}: {exc}"
        )

    async def _read(self, after: int, moments: Moments) -> _Chunk:
        matchers, preset = self._settings.matchers, self._settings.preset
        selector = history_selector(matchers, preset, self._settings.details)
        raw = {"query": f"{selector}[{moments.last - after}ms]", "time": _unix(moments.last)}
        samples = await self._ask("query", raw)
        ups = {
            "query": f"{UP}{{{','.join(matchers)}}}",
            "start": _unix(moments.first),
            "end": _unix(moments.last),
            "step": _unix(moments.step),
        }
        current = await self._ask("query_range", ups)
        found = samples.matrix
        if self._gives_marks is None and any(map(_has_nan, found.series)):
            self._gives_marks = self.answer.nan_ends = await self._is_victoria_metrics()
        missing = (*samples.missing, *current.missing)
        if found.odd:
            missing = (*missing, f"rows cannot be read, such as {found.odd[0]}")
        self.coverage.remark((*found.infos, *current.matrix.infos))
        size = max(samples.size, current.size)
        return _Chunk(after, moments, found.series, current.matrix.series, missing, size)

    async def _is_victoria_metrics(self) -> bool:
        """Tell whether the server has a function that no other one has. Raises FetchError."""
        try:
            answer = await self._fetcher.fetch(
                self._api + "query", self._settings.access, accept="application/json",
                form={"query": "now()"},
            )  # fmt: skip
            parse_answer(answer.body)
        except (RefusedError, QueryRefusedError):
            return False
        return True

    async def _ask(self, path: str, form: Mapping[str, str]) -> _Got:
        """Return what is answered to a query, which is asked again if that may help."""
        asked = {**form, "timeout": f"{self._settings.timeout:g}", "nocache": "1"}
        tries = 1
        while True:
            self.coverage.queries += 1
            try:
                answer = await self._fetcher.fetch(
                    self._api + path, self._settings.access, accept="application/json", form=asked
                )
                break
            except (RefusedError, SlowError):
                raise
            except FetchError:
                if tries == _TRIES:
                    raise
                tries += 1
            await self._pause(_PAUSE)
        matrix = await asyncio.to_thread(parse_matrix, answer.body)
        return _Got(matrix, (*answer.missing, *matrix.warnings), len(answer.body))

    def _next_length(self, chunk: _Chunk) -> int:
        """Return how many ticks the next chunk should have."""
        ticks = (chunk.moments.last - chunk.moments.first) // self._step + 1
        factor = min(_GROWTH, _CHUNK_BYTES / max(1, chunk.size))
        return max(1, math.ceil(ticks * factor))

    def _ticks_in(self, chunk: _Chunk) -> Iterator[Tick]:
        """Yield the ticks of a chunk."""
        coverage, problems = self.coverage, self._problems(chunk)
        samples = [each for each in chunk.series if each.labels.get(NAME) != UP]
        coverage.samples += sum(len(each.samples) for each in samples)
        for gap in self._gaps.take(chunk.series):
            coverage.note_gap(gap)
        self.answer.load(chunk.series, chunk.current, chunk.moments)
        moments = chunk.moments
        for at in range(moments.first, moments.last + 1, moments.step):
            yield self._tick(at, problems)

    def _problems(self, chunk: _Chunk) -> list[Problem]:
        if not chunk.missing:
            return []
        said = "; ".join(dict.fromkeys(chunk.missing))
        begin, end = chunk.after / 1000, chunk.moments.last / 1000
        self.coverage.note_gap(Gap(begin, end, f"partial answer: {said}"))
        return [
            Problem("", Reason.PARTIAL_DATA, f"{self._api}query: its answer is partial: {said}")
        ]

    def _tick(self, now: int, problems: Sequence[Problem]) -> Tick:
        at, reading = now / 1000, self._reading
        changed = self.answer.move(now)
        if not (changed or problems or self._settles or now == self._begin):
            reading.take_same(at)
            return Tick(at, None)
        taken = self.answer.taken()
        found = reading.take(taken, at)
        self._settles = reading.targets is None and bool(taken.ups)
        self.coverage.remark(found.uncounted.values())
        observation = reading.observation(at, found.sessions, problems, found.dropped)
        if not problems:
            observation = replace(observation, targets=reading.targets, down=reading.down)
        if now == self._begin:
            self.coverage.begun_before.update(each.session_id for each in found.sessions)
        return Tick(at, observation)


class _Got(NamedTuple):
    """An answer that was read."""

    matrix: Matrix
    missing: tuple[str, ...]
    size: int
    """Bytes."""


class _Chunk(NamedTuple):
    """All that is known of some time."""

    after: int
    """From when on, in milliseconds."""
    moments: Moments
    series: Sequence[Series]
    current: Sequence[Series]
    """At which moments each ``up`` is current."""
    missing: Sequence[str]
    """What the server says is missing."""
    size: int
    """Bytes of the larger of its answers."""


class _Gaps:
    """Finds times for which a server has no sample of anything."""

    def __init__(self, begin: int, interval: float) -> None:
        """begin: Unix milliseconds. interval: seconds between two readings."""
        self._newest, self._least = begin, interval * 1000
        self._spacing = float(LOOK_BACK)
        """Of the samples of a series, in milliseconds."""

    def take(self, series: Sequence[Series]) -> list[Gap]:
        """Return the gaps up to the newest of these samples."""
        ups = [each for each in series if each.labels.get(NAME) == UP] or series
        spacings = [b - a for each in ups for (a, _), (b, _) in pairwise(each.samples)]
        if spacings:
            self._spacing = median_low(spacings)
        times = sorted({at for each in series for at, _ in each.samples if at > self._newest})
        return [gap for at in times if (gap := self._gap(at)) is not None]

    def until(self, end: int) -> list[Gap]:
        """Return the gap up to the end, if there is one."""
        gap = self._gap(end)
        return [] if gap is None else [gap]

    def _gap(self, at: int) -> Gap | None:
        before, self._newest = self._newest, at
        if at - before <= _GAP_SPACINGS * max(self._spacing, self._least):
            return None
        why = "the server has no sample of any target that matches"
        return Gap(before / 1000, at / 1000, why)


def _has_nan(series: Series) -> bool:
    return any(math.isnan(value) for _, value in series.samples)


def _unix(milliseconds: int) -> str:
    return f"{milliseconds // 1000}.{milliseconds % 1000:03d}"
