"""Basic use: count what a run uses, and ask before each step whether to go on."""

import tempfile
from pathlib import Path

from otel_budget import ResourceLimits, ResourceMonitor

phases = ["plan", "research", "write", "review"]


def execute_phase(phase: str) -> str:
    """Stand for the work: a few model calls."""
    return f"{phase} done"


limits = ResourceLimits(max_duration_seconds=3600, max_tokens=1_000_000, max_api_calls=1000)
monitor = ResourceMonitor(limits, session_id="basic", project_root=Path(tempfile.mkdtemp()))
for phase in phases:
    progress = phases.index(phase) / len(phases)
    if not monitor.should_continue(progress):
        print("Stopping due to resource limits")
        break
    result = execute_phase(phase)
    monitor.record_operation(tokens=50_000, api_call=True)
summary = monitor.get_usage_summary()
print(f"Tokens: {summary['tokens']['percentage']:.1f}%")
monitor.close()
