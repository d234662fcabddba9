"""The calls of this process: spans and adapters report them here.

One for the process, because the same call may be reported through two tracer providers, or by a
span and an adapter. Holds no lock while other code runs.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, TypeVar

from opentelemetry import trace

from otel_budget import semconv
from otel_budget.genai import attribution
from otel_budget.genai.notices import Notices
from otel_budget.genai.span_calls import SpanCalls
from otel_budget.genai.span_reader import NOT_A_CALL, Kind
from otel_budget.genai.span_tree import Begun, note_refused
from otel_budget.logs.logger import logger
from otel_budget.runtime.fork import in_child

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from opentelemetry.context import Context

    from otel_budget.core.exceeded import BudgetExceeded
    from otel_budget.genai.call import CountedCall, Hold, UsageSink
    from otel_budget.genai.span_reader import CallReport
    from otel_budget.genai.span_tree import Node

T = TypeVar("T")

_NOTHING: Final[Mapping[str, object]] = {}


class CallTracker:
    """Where spans and adapters report calls, and from where they get into their runs."""

    def __init__(
        self, notices: Notices | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin with nothing reported. notices, monotonic: for tests and replays."""
        self.notices = Notices() if notices is None else notices
        self._monotonic = monotonic
        self._own_ids = 0
        self.unattributed: UsageSink | None = None
        """Counts what belongs to no run."""
        self.listens = False
        """The global tracer provider reports its spans here, so a run's own span is seen, too."""
        self.in_use = False
        """Calls are reported here."""
        self.spans = False
        """What spans say is reported here."""
        self.unattributed_calls = 0
        """Calls that were made outside of every run."""
        self.adapters: set[str] = set()
        """Libraries whose adapter was imported: their calls are expected to be reported."""
        self._reset()
        in_child(self._reset)

    def _reset(self) -> None:
        """Count none of the parent's calls in a forked child."""
        self._lock = threading.RLock()  # reentrant: a signal handler may make a span
        self._calls = SpanCalls()
        self._decider: int | None = None
        self._later: deque[Callable[[SpanCalls], object]] = deque()
        self._failed_before = False

    # --- spans ---------------------------------------------------------------------------------
    def knows(self, span_id: int) -> bool:
        """Tell whether a span of that id was reported."""
        return self._calls.tree.newest(span_id) is not None

    def starting(
        self,
        span_id: int,
        parent_id: int | None,
        scope: str,
        first: Mapping[str, object],
        *,
        name: str = "",
        kind: Kind | None = None,
        parent_context: Context | None = None,
        started_ns: int | None = None,
        sink: UsageSink | None = None,
    ) -> Callable[[SpanCalls], Node | None]:
        """Return what takes in a span that begins; None if it has nowhere to be counted.

        kind: by default what its name and its first attributes say. sink: where it is counted,
        by default where its context says.
        """
        now = self._monotonic()

        def start(calls: SpanCalls) -> Node | None:
            parent = attribution.nearer(calls.tree.newest(parent_id))
            theirs = None if parent is None else parent.sink
            whose = sink or attribution.sink_around()
            whose = whose or attribution.sink_of(parent_context, theirs) or self.unattributed
            if whose is None:
                return None
            begun = Begun(span_id, parent, scope, whose, first, name, kind, now, started_ns)
            return calls.start(begun)

        return start

    def ending(
        self, node: Node, report: CallReport, *, failed: bool
    ) -> Callable[[SpanCalls], None]:
        """Return what takes in that a span has ended."""
        now = self._monotonic()
        return lambda calls: calls.end(node, report, now, failed=failed)

    @contextmanager
    def enclosing(self) -> Iterator[Node | None]:
        """Take what is reported in this context for a part of what the block stands for.

        Yields what can be asked what was counted inside; None if nothing is reported here.
        """
        if not self.in_use:
            yield None
            return
        node = self._open(semconv.SCOPE_NAME, Kind.OTHER)
        token = attribution.ENCLOSING.set(node)
        try:
            yield node
        finally:
            with suppress(ValueError):  # left in another context, as async generators may be
                attribution.ENCLOSING.reset(token)
            self.close_call(node, NOT_A_CALL)

    # --- adapters ------------------------------------------------------------------------------
    def open_call(
        self,
        scope: str,
        *,
        sink: UsageSink | None = None,
        hold: Hold | None = None,
        context: Context | None = None,
    ) -> Node | None:
        """Take in a call that begins, reported by an adapter. Never raises.

        scope: names the adapter. sink: of its run, by default that of the context. The span that is
        current is its parent, so that a span of the same call above or below it is found. hold:
        what it may use; ended when the call is over and counted.
        """
        self.in_use = True
        node = self._open(scope, Kind.INFERENCE, sink=sink, context=context)
        if node is not None and hold is not None:
            node.hold = hold
            node.phase = node.hold_phase = hold.phase(node.phase)
        return node

    def open_tool(self, scope: str, *, sink: UsageSink | None = None) -> Node | None:
        """Take in a call of a tool that begins, reported by an adapter. Never raises.

        It ends with ``close_call``, whose report says which tool it was.
        """
        self.in_use = True
        return self._open(scope, Kind.AGGREGATE, sink=sink)

    def close_call(self, node: Node | None, report: CallReport, *, failed: bool = False) -> None:
        """Take in that a call reported by ``open_call`` is over. Never raises."""
        if node is not None:
            self.decide(self.ending(node, report, failed=failed), "ends")
            if report.refused:
                self.say(self.notices.refused, node.scope, report.refused)

    def refuse(self, why: BudgetExceeded | None = None) -> None:
        """Take in that a call was refused here: spans around it that fail of it are none, either.

        Never raises.
        """
        above = trace.get_current_span().get_span_context().span_id

        def refuse(calls: SpanCalls) -> None:
            node = attribution.nearer(calls.tree.newest(above))
            if node is not None:
                note_refused(node, why)

        self.decide(refuse, "is refused")

    def _open(
        self,
        scope: str,
        kind: Kind,
        *,
        sink: UsageSink | None = None,
        context: Context | None = None,
    ) -> Node | None:
        above = trace.get_current_span(context).get_span_context().span_id
        start = self.starting(
            self._own_id(),
            above,
            scope,
            _NOTHING,
            kind=kind,
            parent_context=context,
            sink=sink,
        )
        return self.decide(start, "begins")

    # --- runs ----------------------------------------------------------------------------------
    def settle(self, sink: UsageSink | None = None) -> None:
        """Count what is held: of a run that ends also its calls that did not end; None: of all."""
        self.decide(lambda calls: calls.settle(sink, open_too=sink is not None), "is held")

    def decide(self, decide: Callable[[SpanCalls], T], when: str) -> T | None:
        """Have something decided under the lock, and hand it over without. Never raises.

        Each thread hands over what it decided itself: it would wait for another one's callbacks.
        """
        me = threading.get_ident()
        if self._decider == me:
            # A signal handler, in the middle of a decision of its own thread.
            self._later.append(decide)
            return None
        try:
            with self._lock:
                self._decider = me
                try:
                    result = decide(self._calls)
                    while self._later:
                        self._later.popleft()(self._calls)
                finally:
                    self._decider = None
                if not self._calls.decided:
                    return result
                counted, duplicates, over = self._calls.take()
        except Exception:  # noqa: BLE001 - a defect here must not end the user's model call
            self.broken(when)
            return None
        try:
            if len(counted) == 1 and not duplicates:  # nearly always
                self._add(counted[0])
            else:
                self._hand_over(counted, duplicates)
        finally:
            for hold in over:  # what was used of it is counted by now
                hold.end()
        return result

    def _hand_over(self, counted: list[CountedCall], duplicates: list[tuple[str, str]]) -> None:
        rest = iter(counted)
        try:
            for counted_call in rest:
                self._add(counted_call)
        finally:  # after a KeyboardInterrupt, or a SystemExit of a callback's
            for counted_call in rest:
                self._add(counted_call)
        for pair in duplicates:
            self.say(self.notices.duplicate, *pair)

    def _add(self, counted_call: CountedCall) -> None:
        sink, phase, call = counted_call
        try:
            sink.add(call, phase)
        except Exception:  # noqa: BLE001 - the other bookings are to be made
            self.broken("is counted")
        if call.unknown:
            self.say(self.notices.unknown, call)
        if sink is self.unattributed and (call.is_call or call.usage.known):
            self.unattributed_calls += call.is_call
            ended = attribution.ended_here()
            if ended is None:
                self.say(self.notices.unattributed, call)
            else:
                self.say(self.notices.after_end, call, ended)

    def say(self, notice: Callable[..., None], *about: object) -> None:
        """Say something about it, whatever the application's log handlers do."""
        with suppress(Exception):
            notice(*about)

    def _own_id(self) -> int:
        with self._lock:
            self._own_ids -= 1  # no span's id is negative
            return self._own_ids

    def broken(self, when: str) -> None:
        """Say, aloud the first time only, that something could not be read. In an ``except``."""
        level = logging.DEBUG if self._failed_before else logging.ERROR
        self._failed_before = True
        logger.log(
            level, "a model call could not be read as it %s: it may be missing from the budget "
            "(said once; please report this)", when, exc_info=True,
        )  # fmt: skip


#: Of this process.
CALL_TRACKER: Final = CallTracker()
