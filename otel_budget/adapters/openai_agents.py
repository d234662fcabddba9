"""OpenAI's Agents SDK: count the calls of a model, and ask before each; count calls of tools.

    install()                                                           # all models of OpenAI's
    await Runner.run(agent, "...", run_config=RunConfig(model_provider=BudgetModelProvider()))
    Agent(name="...", model=BudgetModel(OpenAIResponsesModel(...)))     # or one model

``StoppedByBudget`` ends the run before the request, and has what the agents have by then. The run's
own hooks and guardrails stay as they are. The models are wrapped because hooks, which could ask
before a call, too, are told nothing of calls that fail. Calls of tools are counted by hooks: models
see only which were asked for, and the SDK's tracing, which has them, may be off.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

from agents.exceptions import AgentsException
from agents.lifecycle import RunHooksBase
from agents.models.interface import Model, ModelProvider
from agents.models.multi_provider import MultiProvider
from agents.run import Runner

from otel_budget.adapters.base import register
from otel_budget.core.exceeded import BudgetExceeded
from otel_budget.genai import attribution, billed
from otel_budget.genai.costs import charged
from otel_budget.genai.reported_call import HasUsageSink, ReportedCall, ReportedTool
from otel_budget.genai.values import field

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agents.items import ModelResponse, TResponseStreamEvent

SCOPE: Final = register(
    "otel_budget.openai_agents", "OpenAI Agents", "otel-budget's models for OpenAI Agents",
    streaming_advice="pass ModelSettings(include_usage=True)",
)  # fmt: skip
_INSTALLED: Final = "otel_budget_installed"
_FAILED: Final = "response.failed"
_ENDED: Final = ("response.completed", "response.incomplete", _FAILED)


def install(*models: type[Model]) -> None:
    """Count every call of these models in this process, and ask before each: no ``run_config`` that
    was left out goes uncounted.

    models: classes, by default the SDK's own two. Called again it changes nothing. A BudgetModel
    around one counts once.
    """
    if not models:
        from agents.models.openai_chatcompletions import OpenAIChatCompletionsModel
        from agents.models.openai_responses import OpenAIResponsesModel

        models = (OpenAIResponsesModel, OpenAIChatCompletionsModel)
    for model in models:
        if not getattr(model.get_response, _INSTALLED, False):
            _install(model)


def _install(kind: type[Model]) -> None:
    plain_response, plain_stream = kind.get_response, kind.stream_response

    @functools.wraps(plain_response)
    async def get_response(self: Model, *args: Any, **kwargs: Any) -> ModelResponse:
        if attribution.scope_around() == SCOPE:  # its caller counts it
            return await plain_response(self, *args, **kwargs)
        plain = _Plain(self, plain_response, plain_stream)
        return await BudgetModel(plain).get_response(*args, **kwargs)

    @functools.wraps(plain_stream)
    async def stream_response(
        self: Model, *args: Any, **kwargs: Any
    ) -> AsyncIterator[TResponseStreamEvent]:
        plain: Any = _Plain(self, plain_response, plain_stream)
        # Known only here, with the first event: streams are made outside of what counts them.
        counted = attribution.scope_around() == SCOPE
        stream = (plain if counted else BudgetModel(plain)).stream_response(*args, **kwargs)
        try:
            async for event in stream:
                yield event
        finally:
            if hasattr(stream, "aclose"):
                await stream.aclose()

    setattr(get_response, _INSTALLED, True)
    kind.get_response = get_response  # type: ignore[method-assign] # of all models there are
    kind.stream_response = stream_response  # type: ignore[method-assign] # as above


class _Plain:
    """A model as it was before ``install``."""

    def __init__(self, model: Model, get_response: Any, stream_response: Any) -> None:
        self.model = getattr(model, "model", None)
        self.get_response = functools.partial(get_response, model)
        self.stream_response = functools.partial(stream_response, model)


class StoppedByBudget(BudgetExceeded, AgentsException):
    """Says that a run must stop. ``run_data``, by the SDK: what the agents have by then."""


class BudgetModel(Model):
    """A model whose every call is counted, and made only if it may be."""

    def __init__(self, wrapped: Model, monitor: HasUsageSink | None = None) -> None:
        """Wrap a model. monitor: of the run, by default that of the context of each call."""
        self._wrapped, self.monitor = wrapped, monitor

    def __getattr__(self, name: str) -> Any:
        """Return what the model has besides."""
        return getattr(self._wrapped, name)

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        """Ask, call, count."""
        reported = self._begin(*args, **kwargs)
        try:
            with reported.around():
                response = await self._wrapped.get_response(*args, **kwargs)
        except BaseException as exc:  # one that was cancelled may be answered all the same
            reported.close(failed=isinstance(exc, Exception))
            raise
        reported.close(
            response_id=response.response_id,
            **said_by(response.usage, getattr(response, "output", None)),
        )
        return response

    async def stream_response(
        self, *args: Any, **kwargs: Any
    ) -> AsyncIterator[TResponseStreamEvent]:
        """Ask, call, and count when the stream ends, however far it was read."""
        reported = self._begin(*args, **kwargs)
        stream = aiter(self._wrapped.stream_response(*args, **kwargs))
        try:
            while True:
                with reported.around():
                    event = await anext(stream, None)
                if event is None:
                    break
                if event.type in _ENDED:
                    said = said_by(event.response.usage, getattr(event.response, "output", None))
                    said |= _id_of(event.response)
                    said["service_tier"] = getattr(event.response, "service_tier", None)
                    reported.close(failed=event.type == _FAILED, **said)
                yield event
        except Exception:
            reported.close(failed=True)
            raise
        finally:
            reported.close()  # what a call that was left half-way used is not known
            if hasattr(stream, "aclose"):  # of a generator: its connection would stay open
                await stream.aclose()

    async def close(self) -> None:
        """Close the model."""
        await self._wrapped.close()

    async def _cleanup_on_run_end(self, owner: object) -> None:
        """Let the model release what it holds for a run."""
        await self._wrapped._cleanup_on_run_end(owner)  # noqa: SLF001 - the SDK asks every model

    def get_retry_advice(self, request: Any) -> Any:
        """Return the model's own advice."""
        return self._wrapped.get_retry_advice(request)

    def _begin(self, *args: Any, **kwargs: Any) -> ReportedCall:
        asked_for = _asked_tier(kwargs.get("model_settings", args[2] if len(args) > 2 else None))  # noqa: PLR2004 - the place the interface gives it
        try:
            return ReportedCall(SCOPE, self.monitor, model=self._name, service_tier=asked_for)
        except BudgetExceeded as exc:
            raise StoppedByBudget(exc.verdict) from None

    @property
    def _name(self) -> str | None:
        name = getattr(self._wrapped, "model", None)
        return None if name is None else str(name)


class BudgetModelProvider(ModelProvider):
    """A provider all of whose models are counted."""

    def __init__(
        self, wrapped: ModelProvider | None = None, monitor: HasUsageSink | None = None
    ) -> None:
        """Wrap a provider, by default the one that runs use. monitor: as for BudgetModel."""
        self._wrapped = MultiProvider() if wrapped is None else wrapped
        self.monitor = monitor

    def get_model(self, model_name: str | None) -> Model:
        """Return a counted model."""
        return BudgetModel(self._wrapped.get_model(model_name), self.monitor)

    async def aclose(self) -> None:
        """Close the provider."""
        await self._wrapped.aclose()


def _count_tools() -> None:
    """Count every call of a tool in this process, by hooks around those that a run is given."""
    for name in ("run", "run_sync", "run_streamed"):
        if not getattr(getattr(Runner, name), _INSTALLED, False):
            counted = _with_hooks(getattr(Runner, name), waits=name == "run")
            setattr(counted, _INSTALLED, True)
            setattr(Runner, name, staticmethod(counted))


def _with_hooks(plain: Any, *, waits: bool) -> Any:
    """Return a function of the Runner's that counts calls of tools. waits: it is a coroutine's."""

    def hooks_in(about: dict[str, Any]) -> _ToolHooks:
        given = about.get("hooks")
        about["hooks"] = hooks = _ToolHooks(given, _monitor_in(about.get("run_config")))
        return hooks

    def is_countable(about: dict[str, Any]) -> bool:
        given = about.get("hooks")  # others than RunHooks are for the SDK to refuse
        return given is None or (
            isinstance(given, RunHooksBase) and not isinstance(given, _ToolHooks)
        )

    @functools.wraps(plain)
    async def run(*args: Any, **about: Any) -> Any:
        if not is_countable(about):
            return await plain(*args, **about)
        hooks = hooks_in(about)
        try:
            return await plain(*args, **about)
        finally:
            hooks.close()

    @functools.wraps(plain)
    def begin(*args: Any, **about: Any) -> Any:
        if not is_countable(about):
            return plain(*args, **about)
        hooks = hooks_in(about)
        task = None
        try:
            result = plain(*args, **about)
            task = getattr(result, "run_loop_task", None)  # of a stream: it goes on
            return result
        finally:
            if task is None:
                hooks.close()
            else:
                task.add_done_callback(lambda _: hooks.close())

    return run if waits else begin


class _ToolHooks(RunHooksBase):
    """The hooks of one run of the Runner, with its calls of tools counted, failed ones, too."""

    def __init__(self, wrapped: Any, monitor: HasUsageSink | None) -> None:
        """Wrap hooks; None: there are none. monitor: for agents without a BudgetModel."""
        self._wrapped, self._monitor = RunHooksBase() if wrapped is None else wrapped, monitor
        self._open: dict[object, ReportedTool] = {}

    def __getattribute__(self, name: str) -> Any:
        """Return its own two hooks, and all others of the hooks it wraps."""
        if name.startswith("on_") and name not in ("on_tool_start", "on_tool_end"):
            return getattr(self._wrapped, name)
        return super().__getattribute__(name)

    async def on_tool_start(self, context: Any, agent: Any, tool: Any) -> None:
        """Begin a call of a tool."""
        await self._wrapped.on_tool_start(context, agent, tool)
        model = getattr(agent, "model", None)
        monitor = (model.monitor if isinstance(model, BudgetModel) else None) or self._monitor
        name = getattr(context, "qualified_tool_name", None) or getattr(tool, "name", None)
        call_id = getattr(context, "tool_call_id", None)
        self._close(call_id or id(tool))
        self._open[call_id or id(tool)] = ReportedTool(SCOPE, monitor, name, call_id=call_id)

    async def on_tool_end(self, context: Any, agent: Any, tool: Any, result: Any) -> None:
        """Count it."""
        self._close(getattr(context, "tool_call_id", None) or id(tool))
        await self._wrapped.on_tool_end(context, agent, tool, result)

    def close(self) -> None:
        """Count those whose end the SDK told nothing of: they failed, or were cancelled."""
        for key in list(self._open):
            self._close(key)

    def _close(self, key: object) -> None:
        tool = self._open.pop(key, None)
        if tool is not None:
            tool.close()


def _monitor_in(config: object) -> HasUsageSink | None:
    """Return the run that the models of a run's configuration are counted for; None for none."""
    chosen = field(config, "model"), field(config, "model_provider")
    budgets = (each for each in chosen if isinstance(each, BudgetModel | BudgetModelProvider))
    return next((each.monitor for each in budgets if each.monitor is not None), None)


def said_by(usage: Any, output: object) -> dict[str, Any]:
    """Return what a usage and an answer's items say, for ``report_of``. None: there are none."""
    of_input = getattr(usage, "input_tokens_details", None)
    of_output = getattr(usage, "output_tokens_details", None)
    return {
        "input": getattr(usage, "input_tokens", None),
        "output": getattr(usage, "output_tokens", None),
        "cached": getattr(of_input, "cached_tokens", None),
        "cache_write": getattr(of_input, "cache_write_tokens", None),
        "reasoning": getattr(of_output, "reasoning_tokens", None),
        "charge": charged(usage),
        "extras": billed.in_usage(usage) | billed.tools_in(output),
    }


def _asked_tier(settings: object) -> object:
    """Return the service tier that a model's settings ask for: the SDK drops what was served."""
    more = field(settings, "extra_args"), field(settings, "extra_body")
    return next((tier for each in more if (tier := field(each, "service_tier"))), None)


def _id_of(response: Any) -> dict[str, Any]:
    """Return the response's id; the SDK puts a made-up one where an API has none."""
    made_up = str(response.id or "").startswith("__")
    return {} if made_up else {"response_id": response.id}


_count_tools()  # here: a run may be begun in the line in which its first BudgetModel is made
