"""How far will it get, and will the rest fit? Yes, no, or not known yet."""

import time

from otel_budget import ResourceLimits, ResourceMonitor

with ResourceMonitor(ResourceLimits(max_tokens=100_000, max_api_calls=60)) as monitor:
    print(f"before any progress: {monitor.get_estimated_completion_possible(0.0)}")
    for call in range(20):
        time.sleep(0.002)  # where the model is called
        # An agent sends its whole conversation with each call, so each call is a larger one.
        monitor.record_operation(tokens=1_000 + 100 * call, api_call=True)

    tokens = monitor.forecast()["tokens"]
    if tokens.calls_left is not None:
        value, low, high = tokens.calls_left
        print(f"39,000 tokens in 20 calls: {value:.1f} more calls fit ({low:.1f} to {high:.1f})")
    print(f"which limit comes first: {monitor.verdict.ends_first}")

    for progress in (0.4, 0.5, 0.6):
        missing = 20 * (1 - progress) / progress
        possible = monitor.get_estimated_completion_possible(progress)
        print(f"{progress:.0%} done, {missing:.0f} more calls: {possible}")
    print(f"as much at every call, half would do for 100,000: {39_000 / 0.5:,.0f}")
