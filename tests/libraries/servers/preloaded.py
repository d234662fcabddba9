"""A gunicorn application, loaded before its workers are forked: each request is a run."""

import os
from collections.abc import Callable, Iterable, Iterator

from otel_budget import ResourceLimits, ResourceMonitor, serve_metrics
from tests.libraries.servers.calls import call

serve_metrics("127.0.0.1", 0, os.environ["TARGETS_FOLDER"])


def app(environ: dict[str, str], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Stream an answer until the run is told to stop."""
    session_id = environ["PATH_INFO"].strip("/")
    start_response("200 OK", [("content-type", "text/plain")])
    return _answer(session_id) if session_id else [b"ready"]


def _answer(session_id: str) -> Iterator[bytes]:
    limits = ResourceLimits(max_api_calls=None)
    with ResourceMonitor(limits, session_id, sidecar=os.environ["SIDECAR"]) as monitor:
        for _ in range(1000):
            if not monitor.should_continue():
                break
            call()
            yield b"x"
        yield f" {os.getpid()} {monitor.verdict.reason}".encode()
