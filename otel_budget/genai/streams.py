"""Streamed calls that a library records twice: the request, and apart from it what it used.

Nothing but the scope, the run and the model ties the two together, so they are paired in order.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from otel_budget.genai.span_reader import CallReport
    from otel_budget.genai.span_tree import Node

#: Requests that wait for their other half: per run, scope and model; and how many of those.
MAX_WAITING: Final = 256
MAX_KEYS: Final = 1_024

Key = tuple[int, str, str | None]


class _Waiting:
    """The halves of one run, scope and model that have no other half yet."""

    __slots__ = ("records", "requests")

    def __init__(self) -> None:
        self.requests: deque[Node] = deque(maxlen=MAX_WAITING)
        self.records = 0


class StreamRecords:
    """Pair requests with the records of their streams."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[Key, _Waiting] = OrderedDict()

    def request(self, node: Node, report: CallReport, *, failed: bool) -> bool:
        """Take in a request that did not say what it used; True if its record came before it."""
        waiting = self._of(node, report)
        if waiting.records:
            waiting.records -= 1
            return True
        if not failed:
            waiting.requests.append(node)
        return False

    def record(self, node: Node, report: CallReport) -> Node | None:
        """Return the request that a record belongs to; None if that has not ended yet."""
        waiting = self._of(node, report)
        if waiting.requests:
            return waiting.requests.popleft()
        if report.usage.known:  # else its request is as unknown as without it
            waiting.records = min(waiting.records + 1, MAX_WAITING)
        return None

    def forget(self, sink: object) -> None:
        """Wait for nothing of a run any more."""
        for key in [key for key in self._waiting if key[0] == id(sink)]:
            del self._waiting[key]

    def _of(self, node: Node, report: CallReport) -> _Waiting:
        key = (id(node.sink), node.scope, report.requested_model)
        waiting = self._waiting.get(key)
        if waiting is None:
            waiting = self._waiting[key] = _Waiting()
            if len(self._waiting) > MAX_KEYS:
                self._waiting.popitem(last=False)
        return waiting
