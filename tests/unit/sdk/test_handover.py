"""A run that ends hands over its last state: in the background, in few requests, once."""

from __future__ import annotations

import http.client
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from otel_budget import ResourceMonitor, semconv
from otel_budget.sdk.metrics.last_state import text_of
from otel_budget.sdk.run_record import RunRecord
from otel_budget.sdk.sidecar_client import handover
from otel_budget.sdk.sidecar_client.address import SidecarAddress
from otel_budget.sdk.sidecar_client.handover import HANDOVERS, Handovers, Sender
from otel_budget.sources.exposition import PageLimits, PageReader
from otel_budget.sources.session_assembly import NEEDED, assemble
from tests.support.http_server import serving
from tests.support.monitors import Make
from tests.support.processes import until


def names(runs: Sequence[Any]) -> bytes:
    """Render runs that are their names."""
    return " ".join(runs).encode()


@contextmanager
def taking(
    answer: Callable[[bytes], tuple[int, bytes]] = lambda _body: (204, b""),
) -> Iterator[tuple[Handovers, SidecarAddress, list[bytes]]]:
    """Yield what hands over to a sidecar, its address, and the bodies it got."""
    got: list[bytes] = []

    def take(path: str, body: bytes) -> tuple[int, bytes]:
        assert path == "/v1/handover"
        got.append(body)
        return answer(body)

    with serving(take) as url:
        yield Handovers(names), SidecarAddress.parse(url), got


def test_what_ends_while_a_request_is_on_its_way_goes_together() -> None:
    """A thousand requests of a server that ended are not a thousand to its sidecar."""
    go = threading.Event()

    def answer(_body: bytes) -> tuple[int, bytes]:
        go.wait(60)
        return 204, b""

    with taking(answer) as (handovers, address, got):
        handovers.add(address, "first")
        until(lambda: got)
        for number in range(20):
            handovers.add(address, f"run-{number}")
        go.set()
        assert handovers.finish(10)
    assert [len(body.split()) for body in got] == [1, 16, 4]
    assert handovers.finish(0), "there is nothing left"


@pytest.mark.parametrize(
    ("status", "body", "taken"),
    [
        (204, b"", True), (200, b'{"refused": []}', True), (200, b'{"refused": ["a"]}', False),
        (409, b"", False), (404, b"", False), (413, b"", False),
        (200, b"what?", False),
    ],
)  # fmt: skip
def test_it_is_known_whether_all_was_taken(status: int, body: bytes, *, taken: bool) -> None:
    """Else it is to be read from the page; what failed is told once."""
    with taking(lambda _body: (status, body)) as (handovers, address, got):
        handovers.add(address, "a")
        assert handovers.finish(10) is taken
        assert handovers.finish(10)
    assert len(got) == 1


def test_what_has_no_time_is_asked_again_and_what_knows_nothing_of_it_is_not() -> None:
    """A sidecar of an earlier version answers 404: it is left alone for a while."""
    left = [429, 503, 204, 404]
    with taking(lambda _body: (left.pop(0), b"")) as (handovers, address, got):
        handovers.add(address, "a")
        assert handovers.finish(10)
        for name in ("b", "c"):
            handovers.add(address, name)
            assert not handovers.finish(10)
    assert got == [b"a", b"a", b"a", b"b"]


def test_what_a_sidecar_was_away_for_goes_there_once_it_is_back() -> None:
    """With the next run that ends, or at the end of the process; what was taken goes once."""
    sidecar = [503] * 5 + [204]
    with taking(lambda _body: (sidecar.pop(0) if sidecar else 204, b"")) as (handed, address, got):
        handed.add(address, "a")
        until(lambda: len(got) == 5)
        handed.add(address, "b")
        until(lambda: got[5:] == [b"b", b"a"])
        assert handed.finish(10), "none is missing any more"
        sidecar += [503] * 5
        handed.add(address, "c")
        until(lambda: len(got) == 12)
        assert handed.finish(10)
        assert handed.finish(10)
    assert got[7:] == [b"c"] * 6


def test_what_a_sidecar_that_ended_in_the_middle_of_it_did_not_take_goes_to_the_next() -> None:
    """It answers 500, or breaks off within its answer."""
    left: list[tuple[int, bytes]] = [(500, b""), (204, b"")]
    with taking(lambda _body: left.pop(0) if left else (204, b"")) as (handed, address, got):
        handed.add(address, "a")
        until(lambda: len(got) == 1)
        handed.add(address, "b")
        until(lambda: got[1:] == [b"b", b"a"])
        assert handed.finish(10), "none is missing any more"


def test_an_answer_that_breaks_off_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it answered is not known; what was taken already counts once."""
    broken = [http.client.IncompleteRead(b"")]
    post = handover._KeptLine.post

    def breaking(line: handover._KeptLine, body: bytes) -> tuple[int, bytes]:
        answer = post(line, body)
        if broken:
            raise broken.pop()
        return answer

    monkeypatch.setattr(handover._KeptLine, "post", breaking)
    with taking() as (handed, address, got):
        handed.add(address, "a")
        until(lambda: not broken)
        assert handed.finish(10)
    assert got == [b"a", b"a"]


def test_a_body_that_is_too_long_goes_in_halves() -> None:
    """A run may have many limits; sixteen of them are no more than a request may have."""
    with taking() as (handovers, address, got):
        sender = Sender(address, lambda runs: b"x" * 25_000 * len(runs))
        for _ in range(4):
            sender._waiting.append("run")
        assert sender.finish(10)
        assert handovers.finish(0)
    assert [len(body) for body in got] == [50_000, 50_000]


def test_a_sidecar_that_hangs_costs_no_more_than_the_time_that_is_given() -> None:
    """And no run waits: only the end of the process does."""
    go = threading.Event()
    with taking(lambda _body: (go.wait(60), (204, b""))[1]) as (handovers, address, _got):
        handovers.add(address, "a")
        assert not handovers.finish(0.2), "it gave up before the sidecar answered"
        go.set()
    nobody = SidecarAddress.parse("http://127.0.0.1:9")
    handovers.add(nobody, "a")
    assert not handovers.finish(5)


def test_where_no_thread_can_be_had_the_end_hands_over_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The interpreter is ending, say."""

    def none(_: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    with taking() as (handovers, address, got):
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", none)
            handovers.add(address, "a")
        assert not got
        assert handovers.finish(10)
    assert got == [b"a"]


def test_a_forked_child_hands_over_nothing_of_its_parents() -> None:
    """What waited there is the parent's."""
    with taking() as (handovers, address, _got):
        handovers.add(address, "a")
        child = os.fork()
        if not child:
            os._exit(0 if not handovers._senders else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert handovers.finish(10)


def test_the_text_is_what_a_scrape_reads_less_the_phases(make: Make) -> None:
    """So a sidecar makes the same of it."""
    monitor = make(session_id="told", max_tokens=100, max_tool_calls=3)
    with monitor.phase("search"):
        monitor.record_operation(30, api_call=True, model="m")
    monitor.close("failed")
    text = text_of([[monitor._record]])
    assert b"search" not in text
    (run,) = assemble(PageReader(NEEDED, PageLimits(), 1.0).read(text, ""), "t", 1.0).sessions
    assert run.counters[semconv.TOKENS, ""] == 30
    assert run.attributes.state == "failed"
    assert run.attributes.incarnation_at == monitor._record.process_began_at
    assert run.attributes.limits[semconv.TOOL_CALLS] == 3


def test_a_run_is_handed_over_when_all_of_it_is_over(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not while a second monitor of it is open, and not if it was never used."""
    handed: list[Sequence[RunRecord]] = []
    monkeypatch.setattr(HANDOVERS, "add", lambda _address, run: handed.append(run))
    there = {"sidecar": "http://127.0.0.1:9"}
    unused: ResourceMonitor = make(session_id="unused", **there)
    unused.close()
    one, other = make(session_id="shared", **there), make(session_id="shared", **there)
    for monitor in (one, other):
        monitor.record_operation(10)
        monitor.should_continue()
    one.close()
    assert not handed
    other.close()
    assert [[record.tokens for record in run] for run in handed] == [[10, 10]]
