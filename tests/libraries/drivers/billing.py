"""What real libraries make of what a provider bills: one line of JSON for each case they know.

Run in an environment of the live tests: ``python -m tests.libraries.drivers.billing LIBRARY``. The
provider is a server on the loopback interface that answers with the usage it was told.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from otel_budget import ResourceLimits, ResourceMonitor

PLAIN = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
#: Case to the usage of the answer, and what else is said.
CASES: dict[str, dict[str, Any]] = {
    "charged": {"usage": PLAIN | {"cost": 0.0421, "is_byok": False}},
    "charged_nothing": {"usage": PLAIN | {"cost": 0, "is_byok": False}},
    "details_null": {
        "usage": PLAIN | {"prompt_tokens_details": None, "completion_tokens_details": None}
    },
    "flex": {"usage": PLAIN, "service_tier": "flex"},
    "standard": {"usage": PLAIN, "service_tier": "default"},
    "repeated": {"usage": PLAIN, "repeated": True},
}
MODEL = "gpt-5-mini"


class Provider(BaseHTTPRequestHandler):
    """Answers Chat Completions, streamed or not; the case is the first part of the path."""

    def do_POST(self) -> None:
        """Answer."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        case = CASES[self.path.split("/")[1]]
        same = {"id": "chatcmpl-of-billing", "created": 1, "model": asked["model"]}
        same["provider"] = "a host"  # as OpenRouter has it
        if "service_tier" in case:
            same["service_tier"] = case["service_tier"]
        if not asked.get("stream"):
            message = {"role": "assistant", "content": "ok"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            whole = {**same, "object": "chat.completion", "usage": case["usage"]}
            self._send("application/json", json.dumps(whole | {"choices": [choice]}))
            return
        events = "".join(f"data: {json.dumps(each)}\n\n" for each in _chunks(same, case))
        self._send("text/event-stream", events + "data: [DONE]\n\n")

    def _send(self, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _chunks(same: dict[str, Any], case: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield an answer in ten pieces, with the usage at the end, or so far with each of them."""
    usage = case["usage"]
    for tenth in range(10):
        delta = {"role": "assistant", "content": "x"}
        choices = [{"index": 0, "delta": delta}]
        chunk = {**same, "object": "chat.completion.chunk", "choices": choices}
        if case.get("repeated"):
            out = usage["completion_tokens"] * tenth // 10
            chunk["usage"] = usage | {"completion_tokens": out, "total_tokens": 1000 + out}
        yield chunk
    done = [{"index": 0, "delta": {}, "finish_reason": "stop"}]
    yield {**same, "object": "chat.completion.chunk", "choices": done}
    yield {**same, "object": "chat.completion.chunk", "choices": [], "usage": usage}


def langchain(base: str, *, stream: bool) -> None:
    """LangChain's package for OpenAI's API."""
    from langchain_openai import ChatOpenAI

    from otel_budget.adapters.langchain import BudgetCallbackHandler

    model = ChatOpenAI(model=MODEL, base_url=base, api_key="x", stream_usage=True)
    handlers = {"callbacks": [BudgetCallbackHandler()]}
    if stream:
        list(model.stream("hi", handlers))
    else:
        model.invoke("hi", handlers)


def litellm(base: str, *, stream: bool) -> None:
    """LiteLLM, through its provider for OpenRouter; that one for OpenAI keeps the service tier."""
    from litellm import completion

    from otel_budget.adapters.litellm import budgeted

    more: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
    of_openai = "service_tier" in CASES[base.rpartition("/")[2]]
    model = f"openai/{MODEL}" if of_openai else f"openrouter/openai/{MODEL}"
    answer = budgeted(completion)(
        model=model, api_base=base, api_key="x",
        messages=[{"role": "user", "content": "hi"}], **more if stream else {},
    )  # fmt: skip
    if stream:
        list(answer)


def pydantic_ai(base: str, *, stream: bool) -> None:
    """Pydantic AI, through its model for OpenRouter; with service tiers through OpenAI's."""
    import openai
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.models.openrouter import OpenRouterModel
    from pydantic_ai.providers.openai import OpenAIProvider
    from pydantic_ai.providers.openrouter import OpenRouterProvider

    from otel_budget.adapters.pydantic_ai import budgeted

    async def ask() -> None:
        async with openai.AsyncOpenAI(base_url=base, api_key="x") as client:
            model: Any
            if "service_tier" in CASES[base.rpartition("/")[2]]:
                model = OpenAIChatModel(MODEL, provider=OpenAIProvider(openai_client=client))
            else:
                provider = OpenRouterProvider(openai_client=client)
                model = OpenRouterModel(f"openai/{MODEL}", provider=provider)
            agent = Agent(budgeted(model))
            if not stream:
                await agent.run("hi")
                return
            async with agent.run_stream("hi") as answer:
                async for _ in answer.stream_text():
                    pass

    asyncio.run(ask())


def openai_sdk(base: str, *, stream: bool) -> None:
    """OpenAI's SDK, recorded by hand."""
    import openai

    from otel_budget import usage_of

    monitor = RUNNING[0]
    with openai.OpenAI(base_url=base, api_key="x") as client:
        messages: Any = [{"role": "user", "content": "hi"}]
        if stream:
            options: Any = {"stream": True, "stream_options": {"include_usage": True}}
            *_, answer = client.chat.completions.create(model=MODEL, messages=messages, **options)
        else:
            answer = client.chat.completions.create(model=MODEL, messages=messages)
    monitor.record_operation(api_call=True, provider="openai", **usage_of(answer))


LIBRARIES: dict[str, Callable[..., None]] = {
    "langchain": langchain,
    "litellm": litellm,
    "pydantic_ai": pydantic_ai,
    "openai_sdk": openai_sdk,
}
#: The monitor of the case that runs.
RUNNING: list[ResourceMonitor] = []


@contextmanager
def served() -> Iterator[str]:
    """Serve; yields the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def main(library: str) -> None:
    """Run the cases of a library, plain and streamed."""
    with served() as address:
        for case in CASES:
            for stream in (False, True):
                limits = ResourceLimits(max_cost_usd=Decimal(10))
                with ResourceMonitor(limits, f"{case}-{stream}") as monitor:
                    RUNNING[:] = [monitor]
                    LIBRARIES[library](f"{address}/{case}", stream=stream)
                    used = monitor.get_usage_report()
                counts = (used.api_calls, used.input_tokens, used.output_tokens)
                money = (str(used.cost_usd.normalize()), used.unpriced_calls)
                print(json.dumps([case, stream, counts, money]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
