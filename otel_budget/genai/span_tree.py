"""The spans that matter, as a tree: which are open, what became of those that are over.

Bounded in number: a span that never ends, and a chain of spans without an end, cost no memory for
ever. What ended is kept for a while, because a child may begin, or end, after its parent.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget.genai.span_reader import NO_USAGE, Kind, kind_at_start

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_budget.core.exceeded import BudgetExceeded
    from otel_budget.genai.call import Call, Hold, UsageSink

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
    sink: UsageSink
    """The run it belongs to."""
    first: Mapping[str, object]
    """Its attributes at the start: the SDK evicts the oldest."""
    name: str
    kind: Kind | None
    """None: what its name and its first attributes say, if that is asked before it ends."""
    at: float
    """Monotonic seconds."""
    started_ns: int | None = None
    """The span's own start time. With a seeded ``random`` the SDK gives ids more than once."""


class Node:
    """One span. Holds on to its first attributes while it is open."""

    __slots__ = (
        "_kind",
        "begun_late",
        "below",
        "call",
        "counted_below",
        "encloses",
        "ended",
        "first",
        "hold",
        "hold_phase",
        "model",
        "name",
        "number",
        "parent",
        "phase",
        "refused",
        "response_id",
        "scope",
        "sink",
        "span_id",
        "started_at",
        "started_ns",
        "state",
        "tokens_below",
        "tool_calls_below",
        "usage",
        "usage_below",
    )

    def __init__(self, begun: Begun, number: int) -> None:
        """Begin open and uncounted. number: the order of starts."""
        self.span_id, self.parent, self.scope, self.sink = begun[:4]
        self.first, self.name, self._kind, self.started_at, self.started_ns = begun[4:]
        parent = self.parent
        self.hold: Hold | None = None
        """What it may use, taken off its run's room until it is over."""
        self.hold_phase: object = None
        """The phase of such a hold, of this call or of the one that it is a part of."""
        if parent is not None and parent.hold_phase is not None and parent.shares_with(self.sink):
            self.hold_phase = parent.hold_phase
        self.phase = self.hold_phase or self.sink.current_phase()
        self.number = number
        self.ended = self.counted_below = self.usage_below = False
        self.encloses = True
        """What begins in its context is a part of it."""
        self.begun_late = False
        """Its beginning was not seen, nor what was inside it."""
        self.refused: bool | BudgetExceeded = False
        """A call was refused inside it while it was open: why, if that is known."""
        self.tokens_below = 0
        """Of the same run, counted below this span."""
        self.tool_calls_below = 0
        """The same for calls of tools."""
        self.usage, self.model = NO_USAGE, ""
        self.state = State.NONE
        self.response_id: str | None = None
        self.call: Call | None = None
        """While held: what is counted if nothing better comes."""
        self.below: tuple[Node, ...] = ()
        """Inference spans below this one that are counted or held."""

    @property
    def kind(self) -> Kind:
        """What the span is, as far as is known by now."""
        if self._kind is None:
            self._kind = kind_at_start(self.name, self.scope, self.first)
        return self._kind

    @kind.setter
    def kind(self, kind: Kind) -> None:
        self._kind = kind

    def shares_with(self, sink: UsageSink) -> bool:
        """Tell whether what begins inside it now, of a run, is paid for by what it holds."""
        return self.encloses and not self.ended and self.sink is sink

    @property
    def ancestors(self) -> Iterator[Node]:
        """Yield the spans above, the nearest first."""
        node, depth = self.parent, 0
        while node is not None and depth < MAX_DEPTH:
            yield node
            node, depth = node.parent, depth + 1

    @property
    def usage_known(self) -> bool:
        """True if the span said what the call used."""
        return bool(self.usage[0] or self.usage[1])

    @property
    def may_say_more(self) -> bool:
        """True for a model call that has not ended: it may be another record of one below it."""
        return not self.ended and self.kind is Kind.INFERENCE


_NOTHING: Final[Mapping[str, object]] = {}
_Key = tuple[int, int | None]


class Tree:
    """All spans that are open, and the last ones that ended."""

    def __init__(self) -> None:
        self.open: dict[_Key, Node] = {}
        self._ended: OrderedDict[_Key, Node] = OrderedDict()
        self._newest: dict[int, Node] = {}
        """By id alone, as a child names its parent."""
        self._numbers = 0

    @property
    def started(self) -> int:
        """The number of the span that began last."""
        return self._numbers

    def newest(self, span_id: int | None) -> Node | None:
        """Return the span of an id that began last, open or over."""
        return None if span_id is None else self._newest.get(span_id)

    def find(self, span_id: int, started_ns: int | None) -> Node | None:
        """Return a span, open or over."""
        key = (span_id, started_ns)
        return self.open.get(key) or self._ended.get(key)

    def add(self, begun: Begun) -> Node:
        """Take in a span that begins."""
        self._numbers += 1
        node = Node(begun, self._numbers)
        self.open[node.span_id, node.started_ns] = self._newest[node.span_id] = node
        return node

    def end(self, node: Node) -> None:
        """Take note that a span is over, or taken to be."""
        node.ended = True
        node.kind = node.kind  # told by what goes now
        node.first = _NOTHING
        key = (node.span_id, node.started_ns)
        self.open.pop(key, None)
        self._ended[key] = node
        while len(self._ended) > MAX_ENDED:
            _, forgotten = self._ended.popitem(last=False)
            if self._newest.get(forgotten.span_id) is forgotten:
                del self._newest[forgotten.span_id]
            # A chain in which each span begins after its parent's end would be kept whole.
            forgotten.parent = None
            forgotten.below = ()


def note_counted(node: Node, tokens: int) -> None:
    """Tell the spans above that a call was counted, or is held, below them."""
    if node.parent is None:
        return
    for above in node.ancestors:
        if above.sink is node.sink:
            above.counted_below = True
            above.tokens_below += tokens
        above.usage_below |= node.usage_known
        below = above.below
        if above.kind is Kind.AGGREGATE or len(below) >= MAX_BELOW or node in below:
            continue
        above.below = (*below, node)


def note_tool_call(node: Node) -> None:
    """Tell the spans above that a call of a tool was counted below them."""
    for above in node.ancestors:
        above.tool_calls_below += above.sink is node.sink


def note_counted_elsewhere(node: Node) -> None:
    """Tell the spans above that the call of this span is counted by another record of it."""
    for above in node.ancestors:
        above.counted_below = above.usage_below = True


def note_refused(node: Node, why: BudgetExceeded | None) -> None:
    """Tell a span, and those above it, that a call was refused inside."""
    for around in (node, *node.ancestors):
        around.refused = False if around.ended else why or True
