"""A model call as an instrumented library reports it, and the runs of this process."""

import time

from opentelemetry import trace

from otel_budget import ResourceLimits, ResourceMonitor, instrument, unattributed_usage

instrument()
#: Session id to monitor.
RUNS: dict[str, ResourceMonitor] = {}


def run(session_id: str, max_api_calls: int = 1000) -> ResourceMonitor:
    """Return a new run."""
    RUNS[session_id] = ResourceMonitor(ResourceLimits(max_api_calls=max_api_calls), session_id)
    return RUNS[session_id]


def call() -> None:
    """Make a call of 100 tokens."""
    attributes: dict[str, str | int] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "m",
        "gen_ai.usage.input_tokens": 90,
        "gen_ai.usage.output_tokens": 10,
    }
    with trace.get_tracer("opentelemetry.instrumentation.openai_v2").start_as_current_span(
        "chat m", attributes=attributes
    ):
        time.sleep(0.02)


def counted() -> dict[str, int]:
    """Return the calls of each run, and under an empty name those of none."""
    calls = {name: one.get_usage_report().api_calls for name, one in RUNS.items()}
    return {**calls, "": unattributed_usage().api_calls}
