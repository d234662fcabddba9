"""A run that ends in the middle is resumed: usage, start time, limits and state go on."""

import tempfile
from pathlib import Path

from otel_budget import ResourceLimits, ResourceMonitor

root = Path(tempfile.mkdtemp())

first = ResourceMonitor(ResourceLimits(max_tokens=10_000), "resumable", root)
first.record_operation(tokens=4_000, api_call=True)
path = first.checkpoint({"chapters": ["one"]})
print(f"checkpoint: {path.name if path else 'not written'}")
first.record_operation(tokens=500, api_call=True)
first.close("stopped")  # writes a last one; a process that is killed keeps the one above

second = ResourceMonitor.resume("resumable", root)
print(f"resumed with {second.get_usage_report().tokens:,} tokens and state {second.state}")
second.record_operation(tokens=4_000, api_call=True)
print(f"now at {second.get_usage_report().tokens:,} of {second.limits.max_tokens:,} tokens")
print(f"go on? {second.should_continue(0.5)}")
second.close("stopped")
