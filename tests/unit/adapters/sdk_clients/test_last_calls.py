"""The last call of a guarded client: without tools, marked, once; and what is said before it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from otel_budget import BudgetExceeded, guard_client
from otel_budget.core.reasons import Reason
from tests.support.monitors import Make
from tests.support.sdk_stand_ins import AsyncStream, Stream
from tests.support.stand_ins import counts, unique

CHAT = "/chat/completions"
ASKED = [{"role": "user", "content": "hi"}]
REQUEST: dict[str, Any] = {"messages": ASKED, "tools": [{"name": "f"}], "tool_choice": "auto"}


class Answer(SimpleNamespace):
    """An answer of an SDK: it takes attributes."""


def answer() -> Answer:
    """Return an answer of Chat Completions."""
    usage = SimpleNamespace(prompt_tokens=100, completion_tokens=10)
    return Answer(id=unique(), model="gpt-4o", usage=usage)


def test_the_first_call_after_a_graceful_stop_is_the_last_one_and_the_next_is_refused(
    openai_sdk: Any, make: Make
) -> None:
    client = openai_sdk.Client(*[answer() for _ in range(5)])
    guard_client(client, on_stop="wrap_up", instruction="Answer now.")
    with make(max_api_calls=3, wrap_up_calls=1) as monitor:
        answers = [client.post(CHAT, **REQUEST) for _ in range(3)]
        with pytest.raises(BudgetExceeded) as refused:
            client.post(CHAT, **REQUEST)
    marks = [openai_sdk.cut_short(each) for each in answers]
    assert marks[:2] == [None, None]
    assert (marks[2].session_id, marks[2].reason) == (monitor.session_id, "wrap_up")
    assert client.sent[1] == REQUEST
    assert client.sent[2] == {"messages": [*ASKED, {"role": "user", "content": "Answer now."}]}
    assert refused.value.finished == ASKED
    assert counts(monitor) == (3, 0, 0, 330)


def test_a_run_that_wrapped_up_with_room_to_spare_has_no_second_last_call(
    openai_sdk: Any, make: Make
) -> None:
    client = guard_client(openai_sdk.Client(*[answer() for _ in range(9)]), on_stop="wrap_up")
    with make(max_api_calls=9, wrap_up_calls=4):
        for _ in range(6):
            client.post(CHAT, **REQUEST)
        with pytest.raises(BudgetExceeded) as refused:
            client.post(CHAT, **REQUEST)
    assert refused.value.verdict.reason is Reason.WRAP_UP
    assert len(client.sent) == 6


def test_a_run_that_is_given_more_goes_on_and_has_another_last_call(
    openai_sdk: Any, make: Make
) -> None:
    client = guard_client(openai_sdk.Client(*[answer() for _ in range(9)]), on_stop="wrap_up")
    with make(max_api_calls=2, wrap_up_calls=1) as monitor:
        first = [client.post(CHAT, **REQUEST) for _ in range(2)]
        monitor.update_limits(max_api_calls=4)
        more = [client.post(CHAT, **REQUEST) for _ in range(2)]
    marked = [openai_sdk.cut_short(each) is not None for each in (*first, *more)]
    assert marked == [False, True, False, True]


def test_without_being_told_a_stop_is_raised_and_so_it_is_where_nothing_is_left(
    openai_sdk: Any, make: Make
) -> None:
    plain = guard_client(openai_sdk.Client(*[answer() for _ in range(3)]))
    wrapping = guard_client(openai_sdk.Client(answer()), on_stop="wrap_up")
    with make(max_api_calls=3, wrap_up_calls=1):
        plain.post(CHAT, **REQUEST)
        plain.post(CHAT, **REQUEST)
        with pytest.raises(BudgetExceeded, match="last calls"):
            plain.post(CHAT, **REQUEST)
    with make(max_api_calls=1) as monitor:
        monitor.record_operation(1, api_call=True)
        with pytest.raises(BudgetExceeded):
            wrapping.post(CHAT, **REQUEST)
    assert (len(plain.sent), wrapping.sent) == (2, [])


def test_embeddings_are_never_a_last_call_and_leave_it_to_one_that_answers(
    openai_sdk: Any, make: Make
) -> None:
    client = guard_client(openai_sdk.Client(*[answer() for _ in range(9)]), on_stop="wrap_up")
    with make(max_api_calls=2, wrap_up_calls=1):
        client.post(CHAT, **REQUEST)
        with pytest.raises(BudgetExceeded):
            client.post("/embeddings", input=["hi"])
        assert openai_sdk.cut_short(client.post(CHAT, **REQUEST)) is not None


def test_the_last_call_of_a_run_that_fails_is_its_last_all_the_same(
    openai_sdk: Any, make: Make
) -> None:
    answers = [answer(), ValueError("500"), answer()]
    client = guard_client(openai_sdk.Client(*answers), on_stop="wrap_up")
    with make(max_api_calls=3, wrap_up_calls=2) as monitor:
        client.post(CHAT, **REQUEST)
        with pytest.raises(ValueError, match="500"):
            client.post(CHAT, **REQUEST)
        with pytest.raises(BudgetExceeded):
            client.post(CHAT, **REQUEST)
    assert counts(monitor) == (2, 1, 0, 110)


def chunk(**more: Any) -> Any:
    """Return a chunk of a stream."""
    return SimpleNamespace(**{"id": "c", "model": "m", "choices": [], "usage": None} | more)


def test_a_streams_last_call_goes_on_until_it_is_read_and_its_pieces_are_marked(
    openai_sdk: Any, make: Make
) -> None:
    """The model's last words are read inside of what is allowed; whoever asks meanwhile may."""
    last = chunk(usage=SimpleNamespace(prompt_tokens=100, completion_tokens=10))
    client = guard_client(openai_sdk.Client(answer(), Stream(chunk(), last)), on_stop="wrap_up")
    with make(max_api_calls=2, wrap_up_calls=1) as monitor:
        client.post(CHAT, **REQUEST)
        assert not monitor.should_continue()
        stream = client.post(CHAT, **REQUEST, stream=True)
        assert monitor.should_continue()
        pieces = list(stream)
        assert not monitor.should_continue()
    assert all(openai_sdk.cut_short(each) for each in (stream, *pieces))
    assert counts(monitor) == (2, 0, 0, 220)


def test_a_coroutine_ends_in_the_same_way_also_if_each_call_is_a_task(
    anthropic_sdk: Any, make: Make
) -> None:
    begun = Answer(id="m", model="m", usage={"input_tokens": 100, "output_tokens": 1})
    events = [
        SimpleNamespace(type="message_start", message=begun),
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"},
         "usage": {"output_tokens": 10}},
    ]  # fmt: skip
    client = guard_client(
        anthropic_sdk.AsyncClient(answer(), AsyncStream(*events)), on_stop="wrap_up"
    )

    async def loop() -> Any:
        await client.post("/v1/messages", **REQUEST)
        return [e async for e in await asyncio.wait_for(client.post("/v1/messages", **REQUEST), 9)]

    with make(max_api_calls=2, wrap_up_calls=1) as monitor:
        pieces = asyncio.run(loop())
        assert not monitor.should_continue()
    assert anthropic_sdk.cut_short(pieces[0]) is not None
    assert anthropic_sdk.cut_short(begun) is not None
    assert counts(monitor) == (2, 0, 0, 220)


def test_each_request_says_what_is_left_and_the_applications_messages_stay_as_they_are(
    openai_sdk: Any, make: Make
) -> None:
    client = guard_client(openai_sdk.Client(answer()), brief=True)
    messages = list(ASKED)
    with make(max_api_calls=7) as monitor:
        client.post(CHAT, messages=messages)
        said = str(monitor.briefing())
    assert messages == ASKED
    assert client.sent[0]["messages"][:1] == ASKED
    assert client.sent[0]["messages"][1]["role"] == "user"
    assert "7" in client.sent[0]["messages"][1]["content"]
    assert said


def test_progress_is_taken_from_each_request(openai_sdk: Any, make: Make) -> None:
    """So near a limit a run that would not finish is stopped in time."""
    client = guard_client(
        openai_sdk.Client(*[answer() for _ in range(9)]), on_stop="wrap_up",
        progress=lambda body: len(body["messages"]) / 10,
    )  # fmt: skip
    with make(max_api_calls=10) as monitor:
        for _ in range(8):
            monitor.record_operation(1, api_call=True)
        last = client.post(CHAT, **REQUEST)
    mark = openai_sdk.cut_short(last)
    assert mark is not None
    assert mark.reason == "approaching_limit"


def test_what_another_adapter_has_asked_for_goes_through_and_counts_there(
    openai_sdk: Any, litellm: Any, make: Make
) -> None:
    """LiteLLM calls these SDKs: it ends the run, and the client inside does not."""
    client = openai_sdk.Client(*[answer() for _ in range(3)])
    openai_sdk.install(on_stop="wrap_up")

    def completion(model: str, messages: list[Any], **more: Any) -> Any:
        return client.post(CHAT, messages=messages, **more)

    call = litellm.budgeted(completion, on_stop="wrap_up", instruction="Answer now.")
    with make(max_api_calls=2, wrap_up_calls=1) as monitor:
        call("m", ASKED, tools=[1])
        last = call("m", messages=ASKED, tools=[1])
        with pytest.raises(litellm.StoppedByBudget) as refused:
            call("m", ASKED)
    assert litellm.cut_short(last) is not None
    assert refused.value.finished == ASKED
    assert [each.get("tools") for each in client.sent] == [[1], None]
    assert client.sent[1]["messages"][-1]["content"] == "Answer now."
    assert counts(monitor) == (2, 0, 0, 220)
