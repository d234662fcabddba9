"""Which spans, above and below each other, are records of one call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_budget.instrumentation.genai.reading import Kind
from otel_budget.instrumentation.genai.tree import State
from otel_budget.instrumentation.genai.unlinked import same_model

if TYPE_CHECKING:
    from otel_budget.instrumentation.genai.reading import Usage
    from otel_budget.instrumentation.genai.tree import Node


def linked_records(node: Node) -> list[Node]:
    """Return the records of the same call below and above a span."""
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


def stood_in_for(linked: list[Node]) -> Node:
    """Return the one whose place an outer record takes: the last attempt, one that succeeded first.

    The other ones are attempts that failed, and calls of their own.
    """
    attempts = [other for other in linked if other.call is None or not other.call.failed]
    return (attempts or linked)[-1]
