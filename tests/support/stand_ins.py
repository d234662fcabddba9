"""Stand-ins for the libraries of the adapters: as much of their protocols as the adapters use.

The libraries are not installed where the unit tests run; the live tests run the real ones. What
stands here is imported by an adapter in their place, in a copy of the adapter of its own.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, make_dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from otel_budget import ResourceMonitor


class Callbacks:
    """LangChain's manager of callbacks: asks the hooks, as ``configure`` does."""

    hooks: list[tuple[Any, Any]]

    def __init__(self, handlers: list[Any]) -> None:
        """Hold handlers."""
        self.handlers, self.inheritable_handlers = handlers, list(handlers)

    @classmethod
    def configure(cls, handlers: list[Any]) -> Callbacks:
        """Return a manager of these handlers, and of those of the hooks."""
        manager = cls(list(handlers))
        for variable, kind in cls.hooks:
            found = variable.get()
            if found is not None and not any(isinstance(each, kind) for each in manager.handlers):
                manager.handlers.append(found)
        return manager


class Message(SimpleNamespace):
    """A message of LangChain's: weak references to it are possible."""

    def model_copy(self, update: dict[str, Any]) -> Message:
        """Return another one with these fields."""
        return Message(**vars(self) | update)


class Text(SimpleNamespace):
    """A message of LangChain's that is made of a text."""

    def __init__(self, content: str, **more: Any) -> None:
        """Say something."""
        super().__init__(content=content, **more)


@dataclass
class Response:
    """What LangChain's agents get of a model."""

    result: list[Any]
    structured_response: Any = None


class ChatModel:
    """LangChain's base of chat models: asks its callbacks, as far as a model of a test does."""

    def __init__(self, callbacks: Any = None) -> None:
        """Ask this manager of callbacks."""
        self._callbacks, self.asked = callbacks, list[Any]()

    def _answer(self, messages: list[Any], kwargs: Any) -> Any:
        run_id = uuid.uuid4()
        handlers = self._callbacks.configure([]).handlers
        for each in handlers:
            each.on_chat_model_start({}, [messages], run_id=run_id)
        self.asked.append((messages, kwargs))
        usage = {"input_tokens": 9, "output_tokens": 1}
        message = Message(
            type="ai", content="said", usage_metadata=usage, response_metadata={}, tool_calls=[],
            id=unique(),
        )  # fmt: skip
        found = SimpleNamespace(generations=[[SimpleNamespace(message=message)]], llm_output=None)
        for each in handlers:
            each.on_llm_end(found, run_id=run_id)
        return found

    def generate(self, messages: list[list[Any]], **kwargs: Any) -> Any:
        """Answer."""
        return self._answer(messages[0], kwargs)

    async def agenerate(self, messages: list[list[Any]], **kwargs: Any) -> Any:
        """Answer."""
        return self._answer(messages[0], kwargs)

    def stream(self, asked: Any, **kwargs: Any) -> Iterator[Any]:
        """Answer in two pieces."""
        message = self._answer(asked, kwargs).generations[0][0].message
        yield Message(**vars(message))
        yield message

    async def astream(self, asked: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """Answer in two pieces."""
        for piece in self.stream.__wrapped__(self, asked, **kwargs):  # type: ignore[attr-defined]
            yield piece

    def _convert_input(self, asked: Any) -> Any:
        return SimpleNamespace(to_messages=lambda: [asked])


class Cached(ChatModel):
    """The same, as far as its cache goes."""

    def _convert_cached_generations(self, found: list[Any]) -> list[Any]:
        """Return what the cache had as LangChain does: messages anew, at no cost."""
        for each in found:
            usage = {**(each.message.usage_metadata or {}), "total_cost": 0}
            each.message = Message(**vars(each.message) | {"usage_metadata": usage})
        return found


class Model:
    """A model of Pydantic AI or of the Agents SDK: answers what it was given."""

    def __init__(self, *answers: Any) -> None:
        """Answer so, one after the other. An exception is raised."""
        self.answers, self.asked = list(answers), 0
        self.model, self.model_name, self.system = "gpt-5", "gpt-5", "openai"

    def answer(self) -> Any:
        """Return the next answer."""
        self.asked += 1
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def request(self, *_: Any, **__: Any) -> Any:
        """Do as Pydantic AI's models."""
        return self.answer()

    @asynccontextmanager
    async def request_stream(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        """Do as Pydantic AI's models."""
        answer = self.answer()
        yield SimpleNamespace(get=lambda: answer)

    async def get_response(self, *_: Any, **__: Any) -> Any:
        """Do as the Agents SDK's models."""
        return self.answer()

    async def stream_response(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        """Do as the Agents SDK's models."""
        for event in self.answer():
            if isinstance(event, BaseException):
                raise event
            yield event


class Wrapper(Model):
    """Pydantic AI's wrapper of a model."""

    def __init__(self, wrapped: Model) -> None:
        """Wrap."""
        super().__init__()
        self.wrapped = wrapped


class Fallback(Model):
    """Pydantic AI's model of several."""

    def __init__(self, *models: Model) -> None:
        """Hold models."""
        super().__init__()
        self.models = list(models)


@dataclass
class UserPromptPart:
    """Pydantic AI's part of a request that the user says."""

    content: str
    part_kind: str = "user-prompt"


@dataclass
class ToolReturnPart:
    """Pydantic AI's part of a request that a tool returned."""

    tool_name: str
    content: Any
    tool_call_id: str
    part_kind: str = "tool-return"


@dataclass
class ModelRequest:
    """Pydantic AI's request."""

    parts: list[Any]
    kind: str = "request"


@dataclass
class Parameters:
    """Pydantic AI's parameters of a request, as far as they have tools."""

    function_tools: list[Any] = field(default_factory=list)
    native_tools: list[Any] = field(default_factory=list)
    output_tools: list[Any] = field(default_factory=list)


#: Pydantic AI's context of an agent's run.
RUN_CONTEXT: ContextVar[Any] = ContextVar("stand_in_run_context", default=None)


class Provider:
    """The Agents SDK's provider of models."""

    def get_model(self, _name: str | None) -> Model:
        """Return a model that answers once."""
        return Model(SimpleNamespace(response_id="resp_of_provider", usage=None))


class Hooks:
    """The Agents SDK's hooks of a run: they hear of it, and do nothing."""

    async def on_agent_start(self, *about: Any) -> None:
        """Hear that an agent begins."""

    async def on_tool_start(self, *about: Any) -> None:
        """Hear that a tool is called."""

    async def on_tool_end(self, *about: Any) -> None:
        """Hear that it was; not of one that failed."""


class Runner:
    """The Agents SDK's runner: an "agent" is a function that does what the run does with hooks."""

    @classmethod
    async def run(cls, agent: Any, *, hooks: Any = None, **_: Any) -> Any:
        """Do as the SDK."""
        return await agent(hooks)

    @classmethod
    def run_sync(cls, agent: Any, *, hooks: Any = None, **_: Any) -> Any:
        """Do as the SDK."""
        return asyncio.run(agent(hooks))

    @classmethod
    def run_streamed(cls, agent: Any, *, hooks: Any = None, **_: Any) -> Any:
        """Do as the SDK: the run goes on in a task."""
        return SimpleNamespace(run_loop_task=asyncio.create_task(agent(hooks)))


class Invoker:
    """The Agents SDK's caller of a tool: hands its error to the model."""

    def __init__(self, function: Any) -> None:
        """Call a function."""
        self._invoke_tool_impl = function
        self.handed: list[Exception] = []

    async def __call__(self, ctx: Any, arguments: str) -> Any:
        """Do as the SDK."""
        try:
            return await self._invoke_tool_impl(ctx, arguments)
        except Exception as exc:  # noqa: BLE001 - as the SDK
            self.handed.append(exc)
            return f"An error occurred: {exc}"


class Toolset:
    """Pydantic AI's set of sets of tools: a "tool" is a function that is called, or another set."""

    async def call_tool(self, name: str, tool_args: Any, ctx: Any, tool: Any) -> Any:
        """Do as Pydantic AI."""
        if isinstance(tool.function, Toolset):
            return await tool.function.call_tool(name, tool_args, ctx, tool.inner)
        return await tool.function()


Load = Callable[..., Any]
_numbers = itertools.count(1)


def unique() -> str:
    """Return a response id that no other call has: they are known in the whole process."""
    return f"resp_stand_in_{next(_numbers)}"


def counts(monitor: ResourceMonitor) -> tuple[int, int, int, int]:
    """Return calls, failed and unknown ones among them, and tokens."""
    used = monitor.get_usage_report()
    return used.api_calls, used.failed_api_calls, used.unknown_usage_calls, used.tokens


def parts(monitor: ResourceMonitor) -> tuple[int, int, int]:
    """Return what was read from a cache and written to it, and what was reasoning."""
    used = monitor.get_usage_report()
    return used.cache_read_tokens, used.cache_write_tokens, used.reasoning_tokens


@pytest.fixture
def adapter(monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Load an adapter by name, over modules that are made of these contents."""

    def load(name: str, modules: Mapping[str, Mapping[str, Any]]) -> Any:
        for module, contents in modules.items():
            stand_in = ModuleType(module)
            vars(stand_in).update(contents)
            monkeypatch.setitem(sys.modules, module, stand_in)
        return importlib.import_module(f"otel_budget.adapters.{name}")

    before = set(sys.modules)
    yield load
    for name in set(sys.modules) - before:  # adapters, in parts of their own some
        if name.startswith("otel_budget.adapters."):
            del sys.modules[name]
            package, _, module_name = name.rpartition(".")
            if package in sys.modules:
                vars(sys.modules[package]).pop(module_name, None)


def _langgraph() -> dict[str, Any]:
    """Return LangGraph and LangChain's agents, as far as the middleware uses them."""
    middleware = {"AgentMiddleware": dict, "hook_config": None}
    extended = make_dataclass("ExtendedModelResponse", ["model_response", "command"])
    return {
        "langgraph": {}, "langgraph.errors": {"GraphBubbleUp": type("BubbleUp", (Exception,), {})},
        "langgraph.types": {"Command": make_dataclass("Command", ["update"])},
        "langchain": {}, "langchain.agents": {}, "langchain.agents.middleware": middleware,
        "langchain.agents.middleware.types": {
            "ModelResponse": Response, "ExtendedModelResponse": extended,
        },
        "langchain.agents.structured_output": {
            "StructuredOutputError": type("StructuredOutputError", (Exception,), {}),
        },
    }  # fmt: skip


@pytest.fixture
def langchain(adapter: Load) -> Any:
    """The adapter for LangChain, over stand-ins."""
    hooks: list[tuple[Any, Any]] = []

    def register(variable: Any, *, inheritable: bool, handle_class: Any) -> None:
        assert inheritable
        hooks.append((variable, handle_class))

    sync, other = (type(name, (Callbacks,), {"hooks": hooks}) for name in ("Sync", "Async"))
    tracers = {"register_configure_hook": register}
    callbacks = {"BaseCallbackHandler": type("Handler", (), {}), "CallbackManager": sync,
                 "AsyncCallbackManager": other}  # fmt: skip
    return adapter("langchain", {
        "langchain_core": {}, **_langgraph(),
        "langchain_core.messages": {"HumanMessage": Text, "ToolMessage": Text},
        "langchain_core.callbacks": callbacks, "langchain_core.tracers": {},
        "langchain_core.language_models": {"BaseChatModel": type("ChatModel", (Cached,), {})},
        "langchain_core.tracers.context": tracers,
    })  # fmt: skip


@pytest.fixture
def openai_agents(adapter: Load) -> Any:
    """The adapter for the Agents SDK, over stand-ins."""
    root = type("Model", (Model,), {})  # the adapter looks through its classes
    interface = {"Model": root, "ModelProvider": Provider}
    tools = ModuleType("agents.tool")
    invoker = type("Invoker", (Invoker,), {})
    vars(tools)["_FailureHandlingFunctionToolInvoker"] = invoker
    exceptions = {"AgentsException": type("AgentsException", (Exception,), {})}
    return adapter("openai_agents", {
        "agents": {"tool": tools}, "agents.exceptions": exceptions, "agents.models": {},
        "agents.lifecycle": {"RunHooksBase": Hooks},
        "agents.run": {"Runner": type("Runner", (), dict(vars(Runner)))},
        "agents.models.interface": interface,
        "agents.models.multi_provider": {"MultiProvider": Provider},
    })  # fmt: skip


@pytest.fixture
def pydantic_ai(adapter: Load) -> Any:
    """The adapter for Pydantic AI, over stand-ins."""
    root = type("Model", (Model,), {})  # the adapter looks through its classes
    models = {"Model": root, "infer_model": lambda model: model}
    return adapter("pydantic_ai", {
        "pydantic_ai": {}, "pydantic_ai.models": models,
        "pydantic_ai._run_context": {"get_current_run_context": RUN_CONTEXT.get},
        "pydantic_ai.messages": {
            "ModelRequest": ModelRequest, "UserPromptPart": UserPromptPart,
            "ToolReturnPart": ToolReturnPart,
        },
        "pydantic_ai.models.fallback": {"FallbackModel": Fallback},
        "pydantic_ai.models.wrapper": {"WrapperModel": Wrapper},
        "pydantic_ai.toolsets": {"CombinedToolset": type("Combined", (Toolset,), {})},
    })  # fmt: skip


@pytest.fixture
def litellm(adapter: Load) -> Any:
    """The adapter for LiteLLM, over a module without functions: tests hand over their own."""
    return adapter("litellm", {
        "litellm": {}, "litellm.litellm_core_utils": {"asyncify": None},
    })  # fmt: skip
