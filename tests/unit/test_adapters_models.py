"""The adapters for Pydantic AI and OpenAI Agents: models around models, over stand-ins."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from otel_budget import BudgetExceeded
from tests.monitors import Make
from tests.stand_ins import Fallback, Model, counts, parts, unique


# --- Pydantic AI ---------------------------------------------------------------------------------
def response(state: str = "complete") -> Any:
    """Return a response of Pydantic AI."""
    usage = SimpleNamespace(
        input_tokens=100, output_tokens=10, cache_read_tokens=60, cache_write_tokens=10,
        output_reasoning_tokens=4,
    )  # fmt: skip
    return SimpleNamespace(
        usage=usage, state=state, model_name="m", provider_name="openai",
        provider_response_id=unique(),
    )  # fmt: skip


def test_pydantic_ais_requests_count_and_are_not_made_when_they_may_not(
    pydantic_ai: Any, make: Make
) -> None:
    inner = Model(response(), ValueError("broken"), response())
    model = pydantic_ai.budgeted(inner)
    with make(max_api_calls=2) as monitor:
        asyncio.run(model.request())
        with pytest.raises(ValueError, match="broken"):
            asyncio.run(model.request())
        with pytest.raises(BudgetExceeded):
            asyncio.run(model.request())
        with pytest.raises(BudgetExceeded):
            asyncio.run(model.request_stream().__aenter__())
    assert inner.asked == 2
    assert counts(monitor) == (2, 1, 0, 110)
    assert parts(monitor) == (60, 10, 4)


def test_a_stream_of_pydantic_ai_counts_when_it_is_left(pydantic_ai: Any, make: Make) -> None:
    model = pydantic_ai.budgeted(Model(response(), response("incomplete")))

    async def read() -> None:
        async with model.request_stream():
            pass

    with make() as monitor:
        asyncio.run(read())
        assert counts(monitor) == (1, 0, 0, 110)
        asyncio.run(read())
    assert counts(monitor) == (2, 0, 1, 210)  # the input is known


@pytest.mark.parametrize("details", [{"reasoning_tokens": 4}, {"thinking_tokens": 4}])
def test_version_1_of_pydantic_ai_has_reasoning_among_the_details(
    pydantic_ai: Any, make: Make, details: dict[str, int]
) -> None:
    answer = response()
    del answer.usage.output_reasoning_tokens, answer.state
    answer.usage.details = details
    with make() as monitor:
        asyncio.run(pydantic_ai.budgeted(Model(answer)).request())
    assert counts(monitor) == (1, 0, 0, 110)
    assert parts(monitor) == (60, 10, 4)


def test_what_a_model_of_ones_own_returns_never_raises_in_the_adapter(
    pydantic_ai: Any, make: Make
) -> None:
    model = pydantic_ai.budgeted(Model("a text", None))

    async def read() -> None:
        async with model.request_stream():
            pass

    with make() as monitor:
        assert asyncio.run(model.request()) == "a text"
        asyncio.run(read())
    assert counts(monitor) == (2, 0, 2, 0)


def test_every_model_of_a_fallback_is_counted(pydantic_ai: Any) -> None:
    several = Fallback(Model(), Model())
    wrapped = pydantic_ai.budgeted(several)
    assert all(isinstance(each, pydantic_ai.BudgetModel) for each in wrapped.models)
    assert not any(isinstance(each, pydantic_ai.BudgetModel) for each in several.models)


# --- OpenAI Agents -------------------------------------------------------------------------------
def used() -> Any:
    """Return a usage of the Agents SDK."""
    details = SimpleNamespace(reasoning_tokens=4)
    return SimpleNamespace(
        input_tokens=100, output_tokens=10,
        input_tokens_details=SimpleNamespace(cached_tokens=60, cache_write_tokens=10),
        output_tokens_details=details,
    )  # fmt: skip


def event(kind: str, usage: Any) -> Any:
    """Return an event of a stream."""
    return SimpleNamespace(type=kind, response=SimpleNamespace(usage=usage, id=unique()))


def test_calls_of_openai_agents_count_and_are_not_made_when_they_may_not(
    openai_agents: Any, make: Make
) -> None:
    inner = Model(SimpleNamespace(usage=used(), response_id=None), ValueError("broken"))
    model = openai_agents.BudgetModel(inner)
    with make(max_api_calls=2) as monitor:
        asyncio.run(model.get_response())
        with pytest.raises(ValueError, match="broken"):
            asyncio.run(model.get_response())
        with pytest.raises(BudgetExceeded):
            asyncio.run(model.get_response())
        with pytest.raises(BudgetExceeded):
            asyncio.run(anext(model.stream_response()))
    assert inner.asked == 2
    assert counts(monitor) == (2, 1, 0, 110)
    assert parts(monitor) == (60, 10, 4)


def test_a_stream_of_openai_agents_counts_however_it_ends(openai_agents: Any, make: Make) -> None:
    created = SimpleNamespace(type="response.created")
    done = event("response.completed", used())
    streams = ([created, done], [created, ValueError("cut")], [created, created],
               [event("response.failed", None)])  # fmt: skip
    model = openai_agents.BudgetModel(Model(*streams))

    async def read() -> None:
        async for _ in model.stream_response():
            pass

    async def leave() -> None:
        stream = model.stream_response()
        await anext(stream)
        await stream.aclose()

    with make() as monitor:
        asyncio.run(read())
        assert counts(monitor) == (1, 0, 0, 110)
        with pytest.raises(ValueError, match="cut"):
            asyncio.run(read())
        assert counts(monitor) == (2, 1, 0, 110)
        asyncio.run(leave())
        assert counts(monitor) == (3, 1, 1, 110)
        asyncio.run(read())
    assert counts(monitor) == (4, 2, 1, 110)


def test_the_models_of_a_provider_are_counted(openai_agents: Any, make: Make) -> None:
    with make() as monitor:
        asyncio.run(openai_agents.BudgetModelProvider().get_model("gpt-5").get_response())
    assert counts(monitor) == (1, 0, 1, 0)
