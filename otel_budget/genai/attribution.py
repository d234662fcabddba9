"""Which run a span belongs to.

Asked when the span begins, in this order: the run in the context it was started with (baggage), the
run in the context of the code (a context variable; or the generator that goes on here, see
``resumed``), the run of its parent span. Code that was handed no context at all, as a bare thread
is, belongs to the one run that is entered in this process, if it is the only one. What is left
belongs to no run, and goes to the process's own account.
"""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Self

from opentelemetry import baggage
from opentelemetry import context as otel_context

from otel_budget import semconv
from otel_budget.genai import generators
from otel_budget.genai.attached_context import AttachedContext
from otel_budget.genai.span_reader import Kind
from otel_budget.runtime.fork import ProcessLock, in_child

if TYPE_CHECKING:
    from contextvars import Token

    from opentelemetry.context import Context

    from otel_budget.genai.call import UsageSink
    from otel_budget.genai.span_tree import Node

_ACTIVE: ContextVar[Activation | None] = ContextVar("otel_budget_active", default=None)
#: What spans made in this context are a part of, besides their parents.
ENCLOSING: Final[ContextVar[Node | None]] = ContextVar("otel_budget_enclosing", default=None)
#: Session id to what is entered under it, the newest last.
_entered: dict[str, list[Activation]] = {}
_lock: Final = ProcessLock()
in_child(_entered.clear)
_in_generators: Final[generators.EnteredInGenerators[Activation]] = generators.EnteredInGenerators()


class Activation:
    """While it is open, calls made in this context belong to a run. Open it once.

    They may be closed in another order than they were opened, and in another context, as
    generators do it: what is closed is passed over, also in contexts that still have it.
    """

    def __init__(self, sink: UsageSink) -> None:
        self.sink, self.is_open = sink, False
        self.outer: Activation | None = None
        """What was open in the context before."""
        self._generators: tuple[generators.Key, ...] = ()
        self._token: Token[Activation | None] | None = None
        self._attached: AttachedContext | None = None

    def __enter__(self) -> Self:
        """Put the run into the context, and into what the context hands on."""
        self.outer, self.is_open = _innermost(), True
        self._token = _ACTIVE.set(self)
        self._generators = generators.around()
        name = self.sink.session_id
        with _lock:
            _entered.setdefault(name, []).append(self)
            _in_generators.enter(self, self._generators)
        handed_on = baggage.set_baggage(semconv.BAGGAGE_SESSION_ID, name)
        self._attached = AttachedContext(handed_on)
        return self

    def __exit__(self, *_: object) -> None:
        """Take the run out again."""
        self.is_open = False
        name = self.sink.session_id
        with _lock, suppress(KeyError, ValueError):  # in a forked child it is gone already
            _in_generators.leave(self, self._generators)
            _entered[name].remove(self)
            if not _entered[name]:
                del _entered[name]
        active = _ACTIVE.get()
        while active is not None and not active.is_open and active.is_taken_out():
            active = _ACTIVE.get()
        if self._attached is not None:
            self._attached.detach()

    def is_taken_out(self) -> bool:
        """Take it out of the context; False in another one than it was put into."""
        if self._token is None:
            return False
        try:
            _ACTIVE.reset(self._token)
        except (ValueError, RuntimeError):  # left in another context, or in a copy
            return False
        return True

    def is_inside(self, other: Activation) -> bool:
        """Tell whether it was entered while the other one was the innermost, or inside that."""
        outer = self.outer
        while outer is not None and outer is not other:
            outer = outer.outer
        return outer is other

    def is_suspended(self) -> bool:
        """Tell whether it was entered in a generator that does not run here: it left itself in the
        context of the code that asked for its value.
        """
        return bool(self._generators) and not generators.runs_here(self._generators)


def sink_of(parent_context: Context | None, parents: UsageSink | None) -> UsageSink | None:
    """Return where a span's calls go; None for no run. parents: that of the parent span."""
    active = _innermost()
    here = None if active is None else active.sink
    if here is not None and parent_context is None:  # nearly always
        return here
    name = baggage.get_baggage(semconv.BAGGAGE_SESSION_ID, parent_context)
    # A span may be started in another context than its code runs in: that one is meant. Of two
    # monitors of one session it is the one in the code's own context.
    if here is not None and here.session_id == name:
        return here
    with _lock:
        entered = _entered.get(name) if isinstance(name, str) else None
        named = entered[-1].sink if entered else None
    return named or here or parents or _only_run()


def nearer(parent: Node | None) -> Node | None:
    """Return what a span is a part of: its parent, or what was begun in this context since."""
    around = _around()
    if around is None or (parent is not None and parent.number > around.number):
        return parent
    return around


def sink_around() -> UsageSink | None:
    """Return the run of the adapter's call that this context is inside of.

    It may have been named by hand, and be another one than that of the context.
    """
    around = _around()
    return around.sink if around is not None and around.kind is Kind.INFERENCE else None


def hold_around(session_id: str) -> tuple[object, bool]:
    """Return what the call of a run holds that this context is inside of; None: nothing.

    And whether a call made here is that call: the first one inside it. What it tries next, as a
    fallback, is a further one.
    """
    around = _around()
    if around is None or around.sink.session_id != session_id:
        return None, False
    made = any(one.ended and one.kind is Kind.INFERENCE for one in tuple(around.below))
    return around.hold_phase, not made


def scope_around() -> str | None:
    """Return which adapter's call this context is inside of; None for none."""
    around = _around()
    return around.scope if around is not None and around.kind is Kind.INFERENCE else None


def _around() -> Node | None:
    around = ENCLOSING.get()
    return around if around is not None and around.encloses and not around.ended else None


def current() -> UsageSink | None:
    """Return the run of this context; None if there is none."""
    return sink_of(None, None)


def ended_here() -> str | None:
    """Return the id of the run whose context this was, if it has ended and no other goes on."""
    active = _ACTIVE.get()
    return None if active is None or _innermost() is not None else active.sink.session_id


def _innermost() -> Activation | None:
    active = _ACTIVE.get()
    while active is not None and not active.is_open:
        active = active.outer
    inner, direct = _in_generators.newest()
    if inner is None or inner is active:
        return active
    if active is None or active.is_suspended():
        return inner
    if active.is_inside(inner):  # entered since
        return active
    return inner if direct or inner.is_inside(active) else active


def _only_run() -> UsageSink | None:
    """Return the one run that is entered, for code without any context."""
    if not _entered or otel_context.get_current():
        return None
    if threading.current_thread() is threading.main_thread() or in_event_loop():
        return None
    with _lock:
        sinks = {id(one.sink): one.sink for ones in _entered.values() for one in ones}
    return next(iter(sinks.values())) if len(sinks) == 1 else None


def in_event_loop() -> bool:
    """Tell whether this code runs in an event loop."""
    asyncio = _asyncio()
    try:
        return asyncio is not None and asyncio.get_running_loop() is not None
    except RuntimeError:
        return False


def is_cancelled(exc: BaseException) -> bool:
    """Tell whether an exception is the cancellation of a task."""
    asyncio = _asyncio()
    return asyncio is not None and isinstance(exc, asyncio.CancelledError)


def _asyncio() -> Any:
    """Return asyncio if it has been imported: without it nothing runs in a loop.

    To import it takes a seventh of the time that otel_budget takes in all.
    """
    return sys.modules.get("asyncio")
