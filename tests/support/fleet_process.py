"""A process with runs in it, for whatever looks at metrics: recorded calls, replayed in seconds.

Run with options as JSON; replays one batch of runs for each line it reads, prints a line when that
is done, and keeps all runs open until its input ends.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from otel_budget import ResourceLimits, ResourceMonitor, serve_metrics
from otel_budget.demo import recordings

PHASES = ("plan", "edit", "verify")


@dataclass(frozen=True)
class Run:
    """One run to replay. Fields as the JSON gives them."""

    session_id: str
    recording: str = "claude"
    workflow: str = "coding"
    scope: dict[str, str] = field(default_factory=dict)
    limits: dict[str, Any] = field(default_factory=dict)
    root: str | None = None
    seconds: float = 3.0
    """How long the replay takes; the recordings took minutes."""
    share: float = 1.0
    """Part of the recorded calls that is replayed."""
    progress: bool = True
    doubtful: bool = False
    """True: one call fails, one has no known model, one does not say what it used."""
    obeys: bool = False
    """True: stops when it is told to, and is closed at its end."""
    delay: float = 0.0
    """Seconds before its first call."""


def open_run(run: Run, sidecar: str | None) -> ResourceMonitor:
    """Begin a run."""
    return ResourceMonitor(
        ResourceLimits(**run.limits), run.session_id, run.root, workflow=run.workflow,
        scope=run.scope, sidecar=sidecar,
    )  # fmt: skip


def replay(run: Run, monitor: ResourceMonitor) -> None:
    """Record the calls; whatever the verdict, if the run does not obey."""
    time.sleep(run.delay)
    calls = recordings.load(run.recording)
    calls = calls[: max(1, round(len(calls) * run.share))]
    for number, call in enumerate(calls):
        going = monitor.should_continue(number / len(calls) * run.share if run.progress else None)
        if run.obeys and not going:
            monitor.close("stopped", 0)
            return
        with monitor.phase(PHASES[number * len(PHASES) // len(calls)]):
            time.sleep(run.seconds / len(calls))
            monitor.record_operation(
                tool_calls=1,
                input_tokens=call.input_tokens, output_tokens=call.output_tokens,
                cache_read_tokens=call.cache_read_tokens,
                cache_write_tokens=call.cache_write_tokens,
                reasoning_tokens=call.reasoning_tokens, model=call.model, api_call=True,
            )  # fmt: skip
    if run.doubtful:
        monitor.record_operation(1000, api_call=True, model="in-house-model", outcome="error")
        monitor.record_operation(None, api_call=True, model="in-house-model")
    if run.root is not None:
        monitor.checkpoint()
    if run.obeys:
        monitor.close("completed", 0)


def main() -> None:
    """Serve metrics, and replay when told to."""
    options = json.loads(sys.argv[1])
    monitors = []
    with serve_metrics("127.0.0.1", 0, register=options["register"]) as endpoint:
        print(json.dumps({"metrics": endpoint.url}), flush=True)
        for line in sys.stdin:
            batch = [Run(**run) for run in json.loads(line)]
            opened = [open_run(run, options.get("sidecar")) for run in batch]
            monitors += opened
            time.sleep(options.get("seen_after", 0.0))  # so that the zeros are scraped
            threads = [
                threading.Thread(target=replay, args=pair)
                for pair in zip(batch, opened, strict=True)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            print(json.dumps({"done": [run.session_id for run in batch]}), flush=True)
        for monitor in monitors:
            monitor.close("stopped", 0)


if __name__ == "__main__":
    main()
