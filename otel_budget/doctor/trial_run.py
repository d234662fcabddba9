"""A trial run, followed from its counter to the verdict that its client gets."""

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
    may_push,
    named_exporters,
    pushes_otlp,
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
"""Tokens that the trial run uses."""
_FAR: Final = 1_000_000
_BETWEEN: Final = 0.05
_DELTA: Final = ("delta", "lowmemory")


@dataclass(frozen=True, slots=True)
class Plan:
    """How to try it."""

    sidecar: str
    """URL."""
    host: str | None = None
    """Where to show the trial run; None is where a run would be shown."""
    port: int | None = None
    register: str | None = None
    """Folder of ``file_sd`` entries that the sidecar reads; None: it knows the address."""
    timeout: float = 30.0
    """Seconds that a counter may take to become a verdict."""


class Listener:
    """A run's client, and the verdicts that it gets."""

    def __init__(self, url: str, session_id: str) -> None:
        self._verdicts: Queue[tuple[float, Verdict]] = Queue()
        self.newest: Verdict | None = None
        self._client = VerdictClient(
            url,
            session_id,
            on_verdict=lambda verdict: self._verdicts.put((time.monotonic(), verdict)),
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
            at, verdict = self._verdicts.get(timeout=max(0.0, until - time.monotonic()))
        except Empty:
            return None
        self.newest = verdict
        return at, verdict

    def close(self) -> None:
        """Stop listening."""
        self._client.stop()


def environment() -> Iterator[Finding]:
    """Yield what the environment does to a run that is started in it."""
    exporters = named_exporters()
    if os.environ.get(OTEL_SDK_DISABLED, "").strip().lower() == "true":
        text = (
            f"exporter off: {OTEL_SDK_DISABLED} is set: no spans are made, so no calls are counted"
        )
        yield broken("exporter", text, f"unset {OTEL_SDK_DISABLED}")
    elif opens_nothing() and may_push() and pushes_otlp(exporters):
        text = (
            f"{ENV_EXPORTER} is {', '.join(exporters)}: a run opens no /metrics by itself, and is "
            "pushed by OTLP, which is not tried here"
        )
        advice = "have the sidecar, or its Prometheus, receive it: docs/otlp-export.md"
        yield warning("exporter", text, advice)
    elif opens_nothing():
        carries = (
            "" if exporters == ("none",) else ", and that carries the process's sums, not runs"
        )
        text = f"exporter off: {ENV_EXPORTER} is {', '.join(exporters)}: a run opens no /metrics "
        advice = "name prometheus in it, or call serve_metrics() in the run"
        yield broken("exporter", f"{text}by itself{carries}", advice)
    if os.environ.get(ENV_MULTIPROCESS):
        text = f"{ENV_MULTIPROCESS} is set: the page that is made of its files holds no runs"
        yield warning(
            "exporter", text, "call serve_metrics(port=0, register=FOLDER) in each worker"
        )
    if os.environ.get(ENV_TEMPORALITY, "").strip().lower() in _DELTA:
        text = f"delta temporality: {ENV_TEMPORALITY} is set: OTLP sends counters as deltas"
        advice = (
            "set it to cumulative: Prometheus takes no deltas. It concerns the sums of each "
            "process; runs are scraped, or pushed cumulative"
        )
        yield warning("exporter", text, advice)


def opens_nothing() -> bool:
    """Tell whether a run that is started in this environment opens no page by itself."""
    names = named_exporters()
    return names == ("none",) or show_no_runs(names)


def try_run(plan: Plan) -> Iterator[Finding]:
    """Yield how each link holds for a trial run, up to the first broken one."""
    try:
        endpoint = serve_metrics(plan.host, plan.port, plan.register)
    except (ListenError, OSError) as exc:
        advice = "is a run there already? give --serve another address, or --metrics its page"
        yield broken("exporter", f"cannot show a trial run: {exc}", advice)
        return
    with endpoint:
        session_id = f"doctor-{secrets.token_hex(4)}"
        monitor = ResourceMonitor(
            ResourceLimits(), session_id, sidecar=plan.sidecar, workflow="doctor"
        )
        listener = Listener(plan.sidecar, session_id)
        scrapes = RUNS.scrapes + 1  # the first one is our own look
        try:
            monitor.record_operation(FIRST, api_call=True)
            yield from _followed(plan, endpoint, monitor, listener)
        finally:
            listener.close()
            monitor.close("completed")
            _wait_until_its_end_is_seen(scrapes, plan.timeout)


def _wait_until_its_end_is_seen(scrapes: int, timeout: float) -> None:
    """Wait for one more scrape if there were any: a run that just falls silent raises an alert."""
    seen, until = RUNS.scrapes, time.monotonic() + timeout
    while RUNS.scrapes == seen > scrapes and time.monotonic() < until:
        time.sleep(_BETWEEN)


def _followed(
    plan: Plan, endpoint: MetricsEndpoint, monitor: ResourceMonitor, listener: Listener
) -> Iterator[Finding]:
    visible = _own_page(endpoint.url, monitor.session_id)
    if visible.state == "ok" and opens_nothing():
        text = f"{visible.message}, on a page opened for it: a run opens none in this environment"
        yield warning("exporter", text, f"see {ENV_EXPORTER} above")
    else:
        yield visible
    if visible.state != "ok":
        return
    scrapes = RUNS.scrapes
    until = time.monotonic() + plan.timeout
    received = wait_for(listener, FIRST, until)
    if received is None:
        yield _why_not(plan, endpoint, listener, RUNS.scrapes - scrapes)
        return
    yield ok("verdict", f"the trial run's {FIRST:,} tokens are in the verdict: {gist(received[1])}")
    recorded_at = time.monotonic()
    monitor.record_operation(SECOND, api_call=True)
    # New counts alone leave the verdict as it is, and it is sent again only to renew its lease.
    # Another limit makes another verdict, which is sent at once, as a stop is.
    monitor.update_limits(max_tokens=_lower(received[1]))
    again = wait_for(listener, FIRST + SECOND, recorded_at + plan.timeout)
    if again is None:
        yield _stale(plan, listener)
        return
    took = again[0] - recorded_at
    yield ok("latency", f"a change was in a verdict after {took:.2f} s; a stop takes no longer")
    yield _lease(again, listener)


def _lower(verdict: Verdict) -> int:
    """Return a limit on tokens that is stricter than the present one, and as far away as can be."""
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
            "exporter", f"the trial run's own page {url}: {exc}", "is a proxy in between?"
        )
    mine = [s.value for s in samples if s.labels.get(semconv.SESSION_ID) == session_id]
    if mine != [FIRST]:
        text = f"series missing: {url} shows {mine or 'nothing'} instead of {FIRST:,} tokens"
        return broken("exporter", text, "is another MeterProvider or registry used instead?")
    return ok("exporter", f"{url} shows the trial run {session_id} with {FIRST:,} tokens")


def wait_for(listener: Listener, tokens: int, until: float) -> tuple[float, Verdict] | None:
    """Return the first verdict with so many tokens or more; None if none comes until then."""
    while (received := listener.next(until)) is not None:
        state = received[1].resources.get(semconv.TOKENS)
        if state is not None and state.used >= tokens:
            return received
    return None


def _why_not(plan: Plan, endpoint: MetricsEndpoint, listener: Listener, scrapes: int) -> Finding:
    """Say where the trial run was lost."""
    seconds = f"within {plan.timeout:g} s"
    if listener.newest is not None:
        return _stale(plan, listener)
    if not scrapes:
        text = f"series missing: nothing scraped {endpoint.url} {seconds}"
        advice = (
            "add it to the sidecar's targets, or give --serve with an address that it scrapes, or "
            "--register with its file_sd folder; for another program (a gateway, a coding agent) "
            "give --metrics with its page instead"
        )
        return broken("scrape", text, advice)
    if listener.problem:
        return broken(
            "verdict", f"{listener.problem} (scraped {scrapes} times)", "see the sidecar's log"
        )
    text = (
        f"series missing: {endpoint.url} was scraped {scrapes} times, and no verdict came {seconds}"
    )
    advice = "does the sidecar read from what scraped it? if through a Prometheus, raise --timeout"
    return broken("verdict", text, advice)


def _stale(plan: Plan, listener: Listener) -> Finding:
    verdict = listener.newest
    if verdict is None or verdict.data_at is None:
        return broken(
            "verdict", "no verdict with data came", listener.problem or "see the sidecar's log"
        )
    if verdict.status is LimitStatus.INCONCLUSIVE:
        advice = "the sidecar's log says why, and its /metrics how old its data are"
        return broken("verdict", f"{verdict.reason}: {verdict.message}", advice)
    age = verdict.evaluated_at - verdict.data_at
    text = f"stale by {max(age, plan.timeout):.0f} s: the verdict lacks the newest counts"
    return broken("verdict", text, "is its scrape interval longer than --timeout?")


def _lease(last: tuple[float, Verdict], listener: Listener) -> Finding:
    at, verdict = last
    lease = verdict.lease_seconds or 0.0
    renewed = listener.next(at + lease)
    if renewed is None:
        text = f"lease expired: no verdict came within the lease of {lease:g} s"
        return broken(
            "lease",
            text,
            f"is the sidecar overloaded, or a proxy in between? {listener.problem}",
        )
    return ok("lease", f"renewed after {renewed[0] - at:.1f} s of {lease:g} s")


def gist(verdict: Verdict) -> str:
    return f"{verdict.action}, {verdict.reason}"
