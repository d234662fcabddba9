"""Servers that give a part of a history, or none: an error or a gap that is counted, never less."""

from __future__ import annotations

import asyncio
import json
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from otel_budget import semconv
from otel_budget.core.reasons import Reason
from otel_budget.replay.history import HistoryError, PrometheusHistory, Tick
from otel_budget.sources.prometheus import PrometheusSettings
from tests.support.http_server import serving
from tests.support.raw_server import respond, serve_raw

BEGIN = 1_767_225_600.0
END = BEGIN + 3600
PLACE = {"job": "agents", "instance": "127.0.0.1:9464"}
#: Seconds between two samples.
SPACING = 15

Rows = list[dict[str, Any]]
Reply = Callable[[str, dict[str, str]], tuple[int, bytes]]


def answer(rows: Rows, **more: object) -> bytes:
    """Return a matrix."""
    data = {"resultType": "matrix", "result": rows}
    return json.dumps({"status": "success", "data": data, **more}).encode()


def refusal(kind: str, error: str) -> bytes:
    """Return what a server says that refuses a query."""
    return json.dumps({"status": "error", "errorType": kind, "error": error}).encode()


def values(begin: float, end: float, value: Callable[[float], float]) -> list[list[Any]]:
    """Return a sample for each scrape after a time, up to another."""
    first = int(begin // SPACING + 1) * SPACING
    return [[at, str(value(at))] for at in range(first, int(end) + 1, SPACING)]


def raw(begin: float, end: float) -> Rows:
    """Return the raw samples of a target, and of one run that uses a token a second."""
    tokens = {"__name__": semconv.SESSION_TOKENS.name, **PLACE, semconv.SESSION_ID: "r"}
    return [
        {"metric": tokens, "values": values(begin, end, lambda at: at - BEGIN + 1000)},
        {"metric": {"__name__": "up", **PLACE}, "values": values(begin, end, lambda _: 1)},
    ]


def good(path: str, form: Mapping[str, str]) -> tuple[int, bytes]:
    """Answer as a Prometheus does."""
    if path.endswith("query"):
        end = float(form["time"])
        seconds = float(form["query"].rpartition("[")[2].removesuffix("ms]")) / 1000
        return 200, answer(raw(end - seconds, end))
    at, end, step = float(form["start"]), float(form["end"]), float(form["step"])
    times = [at + number * step for number in range(int((end - at) / step) + 1)]
    return 200, answer(
        [{"metric": {"__name__": "up", **PLACE}, "values": [[t, "1"] for t in times]}]
    )


@contextmanager
def api(reply: Reply) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Serve a query API; yield its URL and the forms that it was asked with."""
    forms: list[dict[str, str]] = []

    def respond_to(path: str, body: bytes) -> tuple[int, bytes]:
        forms.append(dict(urllib.parse.parse_qsl(body.decode())))
        return reply(path, forms[-1])

    with serving(respond_to) as url:
        yield url, forms


def history(url: str, begin: float = BEGIN, end: float = END, **more: Any) -> PrometheusHistory:
    """Return the history that a server has, which is asked again without a pause."""

    async def at_once(_: float) -> None:
        pass

    settings = PrometheusSettings(url, interval=15, **more)
    return PrometheusHistory(settings, begin, end, clock=lambda: 0.0, pause=at_once)


def read(past: PrometheusHistory) -> list[Tick]:
    """Return all its ticks."""

    async def collect() -> list[Tick]:
        return [tick async for tick in past.ticks()]

    return asyncio.run(collect())


def test_each_tick_has_what_was_sampled_by_then() -> None:
    with api(good) as (url, _):
        past = history(url)
        ticks = read(past)
    assert [tick.at for tick in ticks] == [BEGIN + 15 * number for number in range(241)]
    used = [tick.observation.sessions[0].counters for tick in ticks if tick.observation]
    assert [counters["tokens", ""] for counters in used] == [1000 + 15 * n for n in range(241)]
    assert past.coverage.gap_count == 0
    assert past.coverage.begun_before == {"r"}
    assert past.coverage.read_to == END


def test_a_range_that_is_no_multiple_of_the_interval_is_read_to_its_end() -> None:
    with api(good) as (url, _):
        ticks = read(history(url, end=BEGIN + 100))
    assert [tick.at - BEGIN for tick in ticks] == [0, 15, 30, 45, 60, 75, 90, 100]


@pytest.mark.parametrize(("begin", "end"), [(END, BEGIN), (BEGIN, BEGIN), (float("nan"), END)])
def test_an_empty_range_is_an_error(begin: float, end: float) -> None:
    with pytest.raises(HistoryError, match="is empty"):
        history("http://127.0.0.1:9", begin, end)


def test_a_server_that_has_nothing_is_an_error() -> None:
    with (
        api(lambda *_: (200, answer([]))) as (url, _),
        pytest.raises(HistoryError, match="no sample"),
    ):
        read(history(url))


def test_what_a_server_cannot_answer_at_once_is_asked_in_parts() -> None:
    def reply(path: str, form: dict[str, str]) -> tuple[int, bytes]:
        if path.endswith("query") and float(form["query"].rpartition("[")[2][:-3]) > 400_000:
            return 422, refusal("execution", "query processing would load too many samples")
        return good(path, form)

    with api(reply) as (url, _):
        past = history(url)
        ticks = read(past)
    assert [tick.at for tick in ticks] == [BEGIN + 15 * number for number in range(241)]
    assert past.coverage.gap_count == 0


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (422, refusal("execution", "too many samples"), "too many samples"),
        (200, refusal("bad_data", "no such thing"), "no such thing"),
        (200, b"<html>", "is not JSON"),
        (404, b"not here", "HTTP 404"),
        (401, b"who are you", "HTTP 401"),
        (200, json.dumps({"status": "success", "data": {"resultType": "vector", "result": []}})
              .encode(), "not a matrix"),
    ],
)  # fmt: skip
def test_a_part_that_cannot_be_read_ends_the_history(status: int, body: bytes, said: str) -> None:
    def reply(path: str, form: dict[str, str]) -> tuple[int, bytes]:
        late = float(form.get("time", form.get("end", "0"))) > BEGIN + 1500
        return (status, body) if late else good(path, form)

    with api(reply) as (url, _):
        past = history(url)
        with pytest.raises(HistoryError, match=said) as raised:
            read(past)
    assert "cannot be read from 2026-01-01T00:" in str(raised.value)
    assert BEGIN <= past.coverage.read_to <= BEGIN + 1500


def test_what_fails_once_is_asked_again() -> None:
    failed: list[str] = []

    def reply(path: str, form: dict[str, str]) -> tuple[int, bytes]:
        if len(failed) < 2:
            failed.append(path)
            return 503, b"soon"
        return good(path, form)

    with api(reply) as (url, _):
        assert len(read(history(url))) == 241


@pytest.mark.parametrize(
    "more", [{"warnings": ["a store did not answer"]}, {"isPartial": True}, {"truncated": "yes"}]
)
def test_a_partial_answer_makes_its_ticks_partial_and_is_a_gap(more: dict[str, Any]) -> None:
    def reply(path: str, form: dict[str, str]) -> tuple[int, bytes]:
        status, body = good(path, form)
        if path.endswith("query") and BEGIN + 600 < float(form["time"]) < END:
            return status, json.dumps({**json.loads(body), **more}).encode()
        return status, body

    with api(reply) as (url, _):
        past = history(url, end=END)
        past._most = 40
        ticks = read(past)
    partial = [t.at for t in ticks if t.observation and t.observation.problems]
    assert partial
    found = {p.reason for t in ticks if t.observation for p in t.observation.problems}
    assert found == {Reason.PARTIAL_DATA}
    (gap,) = past.coverage.gaps
    assert gap.begin <= partial[0]
    assert gap.end == partial[-1]
    assert "partial answer" in gap.why


def test_a_time_without_any_sample_is_a_gap() -> None:
    def reply(path: str, form: dict[str, str]) -> tuple[int, bytes]:
        status, body = good(path, form)
        data = json.loads(body)
        for row in data["data"]["result"]:
            row["values"] = [
                v for v in row["values"] if not BEGIN + 1000 < float(v[0]) < BEGIN + 2000
            ]
        return status, json.dumps(data).encode()

    with api(reply) as (url, _):
        past = history(url)
        read(past)
    (gap,) = past.coverage.gaps
    assert (gap.begin, gap.end) == (BEGIN + 990, BEGIN + 2010)
    assert past.coverage.gap_seconds == 1020


def test_an_answer_that_is_cut_off_is_an_error() -> None:
    body = answer(raw(BEGIN, END))
    cut = respond(body[:500], "application/json", length=len(body))
    with serve_raw(cut) as place, pytest.raises(HistoryError, match=r"cut short|hung up|closed"):
        read(history(f"http://{place}"))


def test_an_answer_that_grows_without_end_is_no_answer() -> None:
    with api(good) as (url, _), pytest.raises(HistoryError, match="larger than 1,000 bytes"):
        read(history(url, body_size_limit=1000))


def test_http_206_says_that_something_is_missing() -> None:
    body = answer(raw(BEGIN - 300, END))
    partial = respond(body, "application/json", "206 Partial Content")
    with serve_raw(partial) as place:
        past = history(f"http://{place}", end=BEGIN + 300)
        read(past)
    assert [gap.why for gap in past.coverage.gaps] == ["partial answer: HTTP 206"]


def wrong_rows() -> Sequence[dict[str, Any]]:
    """Return rows that cannot be read, beside good ones."""
    return [{"metric": {"__name__": "up"}, "values": [["then", "1"]]}, {"metric": 5}]


def test_a_row_that_cannot_be_read_is_said_and_counted() -> None:
    def reply(path: str, form: dict[str, str]) -> tuple[int, bytes]:
        status, body = good(path, form)
        data = json.loads(body)
        data["data"]["result"] += wrong_rows()
        return status, json.dumps(data).encode()

    with api(reply) as (url, _):
        past = history(url)
        read(past)
    assert past.coverage.gap_seconds >= END - BEGIN
    assert "rows cannot be read" in past.coverage.gaps[0].why


@pytest.mark.parametrize("is_victoria_metrics", [False, True])
def test_nan_is_a_value_or_the_mark_of_an_end_as_the_server_has_it(
    *, is_victoria_metrics: bool
) -> None:
    def reply(path: str, form: dict[str, str]) -> tuple[int, bytes]:
        if form["query"] == "now()":
            found = {"resultType": "vector", "result": [{"metric": {}, "value": [1, "1"]}]}
            if is_victoria_metrics:
                return 200, json.dumps({"status": "success", "data": found}).encode()
            return 400, refusal("bad_data", "unknown function")
        status, body = good(path, form)
        data = json.loads(body)
        for row in data["data"]["result"]:
            if row["metric"]["__name__"] != "up":
                row["values"] = [[t, "NaN" if t == BEGIN + 60 else v] for t, v in row["values"]]
        return status, json.dumps(data).encode()

    with api(reply) as (url, forms):
        ticks = read(history(url, end=BEGIN + 90))
    (at_nan,) = [t.observation for t in ticks if t.at == BEGIN + 60]
    assert at_nan is not None
    shown = [session.implausible for session in at_nan.sessions]
    assert shown == ([] if is_victoria_metrics else [(semconv.SESSION_TOKENS.name,)])
    assert sum(form["query"] == "now()" for form in forms) == 1
