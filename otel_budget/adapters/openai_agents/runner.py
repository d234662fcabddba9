"""The SDK's Runner: its runs are known here, and the calls of tools that they make are counted.

By hooks around those that a run is given: models see only which calls were asked for, and the SDK's
tracing, which has them, may be off.
"""

from __future__ import annotations

import functools
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from agents.exceptions import AgentsException
from agents.lifecycle import RunHooksBase
from agents.run import Runner

from otel_budget.adapters.openai_agents.models import SCOPE, BudgetModel, BudgetModelProvider
from otel_budget.adapters.openai_agents.runs import RUN, AgentRun
from otel_budget.adapters.openai_agents.stops import StoppedByBudget, stop_in
from otel_budget.genai.reported_call import HasUsageSink, ReportedTool
from otel_budget.genai.values import field

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_INSTALLED: Final = "otel_budget_installed"


def watch_runner() -> None:
    """Know every run of the Runner in this process, and count its calls of tools."""
    for name in ("run", "run_sync", "run_streamed"):
        if not getattr(getattr(Runner, name), _INSTALLED, False):
            known = _known(getattr(Runner, name), waits=name == "run")
            setattr(known, _INSTALLED, True)
            setattr(Runner, name, staticmethod(known))


def _known(plain: Any, *, waits: bool) -> Any:
    """Return a function of the Runner's whose runs are known. waits: it is a coroutine's."""

    @functools.wraps(plain)
    async def run(*args: Any, **about: Any) -> Any:
        hooks = _hooks_in(about)
        try:
            with _begun(about) as begun:
                return begun.returns(await plain(*args, **about))
        finally:
            hooks.close()

    @functools.wraps(plain)
    def begin(*args: Any, **about: Any) -> Any:
        hooks, task = _hooks_in(about), None
        try:
            with _begun(about) as begun:
                result = plain(*args, **about)
                task = getattr(result, "run_loop_task", None)  # of a stream: it goes on
                return begun.returns(result)
        finally:
            if task is None:
                hooks.close()
            else:
                task.add_done_callback(lambda _: hooks.close())

    return run if waits else begin


@contextmanager
def _begun(about: Mapping[str, Any]) -> Iterator[AgentRun]:
    """Begin a run of the Runner, for what is called from here.

    A stop that the SDK has made an error of its own, as of a tool's, is a stop again.
    """
    begun = AgentRun(RUN.get(), about.get("max_turns"), about.get("context"))
    token = RUN.set(begun)
    try:
        yield begun
    except AgentsException as exc:
        stop = None if isinstance(exc, StoppedByBudget) else stop_in(exc)
        if stop is None:
            raise
        stop.run_data = exc.run_data
        raise stop from exc
    finally:
        RUN.reset(token)


def _hooks_in(about: dict[str, Any]) -> _ToolHooks | _NoHooks:
    """Put hooks that count around those that a run is given, and return them."""
    given = about.get("hooks")
    if isinstance(given, _ToolHooks) or not (given is None or isinstance(given, RunHooksBase)):
        return _NoHooks()  # counted already; others than RunHooks are for the SDK to refuse
    about["hooks"] = hooks = _ToolHooks(given, _monitor_in(about.get("run_config")))
    return hooks


class _NoHooks:
    """None of ours are needed."""

    def close(self) -> None:
        """Count nothing."""


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
