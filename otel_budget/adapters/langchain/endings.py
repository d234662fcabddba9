"""How agents of ``create_agent`` end: the doors to their middleware, and the mark of an answer.

Loads nothing of LangChain before it is asked for a middleware.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_budget.adapters.ending import INSTRUCTION, CutShort, Ending, OnStop
from otel_budget.adapters.langchain.finished import AI, messages_in
from otel_budget.adapters.langchain.progress import Progress, of_state
from otel_budget.core.exceeded import BudgetExceeded
from otel_budget.genai.reported_call import HasUsageSink, sink_of

if TYPE_CHECKING:
    from langchain.agents.middleware import AgentMiddleware


def middleware(
    monitor: HasUsageSink | None = None,
    *,
    on_stop: OnStop = "wrap_up",
    instruction: str = INSTRUCTION,
    brief: bool = False,
    progress: Progress = of_state,
) -> AgentMiddleware[Any, Any]:
    """Return a middleware for ``create_agent``: it counts, asks before each call, and ends well.

    monitor: of the run; by default that of the context. on_stop: at a stop that leaves something to
    finish with, ``wrap_up`` calls the model once more, without tools and told by ``instruction`` to
    answer, and the agent ends with that answer (``cut_short``); ``raise`` raises BudgetExceeded, as
    ``wrap_up`` does where nothing is left. brief: have every call say what is left of the budget.
    progress: of the agent's state, 0 to 1 or None.

    Needs the package ``langchain``; ``install`` need not be called. Raises InvalidValueError.
    """
    from otel_budget.adapters.langchain.agents import BudgetMiddleware

    return BudgetMiddleware(monitor, Ending(on_stop, instruction, brief), progress)


def cut_short(result: Any) -> CutShort | None:
    """Return why an answer is not a finished one; None: it was not cut short.

    result: an agent's state, a list of messages, or a message.
    """
    messages = [result] if hasattr(result, "response_metadata") else messages_in(result)
    answers = (one for one in reversed(messages) if getattr(one, "type", None) in AI)
    answer = next(answers, None)
    return None if answer is None else CutShort.in_metadata(answer.response_metadata)


def stop_gracefully(monitor: HasUsageSink | None = None) -> AgentMiddleware[Any, Any]:
    """Return a middleware for ``create_agent`` that ends the agent before a call it may not make.

    Needs the package ``langchain``.
    """
    from langchain.agents.middleware import AgentMiddleware, hook_config

    class EndWhenStopped(AgentMiddleware[Any, Any]):
        @hook_config(can_jump_to=["end"])
        def before_model(self, state: Any, runtime: Any) -> dict[str, Any] | None:  # noqa: ARG002 - LangChain hands both over by name
            return _end_if_stopped(monitor)

        # By itself, though it does the same: where a library wraps the base class's coroutine, as
        # Traceloop's does, LangChain takes that one for ours and never asks before_model.
        @hook_config(can_jump_to=["end"])
        async def abefore_model(self, state: Any, runtime: Any) -> dict[str, Any] | None:  # noqa: ARG002 - as above
            return _end_if_stopped(monitor)

    return EndWhenStopped()


def _end_if_stopped(monitor: HasUsageSink | None) -> dict[str, Any] | None:
    sink = sink_of(monitor)
    try:
        if sink is not None:
            sink.check()
    except BudgetExceeded:
        return {"jump_to": "end"}
    return None
