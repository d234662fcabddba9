"""Bodies of requests: both encodings say the same, and whatever else comes is one error."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from otel_budget.presets.loader import shipped
from otel_budget.sources.otlp import messages, wire
from otel_budget.sources.otlp.decoding import JSON, PROTOBUF, decode_logs, decode_metrics
from otel_budget.sources.otlp.messages import OtlpError
from otel_budget.sources.otlp.wanted import Wanted
from tests.support.otlp_fixtures import CASES, case
from tests.support.otlp_messages import counter, metrics, point

WANTED = Wanted(tuple(shipped().values()), ["budget.run"])
KEYS = st.sampled_from([
    "session.id", "type", "model", "budget.run", "otel_budget.max_tokens", "service.name", "prompt",
    "event.name", "input_token_count", "request_id", "",
])  # fmt: skip
TEXTS = st.text(st.sampled_from('ab7.é中 "\\\n'), max_size=8)
PLAIN = st.one_of(
    st.builds(lambda v: {"stringValue": v}, TEXTS),
    st.builds(lambda v: {"intValue": str(v)}, st.integers(-(2**63), 2**63 - 1)),
    st.builds(lambda v: {"doubleValue": v}, st.floats(allow_nan=False, allow_infinity=False)),
    st.builds(lambda v: {"boolValue": v}, st.booleans()),
    st.builds(lambda: {"bytesValue": "AAEC"}),
    st.just({}),
)
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.one_of(
        st.builds(lambda v: {"arrayValue": {"values": v}}, st.lists(inner, max_size=3)),
        st.builds(
            lambda v: {"kvlistValue": {"values": v}},
            st.lists(st.fixed_dictionaries({"key": KEYS, "value": inner}), max_size=2),
        ),
    ),
    max_leaves=4,
)
ATTRIBUTES = st.lists(st.fixed_dictionaries({"key": KEYS, "value": VALUES}), max_size=4)
NANOS = st.builds(str, st.integers(0, 2**63))
NUMBERS = st.one_of(
    st.builds(lambda v: {"asInt": str(v)}, st.integers(-(2**63), 2**63 - 1)),
    st.builds(lambda v: {"asDouble": v}, st.floats(allow_nan=False, allow_infinity=False)),
    st.just({}),
)
POINTS = st.lists(
    st.builds(
        lambda number, start, at, flags: {
            **number, "startTimeUnixNano": start, "attributes": at, "flags": flags,
        },
        NUMBERS, NANOS, ATTRIBUTES, st.sampled_from([0, 1, 2]),
    ),
    max_size=3,
)  # fmt: skip
SUMS = st.lists(
    st.builds(
        lambda start, at, total, many: {
            "startTimeUnixNano": start, "attributes": at, "count": str(many),
            **({} if total is None else {"sum": total}),
        },
        NANOS, ATTRIBUTES, st.none() | st.floats(0, 1e9), st.integers(0, 9),
    ),
    max_size=3,
)  # fmt: skip
DATA = st.one_of(
    st.builds(
        lambda points, temporality, grows: {
            "sum": {"dataPoints": points, "aggregationTemporality": temporality,
                    "isMonotonic": grows},
        },
        POINTS, st.integers(0, 2), st.booleans(),
    ),
    st.builds(lambda points: {"gauge": {"dataPoints": points}}, POINTS),
    st.builds(
        lambda kind, points, temporality: {
            kind: {"dataPoints": points, "aggregationTemporality": temporality}
        },
        st.sampled_from(["histogram", "exponentialHistogram"]), SUMS, st.integers(0, 2),
    ),
    st.builds(lambda points: {"summary": {"dataPoints": points}}, SUMS),
    st.just({}),
)  # fmt: skip
METRICS = st.builds(
    lambda name, unit, data: {"name": name, "unit": unit, **data},
    st.sampled_from(["claude_code.token.usage", "codex.turn.token_usage",
                     "gen_ai.client.token.usage", "otel_budget_tokens_total", "unheard.of"]),
    st.sampled_from(["", "tokens", "{token}"]), DATA,
)  # fmt: skip
RECORDS = st.builds(
    lambda body, name, at: {"body": body, "eventName": name, "attributes": at},
    VALUES, st.sampled_from(["", "codex.sse_event", "gemini_cli.api_response"]), ATTRIBUTES,
)  # fmt: skip


def requests(top: str, middle: str, inner: str, of: st.SearchStrategy[Any]) -> Any:
    """Return what makes requests of one kind."""
    scopes = st.lists(
        st.fixed_dictionaries({
            "scope": st.fixed_dictionaries({"name": st.sampled_from(["", "a"])}),
            inner: st.lists(of, max_size=3),
        }),
        max_size=2,
    )  # fmt: skip
    resources = st.fixed_dictionaries({
        "resource": st.fixed_dictionaries({"attributes": ATTRIBUTES}), middle: scopes,
    })  # fmt: skip
    return st.fixed_dictionaries({top: st.lists(resources, max_size=2)})


METRICS_REQUESTS = requests("resourceMetrics", "scopeMetrics", "metrics", METRICS)
LOGS_REQUESTS = requests("resourceLogs", "scopeLogs", "logRecords", RECORDS)


@given(METRICS_REQUESTS)
def test_metrics_say_the_same_in_both_encodings(given: Any) -> None:
    """As written here, as protobuf, and as protobuf's own JSON."""
    message = ParseDict(given, ExportMetricsServiceRequest())
    by_bytes = decode_metrics(message.SerializeToString(), PROTOBUF, WANTED).resources
    for body in (given, MessageToDict(message)):
        assert decode_metrics(json.dumps(body).encode(), JSON, WANTED).resources == by_bytes


@given(LOGS_REQUESTS)
def test_log_records_say_the_same_in_both_encodings(given: Any) -> None:
    """The same of records."""
    message = ParseDict(given, ExportLogsServiceRequest())
    by_bytes = decode_logs(message.SerializeToString(), PROTOBUF, WANTED).resources
    for body in (given, MessageToDict(message)):
        assert decode_logs(json.dumps(body).encode(), JSON, WANTED).resources == by_bytes


@given(st.binary(max_size=200), st.sampled_from([JSON, PROTOBUF]))
def test_whatever_comes_is_taken_or_is_one_error(body: bytes, content_type: str) -> None:
    """Nothing else is ever raised."""
    for decode in (decode_metrics, decode_logs):
        try:
            decode(body, content_type, WANTED)
        except OtlpError:
            continue


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from([
            "resourceMetrics", "scopeMetrics", "metrics", "name", "sum", "dataPoints", "attributes",
            "key", "value", "intValue", "arrayValue", "values", "resourceLogs", "scopeLogs",
            "logRecords", "body", "stringValue", "asInt", "asDouble", "resource", "flags",
        ]),
        inner, max_size=4,
    ),
    max_leaves=30,
)  # fmt: skip


@given(ANY_JSON)
def test_json_of_any_shape_is_taken_or_is_one_error(given: Any) -> None:
    """Lists where objects should be, numbers where text should, and so on."""
    for top, decode in (("resourceMetrics", decode_metrics), ("resourceLogs", decode_logs)):
        for body in (given, {top: given}, {top: [given]}):
            try:
                decode(json.dumps(body).encode(), JSON, WANTED)
            except OtlpError:
                continue


@pytest.mark.parametrize("name", CASES)
def test_what_agents_pushed_is_read_alike_in_the_other_encoding(name: str) -> None:
    """Every recorded body, translated."""
    for request in case(name).requests:
        kind, decode = (
            (ExportLogsServiceRequest, decode_logs)
            if request.is_logs
            else (ExportMetricsServiceRequest, decode_metrics)
        )
        message: Message = kind()
        if request.content_type == PROTOBUF:
            message.ParseFromString(request.body)
            other, content_type = json.dumps(MessageToDict(message)).encode(), JSON
        else:
            ParseDict(_strict(json.loads(request.body)), message, ignore_unknown_fields=True)
            other, content_type = message.SerializeToString(), PROTOBUF
        here = decode(request.body, request.content_type, WANTED)
        there = decode(other, content_type, WANTED)
        assert here.resources == there.resources
        assert here.digest != there.digest


def _strict(body: Any) -> Any:
    """Return JSON without the ids that OTLP writes in hexadecimal, which protobuf's does not."""
    if isinstance(body, dict):
        return {k: _strict(v) for k, v in body.items() if k not in ("traceId", "spanId")}
    return [_strict(one) for one in body] if isinstance(body, list) else body


def value_of(**given: object) -> object:
    """Return the value that a point comes out with."""
    body = {"name": "claude_code.token.usage", "sum": {"dataPoints": [given], "isMonotonic": True}}
    request = metrics(body)
    ((_, (metric,)),) = decode_metrics(request.body, JSON, WANTED).resources
    return metric.points[0].value if metric.points else "no point"


def test_json_is_read_leniently() -> None:
    """Text for numbers and numbers for text; words that are no numbers; flags; nothing at all."""
    assert value_of(asInt="7") == value_of(asInt=7) == 7
    assert value_of(asDouble="7.5") == value_of(asDouble=7.5) == 7.5
    assert value_of(asDouble="Infinity") == float("inf")
    assert str(value_of(asDouble="NaN")) == "nan"
    assert value_of() is None
    assert value_of(asInt=1, flags=1) == "no point"
    words = counter("claude_code.token.usage", point(1, type="input"))
    words["sum"]["aggregationTemporality"] = "AGGREGATION_TEMPORALITY_DELTA"
    ((_, (metric,)),) = decode_metrics(metrics(words).body, JSON, WANTED).resources
    assert metric.delta
    assert decode_metrics(b"{}", JSON + "; charset=utf-8", WANTED).resources == ()
    assert decode_metrics(b"", PROTOBUF, WANTED).resources == ()


def _nested(depth: int) -> bytes:
    """Return a body with an attribute so many lists deep."""
    value: object = {}
    for _ in range(depth):
        value = {"arrayValue": {"values": [value]}}
    return metrics(a=value).body


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "is not JSON"),
        (b"[]", "not a JSON object"),
        (b'{"resource_metrics": []}', "has no resourceMetrics"),
        (b'{"resourceMetrics": {}}', "is not a list"),
        (b'{"resourceMetrics": [{"scopeMetrics": [{"metrics": [7]}]}]}', "not a JSON object"),
        (b"[" * 100_000, "nested too deeply"),
        (_nested(40), "nested too deeply"),
        (metrics(a={"intValue": "9" * 23}).body, "64 bits"),
    ],
)  # fmt: skip
def test_a_body_that_is_wrong_says_what_is(body: bytes, words: str) -> None:
    """In a few words, for the answer 400."""
    with pytest.raises(OtlpError, match=words):
        decode_metrics(body, JSON, WANTED)


def test_a_body_of_another_kind_is_refused() -> None:
    """Neither is guessed."""
    with pytest.raises(OtlpError, match="protobuf"):
        decode_metrics(b"\xff\xff", PROTOBUF, WANTED)
    with pytest.raises(OtlpError, match="content type"):
        decode_metrics(b"{}", "text/plain", WANTED)


def test_a_request_has_a_bound_on_points_and_on_attributes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Both encodings; a metric that nobody looks at counts, too."""
    many = metrics(counter("unheard.of", *[point(1)] * 6), counter("x", *[point(1)] * 5))
    message = ParseDict(json.loads(many.body), ExportMetricsServiceRequest())
    bodies = ((many.body, JSON), (message.SerializeToString(), PROTOBUF))
    for body, content_type in bodies:
        assert decode_metrics(body, content_type, WANTED).resources
    monkeypatch.setattr(messages, "POINTS_MOST", 14)
    for body, content_type in bodies:
        with pytest.raises(OtlpError, match="more than 14 points"):
            decode_metrics(body, content_type, WANTED)
    wide = metrics(**{f"a{i}": "b" for i in range(messages.ATTRIBUTES_MOST + 1)})
    with pytest.raises(OtlpError, match="attributes"):
        decode_metrics(wide.body, JSON, WANTED)


def test_only_named_attributes_are_kept() -> None:
    """Neither prompts nor command lines, nor what is long beyond reason."""
    args = {"arrayValue": {"values": [{"stringValue": "SECRET"}]}}
    secret: dict[str, Any] = {
        "prompt": "SECRET", "process.command_args": args, "session.id": "s" * 5000,
    }  # fmt: skip
    pushed = metrics(
        counter("claude_code.token.usage", point(1, type="input", prompt="SECRET")),
        **{name.replace(".", "__"): value for name, value in secret.items()},
    )
    found = decode_metrics(pushed.body, JSON, WANTED)
    assert "SECRET" not in repr(found)
    assert found.resources[0][0].attributes == {"session.id": "s" * messages.LONGEST_VALUE}


def test_a_body_of_empty_messages_is_refused_before_it_takes_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sixteen megabytes of them would take half a gigabyte."""
    monkeypatch.setattr(wire, "MESSAGES_MOST", 1000)
    empty = b"\n\x00" * (wire.SMALL // 2)
    for body in (empty, _field(1, empty), _field(1, _field(1, empty))):
        for decode in (decode_metrics, decode_logs):
            with pytest.raises(OtlpError, match="too many messages"):
                decode(body + b"\n\x00", PROTOBUF, WANTED)
    with pytest.raises(OtlpError, match="too many objects"):
        decode_metrics(b'{"resourceMetrics": [' + b"{}," * 2_000_000 + b"{}]}", JSON, WANTED)


def test_a_large_body_that_is_cut_off_is_refused() -> None:
    """Wherever it is."""
    body = _field(1, b"\n\x00" * wire.SMALL)
    for end in (body[:-1], body[: wire.SMALL + 1] + b"\x80", body[: wire.SMALL + 1]):
        with pytest.raises(OtlpError):
            decode_metrics(end, PROTOBUF, WANTED)


def _field(number: int, inner: bytes) -> bytes:
    """Return a message with one field."""
    size, sizes = len(inner), bytearray()
    while size > 127:
        sizes.append(size & 127 | 128)
        size >>= 7
    return bytes([number << 3 | 2, *sizes, size]) + inner


@given(METRICS_REQUESTS, LOGS_REQUESTS)
def test_what_a_parser_takes_is_walked_through(metrics_given: Any, logs_given: Any) -> None:
    """Whatever its shape; and the messages in it are counted, no more and no fewer."""
    for body_given, kind, fields in (
        (metrics_given, ExportMetricsServiceRequest, wire.METRICS),
        (logs_given, ExportLogsServiceRequest, wire.LOGS),
    ):
        message = ParseDict(body_given, kind())
        body, number = message.SerializeToString(), _messages_in(message)
        wire._walk(body, fields, number)
        if number:
            with pytest.raises(OtlpError):
                wire._walk(body, fields, number - 1)


def _messages_in(message: Message) -> int:
    """Return how many messages are inside of one."""
    found = 0
    for field, value in message.ListFields():
        if field.message_type is not None:
            inner = value if field.is_repeated else [value]
            found += sum(1 + _messages_in(one) for one in inner)
    return found
