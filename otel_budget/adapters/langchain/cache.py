"""Which answers came from LangChain's own cache: no model was asked, so they are no calls.

What LangChain itself puts into such an answer, a total cost of 0, is also what a free model says of
a real call. So its function that makes messages of what the cache had is watched.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

from langchain_core.language_models import BaseChatModel

from otel_budget.logs.logger import logger

if TYPE_CHECKING:
    from collections.abc import Callable

#: It has no public name.
_CONVERT: Final = "_convert_cached_generations"
#: By their identity: messages have no hash.
_ANSWERS: Final[WeakValueDictionary[int, Any]] = WeakValueDictionary()


def answered(message: Any) -> bool:
    """Tell whether the cache answered with a message."""
    return message is not None and _ANSWERS.get(id(message)) is message


@functools.cache
def watch() -> None:
    """Take note of all such answers from now on."""
    model: Any = BaseChatModel
    convert = getattr(model, _CONVERT, None)
    if convert is None:
        logger.warning(
            "langchain: this version of langchain-core does not tell what its cache answers: such "
            "answers count as calls. Use one from 1.7 on, or please report it (said once)"
        )
    else:
        setattr(model, _CONVERT, _noting(convert))


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
