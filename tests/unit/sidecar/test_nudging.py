"""When a run has the sidecar look, and what becomes of it on both sides."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_budget import ResourceLimits, semconv
from otel_budget.core.observation import Observation, Problem
from otel_budget.core.quantities import Number
from otel_budget.core.reasons import Reason
from otel_budget.core.usage import ResourceUsage
from otel_budget.ledger.ledger import Ledger
from otel_budget.sdk.run_record import RunRecord
from otel_budget.sdk.sidecar_client.address import SidecarAddress
from otel_budget.sdk.sidecar_client.nudge import MOST_AT_ONCE, Nudger, look
from otel_budget.sdk.sidecar_client.polling import MOST_NAMED
from otel_budget.sdk.usage_arguments import OperationUsage
from otel_budget.sdk.watermarks import SidecarWatermarks
from otel_budget.sidecar.nudging import NudgeOutcome
from otel_budget.testing import FakeClock
from tests.support.http_server import serving
from tests.support.sidecar_fixtures import START, reading, session, sidecar, verdict

PROBLEM = "application/problem+json"
UNLIMITED = ResourceLimits(max_tokens=None, max_api_calls=None, max_duration_seconds=None)


def marks_of(carried: int = 0) -> tuple[SidecarWatermarks, RunRecord, list[None]]:
    """Return the marks of a run, its record, and the nudges so far."""
    clock, nudges = FakeClock().clock, list[None]()
    before = ResourceUsage("run", started_at=clock.time(), tokens=carried) if carried else None
    record = RunRecord("run", UNLIMITED, clock, labels={}, carried=before)
    return SidecarWatermarks(record, lambda: nudges.append(None)), record, nudges


def use(record: RunRecord, tokens: int = 0, cost: Decimal | None = None) -> None:
    """Record an operation."""
    with record.lock:
        record.add(record.counters(None, None), OperationUsage(tokens, cost_usd=cost))


@given(
    known=st.integers(0, 100), own=st.integers(0, 100), room=st.integers(1, 100),
    more=st.integers(0, 300), carried=st.integers(0, 50),
)  # fmt: skip
def test_a_nudge_goes_out_once_the_room_is_used_up(
    known: int, own: int, room: int, more: int, carried: int
) -> None:
    """Counted from what the sidecar knew, or from what the run had, if the sidecar knew of more."""
    marks, record, nudges = marks_of(carried)
    use(record, own)
    used: dict[str, Number] = {semconv.TOKENS: carried + own}
    heard = replace(verdict(tokens=known), headroom={semconv.TOKENS: room})
    marks.renew(heard, used)
    use(record, more)
    marks.look()
    crossed = carried + own + more >= min(known, carried + own) + room
    assert bool(nudges) == crossed
    use(record, 1000)
    marks.look()
    marks.look()
    assert len(nudges) == 1, "one for a verdict"
    marks.renew(heard, used)
    marks.look()
    assert len(nudges) == 2


def test_money_has_a_mark_and_time_has_none() -> None:
    """The sidecar's own clock tells it of time."""
    marks, record, nudges = marks_of()
    state = verdict().resources[semconv.TOKENS]._replace(used=Decimal("0.10"))
    heard = replace(
        verdict(),
        resources={semconv.COST: state, semconv.DURATION: state._replace(used=1.0)},
        headroom={semconv.COST: Decimal("0.05"), semconv.DURATION: 0.0},
    )
    marks.renew(heard, {semconv.COST: Decimal("0.10"), semconv.DURATION: 1.0})
    use(record, cost=Decimal("0.1499"))
    marks.look()
    assert not nudges
    use(record, cost=Decimal("0.0001"))
    marks.look()
    assert len(nudges) == 1


def nudger(url: str) -> Nudger:
    """Return a nudger of runs that all go on but one."""
    return Nudger(SidecarAddress.parse(url), lambda session_id: session_id != "over")


@contextmanager
def sidecar_that_answers(
    status: int, go: threading.Event, several: int | None = None
) -> Iterator[tuple[Nudger, threading.Semaphore, list[str]]]:
    """Yield a nudger, what is released at each nudge, and their paths; answer once told to.

    several: the status where more than one run is named.
    """
    there, asked = threading.Semaphore(0), list[str]()

    def answer(path: str, _body: bytes) -> tuple[int, bytes]:
        asked.append(path)
        there.release()
        go.wait(10)
        if several is not None and path.count("=") > 1:
            return several, b'{"unknown": [], "impossible": []}'
        return status, b""

    with serving(answer, PROBLEM) as url:
        sender = nudger(url)
        yield sender, there, asked
        sender.end()


def keep_busy(sender: Nudger, there: threading.Semaphore) -> None:
    """Have as many on their way as there may be."""
    for n in range(MOST_AT_ONCE):
        sender.nudge(f"busy-{n}")
        assert there.acquire(timeout=10)


def test_nudges_that_come_while_all_are_on_their_way_are_one_more() -> None:
    """One of each run, and none of a run that is over by then, or has a newer verdict."""
    go = threading.Event()
    with sidecar_that_answers(204, go, several=200) as (sender, there, asked):
        keep_busy(sender, there)
        for _ in range(100):
            for name in ("run-1", "over", "run-2", "judged"):
                sender.nudge(name)
        sender.withdraw("judged")
        go.set()
        assert there.acquire(timeout=10)
        assert not there.acquire(timeout=0.1)
    assert asked[MOST_AT_ONCE:] == ["/v1/nudge?session_id=run-1&session_id=run-2"]


def test_however_many_runs_cross_at_once_few_requests_name_them_all() -> None:
    go = threading.Event()
    with sidecar_that_answers(204, go, several=200) as (sender, there, asked):
        keep_busy(sender, there)
        for n in range(1000):
            sender.nudge(f"run-{n}")
        threads = [t for t in threading.enumerate() if t.name.startswith("otel-budget-nudge-")]
        go.set()
        for _ in range(1000 // MOST_NAMED):
            assert there.acquire(timeout=10)
        assert not there.acquire(timeout=0.1)
    assert len(threads) == MOST_AT_ONCE
    named = [part for path in asked[MOST_AT_ONCE:] for part in path.split("=")[1:]]
    assert sorted(one.removesuffix("&session_id") for one in named) == sorted(
        f"run-{n}" for n in range(1000)
    )


def test_an_earlier_sidecar_is_asked_to_look_at_one_after_the_other() -> None:
    """It would look at one of several runs, and say that it had."""
    go = threading.Event()
    with sidecar_that_answers(204, go) as (sender, there, asked):
        keep_busy(sender, there)
        for name in ("a", "b", "c"):
            sender.nudge(name)
        go.set()
        for _ in range(4):
            assert there.acquire(timeout=10)
    alone = {path.partition("=")[2] for path in asked if path.count("=") == 1}
    assert {"a", "b", "c"} <= alone


@pytest.mark.parametrize("status", [409, 401, 500])
def test_where_it_does_not_help_no_more_are_sent(status: int) -> None:
    """A Prometheus cannot be hastened; a token that is wrong stays wrong."""
    go = threading.Event()
    go.set()
    with sidecar_that_answers(status, go) as (sender, there, _asked):
        sender.nudge("run-1")
        assert there.acquire(timeout=10)
        for _ in range(10):
            sender.nudge("run-1")
        assert not there.acquire(timeout=0.2)


def test_nobody_waits_for_a_sidecar_that_is_not_there() -> None:
    sender = nudger("http://127.0.0.1:9")
    began = time.monotonic()
    for _ in range(1000):
        sender.nudge("run-1")
    assert time.monotonic() - began < 1
    sender.end()


def test_what_a_few_targets_give_changes_nothing_of_the_others() -> None:
    """Neither their trouble, nor that there are too many runs at one."""
    ledger = Ledger()
    down = Problem("http://b", Reason.SOURCE_ERROR, "refused")
    shown = session("a")._replace(target="http://a")
    ledger.apply(Observation("scrape", START, (shown,), problems=(down,)))
    later = session("a", tokens=9, at=START + 1)._replace(target="http://a")
    some = Observation("scrape", START + 1, (later,), asked=frozenset({"http://a"}))
    ledger.apply(some)
    assert ledger.targets.trouble_at("http://b") is Reason.SOURCE_ERROR
    assert ledger.runs["a"].totals()[semconv.TOKENS] == 9
    ledger.apply(replace(some, asked=None))
    assert ledger.targets.trouble_at("http://b") is None


def test_a_nudge_reads_and_publishes_and_is_no_tick(tmp_path: Path) -> None:
    """An unknown run hastens the next one instead, where the source can read runs at all."""
    parts = sidecar(tmp_path, reading(session(tokens=500)))
    parts.source.reads_runs = True
    assert asyncio.run(parts.loop.nudge("run-1")) is NudgeOutcome.DONE
    published = parts.broadcaster.get("run-1")
    assert published is not None
    assert published.verdict.resources[semconv.TOKENS].used == 500
    parts.source.reads_runs = False
    assert asyncio.run(parts.loop.nudge("run-1")) is NudgeOutcome.IMPOSSIBLE
    parts.storage.close()


def test_a_nudge_that_cannot_have_a_thread_is_left_out_and_raises_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would come out of the application's own record; the next one is tried again."""

    def none(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    sender = nudger("http://127.0.0.1:9")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none)
        sender.nudge("run-1")
        without = len(sender._lines)
    sender.nudge("run-1")
    threads = len(sender._lines)
    sender.end()
    assert (without, threads) == (0, 1)


@pytest.mark.parametrize(
    ("answers", "seen"),
    [([204], True), ([404, 404, 204], True), ([429, 204], True), ([409], False), ([500], False)],
)
def test_a_last_look_is_waited_for_and_asked_for_again_while_the_run_is_not_known(
    answers: list[int], *, seen: bool
) -> None:
    """A Prometheus cannot be hastened, and is not asked twice."""
    left = list(answers)
    with serving(lambda _path, _body: (left.pop(0), b""), PROBLEM) as url:
        assert look(SidecarAddress.parse(url), "run-1", 10.0) is seen
    assert not left


def test_a_last_look_ends_in_time_whatever_the_sidecar_does() -> None:
    """It is not there, it never answers, or it knows nothing of the run."""
    go = threading.Event()
    began = time.monotonic()
    assert not look(SidecarAddress.parse("http://127.0.0.1:9"), "run-1", 10.0)
    with sidecar_that_answers(404, go) as (sender, _, _asked):
        assert not look(sender._address, "run-1", 0.1)
        go.set()
        assert not look(sender._address, "run-1", 0.3)
    assert time.monotonic() - began < 5


def test_what_is_no_sidecar_is_asked_once_at_the_end() -> None:
    """A proxy, or another server on that port: the process ends at once."""
    left = [404]
    with serving(lambda _path, _body: (left.pop(), b"not found"), "text/plain") as url:
        assert not look(SidecarAddress.parse(url), "run-1", 10.0)
    assert not left
