"""Targets that misbehave: each is a problem in the reading, and none costs the others anything."""

import asyncio
import gzip
import logging
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_budget import semconv
from otel_budget.core.observation import Observation, Problem
from otel_budget.core.reasons import Reason
from otel_budget.sources.exposition import PageLimits
from otel_budget.sources.http import Access
from otel_budget.sources.scrape import ScrapeSettings, ScrapeSource
from otel_budget.sources.scrape_target import ScrapeTarget
from otel_budget.sources.session_assembly import assemble
from tests.support.exposition import Exposition, line, page, serve
from tests.support.raw_server import Answer, respond, serve_raw

TOKENS = semconv.SESSION_TOKENS
GOOD = page(line(TOKENS, 5, "good"))
EVIL = page(line(TOKENS, 6, "evil"))
SECONDS = 0.6
LIMIT = 1_000_000


def never_answers(connection: socket.socket, over: threading.Event) -> None:
    """Take the request, and say nothing."""
    over.wait(30)


def a_byte_now_and_then(connection: socket.socket, over: threading.Event) -> None:
    """Keep every single read short, and the whole endless."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
    while not over.wait(0.05):
        connection.sendall(b"#")


def fifty_megabytes(connection: socket.socket, over: threading.Event) -> None:
    """Stream far more than anybody wants, without saying how much it will be."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
    for _ in range(50):
        connection.sendall(b"# nothing but comments\n" * 43_690)


def only_interim_answers(connection: socket.socket, over: threading.Event) -> None:
    """Say again and again that the answer is about to come."""
    while not over.is_set():
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)


def closes_mid_body(connection: socket.socket, over: threading.Event) -> None:
    """Promise more than is sent."""
    body = EVIL.encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(body) + 9}\r\n\r\n"
    connection.sendall(head.encode() + body)


def closes_mid_line(connection: socket.socket, over: threading.Event) -> None:
    """End the body with the connection, in the middle of a number."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"
    connection.sendall(head + page(line(TOKENS, 123456, "evil")).encode()[:-4])


def speaks_something_else(connection: socket.socket, over: threading.Event) -> None:
    """Be no web server at all."""
    connection.sendall(b"SSH-2.0-x\r\n")


def packed(data: bytes) -> Answer:
    """Answer with a body that is packed with gzip."""
    return respond(data, "text/plain", "200 OK", "Content-Encoding: gzip")


BOMB = gzip.compress(b"# zeros\n" + b"\0" * 200_000_000, compresslevel=9)

BAD = {
    "HTML": (
        respond(b"<html><body>Sign in</body></html>\n", "text/html"),
        "not a Prometheus exposition",
    ),
    "JSON": (respond(b'{"status": "ok"}\n', "application/json"), "not a Prometheus exposition"),
    "not text": (respond(b"\xff\xfe\x00\n"), "not a Prometheus exposition"),
    "OpenMetrics without its end": (
        respond(EVIL.encode(), "application/openmetrics-text; version=1.0.0"),
        "not a Prometheus exposition",
    ),
    "50 MB": (fifty_megabytes, "larger than 1,000,000 bytes"),
    "a gzip bomb": (packed(BOMB), "larger than 1,000,000 bytes"),
    "half a gzip": (packed(gzip.compress(EVIL.encode())[:-9]), "ends in the middle"),
    "gzip that is none": (packed(b"plain"), "cannot be decompressed"),
    "garbage behind a gzip": (
        packed(gzip.compress(EVIL.encode()) + b"garbage"),
        "cannot be decompressed",
    ),
    "longer than it says": (
        respond(EVIL.encode() + GOOD.encode(), length=len(EVIL)),
        "continues past the end it declared",
    ),
    "another packing": (
        respond(b"x", "text/plain", "200 OK", "Content-Encoding: br"),
        "not asked for",
    ),
    "too many samples": (
        respond(page(*(line(TOKENS, n, f"run-{n}") for n in range(101))).encode()),
        "more than 100 samples",
    ),
    "an endless line": (respond(b'a{b="' + b"\\" * 20_000 + b'"} 1\n'), "characters"),
    "never answers": (never_answers, "no complete answer within 0.6 s"),
    "one byte now and then": (a_byte_now_and_then, "no complete answer within 0.6 s"),
    "interim answers without end": (
        only_interim_answers,
        "its answer is not HTTP/1.1, or is cut short",
    ),
    "closes mid body": (closes_mid_body, "its answer is not HTTP/1.1, or is cut short"),
    "closes mid line": (closes_mid_line, "in the middle of a line"),
    "a redirect": (
        respond(b"", "text/plain", "302 Found", "Location: http://127.0.0.1:1/metrics"),
        "HTTP 302 Found: redirects are not followed",
    ),
    "500": (
        respond(b"no luck\n", "text/plain", "500 Internal Server Error"),
        "HTTP 500 Internal Server Error (text/plain, 8 bytes)",
    ),
    "no HTTP": (speaks_something_else, "its answer is not HTTP"),
}


@pytest.fixture
def good() -> Iterator[Exposition]:
    """A target that behaves."""
    with serve() as exposition:
        exposition.show(GOOD)
        yield exposition


def scrape(*targets: ScrapeTarget, times: int = 1) -> Observation:
    """Read the targets, and return the last reading."""

    async def reading() -> Observation:
        settings = ScrapeSettings(
            targets, timeout=SECONDS, body_size_limit=LIMIT, page=PageLimits(100)
        )
        source = ScrapeSource(settings, time.time)
        try:
            for _ in range(times - 1):
                await source.read()
            return await source.read()
        finally:
            await source.close()

    return asyncio.run(reading())


def ids(reading: Observation) -> list[str]:
    """Return the session ids in a reading."""
    return [session.session_id for session in reading.sessions]


def only_problem(reading: Observation) -> Problem:
    """Return the one problem of a reading that has one."""
    assert len(reading.problems) == 1, reading.problems
    return reading.problems[0]


@pytest.mark.parametrize("name", BAD)
def test_a_bad_target_is_a_problem_and_the_good_one_is_read(name: str, good: Exposition) -> None:
    """The problem names the URL and what happened; no session of the bad target is made up."""
    answer, words = BAD[name]
    with serve_raw(answer) as address:
        bad = ScrapeTarget(f"http://{address}/metrics")
        began = time.monotonic()
        reading = scrape(bad, ScrapeTarget(good.url))
        took = time.monotonic() - began
    assert ids(reading) == ["good"]
    problem = only_problem(reading)
    assert (problem.target, problem.reason) == (bad.url, Reason.SOURCE_ERROR)
    assert bad.url in problem.detail
    assert words in problem.detail
    assert took < SECONDS + 2


SECRET = "AKIA-not-for-a-log"  # noqa: S105 - it is none


@pytest.mark.parametrize(
    "answer",
    [
        respond(f"{SECRET}=1\n".encode()),
        respond(f'{{"Token": "{SECRET}"}}\n'.encode(), "application/json"),
        respond(f"{SECRET}\n".encode(), "text/plain", "401 Unauthorized"),
        respond(f'{TOKENS}{{session_id="{SECRET * 200}"}} 1\n'.encode()),
        respond(f"{SECRET} 1\n".encode(), "application/openmetrics-text"),
        respond(SECRET.encode() + b"\xff\n"),
    ],
    ids=["words", "json", "error", "label", "openmetrics", "bytes"],
)
def test_nothing_of_what_a_target_answered_is_quoted_if_it_is_no_agents_page(
    answer: Answer, caplog: pytest.LogCaptureFixture
) -> None:
    """The address may be one that somebody put into a file, of a service that tells credentials."""
    caplog.set_level(logging.DEBUG)
    with serve_raw(answer) as address:
        reading = scrape(ScrapeTarget(f"http://{address}/latest/meta-data"))
    assert reading.problems
    assert SECRET not in str(reading)
    assert SECRET not in caplog.text


def test_a_refused_connection_is_a_problem(good: Exposition) -> None:
    """Nobody listens there."""
    with serve() as gone:
        url = gone.url
    reading = scrape(ScrapeTarget(url), ScrapeTarget(good.url))
    assert ids(reading) == ["good"]
    assert only_problem(reading).target == url


def test_a_dead_target_beside_one_without_a_run_leaves_the_source_up(good: Exposition) -> None:
    """A stale entry on a host where nothing runs at the moment."""
    good.show(page())
    with serve_raw(never_answers) as address:
        pass
    dead = ScrapeTarget(f"http://{address}/metrics")
    together, alone = scrape(ScrapeTarget(good.url), dead), scrape(dead)
    assert (together.sessions, together.answered, together.ok) == ((), True, True)
    assert only_problem(together).target == dead.url
    assert (alone.answered, alone.ok) == (False, False)
    assert scrape().ok, "there is nobody to ask"


def test_a_defect_at_one_target_costs_the_others_nothing_and_is_logged_once(
    good: Exposition, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever a page may hold that nobody thought of."""
    good.show(GOOD)

    def assembled(samples: object, target: str, at: float, **more: object) -> object:
        if target != good.url:
            raise ZeroDivisionError("nobody thought of this")
        return assemble(samples, target, at, **more)  # type: ignore[arg-type] # handed on as it is

    monkeypatch.setattr("otel_budget.sources.incremental.series_index.assemble", assembled)
    with serve() as bad:
        bad.show(EVIL)
        reading = scrape(ScrapeTarget(bad.url), ScrapeTarget(good.url), times=3)
    assert ids(reading) == ["good"]
    problem = only_problem(reading)
    assert (problem.target, problem.reason) == (bad.url, Reason.SOURCE_ERROR)
    assert problem.detail == f"{bad.url}: ZeroDivisionError: nobody thought of this"
    assert caplog.text.count("Traceback") == 1


def test_many_silent_targets_do_not_add_up(good: Exposition) -> None:
    """150 targets that never answer cost as much time as one: none waits for another's turn."""
    with serve_raw(never_answers) as address:
        silent = [ScrapeTarget(f"http://{address}/{n}") for n in range(150)]
        began = time.monotonic()
        reading = scrape(*silent, ScrapeTarget(good.url))
        took = time.monotonic() - began
    assert ids(reading) == ["good"]
    assert len(reading.problems) == 150
    assert took < SECONDS + 2


def test_contradictory_types_are_refused_and_nothing_reads_as_0(good: Exposition) -> None:
    """A counter declared to be something else is use that nobody can read: unknown, not 0."""
    calls = line(semconv.SESSION_API_CALLS, 3, "run-1")
    for declared in ("gauge", "histogram", "summary", "widget"):
        good.show(f"# TYPE {TOKENS.name} {declared}\n{line(TOKENS, 5, 'run-1')}\n{calls}\n")
        reading = scrape(ScrapeTarget(good.url))
        (session,) = reading.sessions
        assert session.counters == {(semconv.API_CALLS, ""): 3}
        assert session.implausible == (TOKENS.name,)
        assert reading.dropped == {"type": 1}


def test_a_counter_declared_twice_in_different_ways_is_refused(good: Exposition) -> None:
    """Whichever declaration comes first."""
    lines = line(TOKENS, 5, "run-1") + "\n"
    counter, gauge = (f"# TYPE {TOKENS.name} {kind}\n" for kind in ("counter", "gauge"))
    for text in (counter + lines + gauge, gauge + lines + counter):
        good.show(text)
        (session,) = scrape(ScrapeTarget(good.url)).sessions
        assert (session.counters, session.implausible) == ({}, (TOKENS.name,))


def test_of_duplicate_series_the_larger_counts(good: Exposition) -> None:
    """And the other is counted as dropped."""
    good.show(page(line(TOKENS, 7, "run-1"), line(TOKENS, 9, "run-1"), line(TOKENS, 8, "run-1")))
    reading = scrape(ScrapeTarget(good.url))
    assert reading.sessions[0].counters == {(semconv.TOKENS, ""): 9}
    assert reading.dropped == {"duplicate": 2}


def test_openmetrics_is_understood() -> None:
    """An endpoint that speaks nothing else is read all the same."""
    text = f"# TYPE otel_budget_tokens counter\n{line(TOKENS, 5, 'run-1')}\n# EOF\n"
    kind = "application/openmetrics-text; version=1.0.0; charset=utf-8"
    with serve_raw(respond(text.encode(), kind)) as address:
        reading = scrape(ScrapeTarget(f"http://{address}/metrics"))
    assert reading.sessions[0].counters == {(semconv.TOKENS, ""): 5}
    assert reading.problems == ()


def test_a_packed_answer_is_unpacked() -> None:
    """Gzip is asked for, and understood."""
    with serve_raw(packed(gzip.compress(GOOD.encode()))) as address:
        assert ids(scrape(ScrapeTarget(f"http://{address}/metrics"))) == ["good"]


def test_a_packed_answer_of_several_members_is_read_to_its_end() -> None:
    """As a server writes that packs its page in parts."""
    members = [gzip.compress(text.encode()) for text in (GOOD, page(line(TOKENS, 7, "other")))]
    with serve_raw(packed(b"".join(members))) as address:
        reading = scrape(ScrapeTarget(f"http://{address}/metrics"))
    assert ids(reading) == ["good", "other"]


def test_a_counter_by_another_name_is_not_ours(good: Exposition) -> None:
    """Prometheus would store it under the name it has; so would the judged name be missing."""
    name = TOKENS.name.removesuffix("_total")
    good.show(f'# TYPE {name} counter\n{name}{{session_id="run-1"}} 5\n')
    reading = scrape(ScrapeTarget(good.url))
    assert (reading.sessions, reading.problems) == ((), ())


def test_the_token_is_read_for_every_scrape_and_headers_are_sent(
    good: Exposition, tmp_path: Path
) -> None:
    """A rotated token is taken up."""
    token = tmp_path / "token"
    access = Access(bearer_token_file=token, headers={"X-Scope-OrgID": "team-a"})
    for text in ("first", "second"):
        token.write_text(f"{text}\n", encoding="ascii")
        assert ids(scrape(ScrapeTarget(good.url, access))) == ["good"]
        assert good.headers["Authorization"] == f"Bearer {text}"
        assert good.headers["X-Scope-OrgID"] == "team-a"
        assert good.headers["Accept"].startswith("text/plain")


@pytest.mark.parametrize("content", [None, "", "two words", "se\ncret"])
def test_a_bad_token_file_is_a_problem_that_keeps_the_secret(
    good: Exposition, tmp_path: Path, content: str | None
) -> None:
    """The file is named, what is in it is not."""
    token = tmp_path / "token"
    if content is not None:
        token.write_text(content, encoding="ascii")
    reading = scrape(ScrapeTarget(good.url, Access(bearer_token_file=token)))
    detail = only_problem(reading).detail
    assert str(token) in detail
    assert not content or content not in detail


def test_a_missing_ca_file_is_a_problem(good: Exposition, tmp_path: Path) -> None:
    """And not an exception."""
    access = Access(ca_file=tmp_path / "ca.pem")
    assert good.url in only_problem(scrape(ScrapeTarget(good.url, access))).detail


def test_connections_are_used_again_and_a_hung_up_one_is_no_problem(good: Exposition) -> None:
    """Two reads in a row both see the session."""
    assert ids(scrape(ScrapeTarget(good.url), times=3)) == ["good"]


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        ("206 Partial Content", ["Content-Range: bytes 0-99/1000"]),
        ("206 Partial Content", []),
        ("200 OK", ['Warning: 110 - "Response is Stale"']),
    ],
)
def test_a_partial_page_gives_its_whole_lines_and_a_problem(
    status: str, headers: list[str]
) -> None:
    """The line it is cut in is half a number, and says nothing."""
    body = page(line(TOKENS, 6, "evil"), line(TOKENS, 123456, "cut")).encode()[:-4]
    with serve_raw(respond(body, "text/plain", status, *headers)) as address:
        reading = scrape(ScrapeTarget(f"http://{address}/metrics"))
    assert [session.session_id for session in reading.sessions] == ["evil"]
    (problem,) = reading.problems
    assert (problem.reason, reading.ok) == (Reason.PARTIAL_DATA, True)
    assert "its page is partial" in problem.detail
