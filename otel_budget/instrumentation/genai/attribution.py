"""Which run a span belongs to.

Asked when the span begins, in this order: the run in the context it was started with (baggage), the
run in the context of the code (a context variable), the run of its parent span. Code that was
handed no context at all, as a bare thread is, belongs to the one run that is entered in this
process, if it is the only one. What is left belongs to no run, and goes to the process's own
account.
"""

from __future__ import annotations

import weakref
from contextlib import suppress
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Final, Self

from opentelemetry import baggage
from opentelemetry import context as otel_context

from otel_budget import semconv
from otel_budget.instrumentation.forked import ProcessLock, in_child

if TYPE_CHECKING:
    from contextvars import Token

    from opentelemetry.context import Context

    from otel_budget.instrumentation.genai.call import Target
    from otel_budget.instrumentation.genai.tree import Node

_TARGET: ContextVar[Target | None] = ContextVar("otel_budget_target", default=None)
#: What spans made in this context are a part of, besides their parents.
ENCLOSING: Final[ContextVar[Node | None]] = ContextVar("otel_budget_enclosing", default=None)
_by_session: weakref.WeakValueDictionary[str, Target] = weakref.WeakValueDictionary()
_entered: dict[int, Target] = {}
_lock: Final = ProcessLock()
in_child(_entered.clear)


class Activation:
    """While it is open, calls made in this context belong to a run. Open it once."""

    def __init__(self, session_id: str, target: Target) -> None:
        """Change nothing yet."""
        self._session_id, self._target = session_id, target
        self._token: Token[Target | None] | None = None
        self._context_token: Token[Context] | None = None

    def __enter__(self) -> Self:
        """Put the run into the context, and into what the context hands on."""
        with _lock:
            _by_session[self._session_id] = self._target
            _entered[id(self)] = self._target
        self._token = _TARGET.set(self._target)
        handed_on = baggage.set_baggage(semconv.BAGGAGE_SESSION_ID, self._session_id)
        self._context_token = otel_context.attach(handed_on)
        return self

    def __exit__(self, *_: object) -> None:
        """Put back what was there; in another context (async generators) there is nothing to."""
        with _lock:
            _entered.pop(id(self), None)
        token, context_token = self._token, self._context_token
        if token is None or context_token is None:
            return
        self._token = self._context_token = None
        with suppress(ValueError):
            _TARGET.reset(token)
            # Only where the first one worked: OpenTelemetry logs the failure as an error.
            otel_context.detach(context_token)


def target_of(parent_context: Context | None, parents: Target | None) -> Target | None:
    """Return where a span's calls go; None for no run. parents: that of the parent span."""
    here = _TARGET.get()
    if here is not None and parent_context is None:  # nearly always
        return here
    name = baggage.get_baggage(semconv.BAGGAGE_SESSION_ID, parent_context)
    named = _by_session.get(name) if isinstance(name, str) else None
    # A span may be started in another context than its code runs in: that one is meant. Of two
    # monitors of one session it is the one in the code's own context.
    if here is not None and (named is None or here.session_id == name):
        return here
    return named or parents or _only_run()


def nearer(parent: Node | None) -> Node | None:
    """Return what a span is a part of: its parent, or what was begun in this context since."""
    around = ENCLOSING.get()
    if around is None or around.ended or (parent is not None and parent.number > around.number):
        return parent
    return around


def _only_run() -> Target | None:
    """Return the one run that is entered, for code without any context."""
    if not _entered or len(copy_context()) > 0:
        return None
    with _lock:
        targets = {id(target): target for target in _entered.values()}
    return next(iter(targets.values())) if len(targets) == 1 else None


def current() -> Target | None:
    """Return the run of this context; None if there is none."""
    return target_of(None, None)
