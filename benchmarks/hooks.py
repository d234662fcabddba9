"""What an agent waits for at a hook: commands beside curl, and beside the interpreter's start."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.report import Goal, Report
from benchmarks.rounds import Spread, steps
from otel_budget.core import verdict_json
from otel_budget.core.reasons import Action, Reason
from otel_budget.core.verdict import LimitStatus, ResourceState, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

_INPUT = json.dumps({"session_id": "run-1", "hook_event_name": "PreToolUse", "tool_name": "Bash"})
_STATE = ResourceState(17_200, 40_000, 22_800, 0.43, LimitStatus.OK, "sidecar")
_PASS = "python -c pass"  # noqa: S105 - a command, not a secret
_CHECK, _HOOK, _CURL = "otel-budget check", "otel-budget hook", "curl"
_ALL = "python -c 'import all that is public'"


def run(*, quick: bool) -> Report:
    """Start each as often as the others, in turns."""
    script = str(Path(sys.executable).with_name("otel-budget"))
    with _answering() as url:
        commands = {
            _PASS: [sys.executable, "-c", "pass"],
            _HOOK: [script, "hook", "claude-code", "--url", url],
            _CHECK: [script, "check", "run-1", "--sidecar", url],
            "otel-budget statusline": [script, "statusline", "--url", url],
            _ALL: [sys.executable, "-c", "from otel_budget import *"],
        }
        if curl := shutil.which("curl"):
            there = f"{url}/v1/hooks/claude-code"
            commands[_CURL] = [curl, "-sf", "-m4", "--noproxy", "*", "--data-binary", "@-", there]
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in steps(10 if quick else 50, "starts"):
            for name, command in commands.items():
                began = time.perf_counter()
                subprocess.run(command, input=_INPUT, capture_output=True, text=True, check=True)
                seconds[name].append(time.perf_counter() - began)
    spreads = {name: Spread.of(each) for name, each in seconds.items()}
    start = spreads[_PASS].median
    rows = tuple(
        (name, f"{spread.text(1e3, 1)} ms", f"{(spread.median - start) * 1e3:.1f} ms")
        for name, spread in spreads.items()
    )
    return Report(
        title="At a hook of a coding agent",
        about=(
            "From the start of the command to its end, with a sidecar that answers at once on the "
            "loopback interface: what an agent waits for at every step besides the sidecar itself."
        ),
        columns=("", "takes", "besides the interpreter's start"),
        rows=rows,
        goals=(
            Goal("check, in ms", spreads[_CHECK].median * 1e3, 60, digits=1),
            Goal("hook, in ms", spreads[_HOOK].median * 1e3, 40, digits=1),
        ),
    )


@contextmanager
def _answering() -> Iterator[str]:
    """Serve a verdict to whoever asks, and nothing to say to whoever posts; yield the URL."""
    resources = {"tokens": _STATE}
    verdict = Verdict(
        "run-1", Action.CONTINUE, LimitStatus.OK, Reason.WITHIN_LIMITS, "m", resources, time.time()
    )
    said = verdict_json.to_json(verdict).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._say(said)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._say(b"{}")

        def _say(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
