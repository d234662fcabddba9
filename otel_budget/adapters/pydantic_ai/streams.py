"""Streams of Pydantic AI's: what they used, and the mark of an answer that was cut short."""

from __future__ import annotations

import copy
import functools
from typing import TYPE_CHECKING, Any

from otel_budget.adapters.pydantic_ai.messages import mark
from otel_budget.genai.running_total import RunningTotal

if TYPE_CHECKING:
    from otel_budget.adapters.ending import CutShort


class Growth:
    """Watches the usage of one stream: Pydantic AI adds up what a server repeats in each chunk."""

    def __init__(self) -> None:
        self._total = RunningTotal()
        self._last: dict[str, Any] = {}

    def see(self, before: Any, after: Any) -> None:
        """Take in that something was added to the usage."""
        added = _difference(vars(after), {} if before is None else vars(before))
        into, out = added.get("input_tokens", 0), added.get("output_tokens", 0)
        if into or out:
            self._last = added
        self._total.see(into, out)

    def usage(self, summed: Any) -> Any:
        """Return what the stream used. summed: as Pydantic AI says it."""
        if not self._total.is_added_up(summed.input_tokens, summed.output_tokens):
            return summed
        into, out = self._total.used
        used = copy.copy(summed)
        nothing: dict[str, Any] = {**dict.fromkeys(vars(summed), 0), "details": {}, "cost": None}
        vars(used).update(nothing | self._last)
        used.input_tokens, used.output_tokens = into, out
        return used


def _usage_of_stream(stream: Any) -> Any:
    return vars(stream)["_usage"]


def _set_usage_of_stream(stream: Any, usage: Any) -> None:
    growth: Growth = vars(stream)["otel_budget"]
    growth.see(vars(stream).get("_usage"), usage)
    vars(stream)["_usage"] = usage


@functools.cache
def _watched(kind: type) -> type:
    """Return a class of streams each of which has its changes of usage seen."""

    def get(stream: Any) -> Any:
        return mark(kind.get(stream), vars(stream).get("otel_budget_cut"))  # type: ignore[attr-defined] # a stream's

    usage = property(_usage_of_stream, _set_usage_of_stream)
    return type(kind.__name__, (kind,), {"_usage": usage, "get": get})


def watch(stream: Any, cut: CutShort | None) -> Growth | None:
    """Watch a stream's usage, and mark what it answers as cut short; None: it is not."""
    growth = watch_usage(stream)
    if growth is not None:
        vars(_innermost(stream))["otel_budget_cut"] = cut
    return growth


def watch_usage(stream: Any) -> Growth | None:
    """Watch a stream's usage from now on; None if that is not possible.

    It stays the object it is, and an instance of its class.
    """
    stream = _innermost(stream)
    growth = Growth()
    try:
        vars(stream)["otel_budget"] = growth
        stream.__class__ = _watched(stream.__class__)
    except TypeError:  # of a class that has no such attributes
        return None
    return growth


def _innermost(stream: Any) -> Any:
    while hasattr(stream, "wrapped"):
        stream = stream.wrapped
    return stream


def _difference(after: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """Return how much was added to each count, and to those among the provider's details."""
    added: dict[str, Any] = {}
    for name, value in after.items():
        was = before.get(name)
        if isinstance(value, dict):
            added[name] = _difference(value, was if isinstance(was, dict) else {})
        elif isinstance(value, int | float):
            added[name] = value - (was or 0)
    return added
