"""A run handed on to code that runs in another context: threads, pools, values of an iterator.

After OpenTelemetry's words: what is attached is in the present context, what is bound brings its
own.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, TypeVar

from otel_budget.errors import InvalidValueError
from otel_budget.genai.attribution import Activation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from otel_budget.genai.call import UsageSink

T = TypeVar("T")


class RunContext:
    """One run, to be taken along into other contexts."""

    def __init__(self, sink: UsageSink) -> None:
        """Take the run whose calls are counted in a sink."""
        self._sink = sink

    def attach(self) -> Activation:
        """Return a context manager inside which the calls that are seen are this run's."""
        return Activation(self._sink)

    def bind(self, target: T) -> T:
        """Return the same thing, whose calls are this run's wherever and whenever it runs.

        Raises InvalidValueError for what is neither a function nor an iterator nor an awaitable.
        """
        if callable(target):
            return self._bound_function(target)  # type: ignore[return-value] # of the same signature
        bound = self._bound_result(target)
        if bound is target:
            raise InvalidValueError("target", target, "a function, an iterator or an awaitable")
        return bound  # type: ignore[no-any-return] # an iterator for an iterator, and so on

    def _bound_function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(function):  # to be seen as one

            @functools.wraps(function)
            async def awaited(*args: Any, **options: Any) -> Any:
                with self.attach():
                    return await function(*args, **options)

            return awaited

        @functools.wraps(function)
        def bound(*args: Any, **options: Any) -> Any:
            with self.attach():
                result = function(*args, **options)
            lazy = inspect.isgenerator(result) or inspect.isasyncgen(result)
            return self._bound_result(result) if lazy or inspect.iscoroutine(result) else result

        return bound

    def _bound_result(self, target: Any) -> Any:
        if hasattr(target, "__aiter__"):
            return self._values_async(target)
        if hasattr(target, "__await__"):
            return self._awaited(target)
        return self._values(target) if hasattr(target, "__iter__") else target

    def _values(self, values: Any) -> Iterator[Any]:
        iterator = iter(values)
        try:
            while True:
                with self.attach():
                    try:
                        value = next(iterator)
                    except StopIteration:
                        return
                yield value
        finally:
            if hasattr(iterator, "close"):
                with self.attach():
                    iterator.close()

    async def _values_async(self, values: Any) -> AsyncIterator[Any]:
        iterator = aiter(values)
        try:
            while True:
                with self.attach():
                    try:
                        value = await anext(iterator)
                    except StopAsyncIteration:
                        return
                yield value
        finally:
            if hasattr(iterator, "aclose"):
                with self.attach():
                    await iterator.aclose()

    async def _awaited(self, awaitable: Awaitable[Any]) -> Any:
        with self.attach():
            return await awaitable
