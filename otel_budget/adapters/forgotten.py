"""Calls that are made past an adapter in use: said at the first of a run, not at its end."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from otel_budget.genai import attribution
from otel_budget.genai.call_tracker import CALL_TRACKER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_budget.genai.call import UsageSink


@contextmanager
def watched(model: object, framework: str, instead: str) -> Iterator[None]:
    """Say of a call in a run that it is not asked for, once for a run.

    Not of one that another adapter asks for, around it or inside, as the guard of a plain client
    does. model: its name. framework: the adapter's. instead: what the application is to call.
    """
    sink = attribution.current() if attribution.scope_around() is None else None
    before = _asked_for(sink)
    try:
        yield
    finally:
        if sink is not None and _asked_for(sink) == before:
            CALL_TRACKER.notices.forgotten(sink.session_id, model, framework, instead)


def _asked_for(sink: UsageSink | None) -> object:
    """Return how many calls of a run were asked for by any adapter of ours."""
    return getattr(sink, "asked", None)
