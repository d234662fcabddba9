"""What is left: never below zero, None for unlimited, and a line for each resource in the log."""

import logging
import sys

from otel_budget import ResourceLimits, ResourceMonitor

logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stdout)

limits = ResourceLimits(max_duration_seconds=600, max_tokens=5_000, max_api_calls=None)
with ResourceMonitor(limits, session_id="remaining") as monitor:
    monitor.record_operation(tokens=1_200, api_call=True)
    print(f"tokens left: {monitor.get_tokens_remaining()}")
    print(f"API calls left: {monitor.get_api_calls_remaining()}")
    print(f"seconds left: {monitor.get_time_remaining():.0f}")
    monitor.record_operation(tokens=9_000, api_call=True)
    print(f"tokens left: {monitor.get_tokens_remaining()}")
    monitor.log_status()
