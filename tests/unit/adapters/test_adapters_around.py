"""What is taken for a part of an adapter's call, and what for a call of its own."""

import asyncio
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider

from otel_budget import BudgetExceeded, ResourceMonitor
from otel_budget.genai.reported_call import ReportedCall
from tests.support.monitors import Make
from tests.support.spans import CHAT, OPENAI, Call, calls_of, end, usage
from tests.support.stand_ins import Model, counts, parts, unique

#: Nothing in it links it to another record of the call: many models have no response ids.
WITHOUT_ID = {"input_tokens": 100, "output_tokens": 10}


def result(said: Any = None, **about: Any) -> Any:
    """Return a result of LangChain with one message."""
    message = SimpleNamespace(usage_metadata=said, response_metadata=about, id="lc_run--1")
    return SimpleNamespace(generations=[[SimpleNamespace(message=message)]], llm_output=None)


def test_prompts_that_begin_together_are_calls_beside_each_other(
    langchain: Any, make: Make
) -> None:
    handler = langchain.BudgetCallbackHandler()
    ids = [uuid.uuid4() for _ in range(3)]
    with make() as monitor:
        for run_id in ids:
            handler.on_chat_model_start({}, [[]], run_id=run_id, batch_size=3)
        for run_id in ids:
            handler.on_llm_end(result(WITHOUT_ID), run_id=run_id)
    assert counts(monitor) == (3, 0, 0, 330)


def test_a_model_that_calls_another_one_to_answer_is_one_call(langchain: Any, make: Make) -> None:
    handler = langchain.BudgetCallbackHandler()
    outer, inner = uuid.uuid4(), uuid.uuid4()
    with make() as monitor:
        for run_id in (outer, inner):
            handler.on_chat_model_start({}, [[]], run_id=run_id, batch_size=1)
        for run_id in (inner, outer):
            handler.on_llm_end(result(WITHOUT_ID), run_id=run_id)
    assert counts(monitor) == (1, 0, 0, 110)


@pytest.mark.parametrize("event", ["on_llm_new_token", "on_stream_event"])
def test_a_call_made_while_reading_a_stream_is_another_one_wherever_the_stream_comes_from(
    langchain: Any, make: Make, event: str
) -> None:
    handler = langchain.BudgetCallbackHandler()
    stream, other = uuid.uuid4(), uuid.uuid4()

    async def tell(*what: Any) -> None:
        getattr(handler, event)(*what, run_id=stream)

    async def main() -> None:
        handler.on_chat_model_start({}, [[]], run_id=stream, batch_size=1)
        await asyncio.create_task(tell("a"))  # another context, as of LangChain's own tasks
        handler.on_chat_model_start({}, [[]], run_id=other, batch_size=1)
        for run_id in (other, stream):
            handler.on_llm_end(result(WITHOUT_ID), run_id=run_id)

    with make() as monitor:
        asyncio.run(main())
    assert counts(monitor) == (2, 0, 0, 220)


@pytest.mark.parametrize(
    "broken", ["many", ["x"], {"input_token_details": 7}, {"input_tokens": {}}]
)
def test_what_an_integration_of_langchain_puts_into_its_usage_never_raises(
    langchain: Any, make: Make, broken: Any
) -> None:
    handler = langchain.BudgetCallbackHandler()
    run_id = uuid.uuid4()
    with make() as monitor:
        handler.on_chat_model_start({}, [[]], run_id=run_id, metadata=broken)
        handler.on_llm_end(result(broken, token_usage=broken, id=broken), run_id=run_id)
    assert counts(monitor) == (1, 0, 1, 0)


def test_a_call_that_fails_has_the_model_that_was_asked_for(langchain: Any, make: Make) -> None:
    handler = langchain.BudgetCallbackHandler()
    run_id = uuid.uuid4()
    with make() as monitor:
        params = {"model": "asked-for"}
        handler.on_chat_model_start({}, [[]], run_id=run_id, invocation_params=params)
        handler.on_llm_error(ValueError(), run_id=run_id)
    assert {model for _, model in monitor._record.counters_by_phase} >= {"asked-for"}


def test_a_span_inside_a_call_belongs_to_the_run_that_was_named_for_the_call(
    make: Make, provider: TracerProvider, call: Call
) -> None:
    named: ResourceMonitor = make()
    with make() as around:
        reported = ReportedCall("otel_budget.langchain", named)
        with reported.around():
            span = provider.get_tracer(OPENAI).start_span("chat m", attributes=CHAT)
            end(span, usage(id="inside-a-named-one"))  # type: ignore[arg-type] # the SDK's own
        reported.close(input=100, output=10, response_id="inside-a-named-one")
        call()
    assert (calls_of(named), calls_of(around)) == (1, 1)


@pytest.mark.parametrize("is_linked_by_id", [True, False])
def test_of_an_adapters_call_and_a_span_inside_the_adapter_is_believed(
    make: Make, provider: TracerProvider, *, is_linked_by_id: bool
) -> None:
    named = {"id": "said-by-both"} if is_linked_by_id else {}
    with make() as monitor:
        reported = ReportedCall("otel_budget.openai_agents", None)
        with reported.around():
            span = provider.get_tracer(OPENAI).start_span("chat m", attributes=CHAT)
            end(span, usage(**named))  # type: ignore[arg-type] # the SDK's own
        reported.close(input=100, output=10, cached=60, reasoning=4, response_id=named.get("id"))
    assert counts(monitor) == (1, 0, 0, 110)
    assert parts(monitor) == (60, 0, 4)


@pytest.mark.parametrize("said", [{"failed": True}, {}])
def test_what_a_span_inside_an_adapters_call_says_counts_if_the_adapter_says_nothing(
    make: Make, provider: TracerProvider, said: dict[str, Any]
) -> None:
    with make() as monitor:
        reported = ReportedCall("otel_budget.openai_agents", None)
        with reported.around():
            span = provider.get_tracer(OPENAI).start_span("chat m", attributes=CHAT)
            end(span, usage())  # type: ignore[arg-type] # the SDK's own
        reported.close(**said)
        report = monitor.get_usage_report()
    assert (report.api_calls, report.tokens) == (1, 110)


# --- OpenAI Agents -------------------------------------------------------------------------------
def test_the_agents_sdk_takes_a_refusal_for_an_error_of_its_own_and_fills_it(
    openai_agents: Any, make: Make
) -> None:
    model = Model()
    wrapped = openai_agents.BudgetModel(model, make(max_api_calls=0))
    with pytest.raises(sys.modules["agents.exceptions"].AgentsException) as caught:
        asyncio.run(wrapped.get_response())
    assert isinstance(caught.value, BudgetExceeded)
    assert caught.value.verdict.session_id
    assert not model.asked


class Events:
    """A stream that is no generator, and has nothing to close."""

    def __init__(self, *events: Any) -> None:
        """Hold what comes."""
        self._events = iter(events)

    def __aiter__(self) -> "Events":
        """Iterate."""
        return self

    async def __anext__(self) -> Any:
        """Return the next event."""
        try:
            return next(self._events)
        except StopIteration:
            raise StopAsyncIteration from None


def test_a_stream_of_the_agents_sdk_need_not_be_a_generator(openai_agents: Any, make: Make) -> None:
    said = SimpleNamespace(input_tokens=100, output_tokens=10)
    response = SimpleNamespace(id=unique(), usage=said)
    model = Model()
    vars(model)["stream_response"] = lambda: Events(
        SimpleNamespace(type="response.created"),
        SimpleNamespace(type="response.completed", response=response),
    )

    async def read() -> list[str]:
        return [event.type async for event in openai_agents.BudgetModel(model).stream_response()]

    with make() as monitor:
        assert asyncio.run(read()) == ["response.created", "response.completed"]
    assert counts(monitor) == (1, 0, 0, 110)


# --- LiteLLM -------------------------------------------------------------------------------------
def answer_of_litellm(**_: Any) -> Any:
    """Return an answer of LiteLLM."""
    used = SimpleNamespace(prompt_tokens=100, completion_tokens=10)
    return SimpleNamespace(usage=used, id=unique(), model="m")


def test_threads_of_litellms_batches_have_the_run_of_their_caller(litellm: Any, make: Make) -> None:
    given: list[dict[str, Any]] = []

    def completion(**kwargs: Any) -> Any:
        given.append(kwargs)
        return answer_of_litellm()

    wrapped = litellm.budgeted(completion)

    def batch(**kwargs: Any) -> Any:
        with ThreadPoolExecutor(2) as pool:
            return [pool.submit(wrapped, **kwargs).result() for _ in range(2)]

    with make() as outer, make() as inner:
        litellm.handing_on(batch)(model="m")
    assert (calls_of(outer), calls_of(inner)) == (0, 2)
    assert given == [{"model": "m"}] * 2  # nothing of ours gets to the provider


@pytest.mark.parametrize("in_a_loop", [True, False])
def test_a_coroutine_that_litellm_runs_in_another_thread_has_the_run_of_its_caller(
    litellm: Any, make: Make, *, in_a_loop: bool
) -> None:
    async def acompletion() -> Any:
        return answer_of_litellm()

    wrapped = litellm.budgeted(acompletion)
    run = litellm.in_callers_context(lambda function: asyncio.run(function()))

    async def in_a_notebook() -> None:
        run(async_function=wrapped)

    with make() as outer, make() as inner:
        asyncio.run(in_a_notebook()) if in_a_loop else run(wrapped)
    assert (calls_of(outer), calls_of(inner)) == (0, 1)
