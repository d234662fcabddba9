"""Runs reach the calls that LiteLLM makes in threads of its own, to which it hands no context.

The functions for batches begin threads, and so do those without ``await`` that have an event loop
around them, as in a notebook: a router's, and those with fallbacks.
"""

from __future__ import annotations

import contextvars
import functools
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import litellm
from litellm.litellm_core_utils import asyncify

from otel_budget.genai import attribution

if TYPE_CHECKING:
    from collections.abc import Callable

#: They call ``litellm.completion``, with the arguments they do not know, too.
BATCHES: Final = (
    "batch_completion", "batch_completion_models", "batch_completion_models_all_responses",
)  # fmt: skip
#: The argument by which they hand on the run; the wrapper of ``completion`` takes it away.
SINK: Final = "otel_budget_target"


def install() -> None:
    """Hand the runs on. Installed twice it changes nothing."""
    for name in BATCHES:
        function = getattr(litellm, name)
        if not hasattr(function, "otel_budget"):
            setattr(litellm, name, handing_on(function))
    run = asyncify.run_async_function
    if hasattr(run, "otel_budget"):
        return
    wrapped = in_callers_context(run)
    for module in [each for name, each in sys.modules.items() if name.startswith("litellm.")]:
        if vars(module).get("run_async_function") is run:  # imported by its name
            vars(module)["run_async_function"] = wrapped


def handing_on(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function for batches whose threads have the run of its caller."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        sink = attribution.current()
        return function(*args, **kwargs if sink is None else {**kwargs, SINK: sink})

    vars(call)["otel_budget"] = True  # the mark that install() looks for
    return call


def in_callers_context(run: Callable[..., Any]) -> Callable[..., Any]:
    """Return what runs a coroutine to its end, in its caller's context if in another thread."""

    @functools.wraps(run)
    def run_there(async_function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if not attribution.in_event_loop():
            return run(async_function, *args, **kwargs)
        there = functools.partial(contextvars.copy_context().run, run, async_function)
        with ThreadPoolExecutor(max_workers=1) as pool:  # as litellm itself would
            return pool.submit(there, *args, **kwargs).result()

    vars(run_there)["otel_budget"] = True  # as above
    return run_there
