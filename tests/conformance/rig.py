"""One way from two real endpoints to a source, and a sidecar's ledger and policy behind it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from otel_budget.core.observation import Observation
from otel_budget.core.verdict import Verdict
from otel_budget.ledger.ledger import Ledger
from otel_budget.policy.verdicts import Rules, verdict_from_snapshot
from otel_budget.presets.model import Preset
from otel_budget.sources.base import Clock, Source
from otel_budget.sources.prometheus import PrometheusSettings, PrometheusSource
from otel_budget.sources.scrape import ScrapeSettings, ScrapeSource
from otel_budget.sources.scrape_target import ScrapeTarget
from tests.conformance.pushing import PushedSource, target_of
from tests.support.exposition import Exposition
from tests.support.ports import free_port
from tests.support.prometheus_process import JOB

SCRAPE, PROMETHEUS, VICTORIA_METRICS = "scrape", "prometheus", "victoriametrics"
PUSHED = "otlp"
MATCHERS = (f'job="{JOB}"',)


@dataclass(frozen=True)
class Backend:
    """What is between two endpoints and a source."""

    name: str
    endpoints: tuple[Exposition, ...]
    url: str | None = None
    """Of the server that scrapes them; None: the source does."""
    show: Callable[[tuple[str | None, ...]], None] | None = None
    """Lets the endpoints show this, and waits until it can be seen; None: at once."""

    @property
    def keeps_nan(self) -> bool:
        """False of VictoriaMetrics: it passes over samples that are NaN."""
        return self.name != VICTORIA_METRICS

    @property
    def nonsense(self) -> str:
        """A value that no counter and no limit can have, and that arrives."""
        return "NaN" if self.keeps_nan else "-1"

    def put(self, *texts: str | None) -> None:
        """Let the endpoints show this, and wait until a source may see it."""
        padded = (*texts, *[""] * (len(self.endpoints) - len(texts)))
        if self.show is not None:
            self.show(padded)
            return
        show(self.endpoints, padded)

    def make(self, clock: Clock, preset: Preset | None = None) -> Source:
        """Return a source that looks at the endpoints."""
        if self.url is not None:
            query = PrometheusSettings(self.url, matchers=MATCHERS, preset=preset)
            return PrometheusSource(query, clock)
        if self.name == PUSHED:
            return PushedSource(self.endpoints, () if preset is None else (preset,), clock)
        targets = [ScrapeTarget(endpoint.url, preset=preset) for endpoint in self.endpoints]
        return ScrapeSource(ScrapeSettings(targets, timeout=5), clock)

    def broken(self, clock: Clock) -> Source:
        """Return one for when the endpoints hang up: of a server that does not answer either."""
        if self.url is None:
            return self.make(clock)
        return PrometheusSource(PrometheusSettings(f"http://127.0.0.1:{free_port()}"), clock)

    @property
    def ids(self) -> tuple[str, ...]:
        """What the source calls each endpoint."""
        if self.name == PUSHED:
            return tuple(target_of(number) for number in range(len(self.endpoints)))
        if self.url is None:
            return tuple(endpoint.url for endpoint in self.endpoints)
        return tuple(f"{JOB}/{endpoint.address}" for endpoint in self.endpoints)


def show(endpoints: tuple[Exposition, ...], texts: tuple[str | None, ...]) -> None:
    """Let endpoints show this."""
    for endpoint, text in zip(endpoints, texts, strict=True):
        endpoint.show(text)


@dataclass(frozen=True)
class Rig:
    """A back end, and what is read through it."""

    backend: Backend

    @property
    def ids(self) -> tuple[str, ...]:
        """What the source calls each endpoint."""
        return self.backend.ids

    @property
    def through_server(self) -> bool:
        """True if a server scrapes the endpoints."""
        return self.backend.url is not None

    @property
    def called(self) -> str:
        """What the back end is called in figures."""
        names = {SCRAPE: "direct scrape", PROMETHEUS: "Prometheus", PUSHED: "OTLP"}
        return names.get(self.backend.name, "VictoriaMetrics")

    def put(self, *texts: str | None) -> None:
        """Let the endpoints show this, and wait until a source may see it."""
        self.backend.put(*texts)

    def show(self, *texts: str | None) -> Observation:
        """Let the endpoints show this, and return what a new source then reads."""
        self.put(*texts)
        with self.follow() as follower:
            return follower.read()

    @contextmanager
    def follow(self, clock: Clock = time.time) -> Iterator[Follower]:
        """Follow the endpoints with one source."""
        with asyncio.Runner() as runner:
            follower = Follower(self, runner, clock)
            try:
                yield follower
            finally:
                runner.run(follower.source.close())


class Follower:
    """A source, and the ledger of what it showed."""

    def __init__(self, rig: Rig, runner: asyncio.Runner, clock: Clock) -> None:
        """Have seen nothing."""
        self._rig, self._runner, self.clock = rig, runner, clock
        self.source, self.ledger = rig.backend.make(clock), Ledger()

    def read(self) -> Observation:
        """Read once, and keep the books."""
        reading = self._runner.run(self.source.read())
        self.ledger.apply(reading)
        return reading

    def see(self, *texts: str | None) -> Observation:
        """Let the endpoints show this, and read it."""
        self._rig.put(*texts)
        return self.read()

    def verdict(self, session_id: str, rules: Rules) -> Verdict:
        """Judge a run as of now."""
        now = self.clock()
        return verdict_from_snapshot(
            self.ledger.snapshot(self.ledger.runs[session_id], now), rules, now
        )

    def used(self, session_id: str) -> dict[str, object]:
        """Return what a run has used, by resource."""
        return dict(self.ledger.runs[session_id].totals())
