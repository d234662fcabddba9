"""Runs that a generator entered: it goes on in whatever context it is asked for its next value.

Web servers that stream (Starlette's ``StreamingResponse`` over a plain generator) ask for each
value in another thread, and in another copy of the request's context: what was put into the copy
before is gone. The generator's own frame is the same each time, and it is on the stack whenever the
generator runs. So a run belongs to the generators it was entered in as well, as it would if all of
it went on in one context.
"""

from __future__ import annotations

import inspect
import sys
from typing import TYPE_CHECKING, Final

from otel_budget.instrumentation.forked import in_child

if TYPE_CHECKING:
    from types import CodeType, FrameType

    from otel_budget.instrumentation.genai.attribution import Activation

_GENERATORS: Final = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
_OURS: Final = "otel_budget."

#: The generator's frame, as long as it lives, and its code. The frame itself would keep alive all
#: that is in it.
Key = tuple[int, "CodeType"]
#: What is open and was entered in a generator, the newest last.
_entered: Final[dict[Key, list[Activation]]] = {}
in_child(_entered.clear)


def around() -> tuple[Key, ...]:
    """Return the generators that run here and now, but for our own."""
    found: list[Key] = []
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the interpreter's own way to them
    while frame is not None:
        code = frame.f_code
        if code.co_flags & _GENERATORS:
            module = frame.f_globals.get("__name__")
            if not (isinstance(module, str) and module.startswith(_OURS)):
                found.append((id(frame), code))
        frame = frame.f_back
    return tuple(found)


def enter(activation: Activation, keys: tuple[Key, ...]) -> None:
    """Let a run belong to these generators, too. Hold the lock of the activations."""
    for key in keys:
        _entered.setdefault(key, []).append(activation)


def leave(activation: Activation, keys: tuple[Key, ...]) -> None:
    """Take it out again. Hold the lock of the activations."""
    for key in keys:
        ones = _entered.get(key, [])
        if activation in ones:
            ones.remove(activation)
        if not ones:
            _entered.pop(key, None)


def newest() -> Activation | None:
    """Return what the innermost generator that runs here has entered last; None if there is none.

    Costs nothing while no generator has entered a run.
    """
    if not _entered:
        return None
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - as above
    while frame is not None:
        ones = _entered.get((id(frame), frame.f_code))
        if ones:
            return ones[-1]
        frame = frame.f_back
    return None
