"""Applications that call LiteLLM's functions."""

import contextlib
import time
from typing import Any

import litellm
import openai
from opentelemetry import trace

from otel_budget import BudgetExceeded
from tests.libraries.drivers.scenario import BROKEN, BUSY, LONG, WITH_PARTS, Family
from tests.libraries.provider import Answer

MODEL = "openai/gpt-4o-mini"


class SpanCalls:
    """The arguments that lead to the provider."""

    def __init__(self, url: str, openai_url: str) -> None:
        """Remember the provider."""
        hello = [{"role": "user", "content": "hi"}]
        self.to: dict[str, Any] = {"api_key": "sk-fake", "api_base": openai_url}
        self.hello: dict[str, Any] = {
            "model": MODEL, "messages": hello, "max_retries": 2,
        } | self.to  # fmt: skip
        self.claude: dict[str, Any] = {
            "model": "anthropic/claude-sonnet-4-5", "messages": hello, "max_tokens": 64,
            "api_key": "sk-fake", "api_base": url,
        }  # fmt: skip


FAMILY = Family(SpanCalls, MODEL, calls_tools=False)


def one_call(calls: SpanCalls, model: str) -> None:
    """Call a model once."""
    litellm.completion(**calls.hello | {"model": model})


async def one_call_async(calls: SpanCalls, model: str) -> None:
    """Call a model once."""
    await litellm.acompletion(**calls.hello | {"model": model})


FAMILY.one_call, FAMILY.one_call_async = one_call, one_call_async


@FAMILY.scenario()
def completion(calls: SpanCalls) -> None:
    litellm.completion(**calls.hello)


@FAMILY.scenario()
async def completion_async(calls: SpanCalls) -> None:
    await litellm.acompletion(**calls.hello)


@FAMILY.scenario()
def one_completion_in_a_span_of_the_application(calls: SpanCalls) -> None:
    with trace.get_tracer("application").start_as_current_span("workflow"):
        litellm.completion(**calls.hello)


@FAMILY.scenario()
def two_completions_in_a_span_of_the_application(calls: SpanCalls) -> None:
    with trace.get_tracer("application").start_as_current_span("workflow"):
        litellm.completion(**calls.hello)
        litellm.completion(**calls.hello)


@FAMILY.scenario(WITH_PARTS)
def completion_with_parts(calls: SpanCalls) -> None:
    litellm.completion(**calls.hello | {"model": "openai/gpt-5-mini"})


@FAMILY.scenario()
def stream(calls: SpanCalls) -> None:
    options = {"include_usage": True}
    for _ in litellm.completion(**calls.hello, stream=True, stream_options=options):
        pass


@FAMILY.scenario()
async def stream_async(calls: SpanCalls) -> None:
    options = {"include_usage": True}
    async for _ in await litellm.acompletion(**calls.hello, stream=True, stream_options=options):
        pass


@FAMILY.scenario()
def stream_not_asked_for_usage(calls: SpanCalls) -> None:
    for _ in litellm.completion(**calls.hello, stream=True):
        pass


@FAMILY.scenario(LONG)
def stream_abandoned(calls: SpanCalls) -> None:
    options = {"include_usage": True}
    chunks = litellm.completion(**calls.hello, stream=True, stream_options=options)
    for _ in zip(chunks, range(3), strict=False):
        pass


@FAMILY.scenario(BUSY, Answer())
def busy_then_served(calls: SpanCalls) -> None:
    litellm.completion(**calls.hello)


@FAMILY.scenario(BROKEN, BROKEN, BROKEN, failed=1)
def broken_until_the_sdk_gives_up(calls: SpanCalls) -> None:
    with contextlib.suppress(openai.APIError):
        litellm.completion(**calls.hello)


@FAMILY.scenario(BROKEN, Answer(), failed=1)
def another_model_after_a_failure(calls: SpanCalls) -> None:
    once = calls.hello | {"max_retries": 0}
    litellm.completion(**once, fallbacks=[once | {"model": "openai/gpt-4o"}])


@FAMILY.scenario(BROKEN, Answer(), failed=1)
def router_tries_again(calls: SpanCalls) -> None:
    given = {"model": MODEL, "max_retries": 0} | calls.to
    models = [{"model_name": "m", "litellm_params": given}]
    router = litellm.Router(model_list=models, num_retries=2, retry_after=0)
    router.completion(model="m", messages=calls.hello["messages"])


@FAMILY.scenario()
def answered_from_its_own_cache(calls: SpanCalls) -> None:
    litellm.cache = litellm.Cache(type="local")
    try:
        litellm.completion(**calls.hello, caching=True)
        litellm.completion(**calls.hello, caching=True)
    finally:
        litellm.cache = None


@FAMILY.scenario(WITH_PARTS)
def responses(calls: SpanCalls) -> None:
    litellm.responses(model="openai/gpt-5-mini", input="hi", **calls.to)


@FAMILY.scenario(WITH_PARTS)
def completion_on_anthropic(calls: SpanCalls) -> None:
    litellm.completion(**calls.claude)


@FAMILY.scenario(WITH_PARTS)
def stream_on_anthropic(calls: SpanCalls) -> None:
    for _ in litellm.completion(**calls.claude, stream=True):
        pass


@FAMILY.scenario()
def batch_of_three(calls: SpanCalls) -> None:
    litellm.batch_completion(model=MODEL, messages=[calls.hello["messages"]] * 3, **calls.to)


@FAMILY.scenario()
async def router_without_await_in_an_event_loop(calls: SpanCalls) -> None:
    router_of(calls).completion(model="m", messages=calls.hello["messages"])


@FAMILY.scenario()
def embeddings(calls: SpanCalls) -> None:
    litellm.embedding(model="openai/text-embedding-3-small", input=["a"], **calls.to)


def router_of(calls: SpanCalls) -> Any:
    """Return a router to two deployments of one model, which tries again at length."""
    given = {"model": MODEL, "max_retries": 0} | calls.to
    models = [{"model_name": name, "litellm_params": given} for name in ("m", "n")]
    return litellm.Router(model_list=models, num_retries=3, fallbacks=[{"m": ["n"]}])


@FAMILY.stops
def router_that_is_stopped_at_once(calls: SpanCalls) -> None:
    router = router_of(calls)
    for _ in range(3):
        router.completion(model="m", messages=calls.hello["messages"])
    began = time.monotonic()
    with contextlib.suppress(BudgetExceeded):
        router.completion(model="m", messages=calls.hello["messages"])
        raise AssertionError("no call was refused")
    assert time.monotonic() - began < 2, "the router tried again"


@FAMILY.stops
async def router_that_is_stopped_at_once_async(calls: SpanCalls) -> None:
    router = router_of(calls)
    for _ in range(3):
        await router.acompletion(model="m", messages=calls.hello["messages"])
    began = time.monotonic()
    with contextlib.suppress(BudgetExceeded):
        await router.acompletion(model="m", messages=calls.hello["messages"])
        raise AssertionError("no call was refused")
    assert time.monotonic() - began < 2, "the router tried again"
