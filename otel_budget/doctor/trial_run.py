"""A test session, followed from its counter to the verdict in a client."""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass
from queue import Empty, Queue
from typing import TYPE_CHECKING, Final

from opentelemetry.sdk.environment_variables import (
    OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE as ENV_TEMPORALITY,
)
from opentelemetry.sdk.environment_variables import OTEL_SDK_DISABLED

from otel_budget import ResourceLimits, ResourceMonitor, semconv
from otel_budget.core.verdict import LimitStatus
from otel_budget.doctor.finding import broken, ok, warning
from otel_budget.errors import ListenError
from otel_budget.sdk.metrics.collector import RUNS
from otel_budget.sdk.metrics.endpoint import serve_metrics
from otel_budget.sdk.metrics.visibility import (
    ENV_EXPORTER,
    ENV_MULTIPROCESS,
    named_exporters,
    show_no_runs,
)
from otel_budget.sdk.sidecar_client.address import Credentials, SidecarAddress
from otel_budget.sdk.sidecar_client.client import VerdictClient
from otel_budget.sdk.sidecar_client.request import Asker, AskError
from otel_budget.sources.exposition import ACCEPT, ExpositionError, PageLimits, PageReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_budget.core.verdict import Verdict
    from otel_budget.doctor.finding import Finding
    from otel_budget.sdk.metrics.endpoint import MetricsEndpoint

FIRST, SECOND = 1000, 500
"""Tokens the test session uses."""
_FAR: Final = 1_000_000
_BETWEEN: Final = 0.05
_DELTA: Final = ("delta", "lowmemory")


@dataclass(frozen=True, slots=True)
class Plan:
    """How to try it."""

    sidecar: str
    """URL."""
    host: str | None = None
    """Where to show the test session; None is where a run would."""
    port: int | None = None
    register: str | None = None
    """Folder of ``file_sd`` entries that the sidecar reads; None: it knows the address."""
    timeout: float = 30.0
    """Seconds that a counter may take to become a verdict."""


class Ears:
    """A client as a run has it, and all that it hears."""

    def __init__(self, url: str, session_id: str) -> None:
        """Begin to listen."""
        self._heard: Queue[tuple[float, Verdict]] = Queue()
        self.newest: Verdict | None = None
        self._client = VerdictClient(
            url,
            session_id,
            on_verdict=lambda verdict: self._heard.put((time.monotonic(), verdict)),
            on_reachable=lambda _: None,
        )
        self._client.start()

    @property
    def problem(self) -> str:
        """What was wrong when the sidecar was last asked."""
        return self._client.problem

    def next(self, until: float) -> tuple[float, Verdict] | None:
        """Return the next verdict and when it came; None if none comes until then (monotonic)."""
        try:
            at, verdict = self._heard.get(timeout=max(0.0, until - time.monotonic()))
        except Empty:
            return None
        self.newest = verdict
        return at, verdict

    def close(self) -> None:
        """Stop listening."""
        self._client.stop()


def settings() -> Iterator[Finding]:
    """Yield what the environment says of exporting, for a run that is started in it."""
    exporters = named_exporters()
    if os.environ.get(OTEL_SDK_DISABLED, "").strip().lower() == "true":
        said = f"exporter off: {OTEL_SDK_DISABLED} is set: no span is made, and no call counted"
        yield broken("exporter", said, f"unset {OTEL_SDK_DISABLED}")
    elif opens_nothing():
        carries = (
            "" if exporters == ("none",) else ", and that carries the process's sums, not runs"
        )
        said = f"exporter off: {ENV_EXPORTER} is {', '.join(exporters)}: a run opens no /metrics "
        advice = "have it name prometheus, or call serve_metrics() in the run"
        yield broken("exporter", f"{said}by itself{carries}", advice)
    if os.environ.get(ENV_MULTIPROCESS):
        said = f"{ENV_MULTIPROCESS} is set: the page made of its files holds no runs"
        yield warning(
            "exporter", said, "call serve_metrics(port=0, register=FOLDER) in each worker"
        )
    if os.environ.get(ENV_TEMPORALITY, "").strip().lower() in _DELTA:
        said = f"delta temporality: {ENV_TEMPORALITY} is set: by OTLP counters go out as deltas"
        advice = (
            "set it to cumulative for Prometheus, which takes no deltas: the sums of each process "
            "go that way. Runs are scraped, and do not"
        )
        yield warning("exporter", said, advice)


def opens_nothing() -> bool:
    """Tell whether a run that is started in this environment opens no page by itself."""
    names = named_exporters()
    return names == ("none",) or show_no_runs(names)


def follow(plan: Plan) -> Iterator[Finding]:
    """Yield how each link holds for a test session, up to the first broken one."""
    try:
        endpoint = serve_metrics(plan.host, plan.port, plan.register)
    except (ListenError, OSError) as exc:
        advice = "a run is there already? name another with --serve, or look at its page: --metrics"
        yield broken("exporter", f"no test session can be shown: {exc}", advice)
        return
    with endpoint:
        session_id = f"doctor-{secrets.token_hex(4)}"
        monitor = ResourceMonitor(
            ResourceLimits(), session_id, sidecar=plan.sidecar, workflow="doctor"
        )
        ears = Ears(plan.sidecar, session_id)
        scrapes = RUNS.scrapes + 1  # the first one is our own look
        try:
            monitor.record_operation(FIRST, api_call=True)
            yield from _followed(plan, endpoint, monitor, ears)
        finally:
            ears.close()
            monitor.close("completed")
            _let_its_end_be_seen(scrapes, plan.timeout)


def _let_its_end_be_seen(scrapes: int, timeout: float) -> None:
    """Wait for one more scrape if there were any: a run that falls silent would raise an alert."""
    seen, until = RUNS.scrapes, time.monotonic() + timeout
    while RUNS.scrapes == seen > scrapes and time.monotonic() < until:
        time.sleep(_BETWEEN)


def _followed(
    plan: Plan, endpoint: MetricsEndpoint, monitor: ResourceMonitor, ears: Ears
) -> Iterator[Finding]:
    shown = _own_page(endpoint.url, monitor.session_id)
    if shown.state == "ok" and opens_nothing():
        said = f"{shown.said}, by a page of its own: a run opens none in this environment"
        yield warning("exporter", said, f"see above: {ENV_EXPORTER}")
    else:
        yield shown
    if shown.state != "ok":
        return
    scrapes = RUNS.scrapes
    until = time.monotonic() + plan.timeout
    heard = _wait(ears, FIRST, until)
    if heard is None:
        yield _why_not(plan, endpoint, ears, RUNS.scrapes - scrapes)
        return
    yield ok(
        "verdict", f"the test session's {FIRST:,} tokens are in the verdict: {_gist(heard[1])}"
    )
    recorded_at = time.monotonic()
    monitor.record_operation(SECOND, api_call=True)
    # By its counts alone the verdict stays the same, and is sent again when its lease is to be
    # renewed. Another limit makes it another verdict, which is sent at once, as a stop is.
    monitor.update_limits(max_tokens=_lower(heard[1]))
    again = _wait(ears, FIRST + SECOND, recorded_at + plan.timeout)
    if again is None:
        yield _stale(plan, ears)
        return
    took = again[0] - recorded_at
    yield ok("latency", f"a change was in a verdict after {took:.2f} s; a stop takes no longer")
    yield _lease(again, ears)


def _lower(verdict: Verdict) -> int:
    """Return a limit on tokens stricter than the one that holds, and far away as far as may be."""
    state = verdict.resources.get(semconv.TOKENS)
    limit = None if state is None else state.limit
    return _FAR if limit is None else max(1, int(limit) - 1)


def _own_page(url: str, session_id: str) -> Finding:
    try:
        asker = Asker(url, SidecarAddress.parse(url, Credentials()))
        answer = asker.ask("GET", "", accept=ACCEPT)
        reader = PageReader([semconv.SESSION_TOKENS.name], PageLimits(), 5.0)
        samples = reader.read(answer.body, answer.headers.get("content-type", ""))
    except (AskError, ExpositionError) as exc:
        return broken(
            "exporter", f"the test session's own page {url}: {exc}", "is a proxy between?"
        )
    mine = [s.value for s in samples if s.labels.get(semconv.SESSION_ID) == session_id]
    if mine != [FIRST]:
        said = f"series missing: {url} shows {mine or 'nothing'} of {FIRST} tokens"
        return broken("exporter", said, "is another MeterProvider or registry in its place?")
    return ok("exporter", f"{url} shows the test session {session_id} with {FIRST:,} tokens")


def _wait(ears: Ears, tokens: int, until: float) -> tuple[float, Verdict] | None:
    """Return the first verdict that has so many tokens, or more."""
    while (heard := ears.next(until)) is not None:
        state = heard[1].resources.get(semconv.TOKENS)
        if state is not None and state.used >= tokens:
            return heard
    return None


def _why_not(plan: Plan, endpoint: MetricsEndpoint, ears: Ears, scrapes: int) -> Finding:
    """Say where the test session was lost."""
    seconds = f"within {plan.timeout:g} s"
    if ears.newest is not None:
        return _stale(plan, ears)
    if not scrapes:
        said = f"series missing: nobody scraped {endpoint.url} {seconds}"
        advice = (
            "add it to the sidecar's targets; or give --serve with an address it scrapes, or "
            "--register with the folder of its file_sd"
        )
        return broken("scrape", said, advice)
    if ears.problem:
        return broken("verdict", f"{ears.problem} (scraped {scrapes} times)", "see its log")
    said = (
        f"series missing: {endpoint.url} was scraped {scrapes} times, and no verdict came {seconds}"
    )
    advice = (
        "does the sidecar read from what scraped it? through a Prometheus give a longer --timeout"
    )
    return broken("verdict", said, advice)


def _stale(plan: Plan, ears: Ears) -> Finding:
    verdict = ears.newest
    if verdict is None or verdict.data_at is None:
        return broken("verdict", "no verdict with data came", ears.problem or "see its log")
    if verdict.status is LimitStatus.INCONCLUSIVE:
        advice = "its log says why; /metrics has the age of its data"
        return broken("verdict", f"{verdict.reason}: {verdict.message}", advice)
    age = verdict.evaluated_at - verdict.data_at
    said = f"stale by {max(age, plan.timeout):.0f} s: the verdict does not have the newest counts"
    return broken("verdict", said, "is its scrape interval longer than --timeout?")


def _lease(last: tuple[float, Verdict], ears: Ears) -> Finding:
    at, verdict = last
    lease = verdict.lease_seconds or 0.0
    renewed = ears.next(at + lease)
    if renewed is None:
        said = f"lease expired: no verdict came within the lease of {lease:g} s"
        return broken(
            "lease", said, f"is the sidecar overloaded, or a proxy between? {ears.problem}"
        )
    return ok("lease", f"renewed after {renewed[0] - at:.1f} s of {lease:g} s")


def _gist(verdict: Verdict) -> str:
    return f"{verdict.action}, {verdict.reason}"
