"""A sidecar gone bad, in every way there is: no monitor acts on a verdict past its lease."""

from __future__ import annotations

import json
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from otel_budget import ResourceLimits, ResourceMonitor, semconv
from otel_budget.core import sse
from otel_budget.core.reasons import Action, Reason
from otel_budget.core.verdict import LimitStatus
from otel_budget.sdk.sidecar_client.lease import LISTEN
from otel_budget.testing import stop_verdict
from tests.support.exposition import line, page, serve
from tests.support.figures import length, note
from tests.support.processes import sidecar, until
from tests.support.scripted_sidecar import Answer, Request, scripted

LEASE = 0.6
RUN = "bad-sidecar"
#: Seconds by which a monitor may be late to notice: it is asked every few milliseconds here.
SLACK = 0.3


def goes_on(asked: Request) -> None:
    """Say nothing more on the stream, but keep it open."""
    asked.server.over.wait(20)


def trickles(asked: Request) -> None:
    """Send a verdict, a byte a second."""
    for byte in frame(Action.CONTINUE, 2).encode():
        asked.wfile.write(bytes([byte]))
        asked.wfile.flush()
        if asked.server.over.wait(1.0):
            return


def frame(action: Action, sequence: int) -> str:
    """Return a verdict as a stream has it."""
    verdict = stop_verdict(RUN, sequence=sequence, lease_seconds=LEASE)
    if action is Action.CONTINUE:
        verdict = replace(
            verdict, action=action, status=LimitStatus.OK, reason=Reason.WITHIN_LIMITS
        )
    return sse.verdict_frame(verdict)


def writes(data: bytes) -> Answer:
    """Return an answer that sends these bytes and hangs up."""

    def write(asked: Request) -> None:
        asked.wfile.write(data)

    return write


def says(status: int, body: str, kind: str = "") -> Answer:
    """Return an answer that is whole."""
    return lambda asked: asked.say(status, body, kind)


#: What comes on the stream after the first verdict, and what any later request is answered with.
BAD: dict[str, tuple[Answer, Answer]] = {
    "silence": (goes_on, goes_on),
    "a byte a second": (trickles, trickles),
    "half a verdict": (
        writes(frame(Action.CONTINUE, 2)[:200].encode()),
        writes(b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{"),
    ),
    "garbage": (
        writes(b"event: verdict\ndata: {\x00\xff]\n\n"),
        says(200, "\x00\x1b[2J{]", "application/json"),
    ),
    "500": (writes(b""), says(500, "broken")),
    "the page of a login": (writes(b""), says(200, "<html>", "text/html")),
    "comments only": (
        writes(b": alive\n\n" * 50),
        lambda asked: asked.stream(": alive\n\n", stay=True),
    ),
    "a verdict on another run": (
        writes(frame(Action.CONTINUE, 2).replace(RUN, "x").encode()),
        says(200, "{}"),
    ),
}


@pytest.mark.parametrize("first", list(Action))
@pytest.mark.parametrize("name", BAD)
def test_a_verdict_is_not_acted_upon_past_its_lease(name: str, first: Action) -> None:
    """Neither a stop nor a continue; then the run does what it was told to do without a sidecar."""
    stream, later = BAD[name]
    sent_at: list[float] = []

    def script(asked: Request) -> None:
        if sent_at:
            later(asked)
            return
        asked.stream(frame(first, 1), stay=False)
        sent_at.append(time.monotonic())
        stream(asked)

    with scripted(script) as server:
        on_loss: Literal["local", "stop"] = "local" if first is Action.STOP else "stop"
        monitor = ResourceMonitor(
            ResourceLimits(), RUN, sidecar=server.url, on_sidecar_loss=on_loss
        )
        with monitor:
            goes_on_before = first is Action.CONTINUE
            watch(monitor, sent_at, before=goes_on_before, after=not goes_on_before)
            if goes_on_before:
                assert monitor.verdict.reason == Reason.SIDECAR_LOST
    ways = f"after a {first}: {name}"
    note(
        "Never silently open",
        f"a sidecar that gave a verdict with a lease of {LEASE} s, then {ways}",
        "believed for its lease, then not any more; the run's own fail mode holds",
    )


def watch(monitor: ResourceMonitor, sent_at: list[float], *, before: bool, after: bool) -> None:
    """See what a monitor says before the lease is over, and after."""
    monitor.should_continue()  # begins to follow
    until(lambda: bool(sent_at) and believed(monitor), seconds=10)
    assert monitor.should_continue() is before
    while time.monotonic() < sent_at[0] + LEASE + SLACK:
        time.sleep(0.01)
    if not after:  # it listens before it takes the sidecar for lost
        until(lambda: not monitor.should_continue(), seconds=LISTEN + SLACK)
    for _ in range(50):
        assert monitor.should_continue() is after
        time.sleep(0.01)


def believed(monitor: ResourceMonitor) -> bool:
    """Tell whether a verdict of the sidecar is believed."""
    lease = monitor._run._lease
    return lease is not None and lease.current() is not None


def test_a_frozen_sidecar_is_believed_for_its_lease_and_found_again(tmp_path: Path) -> None:
    """SIGSTOP: its sockets stay open, and nothing comes."""
    frozen_for = length(4, 60)
    with serve() as endpoint:
        endpoint.show(page(line(semconv.SESSION_TOKENS, 5, RUN)))
        config = tmp_path / "sidecar.yaml"
        settings = {
            "source": {"scrape": {"targets": [endpoint.url], "interval": "100ms"}},
            "verdicts": {"lease": "1s"},
            "listen": {"address": "127.0.0.1:0"},
        }
        config.write_text(json.dumps(settings))
        with sidecar(tmp_path, config=config) as process:
            until(lambda: process.verdict(RUN))
            monitor = ResourceMonitor(
                ResourceLimits(), RUN, sidecar=process.url, on_sidecar_loss="stop"
            )
            with monitor:
                assert monitor.should_continue()
                until(lambda: believed(monitor), seconds=10)
                process.process.send_signal(signal.SIGSTOP)
                frozen_at = time.monotonic()
                until(lambda: not monitor.should_continue())
                noticed = time.monotonic() - frozen_at
                assert noticed <= 1 + LISTEN + SLACK
                while time.monotonic() < frozen_at + frozen_for:
                    assert not monitor.should_continue()
                    assert monitor.verdict.reason == Reason.SIDECAR_LOST
                    time.sleep(0.02)
                process.process.send_signal(signal.SIGCONT)
                thawed_at = time.monotonic()
                until(monitor.should_continue)
                found = time.monotonic() - thawed_at
    note(
        "Never silently open",
        f"a sidecar frozen (SIGSTOP) for {frozen_for} s, with a lease of 1 s",
        f"not believed after {noticed:.1f} s; believed again {found:.1f} s after it went on",
    )
