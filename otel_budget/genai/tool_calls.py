"""Calls of tools, each counted once, however many report it. Pure.

The rules:
- Two records with one call id are one call; with two ids they are two.
- Else they are one call where two libraries report a tool of the same name for the same run, and
  one record began before the other had ended. Each record stands for one record of each library.
- A tool that runs an agent, whose tools have spans below it, is not one of those.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from otel_budget.genai.span_reader import Kind

if TYPE_CHECKING:
    from otel_budget.genai.span_reader import ToolReport
    from otel_budget.genai.span_tree import Node

#: Records remembered at most: by name, of one name, and by call id.
MAX_NAMES: Final = 1_024
MAX_OF_NAME: Final = 64
MAX_IDS: Final = 4_096


@dataclass(slots=True, eq=False)
class _Record:
    node: Node
    call_id: str | None
    ended_number: int
    """The number of the span that had begun last when it ended."""
    scopes: set[str] = field(default_factory=set)
    """Libraries that have reported the same call."""


class ToolCalls:
    """The calls of tools that were counted lately."""

    def __init__(self) -> None:
        """Begin with none."""
        self._by_name: OrderedDict[tuple[int, str], deque[_Record]] = OrderedDict()
        self._by_id: OrderedDict[tuple[int, str], None] = OrderedDict()

    def is_new(self, node: Node, tool: ToolReport, started: int) -> bool:
        """Take in a record that ended; False if the call was counted by another record of it.

        started: the number of the span that began last.
        """
        if not self._is_new_id(node, tool.call_id):
            return False
        records = self._records(node, tool.name)
        for record in records:
            if self._is_same(record, node, tool):
                record.scopes.add(node.scope)
                return False
        records.append(_Record(node, tool.call_id, started, {node.scope}))
        return True

    def _is_new_id(self, node: Node, call_id: str | None) -> bool:
        if call_id is None:
            return True
        key = (id(node.sink), call_id)
        if key in self._by_id:
            return False
        self._by_id[key] = None
        while len(self._by_id) > MAX_IDS:
            self._by_id.popitem(last=False)
        return True

    def _records(self, node: Node, name: str) -> deque[_Record]:
        key = (id(node.sink), name)
        records = self._by_name.setdefault(key, deque(maxlen=MAX_OF_NAME))
        self._by_name.move_to_end(key)
        while len(self._by_name) > MAX_NAMES:
            self._by_name.popitem(last=False)
        return records

    @staticmethod
    def _is_same(record: _Record, node: Node, tool: ToolReport) -> bool:
        if record.node.sink is not node.sink or node.scope in record.scopes:
            return False
        if record.call_id is not None and tool.call_id is not None:
            return False  # two ids
        return node.number <= record.ended_number and not _is_within_agent(record.node, node)


def _is_within_agent(inner: Node, outer: Node) -> bool:
    """Tell whether one record is below the other, with an agent or a model's call in between."""
    between: list[Node] = []
    for above in inner.ancestors:
        if above is outer:
            return any(each.kind in (Kind.AGGREGATE, Kind.INFERENCE) for each in between)
        between.append(above)
    return False
