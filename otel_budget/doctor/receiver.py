"""The sidecar's receiver: does it get anything, and does a run that is pushed get a verdict?"""

from __future__ import annotations

import json
import os
import secrets
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import unquote

from otel_budget import ResourceLimits, ResourceMonitor, semconv
from otel_budget.doctor.finding import broken, counted, ok, warning
from otel_budget.doctor.trial_run import FIRST, Listener, gist, wait_for
from otel_budget.sdk.metrics.collector import RUNS
from otel_budget.sdk.sidecar_client.address import Credentials, SidecarAddress
from otel_budget.sdk.sidecar_client.exchange import Limits
from otel_budget.sdk.sidecar_client.request import Asker, AskError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_budget.doctor.finding import Finding
    from otel_budget.doctor.sidecar import Figures
    from otel_budget.doctor.trial_run import Plan

ENV_HEADERS: Final = "OTEL_EXPORTER_OTLP_HEADERS"
_LIMITS: Final = Limits(silence=10.0, body=1_000_000)
_CUMULATIVE: Final[dict[str, Any]] = {"aggregationTemporality": 2, "isMonotonic": True}
_TAKEN: Final = "taken"


class Receiver(NamedTuple):
    """Where programs push by OTLP."""

    endpoint: str
    needs_token: bool


def receiver_of(asker: Asker) -> Receiver | None:
    """Return the sidecar's receiver; None if it has none."""
    try:
        told = json.loads(asker.get("/v1/receiver"))
        return Receiver(str(told["endpoint"]), bool(told["token_required"]))
    except (AskError, ValueError, KeyError, TypeError):
        return None


def look_at(receiver: Receiver, figures: Figures) -> Iterator[Finding]:
    """Yield whether programs push to it. figures: the sidecar's."""
    name = semconv.PUSHED_REQUESTS.name
    taken = sum(n for key, n in figures.items() if key[0] == name and _TAKEN in key)
    if taken:
        yield ok(
            "receiver", f"{receiver.endpoint} took {counted(taken, 'request')} since it started"
        )
        return
    text = f"{receiver.endpoint} got nothing since it started"
    advice = (
        f"is the program's telemetry on, with OTEL_EXPORTER_OTLP_ENDPOINT={receiver.endpoint} and "
        "http/protobuf? `otel-budget install AGENT`, or `otel-budget run -- PROGRAM`, sets it"
    )
    yield warning("receiver", text, advice)


def try_push(plan: Plan, receiver: Receiver) -> Iterator[Finding]:
    """Yield how each link holds for a trial run that is pushed, up to the first broken one."""
    headers = _headers()
    if receiver.needs_token and "Authorization" not in headers:
        text = f"{receiver.endpoint} wants a token, so no trial run was pushed"
        advice = f"set {ENV_HEADERS}=Authorization=Bearer%20TOKEN, as programs that push have it"
        yield warning("receiver", text, advice)
        return
    session_id = f"doctor-{secrets.token_hex(4)}"
    monitor = ResourceMonitor(ResourceLimits(), session_id, sidecar=plan.sidecar, workflow="doctor")
    listener = Listener(plan.sidecar, session_id)
    try:
        monitor.record_operation(FIRST, api_call=True)
        yield from _followed(plan, receiver, headers, listener)
    finally:
        listener.close()
        monitor.close("completed")


def _followed(
    plan: Plan, receiver: Receiver, headers: dict[str, str], listener: Listener
) -> Iterator[Finding]:
    pushed_at = time.monotonic()
    address = SidecarAddress.parse(receiver.endpoint, Credentials())
    try:
        Asker(receiver.endpoint, address).send("POST /v1/metrics", headers, _pushed(), _LIMITS)
    except AskError as exc:
        yield broken("receiver", f"a trial run is not taken: {exc}", "the sidecar's log says why")
        return
    took = time.monotonic() - pushed_at
    yield ok("receiver", f"a trial run was pushed, judged and stored within {took:.2f} s")
    received = wait_for(listener, FIRST, pushed_at + plan.timeout)
    if received is None:
        text = f"no verdict on the trial run came within {plan.timeout:g} s"
        yield broken("verdict", text, listener.problem or "the sidecar's log says why")
        return
    yield ok("verdict", f"the trial run's {FIRST:,} tokens are in the verdict: {gist(received[1])}")
    yield ok("latency", f"it was there {received[0] - pushed_at:.2f} s after the push")


def _headers() -> dict[str, str]:
    """Return what is sent with a push: what the environment says for exporters, too."""
    given = (pair.partition("=") for pair in os.environ.get(ENV_HEADERS, "").split(","))
    found = {
        name.strip().title(): unquote(value.strip()) for name, _, value in given if name.strip()
    }
    return {**found, "Content-Type": "application/json", "Accept": "application/json"}


def _pushed() -> bytes:
    """Return the runs of this process as OTLP's JSON."""
    now = str(time.time_ns())
    metrics: list[dict[str, Any]] = []
    for family in RUNS.collect():
        samples = [one for one in family.samples if not one.name.endswith("_created")]
        points = [
            {
                "timeUnixNano": now,
                "asDouble": one.value,
                "attributes": [
                    {"key": k, "value": {"stringValue": v}} for k, v in one.labels.items()
                ],
            }
            for one in samples
        ]
        if family.type == "counter":
            data = {"dataPoints": points, **_CUMULATIVE}
            metrics.append({"name": samples[0].name if samples else family.name, "sum": data})
        else:
            metrics.append({"name": family.name, "gauge": {"dataPoints": points}})
    scope = {"scope": {"name": "otel_budget.doctor"}, "metrics": metrics}
    return json.dumps({"resourceMetrics": [{"resource": {}, "scopeMetrics": [scope]}]}).encode()
