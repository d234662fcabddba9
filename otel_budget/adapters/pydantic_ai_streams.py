"""The usage of a stream of Pydantic AI, which adds up what a server repeats with each chunk."""

from __future__ import annotations

import copy
import functools
from typing import Any

from otel_budget.genai.running_total import RunningTotal


class Growth:
    """Watches the usage of one stream."""

    def __init__(self) -> None:
        """Begin with nothing used."""
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


def _get(stream: Any) -> Any:
    return vars(stream)["_usage"]


def _set(stream: Any, usage: Any) -> None:
    growth: Growth = vars(stream)["otel_budget"]
    growth.see(vars(stream).get("_usage"), usage)
    vars(stream)["_usage"] = usage


@functools.cache
def _watched(kind: type) -> type:
    """Return a class of streams each of which has its changes of usage seen."""
    return type(kind.__name__, (kind,), {"_usage": property(_get, _set)})


def watch(stream: Any) -> Growth | None:
    """Watch a stream's usage from now on; None if that is not possible.

    It stays the object it is, and an instance of its class.
    """
    while hasattr(stream, "wrapped"):
        stream = stream.wrapped
    growth = Growth()
    try:
        vars(stream)["otel_budget"] = growth
        stream.__class__ = _watched(stream.__class__)
    except TypeError:  # of a class that has no such attributes
        return None
    return growth


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
