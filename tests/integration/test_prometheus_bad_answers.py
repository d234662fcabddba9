"""A query API that misbehaves: a problem of the whole source, and no session is made up."""

import asyncio
import gzip
import json
import socket
import threading
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from otel_budget import semconv
from otel_budget.core.observation import Observation
from otel_budget.core.reasons import Reason
from otel_budget.core.resources import COUNTERS
from otel_budget.ledger.ledger import Ledger
from otel_budget.sources.prometheus import PrometheusSettings, PrometheusSource
from otel_budget.sources.prometheus_vector import SAMPLED
from tests.integration.test_scrape_bad_targets import BOMB, never_answers, packed
from tests.support.http_server import serving
from tests.support.raw_server import Answer, respond, serve_raw

NOW = 1_767_225_600.0
LABELS = {"job": "agents", "instance": "127.0.0.1:9464", semconv.SESSION_ID: "run-1"}
TOKENS = {"__name__": semconv.SESSION_TOKENS.name, **LABELS}
TIMES = {SAMPLED: semconv.SESSION_TOKENS.name}
SAMPLED_AT = {**LABELS, **TIMES}


def vector(
    *points: tuple[Mapping[str, str], float],
    at: float = NOW,
    warnings: Sequence[str] = (),
    infos: Sequence[str] = (),
) -> bytes:
    """Return an answer with an instant vector."""
    result = [{"metric": labels, "value": [at, str(value)]} for labels, value in points]
    return json.dumps(
        {
            "status": "success",
            "data": {"resultType": "vector", "result": result},
            "warnings": warnings,
            "infos": infos,
        }
    ).encode()


class Api:
    """A query API with one answer, and all that it was asked."""

    def __init__(self, answer: bytes) -> None:
        """Keep the answer, and begin with no query seen."""
        self.answer = answer
        self.forms: list[dict[str, str]] = []
        self.url = ""


@contextmanager
def serve_api(answer: bytes) -> Iterator[Api]:
    """Serve the answer on a free port of the loopback interface."""
    api = Api(answer)

    def reply(path: str, asked: bytes) -> tuple[int, bytes]:
        api.forms.append(dict(urllib.parse.parse_qsl(asked.decode())))
        return (200 if path == "/prefix/api/v1/query" else 404), api.answer

    with serving(reply) as url:
        api.url = f"{url}/prefix/"
        yield api


def read(url: str, *clock: float, matchers: tuple[str, ...] = ()) -> list[Observation]:
    """Read once for each time the clock is to show."""
    times = list(clock or (5000.0,))

    async def readings() -> list[Observation]:
        settings = PrometheusSettings(
            url, timeout=0.5, matchers=matchers, body_size_limit=1_000_000
        )
        source = PrometheusSource(settings, lambda: times[0])
        found = []
        while times:
            found.append(await source.read())
            times.pop(0)
        await source.close()
        return found

    return asyncio.run(readings())


def success(data: object) -> Answer:
    """Answer with status success and this for data."""
    return respond(json.dumps({"status": "success", "data": data}).encode(), "application/json")


MATRIX = {"resultType": "matrix", "result": []}
NO_PAIR = {"resultType": "vector", "result": [{"metric": {}, "value": [1]}]}
NO_NUMBER = {"resultType": "vector", "result": [{"metric": {}, "value": [1, "many"]}]}
NO_TIME = {"resultType": "vector", "result": [{"metric": {}, "value": ["NaN", "1"]}]}
NO_LABELS = {"resultType": "vector", "result": [{"metric": {"a": None}, "value": [1, "1"]}]}
REFUSAL = {"status": "error", "errorType": "bad_data", "error": "parse error"}

BAD = {
    "503": (respond(b"busy", "text/plain", "503 Service Unavailable"), "HTTP 503 Service Unav"),
    "401": (respond(b"", "text/plain", "401 Unauthorized"), "HTTP 401 Unauthorized"),
    "garbage": (respond(b"<html>", "application/json"), "is not JSON"),
    "deep JSON": (respond(b"[" * 200_000, "application/json"), "is not JSON"),
    "a list": (respond(b"[]", "application/json"), "is not a JSON object"),
    "status error": (
        respond(json.dumps(REFUSAL).encode(), "application/json"),
        "refuses the query: bad_data: parse error",
    ),
    "no data": (success(None), "no data.result"),
    "a matrix": (success(MATRIX), "is a 'matrix', not a vector"),
    "no pair": (success(NO_PAIR), "holds no vector"),
    "no number": (success(NO_NUMBER), "holds no vector"),
    "no time": (success(NO_TIME), "holds no vector"),
    "no labels": (success(NO_LABELS), "holds no vector"),
    "hangs": (never_answers, "no complete answer within 0.5 s"),
    "a gzip bomb": (packed(BOMB), "larger than 1,000,000 bytes"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_answer_is_a_problem_of_the_whole_source(name: str) -> None:
    """It names the address and what happened; there are no sessions, not sessions at 0."""
    answer, words = BAD[name]
    with serve_raw(answer) as address:
        (reading,) = read(f"http://{address}")
    assert reading.sessions == ()
    assert not reading.ok
    (problem,) = reading.problems
    assert (problem.target, problem.reason) == ("", Reason.SOURCE_ERROR)
    assert address in problem.detail
    assert words in problem.detail


def test_nobody_there_is_a_problem_of_the_whole_source() -> None:
    """A refused connection."""
    with serve_raw(never_answers) as address:
        pass
    (reading,) = read(f"http://{address}")
    assert reading.problems[0].reason is Reason.SOURCE_ERROR


def test_an_empty_vector_is_no_session_and_no_problem() -> None:
    """Nobody runs."""
    with serve_api(vector()) as api:
        (reading,) = read(api.url)
    assert (reading.sessions, reading.problems) == ((), ())
    assert reading.ok


def test_a_partial_answer_gives_its_sessions_and_says_that_some_are_missing() -> None:
    """What is there counts."""
    answer = vector((SAMPLED_AT, NOW - 1), (TOKENS, 7), warnings=["store s3 is away"])
    with serve_api(answer) as api:
        (reading,) = read(api.url)
    assert [session.session_id for session in reading.sessions] == ["run-1"]
    (problem,) = reading.problems
    assert (problem.target, problem.reason) == ("", Reason.PARTIAL_DATA)
    assert "store s3 is away" in problem.detail


def test_an_empty_but_partial_answer_is_not_taken_for_nothing() -> None:
    """The missing part may hold them all."""
    with serve_api(vector(warnings=["half"])) as api:
        (reading,) = read(api.url)
    assert [problem.reason for problem in reading.problems] == [Reason.PARTIAL_DATA]


def test_infos_about_the_query_are_said_and_harmless(caplog: pytest.LogCaptureFixture) -> None:
    """Once, with the words of the server."""
    caplog.set_level("INFO", logger="otel_budget")
    answer = vector((SAMPLED_AT, NOW - 1), (TOKENS, 7), infos=["metric might not be a counter"])
    with serve_api(answer) as api:
        first, second = read(api.url, 5000.0, 5001.0)
    assert (first.problems, second.problems) == ((), ())
    assert first.sessions[0].target == "agents/127.0.0.1:9464"
    (record,) = caplog.records
    assert (record.levelname, "says: metric might not be" in record.getMessage()) == ("INFO", True)


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        ("206 Partial Content", []),
        ("203 Non-Authoritative Information", []),
        ("200 OK", ["M3-Results-Limited: max_fetch_series_limit_applied"]),
        ("200 OK", ['Warning: 110 - "Response is Stale"']),
        ("200 OK", ["Content-Range: bytes 0-99/1000"]),
    ],
)
def test_what_the_head_of_an_answer_says_is_missing_makes_it_partial(
    status: str, headers: list[str]
) -> None:
    """Its values count all the same."""
    body = vector((SAMPLED_AT, NOW - 1), (TOKENS, 7))
    with serve_raw(respond(body, "application/json", status, *headers)) as address:
        (reading,) = read(f"http://{address}")
    assert [session.session_id for session in reading.sessions] == ["run-1"]
    assert [problem.reason for problem in reading.problems] == [Reason.PARTIAL_DATA]


ODD_TOKENS: dict[str, Any] = {**TOKENS, semconv.SESSION_ID: "odd"}
ODD_AT = {**SAMPLED_AT, semconv.SESSION_ID: "odd"}
LIMITED: dict[str, Any] = {**ODD_TOKENS, "__name__": semconv.LIMIT.name}
HISTOGRAM = {"count": "2", "sum": "9", "buckets": [[0, "0", "5", "2"]]}
#: Rows of one run that are not as they should be, to the metrics of it that are in doubt then.
ODD_ROWS: dict[str, tuple[list[object], tuple[str, ...]]] = {
    "a value that is no number": (
        [{"metric": ODD_TOKENS, "value": [NOW, "many"]}], (semconv.SESSION_TOKENS.name,)),
    "no value": ([{"metric": ODD_TOKENS}], (semconv.SESSION_TOKENS.name,)),
    "half a value": (
        [{"metric": ODD_TOKENS, "value": [NOW]}], (semconv.SESSION_TOKENS.name,)),
    "a value of another type": (
        [{"metric": ODD_TOKENS, "value": {"x": [7]}}], (semconv.SESSION_TOKENS.name,)),
    "a stale marker": (
        [{"metric": ODD_TOKENS, "value": [NOW, "NaN"]}], (semconv.SESSION_TOKENS.name,)),
    "a native histogram": (
        [{"metric": ODD_TOKENS, "histogram": [NOW, HISTOGRAM]}], (semconv.SESSION_TOKENS.name,)),
    "a label that is no text": (
        [{"metric": dict(ODD_TOKENS, model=None), "value": [NOW, "7"]}],
        (semconv.SESSION_TOKENS.name,)),
    "a limit that is no number": (
        [{"metric": ODD_TOKENS, "value": [NOW, "7"]},
         {"metric": dict(LIMITED, resource="tokens"), "value": [NOW, "x"]}],
        (semconv.LIMIT.name,)),
    "a limit of nothing": (
        [{"metric": ODD_TOKENS, "value": [NOW, "7"]}, {"metric": LIMITED, "value": [NOW, "9"]}],
        (semconv.LIMIT.name,)),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD_ROWS)
@pytest.mark.parametrize("at", [str(NOW - 1), "soon"])
def test_an_odd_row_costs_its_run_and_no_other(name: str, at: str) -> None:
    """That one is in doubt, which is not "no use" and not "no limit"."""
    rows, in_doubt = ODD_ROWS[name]
    found = json.loads(vector((SAMPLED_AT, NOW - 1), (TOKENS, 7)))
    found["data"]["result"][:0] = [*rows, {"metric": ODD_AT, "value": [NOW, at]}]
    with serve_api(json.dumps(found).encode()) as api:
        (reading,) = read(api.url)
    assert reading.problems == ()
    runs = {session.session_id: session for session in reading.sessions}
    assert runs["run-1"].counters == {(semconv.TOKENS, ""): 7}
    assert runs["run-1"].implausible == ()
    expected = in_doubt if at != "soon" else {*in_doubt, semconv.SESSION_TOKENS.name}
    assert set(runs["odd"].implausible) == set(expected)


@pytest.mark.parametrize(
    "row",
    [None, 5, "row", [], {}, {"metric": None, "value": [NOW, "1"]}, {"metric": {}, "value": []},
     {"metric": {"a": None}}, {"metric": {"job": "x", "instance": "y"}, "value": [NOW, "1"]}],
)  # fmt: skip
def test_a_row_of_which_nothing_can_be_told_is_counted(row: object) -> None:
    found = json.loads(vector((SAMPLED_AT, NOW - 1), (TOKENS, 7)))
    for place in (0, 2):
        found["data"]["result"].insert(place, row)
    with serve_api(json.dumps(found).encode()) as api:
        first, second = read(api.url, 5000.0, 5001.0)
    for reading in (first, second):
        assert [session.session_id for session in reading.sessions] == ["run-1"]
        assert reading.dropped == {semconv.BAD_ROW: 2}
        assert reading.problems == ()


def test_a_row_that_is_there_twice_counts_once_by_the_larger() -> None:
    answer = vector((SAMPLED_AT, NOW - 1), (TOKENS, 7), (TOKENS, 9), (TOKENS, 7))
    with serve_api(answer) as api:
        first, second = read(api.url, 5000.0, 5001.0)
    for reading in (first, second):
        assert reading.sessions[0].counters == {(semconv.TOKENS, ""): 9}
        assert reading.dropped == {semconv.DUPLICATE: 2}


def test_bytes_that_are_no_text_cost_one_label_of_one_run() -> None:
    """Some stores take them from a target, and give them back."""
    odd = {**TOKENS, semconv.SESSION_ID: "odd", "model": "?"}
    answer = vector((SAMPLED_AT, NOW - 1), (TOKENS, 7), (odd, 5), (ODD_AT, NOW - 1))
    with serve_api(answer.replace(b'"?"', b'"\xff"')) as api:
        (reading,) = read(api.url)
    used = {s.session_id: sum(map(int, s.counters.values())) for s in reading.sessions}
    assert used == {"run-1": 7, "odd": 5}


def chunk_cut_short(connection: socket.socket, over: threading.Event) -> None:
    """End the body with the connection before its last chunk has come."""
    body = vector((SAMPLED_AT, NOW - 1), (TOKENS, 7))
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    connection.sendall(head + b"%x\r\n%b\r\n" % (len(body), body))


def half_a_document(connection: socket.socket, over: threading.Event) -> None:
    """End the body with the connection, in the middle of it."""
    body = vector((SAMPLED_AT, NOW - 1), (TOKENS, 7))
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + body[:-40])


@pytest.mark.parametrize(
    "answer",
    [
        chunk_cut_short,
        half_a_document,
        respond(b"", "application/json", "204 No Content"),
        packed(gzip.compress(vector((TOKENS, 7))) + gzip.compress(b"more")),
    ],
)
def test_an_answer_that_is_cut_off_is_none(answer: Answer) -> None:
    """Half of it would look like a whole."""
    with serve_raw(answer) as address:
        (reading,) = read(f"http://{address}")
    assert (reading.sessions, reading.ok) == ((), False)


def test_the_age_of_a_sample_is_taken_on_the_servers_clock() -> None:
    """A sample 42 s old over there is 42 s old here, whatever either clock shows."""
    with serve_api(vector((SAMPLED_AT, NOW - 42), (TOKENS, 7))) as api:
        (reading,) = read(api.url, 5000.0)
    assert reading.sessions[0].sampled_at == pytest.approx(4958.0)


def test_a_sample_read_twice_keeps_its_time() -> None:
    """Else every reading between two scrapes would look like a fresh sample."""
    with serve_api(vector((SAMPLED_AT, NOW - 42), (TOKENS, 7))) as api:
        first, second = read(api.url, 5000.0, 5000.7)
    assert first.sessions[0].sampled_at == second.sessions[0].sampled_at


def test_values_and_their_ages_come_in_one_answer() -> None:
    """Two could come from two replicas; nothing is summed, and the matchers are in every part."""
    with serve_api(vector((SAMPLED_AT, NOW - 1), (TOKENS, 7))) as api:
        read(api.url, matchers=('job="agents"', 'env!~"dev.*"'))
        (form,) = api.forms
    parts = form["query"].split(" or ")
    assert len(parts) == 2 + len(COUNTERS)
    assert all('job="agents",env!~"dev.*"}' in part for part in parts)
    assert "sum" not in form["query"]


def test_replicas_that_answer_in_turn_keep_the_times_of_their_samples() -> None:
    """A sample seen again after that of another replica is still the same sample."""
    with serve_api(b"") as api:

        async def dates() -> list[float]:
            clock = iter([5000.0, 5001.0, 5002.25])
            now = [0.0]
            source = PrometheusSource(PrometheusSettings(api.url), lambda: now[0])
            found = []
            for age in (10, 15, 12):
                now[0] = next(clock)
                stamp = NOW - age if age != 12 else NOW - 10
                api.answer = vector((SAMPLED_AT, stamp), (TOKENS, 7))
                found.append((await source.read()).sessions[0].sampled_at)
            await source.close()
            return found

        assert asyncio.run(dates()) == pytest.approx([4990.0, 4986.0, 4990.0])


def test_a_sample_from_the_future_is_taken_to_be_of_now() -> None:
    """It would hide silence, and hold up the counters, until its time had come."""
    with serve_api(vector((SAMPLED_AT, NOW + 540), (TOKENS, 7))) as api:
        (reading,) = read(api.url, 5000.0)
    assert reading.sessions[0].sampled_at == 5000.0


def test_a_series_without_a_timestamp_takes_its_sessions_newest() -> None:
    """One that has none at all is dropped and counted."""
    fresh = {**SAMPLED_AT, "model": "a"}
    stranger = {**TOKENS, semconv.SESSION_ID: "run-2"}
    values = (({**TOKENS, "model": "b"}, 7), (stranger, 9))
    with serve_api(vector((fresh, NOW - 2), (SAMPLED_AT, NOW - 9), *values)) as api:
        (reading,) = read(api.url, 5000.0)
    (session,) = reading.sessions
    assert session.sampled_at == pytest.approx(4998.0)
    assert reading.dropped == {"no_timestamp": 1}


def test_series_without_job_and_instance_have_a_target_all_the_same() -> None:
    """As they come from a back end that was written to."""
    bare = {semconv.SESSION_ID: "run-1"}
    value = ({"__name__": semconv.SESSION_TOKENS.name, **bare}, 7)
    with serve_api(vector(({**bare, **TIMES}, NOW), value)) as api:
        (reading,) = read(api.url)
    assert reading.sessions[0].target == "/"


START = {"__name__": semconv.INCARNATION_START.name, **LABELS}


def used(*answers: bytes) -> tuple[int, int]:
    """Return the tokens a ledger makes of the answers, and the number of resets."""
    with serve_api(b"") as api:

        async def readings() -> Ledger:
            ledger, now = Ledger(), [5000.0]
            source = PrometheusSource(PrometheusSettings(api.url), lambda: now[0])
            for answer in answers:
                api.answer = answer
                ledger.apply(await source.read())
                now[0] += 5
            await source.close()
            return ledger

        ledger = asyncio.run(readings())
    return int(ledger.runs["run-1"].totals()["tokens"]), ledger.resets.total()


def labelled(
    tokens: int, ago: float, start: float | None = 100.0, **labels: str
) -> list[tuple[dict[str, str], float]]:
    """Return the series of one process as they come with further labels on all of them."""
    rows: list[tuple[dict[str, str], float]] = [({**SAMPLED_AT, **labels}, NOW - ago)]
    rows.append(({**TOKENS, **labels}, tokens))
    if start is not None:
        rows.append(({**START, **labels}, start))
    return rows


def test_a_target_label_that_appears_or_changes_doubles_nothing() -> None:
    """Relabelling makes new series of the old ones; the process is the same."""
    steps = (labelled(500, 9), labelled(510, 8, pod="a"), labelled(520, 7, pod="b", zone="z"))
    assert used(*(vector(*rows, at=NOW + 5 * i) for i, rows in enumerate(steps))) == (520, 0)


def test_replicas_seen_together_count_once_by_the_larger() -> None:
    """As a querier gives them that leaves the replicas' external labels."""
    rows = (*labelled(1000, 1, replica="a"), *labelled(990, 3, replica="b"))
    assert used(vector(*rows)) == (1000, 0)


def test_processes_in_a_row_under_one_address_are_told_apart_by_their_added_labels() -> None:
    """A back end shows the old pod's series for minutes beside the new one's."""
    rows = (*labelled(1000, 60, pod="a"), *labelled(5, 1, start=200.0, pod="b"))
    later = (*labelled(1000, 65, pod="a"), *labelled(7, 1, start=200.0, pod="b"))
    assert used(vector(*labelled(1000, 1, pod="a")), vector(*rows), vector(*later)) == (1007, 1)


def test_an_agents_own_labels_on_its_counters_are_added_up() -> None:
    """Its start time does not carry them."""
    rows = [(SAMPLED_AT, NOW - 1.0), (START, 100.0)]
    both = [({**TOKENS, "model": "x"}, 10.0), ({**TOKENS, "model": "y"}, 5.0)]
    assert used(vector(*rows, *both)) == (15, 0)


def test_a_read_that_fails_forgets_nothing() -> None:
    """After a bad answer the next good one is read as if nothing had been."""
    good = vector((SAMPLED_AT, NOW - 1), (TOKENS, 7))
    with serve_api(b"{") as api:

        async def readings() -> tuple[Observation, Observation]:
            source = PrometheusSource(PrometheusSettings(api.url), time.time)
            bad = await source.read()
            api.answer = good
            fine = await source.read()
            await source.close()
            return bad, fine

        bad, fine = asyncio.run(readings())
    assert (len(bad.sessions), len(fine.sessions)) == (0, 1)
