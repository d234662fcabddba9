"""What answers say of themselves: every way to say "not all of it", and none of the others."""

import json
from typing import Any

import pytest

from otel_budget.sources.partial import said_by_head
from otel_budget.sources.prometheus_api import parse_answer

ROW = {"metric": {"__name__": "x"}, "value": [1.5, "1"]}


def missing(envelope: dict[str, Any], row: dict[str, Any] | None = None) -> tuple[str, ...]:
    """Return what an answer with these further keys says is missing of it."""
    data = {"resultType": "vector", "result": [{**ROW, **(row or {})}]}
    further = envelope.pop("data", {})
    answer = {"status": "success", "data": {**data, **further}, **envelope}
    return parse_answer(json.dumps(answer).encode()).warnings


@pytest.mark.parametrize(
    "envelope",
    [
        {"isPartial": True},
        {"isPartial": "true"},
        {"isPartial": 1},
        {"isPartial": "maybe"},
        {"is_partial": True},
        {"partial": True},
        {"partialResponse": True},
        {"partial_response": "True"},
        {"truncated": True},
        {"incomplete": 1},
        {"resultsLimited": True},
        {"exhaustive": False},
        {"isComplete": "false"},
        {"data": {"isPartial": True}},
        {"data": {"stats": {"partial": True}}},
        {"stores": [{"partial": False}, {"partial": True}]},
        {"result": {"partial": True}},
        {"timed_out": True},
        {"hasMore": True},
        {"shards": {"failed": 1}},
        {"missingShards": ["b"]},
        {"stats": {"is-partial": "yes"}},
        {"warnings": ["a store did not answer"]},
        {"warnings": "a store did not answer"},
        {"warnings": {"store": "away"}},
        {"Warnings": ["a store did not answer"]},
        {"data": {"warnings": ["a store did not answer"]}},
        {"error": "some shards failed", "errorType": "internal"},
        {"infos": ["PromQL info: ignored histograms in the answer"]},
        {"infos": ["partial data: 2 of 3 ingesters answered"]},
        {"infos": ["store-2 did not respond"]},
        {"infos": ["not all shards were read"]},
        {"infos": ["store-2 failed"]},
        {"warnings": ["PromQL info: ignored histograms in the answer"]},
        {"warnings": ["PromQL warning: something about the data"]},
        {"warnings": ["PromQL info: metric might not be a counter", "a store did not answer"]},
    ],
    ids=json.dumps,
)
def test_an_answer_that_says_it_is_not_whole_is_partial(envelope: dict[str, Any]) -> None:
    """Whatever server wrote it, and however it writes "yes"."""
    assert missing(envelope)


@pytest.mark.parametrize(
    "envelope",
    [
        {},
        {"isPartial": False},
        {"isPartial": "false"},
        {"isPartial": 0},
        {"isPartial": None},
        {"exhaustive": True},
        {"partial": {}},
        {"timed_out": False},
        {"shards": {"total": 3, "failed": 0}},
        {"stores": [{"partial": False}]},
        {"warnings": []},
        {"warnings": None},
        {"infos": ["PromQL info: metric might not be a counter"]},
        {"infos": ['PromQL info: metric might not be a counter: "dropped_total"']},
        {"warnings": ['PromQL info: metric might not be a counter: "dropped_total" (1:5)']},
        {"stats": {"seriesFetched": "14", "executionTimeMsec": 3}},
        {"data": {"stats": {"samples": {"peakSamples": 9, "totalQueryableSamples": 9}}}},
        {"traceID": "partial"},
    ],
    ids=json.dumps,
)
def test_an_answer_that_says_nothing_of_the_kind_is_whole(envelope: dict[str, Any]) -> None:
    """What a server adds of its own is no matter."""
    assert missing(envelope) == ()


def test_a_series_may_say_that_it_is_partial() -> None:
    """As stores do that answer series by series; a label of that name says nothing."""
    assert missing({}, {"partial": True}) == ("partial: True",)
    assert missing({}, {"metric": {"partial": "true"}}) == ()


@pytest.mark.parametrize(
    ("status", "name", "value"),
    [
        (206, "content-type", "text/plain"),
        (203, "content-type", "text/plain"),
        (200, "Content-Range", "bytes 0-99/1000"),
        (200, "Warning", '111 - "Revalidation Failed"'),
        (200, "M3-Results-Limited", "max_fetch_series_limit_applied"),
        (200, "M3-Returned-Data-Limited", "Limited=true"),
        (200, "M3-Returned-Data-Limited", '{"Series":1,"TotalSeries":3,"Limited":true}'),
        (200, "M3-Returned-Data-Limited", '{"Series":1,"TotalSeries":3}'),
        (200, "Warning", '110 - "Response is Stale"'),
        (200, "Warning", '299 - "2 of 3 stores answered"'),
        (200, "Warning", '299 - "deprecated, and a partial response"'),
        (200, "Warning", '214 proxy "Transformation Applied", 110 - "Response is Stale"'),
        (200, "M3-Warnings", "remote store down"),
        (200, "X-Partial-Response", "true"),
    ],
)
def test_a_head_that_says_it_is_not_whole_is_partial(status: int, name: str, value: str) -> None:
    """By its status or by a header."""
    assert said_by_head(status, [(name, value)])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("content-length", "206"),
        ("accept-ranges", "bytes"),
        ("x-partial-response", "false"),
        ("x-ratelimit-limit", "100"),
        ("M3-Returned-Data-Limited", '{"Series":3,"Datapoints":6,"TotalSeries":3,"Limited":false}'),
        ("M3-Returned-Metadata-Limited", '{"Results":3,"TotalResults":3,"Limited":false}'),
        ("Warning", '214 proxy "Transformation Applied"'),
        ("Warning", '299 - "this address is deprecated, use /api/v2"'),
        ("vary", "Accept-Encoding"),
    ],
)
def test_a_head_that_says_nothing_of_the_kind_is_whole(name: str, value: str) -> None:
    """Other headers say other things."""
    assert said_by_head(200, [(name, value)]) == ()
