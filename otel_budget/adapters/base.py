"""What every adapter for a model framework does first: make itself known."""

from __future__ import annotations

from otel_budget.genai.call_tracker import CALL_TRACKER
from otel_budget.genai.libraries import Library, add_library


def register(scope: str, framework: str, name: str, *, streaming_advice: str = "") -> str:
    """Make an adapter known to this process, and return its scope.

    scope: ``otel_budget.`` and the adapter's module; its calls are reported under it. framework: as
    people call it. name: of the adapter, as the subject of a sentence. streaming_advice: how to get
    the usage of a stream, in the imperative; by default what does for most libraries.
    """
    add_library(Library(scope, name, streaming_advice))
    CALL_TRACKER.adapters.add(framework)
    return scope
