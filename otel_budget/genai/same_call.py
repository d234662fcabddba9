"""Which spans, above and below each other, are records of one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_budget import semconv
from otel_budget.genai.deduplication import same_model
from otel_budget.genai.span_reader import Kind
from otel_budget.genai.span_tree import State

if TYPE_CHECKING:
    from otel_budget.genai.call import Call
    from otel_budget.genai.span_reader import Usage
    from otel_budget.genai.span_tree import Node

#: How the scopes of all adapters begin.
_ADAPTERS: Final = f"{semconv.SCOPE_NAME}."


def linked_records(node: Node) -> list[Node]:
    """Return the records of the same call below and above a span."""
    if node.parent is None and not node.below:  # the most usual
        return []
    above = [other for other in node.ancestors if other.kind is Kind.INFERENCE]
    return [
        other
        for other in (*node.below, *above)
        if other.state in (State.COUNTED, State.HELD)
        and other.kind is Kind.INFERENCE
        and _may_be_one(node, other)
    ]


def _may_be_one(one: Node, other: Node) -> bool:
    """Tell whether two spans above each other may be of one call: a guard's call is another one."""
    if one.response_id and other.response_id:
        return one.response_id == other.response_id
    if not one.usage_known or not other.usage_known:
        return True
    return same_model(one.model, other.model) and _same_input(one.usage, other.usage)


def _same_input(one: Usage, other: Usage) -> bool:
    """Tell whether two inputs may be of one call: emitters disagree about cached tokens at most."""
    beside = {0, one.cached, one.cached + one.cache_write, other.cached,
              other.cached + other.cache_write}  # fmt: skip
    return not one.input or not other.input or abs(one.input - other.input) in beside


def says_more_than(node: Node, linked: list[Node]) -> bool:
    """Tell whether a span is to be counted in the place of other records of its call.

    It is if only it says what was used. An adapter is believed where spans inside its call say it,
    too: frameworks leave parts out of their spans.
    """
    if not node.usage_known:
        return False
    waiting = node.scope.startswith(_ADAPTERS) and all(n.state is State.HELD for n in linked)
    return waiting or not any(n.usage_known for n in linked)


def is_inside_reported_call(node: Node) -> bool:
    """Tell whether a span is inside an adapter's open call, which is about to say what it used.

    What another adapter's call says is counted at once: what is inside may be a whole agent.
    """
    return not node.scope.startswith(_ADAPTERS) and any(
        above.may_say_more and above.scope.startswith(_ADAPTERS) for above in node.ancestors
    )


def is_reported_failure(call: Call) -> bool:
    """Tell whether a call failed by an adapter's word: an attempt that is over, and a call.

    It counts before the next attempt is asked for, which an outer call may be about to make.
    """
    return call.failed and call.scope.startswith(_ADAPTERS)


def replaced_record(linked: list[Node]) -> Node:
    """Return the one whose place an outer record takes: the last attempt, one that succeeded first.

    The other ones are attempts that failed, and separate calls.
    """
    attempts = [other for other in linked if other.call is None or not other.call.failed]
    return (attempts or linked)[-1]
