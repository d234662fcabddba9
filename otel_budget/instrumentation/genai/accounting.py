"""The calls of this process: whoever reports one, spans or an adapter, tells it here.

One for the process, because the same call may be reported through two tracer providers, or by a
span and an adapter. Holds no lock while anybody else's code runs.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from opentelemetry import trace

from otel_budget import semconv
from otel_budget.instrumentation.forked import in_child
from otel_budget.instrumentation.genai import attribution
from otel_budget.instrumentation.genai.calls import Calls
from otel_budget.instrumentation.genai.notices import Notices
from otel_budget.instrumentation.genai.reading import NOT_A_CALL, Kind
from otel_budget.instrumentation.genai.tree import Begun

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from opentelemetry.context import Context

    from otel_budget.instrumentation.genai.call import Target
    from otel_budget.instrumentation.genai.reading import Facts
    from otel_budget.instrumentation.genai.tree import Node

logger = logging.getLogger("otel_budget")

_NOTHING: Final[Mapping[str, object]] = {}


class Accounting:
    """Where spans and adapters report calls, and from where they get into their runs."""

    def __init__(
        self, notices: Notices | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin with nothing reported. notices, monotonic: for tests and replays."""
        self.notices = Notices() if notices is None else notices
        self._monotonic = monotonic
        self._own_ids = 0
        self.elsewhere: Target | None = None
        """Counts what belongs to no run."""
        self.listens = False
        """The global tracer provider reports its spans here, so a run's own span is seen, too."""
        self.in_use = False
        """Somebody reports something here."""
        self._begin_anew()
        in_child(self._begin_anew)

    def _begin_anew(self) -> None:
        """Count none of the parent's calls in a forked child."""
        self._lock = threading.RLock()  # reentrant: a signal handler may make a span
        self._calls = Calls()
        self._failed_before = False

    # --- spans ---------------------------------------------------------------------------------
    def find(self, span_id: int) -> Node | None:
        """Return a span that was reported."""
        with self._lock:
            return self._calls.tree.find(span_id)

    def begin(
        self,
        span_id: int,
        parent_id: int | None,
        scope: str,
        first: Mapping[str, object],
        kind: Kind,
        *,
        parent_context: Context | None = None,
    ) -> Node | None:
        """Take in a span that begins. Returns None if it has nowhere to be counted."""
        now = self._monotonic()
        with self._lock:
            parent = attribution.nearer(self._calls.tree.find(parent_id))
            theirs = None if parent is None else parent.target
            target = attribution.target_of(parent_context, theirs) or self.elsewhere
            if target is None:
                return None
            return self._calls.start(Begun(span_id, parent, scope, target, first, kind, now))

    def end(self, node: Node, facts: Facts, *, failed: bool) -> None:
        """Take in that a span has ended."""
        with self._lock:
            self._calls.end(node, facts, self._monotonic(), failed=failed)
        if facts.refused:
            self.notices.refused(node.scope, facts.refused)

    @contextmanager
    def enclosing(self) -> Iterator[Node | None]:
        """Take what is reported in this context for a part of what the block stands for.

        Yields what ``counted_below`` can be asked of afterwards; None if nobody reports anything.
        """
        if not self.in_use:
            yield None
            return
        above = trace.get_current_span().get_span_context().span_id
        node = self.begin(self._own_id(), above, semconv.SCOPE_NAME, _NOTHING, Kind.OTHER)
        token = attribution.ENCLOSING.set(node)
        try:
            yield node
        finally:
            with suppress(ValueError):  # left in another context, as async generators may be
                attribution.ENCLOSING.reset(token)
            if node is not None:
                self.end(node, NOT_A_CALL, failed=False)
                self.book()

    # --- adapters ------------------------------------------------------------------------------
    def open_call(
        self, scope: str, *, target: Target | None = None, context: Context | None = None
    ) -> Node | None:
        """Take in a call that begins, reported by an adapter.

        scope: names the adapter. target: its run, by default that of the context. The span that is
        current is its parent, so that a span of the same call above or below it is found.
        """
        try:
            above = trace.get_current_span(context).get_span_context().span_id
            with self._lock:
                self._own_ids -= 1  # no span's id is negative
                own = self._own_ids
            node = self.begin(own, above, scope, _NOTHING, Kind.INFERENCE, parent_context=context)
            if node is not None and target is not None and node.target is not target:
                node.target, node.place = target, target.place()
        except Exception:  # noqa: BLE001 - a defect here must not end the caller's model call
            self.broken("begins")
            return None
        else:
            return node

    def close_call(self, node: Node | None, facts: Facts, *, failed: bool = False) -> None:
        """Take in that a call reported by ``open_call`` is over."""
        if node is None:
            return
        try:
            self.end(node, facts, failed=failed)
        except Exception:  # noqa: BLE001 - as above
            self.broken("ends")
        self.book()

    # --- runs ----------------------------------------------------------------------------------
    def book(self) -> None:
        """Hand over what was decided, without the lock: what counts it may call anybody."""
        if not self._calls.decided:  # looked at without the lock: who decides next, books
            return
        with self._lock:
            bookings, duplicates = self._calls.take()
        for one, other in duplicates:
            self.notices.duplicate(one, other)
        for target, place, call in bookings:
            if call.unknown:
                self.notices.unknown(call)
            if target is self.elsewhere:
                self.notices.elsewhere(call)
            target.book(call, place)

    def settle(self, target: Target | None = None) -> None:
        """Count what is held: of a run that ends also its calls that did not end; None: of all."""
        with self._lock:
            self._calls.settle(target, open_too=target is not None)
        self.book()

    def _own_id(self) -> int:
        with self._lock:
            self._own_ids -= 1  # no span's id is negative
            return self._own_ids

    def broken(self, when: str) -> None:
        """Say, aloud the first time only, that something could not be read. In an ``except``."""
        level = logging.DEBUG if self._failed_before else logging.ERROR
        self._failed_before = True
        logger.log(
            level, "a model call that %s could not be read: it may be missing from the budget "
            "(said once; please report it)", when, exc_info=True,
        )  # fmt: skip


#: Of this process.
ACCOUNTING: Final = Accounting()
