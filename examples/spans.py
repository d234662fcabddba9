"""A run, its phases and its model calls as OpenTelemetry spans, printed here to the console.

An application sets up its own tracer provider once; otel-budget uses whatever is there.
"""

from decimal import Decimal

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from otel_budget import ResourceLimits, ResourceMonitor


def line(span: object) -> str:
    """Say a span in one line."""
    attributes = getattr(span, "attributes", {}) or {}
    shown = {k.removeprefix("otel_budget."): v for k, v in attributes.items()}
    keys = ("session_id", "phase", "operation", "tokens", "cost_usd", "outcome", "action")
    values = " ".join(f"{key}={shown[key]}" for key in keys if key in shown)
    return f"{getattr(span, 'name', '')}: {values}\n"


provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(formatter=line)))
trace.set_tracer_provider(provider)

limits = ResourceLimits.only(max_cost_usd=Decimal("0.50"))
with (
    ResourceMonitor(limits, session_id="spans", workflow="report") as monitor,
    monitor.phase("draft"),
    monitor.operation(model="some-model", provider="some-provider") as operation,
):
    # Cached tokens are part of the input: 900 in all, 600 of them from the cache.
    operation.record(
        input_tokens=900, cache_read_tokens=600, output_tokens=120, cost_usd=Decimal("0.0042")
    )
