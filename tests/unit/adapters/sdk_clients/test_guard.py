"""Clients of OpenAI's and Anthropic's SDK that are guarded: asked before, counted once after."""

from __future__ import annotations

import asyncio
import gc
import json
from types import SimpleNamespace
from typing import Any

import pytest

from otel_budget import BudgetExceeded, InvalidValueError, guard_client
from tests.support.monitors import Make
from tests.support.sdk_stand_ins import AsyncStream, HttpResponse, Options, Stream, raw
from tests.support.stand_ins import counts, parts, unique

CHAT = "/chat/completions"
MESSAGES = "/v1/messages?beta=true"


def chat(**more: Any) -> dict[str, Any]:
    """Return an answer of Chat Completions."""
    usage = {
        "prompt_tokens": 100, "completion_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 60},
        "completion_tokens_details": {"reasoning_tokens": 4},
    }  # fmt: skip
    return {"id": unique(), "model": "gpt-4o", "usage": usage} | more


def test_a_call_is_counted_and_none_goes_out_when_it_may_not(openai_sdk: Any, make: Make) -> None:
    client = openai_sdk.Client(*[chat() for _ in range(3)])
    assert guard_client(client) is client
    assert isinstance(client, openai_sdk.Client)
    assert type(client).__qualname__ == "SyncAPIClient"
    with make(max_api_calls=1) as monitor:
        client.post(CHAT, model="gpt-4o")
        with pytest.raises(BudgetExceeded):
            client.post(CHAT, model="gpt-4o")
    assert len(client.sent) == 1
    assert counts(monitor) == (1, 0, 0, 110)
    assert parts(monitor) == (60, 0, 4)


def test_a_run_named_by_hand_is_asked_and_not_that_of_the_context(
    openai_sdk: Any, make: Make
) -> None:
    client = openai_sdk.Client(chat())
    named = make()
    guard_client(client, named)
    with make() as around:
        client.post(CHAT)
    assert (counts(named)[0], counts(around)[0]) == (1, 0)


def test_copies_of_a_guarded_client_are_guarded_and_again_is_anew(
    openai_sdk: Any, make: Make
) -> None:
    first, second = make(), make()
    client = guard_client(openai_sdk.Client(chat(), chat()), first)
    guard_client(client, second).with_options().post(CHAT)
    assert (counts(first)[0], counts(second)[0]) == (0, 1)


@pytest.mark.parametrize(
    "options",
    [
        Options("/chat/completions", None, method="get"),
        Options("/v1/messages/count_tokens", {"messages": []}),
        Options("/models", {}),
        Options("/responses/resp_1/cancel", {}),
    ],
)
def test_what_is_no_model_call_goes_through_and_is_not_counted(
    openai_sdk: Any, make: Make, options: Options
) -> None:
    client = guard_client(openai_sdk.Client({"usage": {"input_tokens": 7}}))
    with make(max_api_calls=1) as monitor:
        monitor.record_operation(1, api_call=True)
        client.request(dict, options)
    assert counts(monitor) == (1, 0, 0, 1)


def test_every_client_of_the_process_is_guarded_those_made_before_too(
    openai_sdk: Any, make: Make
) -> None:
    client = openai_sdk.Client(chat(), chat())
    openai_sdk.install()
    openai_sdk.install()
    with make() as monitor:
        client.post(CHAT)
        guard_client(client).post(CHAT)  # by hand, too: it counts once
    assert counts(monitor) == (2, 0, 0, 220)


def test_a_call_that_fails_is_failed_and_a_cancelled_one_is_of_unknown_use(
    openai_sdk: Any, make: Make
) -> None:
    client = guard_client(openai_sdk.Client(ValueError("500"), KeyboardInterrupt()))
    with make() as monitor:
        with pytest.raises(ValueError, match="500"):
            client.post(CHAT, model="m")
        with pytest.raises(KeyboardInterrupt):
            client.post(CHAT, model="m")
    assert counts(monitor) == (2, 1, 1, 0)


# --- streams -------------------------------------------------------------------------------------
def chunk(**more: Any) -> Any:
    """Return a chunk of Chat Completions."""
    choice = SimpleNamespace(finish_reason=None)
    return SimpleNamespace(**{"id": "c", "model": "m", "choices": [choice], "usage": None} | more)


def last_chunk() -> Any:
    """Return the chunk with the usage."""
    usage = SimpleNamespace(prompt_tokens=100, completion_tokens=10)
    return chunk(choices=[], usage=usage)


def test_a_stream_stays_what_it_is_and_is_counted_at_its_end(openai_sdk: Any, make: Make) -> None:
    stream = Stream(chunk(), last_chunk())
    client = guard_client(openai_sdk.Client(stream))
    with make() as monitor:
        got = client.post(CHAT, stream=True)
        assert got is stream
        assert counts(monitor)[0] == 0
        assert len(list(got)) == 2
        assert counts(monitor) == (1, 0, 0, 110)


def test_a_stream_that_is_left_or_dropped_is_of_unknown_use_and_one_that_breaks_failed(
    openai_sdk: Any, make: Make
) -> None:
    broken = Stream(chunk(), ValueError("reset"))
    client = guard_client(openai_sdk.Client(Stream(chunk()), Stream(chunk()), broken))
    with make() as monitor:
        left = client.post(CHAT, stream=True)
        next(iter(left))
        left.close()
        assert counts(monitor) == (1, 0, 1, 0)
        client.post(CHAT, stream=True)
        gc.collect()
        assert counts(monitor) == (2, 0, 2, 0)
        with pytest.raises(ValueError, match="reset"):
            list(client.post(CHAT, stream=True))
    assert counts(monitor) == (3, 1, 2, 0)


def test_a_stream_that_is_left_after_its_usage_came_is_known(openai_sdk: Any, make: Make) -> None:
    stream = Stream(chunk(), last_chunk(), chunk())
    with make() as monitor:
        events = iter(guard_client(openai_sdk.Client(stream)).post(CHAT, stream=True))
        next(events), next(events)
        stream.close()
    assert counts(monitor) == (1, 0, 0, 110)


def test_anthropics_events_are_put_together_by_their_last_word(
    anthropic_sdk: Any, make: Make
) -> None:
    begun = {"id": unique(), "model": "claude-sonnet-4-5", "usage": {
        "input_tokens": 30, "cache_read_input_tokens": 60, "cache_creation_input_tokens": 10,
        "output_tokens": 1}}  # fmt: skip
    events = [
        {"type": "message_start", "message": begun},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "hi"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"},
         "usage": {"output_tokens": 10}},
        {"type": "message_stop"},
    ]  # fmt: skip

    async def read(client: Any) -> None:
        async for _ in await client.post(MESSAGES, model="m", messages=[]):
            pass

    with make() as monitor:
        asyncio.run(read(guard_client(anthropic_sdk.AsyncClient(AsyncStream(*events)))))
    assert counts(monitor) == (1, 0, 0, 110)
    assert parts(monitor) == (60, 10, 0)


def test_a_stream_of_responses_is_counted_by_its_last_event(openai_sdk: Any, make: Make) -> None:
    usage = {"input_tokens": 100, "output_tokens": 10}
    done = {"type": "response.completed", "response": {"id": unique(), "usage": usage}}
    client = guard_client(openai_sdk.Client(Stream({"type": "response.created"}, done)))
    with make() as monitor:
        list(client.post("/responses", stream=True))
    assert counts(monitor) == (1, 0, 0, 110)


# --- raw answers ---------------------------------------------------------------------------------
def test_a_raw_answer_is_counted_when_it_is_read_and_is_unknown_when_it_is_not(
    openai_sdk: Any, make: Make
) -> None:
    client = guard_client(openai_sdk.Client(raw(chat()), raw(chat())))
    with make() as monitor:
        read, left = client.post(CHAT), client.post(CHAT)
        assert json.loads(read.http_response.read())["model"] == "gpt-4o"
        assert counts(monitor) == (1, 0, 0, 110)
        left.http_response.close()
    assert counts(monitor) == (2, 0, 1, 110)


def test_server_sent_events_that_the_application_reads_itself_are_seen(
    openai_sdk: Any, make: Make
) -> None:
    """Wherever the pieces of the body are cut."""
    lines = b"data: " + json.dumps(chat(choices=[])).encode() + b"\n\ndata: [DONE]\n\n"
    body = HttpResponse(lines[:40], lines[40:], kind="text/event-stream; charset=utf-8")
    answer = SimpleNamespace(http_response=body)

    async def read(client: Any) -> bytes:
        response = (await client.post(CHAT, stream=True)).http_response
        return b"".join([piece async for piece in response.aiter_bytes()])

    with make() as monitor:
        assert asyncio.run(read(guard_client(openai_sdk.AsyncClient(answer)))) == lines
    assert counts(monitor) == (1, 0, 0, 110)


def test_an_answer_that_cannot_be_read_is_of_unknown_use(openai_sdk: Any, make: Make) -> None:
    odd = SimpleNamespace(http_response=HttpResponse(b"<html>"))
    client = guard_client(openai_sdk.Client("text", odd))
    with make() as monitor:
        assert client.post(CHAT) == "text"
        client.post(CHAT).http_response.read()
    assert counts(monitor) == (2, 0, 2, 0)


def test_an_answer_that_has_not_the_form_wanted_is_counted_all_the_same(
    openai_sdk: Any, make: Make
) -> None:
    """Else a loop that tries ``parse`` again and again would use nothing."""

    def parser(_: Any) -> Any:
        raise ValueError("another form")

    options = Options(CHAT, {"model": "gpt-4o"})
    options.post_parser = parser
    client = guard_client(openai_sdk.Client(chat()))
    other = guard_client(openai_sdk.AsyncClient(chat()))
    with make() as monitor:
        with pytest.raises(ValueError, match="another form"):
            client.request(dict, options)
        with pytest.raises(ValueError, match="another form"):
            asyncio.run(other.request(dict, options))
    assert counts(monitor) == (2, 0, 0, 220)
    assert options.post_parser is parser


# --- the door ------------------------------------------------------------------------------------
def test_what_is_no_client_is_refused(openai_sdk: Any) -> None:
    resource = type("Completions", (), {"__module__": "openai.resources.chat"})()
    for strange in (object(), "openai", resource):
        with pytest.raises(InvalidValueError, match="client"):
            guard_client(strange)
    with pytest.raises(InvalidValueError, match="on_stop"):
        guard_client(openai_sdk.Client(), on_stop="later")  # type: ignore[arg-type] # what is tried
