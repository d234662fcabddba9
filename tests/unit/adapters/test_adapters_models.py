"""The adapters for Pydantic AI and OpenAI Agents: models around models, over stand-ins."""

import asyncio
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from otel_budget import BudgetExceeded
from tests.support.monitors import Make
from tests.support.stand_ins import Fallback, Model, counts, parts, unique


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


@pytest.mark.parametrize(
    ("usage", "about", "wanted"),
    [
        ({"web_searches": 5}, {}, "0.5"),
        ({"details": {"web_search_requests": 5}}, {}, "0.5"),
        ({"cache_write_tokens": 50_000, "cache_write_1h_tokens": 20_000}, {}, "0.5325"),
        ({}, {"parts": [SimpleNamespace(part_kind="builtin-tool-call", tool_name="web_search")]},
         "0.46"),
        ({}, {"provider_details": {"service_tier": "batch"}}, "0.225"),
        ({}, {"provider_details": {"cost": 0.0421, "is_byok": False}}, "0.0421"),
        ({}, {"provider_details": {"cost": 0}}, "0"),
        ({}, {"provider_details": {"is_byok": False}}, "0"),  # it leaves out what is 0
        ({}, {"provider_details": {"is_byok": True, "upstream_inference_cost": 0.02}}, "0.02"),
        ({}, {"provider_details": {"server_tool_use": {"web_search_requests": 5}}}, "0.5"),
        ({"cost": Decimal("0.3")}, {}, "0.45"),  # worked out: ours goes before it
        ({"cost": Decimal("0.3")}, {"model_name": "nobody-knows-it"}, "0.3"),
    ],
)  # fmt: skip
def test_what_pydantic_ai_says_beside_plain_tokens_is_priced(
    pydantic_ai: Any, make: Make, usage: dict[str, Any], about: dict[str, Any], wanted: str
) -> None:
    said = response()
    plain: dict[str, Any] = {
        "input_tokens": 100_000, "output_tokens": 10_000, "cache_read_tokens": 0,
        "cache_write_tokens": 0, "output_reasoning_tokens": 0,
    }  # fmt: skip
    said.usage = SimpleNamespace(**plain | usage)
    vars(said).update({"model_name": "claude-sonnet-4-5", "provider_name": "anthropic"} | about)
    with make() as monitor:
        asyncio.run(pydantic_ai.budgeted(Model(said)).request())
    used = monitor.get_usage_report()
    assert (used.cost_usd, used.unpriced_calls) == (Decimal(wanted), 0)


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


def test_installed_models_of_openai_agents_are_counted_wherever_they_are_called(
    openai_agents: Any, make: Make
) -> None:
    """Without a run_config; once, too, where a BudgetModel is around one, and where it fails."""

    class Installed(Model):
        pass

    answer = SimpleNamespace(usage=used(), response_id=None)
    stream = [event("response.completed", used())]
    openai_agents.install(Installed)
    openai_agents.install(Installed)

    async def read(model: Any) -> None:
        async for _ in model.stream_response():
            pass

    def around(*answers: Any) -> Any:
        return openai_agents.BudgetModel(Installed(*answers))

    with make(max_api_calls=6) as monitor:
        asyncio.run(Installed(answer).get_response())
        assert counts(monitor) == (1, 0, 0, 110)
        asyncio.run(read(Installed(stream)))
        assert counts(monitor) == (2, 0, 0, 220)
        asyncio.run(around(answer).get_response())
        asyncio.run(read(around(stream)))
        assert counts(monitor) == (4, 0, 0, 440)
        for failing in (around(ValueError("broken")), Installed(ValueError("broken"))):
            with pytest.raises(ValueError, match="broken"):
                asyncio.run(failing.get_response())
        assert counts(monitor) == (6, 2, 0, 440)
        with pytest.raises(openai_agents.StoppedByBudget):
            asyncio.run(Installed(answer).get_response())
        with pytest.raises(openai_agents.StoppedByBudget):
            asyncio.run(read(Installed(stream)))
    assert counts(monitor) == (6, 2, 0, 440)


def test_the_models_of_a_provider_are_counted(openai_agents: Any, make: Make) -> None:
    with make() as monitor:
        asyncio.run(openai_agents.BudgetModelProvider().get_model("gpt-5").get_response())
    assert counts(monitor) == (1, 0, 1, 0)


def test_what_openai_agents_say_beside_plain_tokens_is_priced(
    openai_agents: Any, make: Make
) -> None:
    """Searches among the items, and the tier: asked for, and as a stream's answer says it."""
    items = [SimpleNamespace(type="web_search_call", action=SimpleNamespace(type="search"))]
    usage = SimpleNamespace(input_tokens=100_000, output_tokens=10_000)
    settings = SimpleNamespace(extra_args={"service_tier": "flex"}, extra_body=None)
    ended = SimpleNamespace(usage=usage, id=unique(), output=items, service_tier="priority")
    event = SimpleNamespace(type="response.completed", response=ended)
    answer = SimpleNamespace(response_id=unique(), usage=usage, output=items)

    async def both() -> None:
        inner = Model(answer, [event])
        inner.model = "gpt-5-mini"
        model = openai_agents.BudgetModel(inner)
        await model.get_response(None, "hi", settings)
        async for _ in model.stream_response(None, "hi", model_settings=settings):
            pass

    with make() as monitor:
        asyncio.run(both())
    wanted = Decimal("0.0225") + Decimal("0.081") + 2 * Decimal("0.01")
    used = monitor.get_usage_report()
    assert (used.cost_usd, used.unpriced_calls) == (wanted, 0)
