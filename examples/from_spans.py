"""Count what libraries report in their spans, and record nothing by hand."""

from opentelemetry import trace

import otel_budget
from otel_budget import ResourceLimits, ResourceMonitor

otel_budget.instrument()  # after your own set-up of OpenTelemetry, if you have one
tracer = trace.get_tracer("opentelemetry.instrumentation.genai.openai")


def model_call() -> None:
    """Stand for a call of an instrumented SDK: it makes a span like this one by itself."""
    known = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o-mini"}
    with tracer.start_as_current_span("chat gpt-4o-mini", attributes=known) as span:
        span.set_attribute("gen_ai.usage.input_tokens", 1_000)
        span.set_attribute("gen_ai.usage.cache_read.input_tokens", 600)
        span.set_attribute("gen_ai.usage.output_tokens", 300)


with ResourceMonitor(ResourceLimits(max_tokens=4_000), "from-spans") as monitor:
    while monitor.should_continue():
        model_call()
    print(f"stopped: {monitor.verdict.message}")

used = monitor.get_usage_report()
print(f"{used.api_calls} calls, {used.tokens:,} tokens, {used.cache_read_tokens:,} of them cached")
assert (used.api_calls, used.tokens) == (4, 5_200)
