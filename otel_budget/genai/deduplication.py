"""The same call in the spans of two libraries that nothing links: no id, no common ancestor.

What is left is a coincidence: a span of the one began before, and ended after, a span of the other
in the same run, with the same tokens. One look proves nothing. When two libraries were seen to
report the same calls more than once, by id or by ancestry, both are taken to report every call:
then also what says nothing, and was open together with a call of the other, is that call.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from otel_budget.genai.call import Call
    from otel_budget.genai.span_tree import Node

#: Sightings of two scopes with the same call that are taken for chance.
CHANCES: Final = 2
#: Runs remembered, and the last calls of each.
MAX_RUNS: Final = 1_024
MAX_CALLS: Final = 64
#: Scopes told apart.
MAX_SCOPES: Final = 100


class _Counted:
    """What is remembered of a call."""

    __slots__ = ("call", "matched", "named", "number", "until")

    def __init__(self, node: Node, call: Call, until: int) -> None:
        self.number, self.call, self.until = node.number, call, until
        self.named, self.matched = node.response_id is not None, False


class Unlinked:
    """Find calls that a second scope reports."""

    def __init__(self) -> None:
        self._scopes: set[str] = set()
        self._recent: OrderedDict[int, deque[_Counted]] = OrderedDict()
        self._sightings: Counter[frozenset[str]] = Counter()

    def counted(self, node: Node, call: Call, until: int) -> None:
        """Remember a call that was counted. until: the number of the last span begun by then."""
        self._note(node.scope)
        recent = self._recent.get(id(node.sink))
        if recent is None:
            recent = self._recent[id(node.sink)] = deque(maxlen=MAX_CALLS)
            if len(self._recent) > MAX_RUNS:
                self._recent.popitem(last=False)
        recent.append(_Counted(node, call, until))

    def learn(self, one: str, other: str) -> None:
        """Take note that two scopes reported the same call, by its id or by ancestry."""
        if self._note(one) and self._note(other):
            self._sightings[frozenset((one, other))] += 1

    def repeated(self, node: Node, call: Call) -> Call | None:
        """Return the call that was counted before and is this one; None if that cannot be said."""
        if self._scopes <= {node.scope}:
            return None
        named = node.response_id is not None
        for other in self._recent.get(id(node.sink), ()):
            if other.call.scope == node.scope or other.matched or (named and other.named):
                continue
            pair = frozenset((node.scope, other.call.scope))
            if not _overlap(node, other) or not self._alike(node, call, other, pair):
                continue
            other.matched = True
            self._sightings[pair] += 1
            return other.call if self._sightings[pair] > CHANCES else None
        return None

    def _note(self, scope: str) -> bool:
        """Return whether a scope is among those that are told apart."""
        if len(self._scopes) < MAX_SCOPES:
            self._scopes.add(scope)
        return scope in self._scopes

    def _alike(self, node: Node, call: Call, other: _Counted, pair: frozenset[str]) -> bool:
        if not same_model(call.model, other.call.model):
            return False
        if call.usage.known and other.call.usage.known:
            return other.number > node.number and call.usage[:2] == other.call.usage[:2]
        learnt = self._sightings[pair] >= CHANCES
        return learnt and call.failed == other.call.failed


def _overlap(node: Node, other: _Counted) -> bool:
    """Tell whether both were open at some moment. node ends now."""
    return other.number > node.number or other.until >= node.number


def same_model(one: str | None, other: str | None) -> bool:
    """Tell whether two names may be of one model: with a date, or a provider, on one of them."""
    return not one or not other or one in other or other in one
