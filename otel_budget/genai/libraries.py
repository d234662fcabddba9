"""What people call the libraries that make spans, and what to advise of each: data, no rules.

The adapters' own rows are not here: each adapter adds its row when it is imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget import semconv

if TYPE_CHECKING:
    from otel_budget.genai.call import Call


class Library(NamedTuple):
    """One library, or one adapter of ours."""

    scope: str
    """The beginning of the names of its instrumentation scopes."""
    name: str
    """The subject of a sentence, in the plural."""
    streaming_advice: str = ""
    """How to get the usage of a stream, in the imperative; empty: what does for most."""


_LANGCHAIN: Final = "pass stream_usage=True to the chat model"
_LIBRARIES: Final = (
    Library("com.anthropic.sdk", "anthropic's own spans"),
    Library(
        "opentelemetry.instrumentation.genai.openai_agents", "OpenTelemetry's openai-agents spans"
    ),
    Library(
        "opentelemetry.instrumentation.genai.langchain", "OpenTelemetry's genai spans", _LANGCHAIN
    ),
    Library("opentelemetry.instrumentation.genai.", "OpenTelemetry's genai spans"),
    Library("opentelemetry.instrumentation.openai_v2", "OpenTelemetry's openai-v2 spans"),
    Library("opentelemetry.util.genai", "OpenTelemetry's util-genai spans"),
    Library("opentelemetry.instrumentation.google_genai", "OpenTelemetry's google-genai spans"),
    Library("opentelemetry.instrumentation.botocore", "OpenTelemetry's botocore spans"),
    Library("opentelemetry.instrumentation.langchain", "Traceloop's spans", _LANGCHAIN),
    Library("opentelemetry.instrumentation.", "Traceloop's spans"),
    Library("openinference.instrumentation.langchain", "OpenInference's spans", _LANGCHAIN),
    Library("openinference.", "OpenInference's spans"),
    Library("pydantic-ai", "Pydantic AI's spans"),
    Library(
        "litellm", "LiteLLM's spans",
        "pass stream_options={'include_usage': True}, or use otel_budget's callback",
    ),
    Library(
        "openlit", "OpenLIT's spans", "pass stream_options={'include_usage': True} where you stream"
    ),
    Library("logfire", "Logfire's spans"),
    Library("strands", "Strands' spans"),
)  # fmt: skip
_OURS: Final = Library(semconv.SCOPE_NAME, "otel-budget's own spans")
_OF_ANTHROPIC: Final = "read streams to their end (Anthropic sends the usage in the last event)"
_OTHERWISE: Final = (
    "pass stream_options={'include_usage': True} where you stream, and read streams to their end"
)
#: By scope, of the adapters that this process has imported.
_adapters: Final[dict[str, Library]] = {}


def add_library(adapter: Library) -> None:
    """Make an adapter known by its scope."""
    _adapters[adapter.scope] = adapter


def library(scope: str) -> str:
    """Return what people call the library that made a span."""
    found = _find(scope)
    return f"the spans of {scope!r}" if found is None else found.name


def streaming_advice(call: Call) -> str:
    """Return how to get the usage of a call that did not report any."""
    found = _find(call.scope)
    if found is not None and found.streaming_advice:
        return found.streaming_advice
    return _OF_ANTHROPIC if (call.provider or "").lower() == "anthropic" else _OTHERWISE


def _find(scope: str) -> Library | None:
    known = (*_adapters.values(), _OURS, *_LIBRARIES)
    return next((library for library in known if scope.startswith(library.scope)), None)
