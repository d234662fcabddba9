"""The same call in the spans of two libraries that nothing links: no id, no common ancestor.

What is left is a coincidence: a span of the one began before, and ended after, a span of the other
in the same run, with the same tokens. One look proves nothing. When it happens again and again,
both libraries report every call.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from otel_budget.instrumentation.genai.reading import Usage
    from otel_budget.instrumentation.genai.tree import Node

#: Coincidences of two scopes that are taken for chance.
CHANCES: Final = 2
#: Runs and amounts of tokens remembered, and calls with the same ones.
MAX_RECENT: Final = 1_024
MAX_ALIKE: Final = 64

_Key = tuple[int, int, int]


class _Counted:
    """What is remembered of a call."""

    __slots__ = ("matched", "named", "number", "scope")

    def __init__(self, node: Node) -> None:
        self.number, self.scope = node.number, node.scope
        self.named, self.matched = node.response_id is not None, False


class Unlinked:
    """Find calls that a second scope reports."""

    def __init__(self) -> None:
        """Begin with nothing counted."""
        self._scopes: set[str] = set()
        self._recent: OrderedDict[_Key, deque[_Counted]] = OrderedDict()
        self._chances: Counter[frozenset[str]] = Counter()

    def counted(self, node: Node, usage: Usage) -> None:
        """Remember a call that was counted."""
        self._scopes.add(node.scope)
        key = _key(node, usage)
        self._recent.setdefault(key, deque(maxlen=MAX_ALIKE)).append(_Counted(node))
        if len(self._recent) > MAX_RECENT:
            self._recent.popitem(last=False)

    def repeated(self, node: Node, usage: Usage) -> str | None:
        """Return the scope that counted the same call before; None if that cannot be said."""
        if self._scopes <= {node.scope}:
            return None
        named = node.response_id is not None
        for other in self._recent.get(_key(node, usage), ()):
            enclosed = other.scope != node.scope and other.number > node.number
            if not enclosed or other.matched or (named and other.named):
                continue
            other.matched = True
            pair = frozenset((node.scope, other.scope))
            self._chances[pair] += 1
            return other.scope if self._chances[pair] > CHANCES else None
        return None


def _key(node: Node, usage: Usage) -> _Key:
    return (id(node.target), usage.input, usage.output)
