"""Sessions of another program that go on in another process at the same address, which counts anew.

The program is a real process that serves a page, dies and comes back; the sidecar is one, too.
"""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.support.ports import free_port
from tests.support.processes import SidecarProcess, sidecar, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SESSION = "ba8b11a9-0b6c-472a-8133-48db5b9683ff"
#: A program that shows the tokens of one session, as many as its standard input last said.
PROGRAM = r"""
import sys, threading
from http.server import BaseHTTPRequestHandler, HTTPServer
shown = {"tokens": int(sys.argv[2])}
class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        series = 'claude_code_token_usage_total{session_id="%s",type="input"}' % sys.argv[3]
        body = ("# TYPE claude_code_token_usage_total counter\n%s %d\n"
                % (series, shown["tokens"])).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
server = HTTPServer(("127.0.0.1", int(sys.argv[1])), Page)
threading.Thread(target=server.serve_forever, daemon=True).start()
print("ready", flush=True)
for line in sys.stdin:
    shown["tokens"] = int(line)
    print("ready", flush=True)
"""


class Program:
    """One process of the program."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        """Keep what was started."""
        self._process = process
        self._answered()

    def show(self, tokens: int) -> None:
        """Show so many tokens from now on."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{tokens}\n")
        self._process.stdin.flush()
        self._answered()

    def _answered(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"


@contextmanager
def program(port: int, tokens: int) -> Iterator[Program]:
    """Run the program for a while, with so many tokens on its page; then it dies."""
    command = [sys.executable, "-I", "-c", PROGRAM, str(port), str(tokens), SESSION]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Program(process)
    finally:
        process.kill()
        process.communicate()


def used(side: SidecarProcess) -> int:
    """Return the tokens that the sidecar knows of; -1 while it knows none."""
    verdict = side.verdict(SESSION) or {}
    tokens: int = verdict.get("resources", {}).get("tokens", {}).get("used", -1)
    return tokens


def nudge(side: SidecarProcess) -> int:
    """Have the session read now; return the status of the answer."""
    request = urllib.request.Request(
        f"{side.url}/v1/nudge?session_id={SESSION}", data=b"", method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as exc:
        exc.close()
        return exc.code


def wait_until_gone(side: SidecarProcess) -> dict[str, object]:
    """Wait until the sidecar knows that the process has ended; return the verdict."""
    until(lambda: (side.verdict(SESSION) or {}).get("run_state") == "vanished")
    return side.verdict(SESSION) or {}


def test_each_process_of_a_session_is_counted_whole(tmp_path: Path) -> None:
    """Whether the next one shows less, as much or more when it is first seen."""
    port = free_port()
    flags = ("--target", f"http://127.0.0.1:{port}/metrics", "--interval", "100ms")
    with sidecar(tmp_path, *flags, "--max-tokens", "100000") as side:
        total = 0
        for first, last in ((1000, 2000), (500, 800), (2000, 2000), (5000, 6000), (1, 7)):
            with program(port, first) as running:
                until(lambda wanted=total + first: used(side) == wanted)  # type: ignore[misc] # its own
                running.show(last)
                assert nudge(side) == 204
                total += last
                assert used(side) == total, "a nudge has it counted at once"
            found = wait_until_gone(side)
            assert (found["action"], used(side)) == ("continue", total)
            assert str(found["message"]).endswith("its process has ended")


def test_a_sidecar_that_is_started_anew_neither_doubles_nor_loses(tmp_path: Path) -> None:
    """It was away while a process went on, and while one ended."""
    port = free_port()
    target = ("--target", f"http://127.0.0.1:{port}/metrics", "--preset", "claude_code")
    flags = (*target, "--interval", "100ms", "--max-tokens", "100000")
    with program(port, 1000):
        with sidecar(tmp_path, *flags) as side:
            until(lambda: used(side) == 1000)
        with sidecar(tmp_path, *flags) as side:
            until(lambda: nudge(side) == 204)
            assert used(side) == 1000
    with sidecar(tmp_path, *flags) as side:
        wait_until_gone(side)
        with program(port, 3000) as second:
            until(lambda: used(side) == 4000)
            second.show(3500)
            until(lambda: used(side) == 4500)
            side.kill()
            with sidecar(tmp_path, *flags) as after:
                second.show(3600)
                until(lambda: used(after) == 4600)


def test_a_session_without_a_process_is_not_stopped_for_want_of_data(tmp_path: Path) -> None:
    """Its next prompt would never come to be, and no data with it."""
    port = free_port()
    config = tmp_path / "sidecar.yaml"
    config.write_text(
        f"source: {{scrape: {{targets: ['http://127.0.0.1:{port}/metrics'], interval: 100ms}}}}\n"
        "resource_limits: {max_tokens: 100000, max_duration_seconds: 3600}\n"
        "verdicts: {lease: 600ms, stale_after: 300ms, hold: 300ms}\n"
        "listen: {address: '127.0.0.1:0'}\nstorage: {path: ledger.db}\n"
    )
    with sidecar(tmp_path, config=config) as side:
        with program(port, 1000):
            until(lambda: used(side) == 1000)
        wait_until_gone(side)
        later = time.monotonic() + 2  # several times stale_after and hold
        until(lambda: time.monotonic() > later)
        found = side.verdict(SESSION) or {}
        assert (found["action"], found["status"]) == ("continue", "ok")
        stands = found["resources"]["duration"]["used"]
        with program(port, 10):
            until(lambda: used(side) == 1010)
            again = side.verdict(SESSION) or {}
            assert again["run_state"] != "vanished"
            assert again["resources"]["duration"]["used"] > stands + 1.5
