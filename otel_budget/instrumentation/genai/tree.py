"""The spans that matter, as a tree: which are open, what became of those that are over.

Bounded in number: a span that never ends, and a chain of spans without an end, cost no memory for
ever. What ended is kept for a while, because a child may begin, or end, after its parent.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget.instrumentation.genai import names
from otel_budget.instrumentation.genai.reading import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from otel_budget.instrumentation.genai.call import Call, Target

#: Spans that are open at once at most; past that the oldest is taken to never end.
MAX_OPEN: Final = 20_000
#: Spans kept after their end.
MAX_ENDED: Final = 4_096
#: Ancestors looked at, and calls remembered below one span.
MAX_DEPTH: Final = 64
MAX_BELOW: Final = 64


class State(Enum):
    """What became of a span as a model call."""

    NONE = "none"
    HELD = "held"
    """Not counted yet: another record of the same call may say more."""
    COUNTED = "counted"
    DROPPED = "dropped"
    """Another record of the same call was counted."""


class Begun(NamedTuple):
    """A span at its start."""

    span_id: int
    parent: Node | None
    scope: str
    """Name of the instrumentation scope."""
    target: Target
    """The run it belongs to."""
    first: Mapping[str, object]
    """Those of its attributes that are in ``names.FROM_START``."""
    kind: Kind
    """As far as its attributes at the start say."""
    at: float
    """Monotonic seconds."""


class Node:
    """One span. Holds on to no attributes but the few that the SDK may evict."""

    __slots__ = (
        "below",
        "call",
        "counted_below",
        "ended",
        "first",
        "kind",
        "number",
        "parent",
        "place",
        "response_id",
        "scope",
        "span_id",
        "started_at",
        "state",
        "target",
        "usage_below",
        "usage_known",
    )

    def __init__(self, begun: Begun, number: int) -> None:
        """Begin open and uncounted. number: the order of starts."""
        self.span_id, self.parent, self.scope, self.target = begun[:4]
        self.first, self.kind, self.started_at = begun[4:]
        self.place = self.target.place()
        self.number = number
        self.ended = self.counted_below = self.usage_below = False
        self.usage_known = False
        self.state = State.NONE
        self.response_id: str | None = None
        self.call: Call | None = None
        """While held: what is counted if nothing better comes."""
        self.below: tuple[Node, ...] = ()
        """Inference spans below this one that are counted or held."""

    @property
    def ancestors(self) -> Iterator[Node]:
        """Yield the spans above, the nearest first."""
        node, depth = self.parent, 0
        while node is not None and depth < MAX_DEPTH:
            yield node
            node, depth = node.parent, depth + 1

    @property
    def may_be_inference(self) -> bool:
        """True for an open span that is a model call, or may say so at its end."""
        if self.ended:
            return False
        late = self.kind is Kind.OTHER and self.scope.startswith(names.SAID_LATE)
        return late or self.kind is Kind.INFERENCE


class Tree:
    """All spans that are open, and the last ones that ended."""

    def __init__(self) -> None:
        """Begin empty."""
        self.open: dict[int, Node] = {}
        self._ended: OrderedDict[int, Node] = OrderedDict()
        self._numbers = 0

    def find(self, span_id: int | None) -> Node | None:
        """Return a span that is known, open or over."""
        if span_id is None:
            return None
        return self.open.get(span_id) or self._ended.get(span_id)

    def add(self, begun: Begun) -> Node:
        """Take in a span that begins."""
        self._numbers += 1
        node = self.open[begun.span_id] = Node(begun, self._numbers)
        return node

    def end(self, node: Node) -> None:
        """Take note that a span is over, or taken to be."""
        node.ended = True
        self.open.pop(node.span_id, None)
        self._ended[node.span_id] = node
        while len(self._ended) > MAX_ENDED:
            _, forgotten = self._ended.popitem(last=False)
            # A chain in which each span begins after its parent's end would be kept whole.
            forgotten.parent = None
            forgotten.below = ()


def note_counted(node: Node) -> None:
    """Tell the spans above that a call was counted, or is held, below them."""
    for above in node.ancestors:
        above.counted_below = True
        above.usage_below |= node.usage_known
        repeats = above.kind is Kind.AGGREGATE or node in above.below
        if not repeats and len(above.below) < MAX_BELOW:
            above.below = (*above.below, node)


def note_counted_elsewhere(node: Node) -> None:
    """Tell the spans above that the call of this span is in the account by another record of it."""
    for above in node.ancestors:
        above.counted_below = above.usage_below = True
