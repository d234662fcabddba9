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
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from otel_budget.runtime.fork import in_child

if TYPE_CHECKING:
    from types import CodeType, FrameType

T = TypeVar("T")

_GENERATORS: Final = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
_COROUTINES: Final = inspect.CO_COROUTINE | inspect.CO_ITERABLE_COROUTINE
#: Modules whose frames are only between the code that enters a run and its entering.
_BETWEEN: Final = ("contextlib", "otel_budget")

#: The generator's frame, as long as it lives, and its code. The frame itself would keep alive all
#: that is in it.
Key = tuple[int, "CodeType"]


def around() -> tuple[Key, ...]:
    """Return the generators that what is entered now belongs to, the innermost first.

    Those that pass on each other's values, and no further: a scheduler may be a generator, too (as
    Trio's is), and runs all tasks.
    """
    found: list[Key] = []
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - the interpreter's own way to them
    while frame is not None:
        kind = frame.f_code.co_flags
        if (found or kind & (_GENERATORS | _COROUTINES)) and not _is_between(frame):
            if not kind & _GENERATORS:
                break
            found.append((id(frame), frame.f_code))
        frame = frame.f_back
    return tuple(found)


class EnteredInGenerators(Generic[T]):
    """What is open and was entered in a generator. Not thread-safe: its user holds a lock."""

    def __init__(self) -> None:
        self._entered: dict[Key, list[T]] = {}
        """By generator, the newest last."""
        in_child(self._entered.clear)

    def enter(self, what: T, keys: tuple[Key, ...]) -> None:
        """Let it belong to these generators, too."""
        for key in keys:
            self._entered.setdefault(key, []).append(what)

    def leave(self, what: T, keys: tuple[Key, ...]) -> None:
        """Take it out again."""
        for key in keys:
            ones = self._entered.get(key, [])
            if what in ones:
                ones.remove(what)
            if not ones:
                self._entered.pop(key, None)

    def newest(self) -> tuple[T | None, bool]:
        """Return what the innermost generator that runs here has entered last, or None; and whether
        there is no coroutine in between, which may be a foreign task in a nested loop.

        Needs no lock, and costs nothing while no generator has entered a run.
        """
        if not self._entered:
            return None, True
        direct = True
        frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - as above
        while frame is not None:
            ones = self._entered.get((id(frame), frame.f_code))
            if ones:
                return ones[-1], direct
            if frame.f_code.co_flags & _COROUTINES:
                direct = False
            frame = frame.f_back
        return None, True


def runs_here(keys: tuple[Key, ...]) -> bool:
    """Tell whether one of these generators is on the stack."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - as above
    while frame is not None:
        if (id(frame), frame.f_code) in keys:
            return True
        frame = frame.f_back
    return False


def _is_between(frame: FrameType) -> bool:
    module = frame.f_globals.get("__name__")
    return isinstance(module, str) and module.partition(".")[0] in _BETWEEN
