"""The agents' side of ``detection``: runs in one process that cross a limit one after the other.

Run as ``python -m benchmarks.crossing OPTIONS``; it says where its metrics and its webhook are,
reads the sidecar's URL (``-`` for none), and, told to go, prints after how many seconds each run
heard of its crossing.
"""

from __future__ import annotations

import json
import logging
import random
import sys
import threading
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from otel_budget import ResourceLimits, ResourceMonitor, serve_metrics
from otel_budget.sdk.sidecar_client.client import VerdictClient

if TYPE_CHECKING:
    from otel_budget.core.verdict import Verdict

LIMIT = 1_000_000
_SEED = 20_261_125


class Crossings:
    """When each run crossed, and when it heard of it."""

    def __init__(self) -> None:
        """Nothing happened yet."""
        self.crossed: dict[str, float] = {}
        self.heard: dict[str, float] = {}
        self._changed = threading.Condition()

    def hear(self, session_id: str) -> None:
        """Take note that a run heard a stop; the first counts."""
        with self._changed:
            self.heard.setdefault(session_id, time.perf_counter())
            self._changed.notify_all()

    def wait(self, seconds: float) -> None:
        """Wait until all have heard, or for so long."""
        until = time.perf_counter() + seconds
        with self._changed:
            while self.crossed.keys() - self.heard.keys():
                if not self._changed.wait(until - time.perf_counter()):
                    return

    def seconds(self) -> list[float]:
        """Return what it took each run that heard."""
        return [self.heard[run] - at for run, at in self.crossed.items() if run in self.heard]


def main() -> None:
    """Do as the top of this file says."""
    options = json.loads(sys.argv[1])
    logging.getLogger("otel_budget").setLevel(logging.CRITICAL)
    crossings = Crossings()
    endpoint = serve_metrics("127.0.0.1", 0)
    print(json.dumps({"metrics": endpoint.url, "webhook": _webhook(crossings)}), flush=True)
    sidecar = sys.stdin.readline().strip()
    if not options["nudge"]:
        VerdictClient.nudge = _no_nudge  # type: ignore[method-assign, assignment] # as if there were none
    monitors = [_begin(n, options, sidecar, crossings) for n in range(options["runs"])]
    print("begun", flush=True)
    sys.stdin.readline()
    _cross(monitors, options["window"], crossings)
    crossings.wait(options["patience"])
    print(json.dumps(crossings.seconds()), flush=True)
    for monitor in monitors:
        monitor.close(timeout=0)


def _no_nudge(_client: VerdictClient) -> None:
    pass


def _begin(
    number: int, options: dict[str, Any], sidecar: str, crossings: Crossings
) -> ResourceMonitor:
    """Begin a run that is at half of the limit."""
    run = f"run-{number:03}"
    limits = ResourceLimits(max_tokens=LIMIT) if options["own_limit"] else ResourceLimits(
        max_tokens=None, max_api_calls=None, max_duration_seconds=None
    )  # fmt: skip

    def on_verdict(verdict: Verdict) -> None:
        if not verdict.should_continue:
            crossings.hear(run)

    monitor = ResourceMonitor(
        limits, run, sidecar=None if sidecar == "-" else sidecar, on_verdict=on_verdict
    )
    monitor.should_continue()
    monitor.record_operation(LIMIT // 2, api_call=True)
    return monitor


def _cross(monitors: list[ResourceMonitor], window: float, crossings: Crossings) -> None:
    """Have each run cross the limit at some moment of a window of seconds."""
    chance = random.Random(_SEED)  # noqa: S311 - the same moments every time
    moments = sorted(chance.uniform(0, window) for _ in monitors)
    began = time.perf_counter()
    for moment, monitor in zip(moments, monitors, strict=True):
        time.sleep(max(0.0, began + moment - time.perf_counter()))
        run = monitor.session_id
        crossings.crossed[run] = time.perf_counter()
        monitor.record_operation(LIMIT, api_call=True)


def _webhook(crossings: Crossings) -> str:
    """Listen for Alertmanager; return the URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            for alert in payload["alerts"]:
                crossings.hear(alert["labels"]["session_id"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=partial(server.serve_forever, 0.05), daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/"


if __name__ == "__main__":
    main()
