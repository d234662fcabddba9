"""A Celery application whose tasks are runs; only the parent of forked workers serves metrics."""

import os

from celery import Celery

from otel_budget import ResourceLimits, ResourceMonitor, serve_metrics
from tests.libraries.servers.calls import call

folder = os.environ["BROKER_FOLDER"]
app = Celery("tasks")
app.conf.update(
    broker_url="filesystem://",
    broker_transport_options={
        "data_folder_in": folder,
        "data_folder_out": folder,
        "control_folder": folder,
    },
    result_backend=f"file://{os.environ['RESULT_FOLDER']}",
    task_serializer="json",
    worker_hijack_root_logger=False,
)
serve_metrics("127.0.0.1", 0, os.environ["TARGETS_FOLDER"])


@app.task
def research(session_id: str, most: int) -> list[object]:
    """Call until told to stop; return the process, the calls and why it ended."""
    limits = ResourceLimits(max_api_calls=None)
    with ResourceMonitor(limits, session_id, sidecar=os.environ["SIDECAR"]) as monitor:
        for _ in range(most):
            if not monitor.should_continue():
                break
            call()
        return [os.getpid(), monitor.get_usage_report().api_calls, str(monitor.verdict.reason)]
