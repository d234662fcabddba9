"""LiteLLM's functions at a graceful stop: one last call, of each kind of function."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.monitors import Make
from tests.support.stand_ins import counts, unique

ASKED = [{"role": "user", "content": "hi"}]


def answer() -> Any:
    """Return an answer of LiteLLM."""
    usage = SimpleNamespace(prompt_tokens=100, completion_tokens=10)
    return SimpleNamespace(id=unique(), model="m", usage=usage)


class Chunks:
    """A stream of LiteLLM."""

    def __init__(self) -> None:
        """Hold two chunks; the last one has the usage."""
        self._chunks = iter([SimpleNamespace(id="c", model="m"), answer()])

    def __iter__(self) -> Chunks:
        """Iterate."""
        return self

    def __next__(self) -> Any:
        """Return the next chunk."""
        return next(self._chunks)


def test_a_coroutine_has_its_last_call_and_then_is_stopped_for_good(
    litellm: Any, make: Make
) -> None:
    sent: list[dict[str, Any]] = []

    async def acompletion(model: str, messages: list[Any], **more: Any) -> Any:
        sent.append({"messages": messages, **more})
        return answer()

    call = litellm.budgeted(acompletion, on_stop="wrap_up", instruction="Answer now.")

    async def loop() -> list[Any]:
        answers = [await call("m", ASKED, tools=[1], tool_choice="auto") for _ in range(3)]
        with pytest.raises(litellm.StoppedByBudget) as refused:
            await call("m", ASKED)
        assert refused.value.finished == ASKED
        return answers

    with make(max_api_calls=3, wrap_up_calls=1) as monitor:
        answers = asyncio.run(loop())
    assert [litellm.cut_short(each) is not None for each in answers] == [False, False, True]
    assert sent[1] == {"messages": ASKED, "tools": [1], "tool_choice": "auto"}
    assert sent[2] == {"messages": [*ASKED, {"role": "user", "content": "Answer now."}]}
    assert counts(monitor) == (3, 0, 0, 330)


def test_a_stream_is_marked_in_each_chunk_and_responses_take_the_instruction(
    litellm: Any, make: Make
) -> None:
    sent: list[Any] = []

    def completion(model: str, messages: list[Any], **_: Any) -> Any:
        return Chunks()

    def responses(input: Any, model: str, **more: Any) -> Any:  # noqa: A002 - as LiteLLM names it
        sent.append((input, more))
        return answer()

    with make(max_api_calls=1, wrap_up_calls=1):
        chunks = list(litellm.budgeted(completion, on_stop="wrap_up")("m", ASKED, stream=True))
    with make(max_api_calls=1, wrap_up_calls=1):
        told = litellm.budgeted(responses, on_stop="wrap_up", instruction="Answer now.")
        assert litellm.cut_short(told("hi", "m", tools=[1], max_tool_calls=3)) is not None
    assert all(litellm.cut_short(each) for each in chunks)
    assert [item["content"] for item in sent[0][0]] == ["hi", "Answer now."]
    assert sent[0][1] == {}


def test_installed_again_it_does_as_it_is_told_last(litellm: Any, make: Make) -> None:
    functions = {name: lambda **_: answer() for name in litellm.FUNCTIONS}
    vars(litellm.litellm).update(functions)
    for name in litellm.BATCHES:
        setattr(litellm.litellm, name, lambda **_: None)
    litellm.asyncify = SimpleNamespace(run_async_function=lambda _: None)
    first, second = make(), make()
    litellm.install(first)
    wrapped = litellm.litellm.completion
    litellm.install(second)
    assert litellm.litellm.completion is wrapped
    wrapped(model="m")
    assert (counts(first)[0], counts(second)[0]) == (0, 1)


def test_models_of_bedrock_keep_their_tools_in_the_last_call(litellm: Any, make: Make) -> None:
    """LiteLLM refuses a conversation with calls of tools that comes without."""
    sent: list[Any] = []

    def completion(model: str, messages: list[Any], **more: Any) -> Any:
        sent.append((messages[-1]["content"], more))
        return answer()

    with make(max_api_calls=1, wrap_up_calls=1):
        call = litellm.budgeted(completion, on_stop="wrap_up", instruction="Answer now.")
        call("bedrock/anthropic.claude", ASKED, tools=[1])
    assert sent == [("Answer now.", {"tools": [1]})]


def test_a_call_that_is_a_part_of_another_one_is_told_once_and_ends_no_run_anew(
    litellm: Any, make: Make
) -> None:
    sent: list[list[Any]] = []

    def completion(model: str, messages: list[Any], **_: Any) -> Any:
        sent.append(messages)
        return answer()

    inner = litellm.budgeted(completion, on_stop="wrap_up", brief=True)

    def responses(input: list[Any], model: str) -> Any:  # noqa: A002 - as litellm has it
        return inner(model, input)

    call = litellm.budgeted(responses, on_stop="wrap_up", brief=True)
    with make(max_api_calls=4, wrap_up_calls=2):
        marks = [litellm.cut_short(call(ASKED, "m")) is not None for _ in range(3)]
        with pytest.raises(litellm.StoppedByBudget):
            call(ASKED, "m")
    assert marks == [False, False, True]
    assert [len(messages) for messages in sent] == [2, 2, 2]
