"""The same call in the spans of two libraries that nothing links: no id, no common ancestor.

What is left is a coincidence: a span of the one began before, and ended after, a span of the other
in the same run, with the same tokens. One look proves nothing. When two libraries were seen to
report the same calls more than once, be it so, by id or by ancestry, both report every call: then
also what says nothing, and encloses a call of the other, is that call.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from otel_budget.instrumentation.genai.call import Call
    from otel_budget.instrumentation.genai.tree import Node

#: Sightings of two scopes with the same call that are taken for chance.
CHANCES: Final = 2
#: Runs remembered, and the last calls of each.
MAX_RUNS: Final = 1_024
MAX_CALLS: Final = 64
#: Scopes told apart.
MAX_SCOPES: Final = 100


class _Counted:
    """What is remembered of a call."""

    __slots__ = ("call", "matched", "named", "number")

    def __init__(self, node: Node, call: Call) -> None:
        self.number, self.call = node.number, call
        self.named, self.matched = node.response_id is not None, False


class Unlinked:
    """Find calls that a second scope reports."""

    def __init__(self) -> None:
        """Begin with nothing counted."""
        self._scopes: set[str] = set()
        self._recent: OrderedDict[int, deque[_Counted]] = OrderedDict()
        self._sightings: Counter[frozenset[str]] = Counter()

    def counted(self, node: Node, call: Call) -> None:
        """Remember a call that was counted."""
        self._note(node.scope)
        recent = self._recent.get(id(node.target))
        if recent is None:
            recent = self._recent[id(node.target)] = deque(maxlen=MAX_CALLS)
            if len(self._recent) > MAX_RUNS:
                self._recent.popitem(last=False)
        recent.append(_Counted(node, call))

    def learn(self, one: str, other: str) -> None:
        """Take note that two scopes reported the same call, by its id or by ancestry."""
        if self._note(one) and self._note(other):
            self._sightings[frozenset((one, other))] += 1

    def repeated(self, node: Node, call: Call) -> str | None:
        """Return the scope that counted the same call before; None if that cannot be said."""
        if self._scopes <= {node.scope}:
            return None
        named = node.response_id is not None
        for other in self._recent.get(id(node.target), ()):
            enclosed = other.number > node.number and other.call.scope != node.scope
            if not enclosed or other.matched or (named and other.named):
                continue
            if not self._alike(call, other.call):
                continue
            other.matched = True
            pair = frozenset((node.scope, other.call.scope))
            self._sightings[pair] += 1
            return other.call.scope if self._sightings[pair] > CHANCES else None
        return None

    def _note(self, scope: str) -> bool:
        """Return whether a scope is among those that are told apart."""
        if len(self._scopes) < MAX_SCOPES:
            self._scopes.add(scope)
        return scope in self._scopes

    def _alike(self, call: Call, other: Call) -> bool:
        if not same_model(call.model, other.model):
            return False
        if call.usage.known:
            return call.usage[:2] == other.usage[:2]
        learnt = self._sightings[frozenset((call.scope, other.scope))] >= CHANCES
        return learnt and call.failed == other.failed


def same_model(one: str | None, other: str | None) -> bool:
    """Tell whether two names may be of one model: with a date, or a provider, on one of them."""
    return not one or not other or one in other or other in one
