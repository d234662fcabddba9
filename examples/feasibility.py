"""Will the rest fit in every limit at the rate so far? Yes, no, or not known yet."""

from otel_budget import ResourceLimits, ResourceMonitor

with ResourceMonitor(ResourceLimits(max_tokens=100_000)) as monitor:
    print(f"before any progress: {monitor.get_estimated_completion_possible(0.0)}")
    monitor.record_operation(tokens=30_000, api_call=True)
    for progress in (0.2, 0.3, 0.5):
        total = 30_000 / progress
        possible = monitor.get_estimated_completion_possible(progress)
        print(f"30,000 tokens at {progress:.0%}: all of it would take {total:,.0f}: {possible}")
