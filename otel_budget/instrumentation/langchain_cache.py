"""Which answers came from LangChain's own cache: nobody was asked for them, so they are no calls.

What LangChain itself puts into such an answer, a total cost of 0, is also what a free model says of
a real call. So its function that makes messages of what the cache had is watched.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

from langchain_core.language_models import BaseChatModel

if TYPE_CHECKING:
    from collections.abc import Callable

#: By their identity: messages have no hash.
_ANSWERS: Final[WeakValueDictionary[int, Any]] = WeakValueDictionary()


def answered(message: Any) -> bool:
    """Tell whether the cache answered with a message."""
    return message is not None and _ANSWERS.get(id(message)) is message


@functools.cache
def watch() -> None:
    """Take note of all such answers from now on."""
    convert = BaseChatModel._convert_cached_generations  # noqa: SLF001 - it has no public name
    vars_of_it: Any = BaseChatModel
    vars_of_it._convert_cached_generations = _noting(convert)  # noqa: SLF001 - as above


def _noting(convert: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(convert)
    def noted(*args: Any, **kwargs: Any) -> Any:
        generations = convert(*args, **kwargs)
        for generation in generations:
            message = getattr(generation, "message", None)
            if message is not None:
                _ANSWERS[id(message)] = message
        return generations

    return noted
