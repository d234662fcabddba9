"""The calls of this process by the ids of their responses."""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget import semconv

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_budget.genai.span_reader import Usage
    from otel_budget.genai.span_tree import Node

#: Response ids remembered, of the whole process.
MAX_IDS: Final = 10_000


#: Ids that come again: those that a server makes of a small number (Ollama's, of 0 to 998), and
#: those that stand for none ("0", "unknown", "chatcmpl-local").
_WEAK: Final = re.compile(r"(?:chatcmpl|cmpl)-[0-9]{1,6}|.{0,7}|[^0-9]*", re.DOTALL)


#: Our own adapters' scopes.
_ADAPTERS: Final = semconv.SCOPE_NAME + "."


class Known(NamedTuple):
    """A call whose response has an id."""

    number: int
    """Of its span."""
    scope: str
    usage: Usage


class ResponseIds:
    """Tell whether a call was counted before."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Known] = OrderedDict()

    def remember(self, node: Node, usage: Usage) -> None:
        """Take note of a call that is counted, or held."""
        if node.response_id is not None:
            self._known[node.response_id] = Known(node.number, node.scope, usage)
            if len(self._known) > MAX_IDS:
                self._known.popitem(last=False)

    def same(self, node: Node, usage: Usage, linked: Iterable[Node]) -> Known | None:
        """Return the call that a span is another record of; None if it is none.

        linked: spans whose calls are known to be the same one anyway.
        """
        known = None if node.response_id is None else self._known.get(node.response_id)
        if known is None or any(other.number == known.number for other in linked):
            return None
        same_scope = known.scope == node.scope
        if same_scope and (
            node.scope.startswith(_ADAPTERS) or _WEAK.fullmatch(node.response_id or "")
        ):
            return None  # an adapter tells each call once, whatever id its server gives it
        if known.usage.known and usage.known and _differ(known.usage, usage, same_scope=same_scope):
            return None  # some servers use an id more than once
        return known

    def __len__(self) -> int:
        """Return how many are known."""
        return len(self._known)


def _differ(one: Usage, other: Usage, *, same_scope: bool) -> bool:
    """Tell whether two usages cannot be of one call. Libraries disagree about the output."""
    if same_scope:
        return one[:2] != other[:2]
    return one.input != other.input and bool(one.input and other.input)
