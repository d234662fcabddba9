"""A replay of what a Prometheus has: asked, played, written down, and what has to be said of it."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_budget.config.sources import PrometheusConfig
from otel_budget.errors import InvalidValueError
from otel_budget.net.url import UrlError, place_of, split_url
from otel_budget.replay.history import PrometheusHistory
from otel_budget.replay.history_replay import HistoryReplay
from otel_budget.replay.moments import moment, utc
from otel_budget.replay.trace_recorder import TraceRecorder
from otel_budget.replay.trace_writer import TraceWriter
from otel_budget.sidecar.factory import details_of, foreign, prometheus_settings
from otel_budget.sources.http import Access
from otel_budget.sources.prometheus import PrometheusSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_budget.config.schema import SidecarConfig
    from otel_budget.replay.changes import Found
    from otel_budget.replay.history import Coverage
    from otel_budget.replay.summary import Summary

#: Gaps that are said, one line each; the summary has more of them.
_SAID_MOST: Final = 5


class Asked(NamedTuple):
    """What a user asks for."""

    url: str
    begin: str
    """As typed."""
    end: str
    write_trace: str | None = None


class Played(NamedTuple):
    """What came of it."""

    summary: Summary
    coverage: Coverage
    open_runs: tuple[str, ...]
    remarks: tuple[str, ...]
    """What has to be said besides, one line each."""


def settings_for(config: SidecarConfig, url: str) -> PrometheusSettings:
    """Return how to ask a server: as the file does, if that has one.

    The file's credentials go to its own server alone. Raises InvalidValueError for a wrong URL.
    """
    try:
        split_url(url)
    except UrlError as exc:
        raise InvalidValueError("--prometheus", exc.shown, "an http or https URL") from exc
    polled = config.source.polled
    if not isinstance(polled, PrometheusConfig):
        preset = None if polled is None else foreign(polled.preset)
        usual = PrometheusSettings(url, preset=preset, details=details_of(config))
        return usual if polled is None else replace(usual, interval=polled.interval)
    settings = replace(prometheus_settings(polled), url=url, details=details_of(config))
    if _server(polled.url) == _server(url):
        return settings
    return replace(settings, access=Access(ca_file=settings.access.ca_file))


def play(
    asked: Asked,
    config: SidecarConfig,
    make_replay: Callable[..., HistoryReplay],
    *,
    on_found: Callable[[Found], None],
    on_read: Callable[[float], None] = lambda _share: None,
    now: Callable[[], float] = time.time,
) -> Played:
    """Replay a history; see HistoryReplay, of which make_replay makes one.

    on_read: is told now and then which share of the range was replayed. Raises HistoryError,
    TraceWriteError, and InvalidValueError for what was typed.
    """
    present = now()
    begin, end = moment("--from", asked.begin, present), moment("--to", asked.end, present)
    if end > present:
        sentence = "--to is in the future, of which there is no history"
        raise InvalidValueError("--to", asked.end, "", sentence=sentence)
    past = PrometheusHistory(settings_for(config, asked.url), begin, end, clock=time.monotonic)
    recorder = TraceRecorder()
    path = asked.write_trace
    with nullcontext() if path is None else TraceWriter(path, recorder) as writer:
        labels = past.answer.run_labels
        more: dict[str, Any] = {}
        if writer is not None:
            more["on_runs"] = lambda runs: writer.note(runs, labels)
        engine = make_replay(begin, **more)
        asyncio.run(_play(past, engine, on_found, on_read))
        open_runs = engine.open_runs
        summary = engine.finish()
        if writer is not None:
            writer.finish()
    return Played(summary, past.coverage, open_runs, _remarks(past.coverage, recorder))


async def _play(
    past: PrometheusHistory,
    engine: HistoryReplay,
    on_found: Callable[[Found], None],
    on_read: Callable[[float], None],
) -> None:
    coverage = past.coverage
    seconds = coverage.end - coverage.begin
    async with aclosing(past.ticks()) as ticks:
        async for tick in ticks:
            for found in engine.take(tick):
                on_found(found)
            on_read((tick.at - coverage.begin) / seconds)


def as_json(coverage: Coverage) -> dict[str, Any]:
    """Return what of a history was read, and what is missing, as JSON types."""
    return {
        "from": coverage.begin,
        "to": coverage.end,
        "samples": coverage.samples,
        "queries": coverage.queries,
        "began_before": len(coverage.begun_before),
        "gaps": coverage.gap_count,
        "gap_seconds": round(coverage.gap_seconds, 3),
        "first_gaps": [{"from": gap.begin, "to": gap.end, "why": gap.why} for gap in coverage.gaps],
    }


def _remarks(coverage: Coverage, recorder: TraceRecorder) -> tuple[str, ...]:
    """Return what is missing of a history, and of its trace, for people."""
    said = [
        f"nothing is known from {utc(gap.begin)} to {utc(gap.end)} "
        f"({gap.end - gap.begin:.0f} s): {gap.why}"
        for gap in coverage.gaps[:_SAID_MOST]
    ]
    if coverage.gap_count > _SAID_MOST:
        said.append(f"{coverage.gap_count} gaps in all, {coverage.gap_seconds:.0f} s together")
    if coverage.begun_before:
        said.append(
            f"began before the range: {len(coverage.begun_before)} of the runs; what was used by "
            "then counts as known at the first moment"
        )
    said += coverage.remarks
    said += [f"trace: {what} ({times}x)" for what, times in recorder.remarks.items()]
    return tuple(said)


def _server(url: str) -> tuple[str, int, bool]:
    place = place_of(url)
    return place.host.lower(), place.port, place.is_tls
