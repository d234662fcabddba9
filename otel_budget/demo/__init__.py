"""The demo: three runs over two recorded coding-agent runs, with a sidecar process beside them."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

from otel_budget import serve_metrics
from otel_budget.demo import scenario
from otel_budget.demo.screen import Screen, summary
from otel_budget.errors import InvalidValueError, OtelBudgetError

#: Seconds between two scrapes of the demo's sidecar.
INTERVAL = 0.2
_START_TIMEOUT = 20.0
#: Seconds after which it is looked in any case whether there was a signal.
LOOK_EVERY = 0.2


def run_demo(speed: float = 12.0, keep: str | PathLike[str] | None = None) -> int:
    """Replay the runs; return the exit code.

    speed: how many times faster than recorded. keep: folder for the checkpoints, by default a new
    temporary one, which stays so that it can be looked at.

    Raises InvalidValueError for a speed that is none, and for what cannot be a folder.
    """
    check_speed(speed)
    root = root_folder(keep)
    screen = Screen()
    logging.getLogger("otel_budget").setLevel(logging.CRITICAL)  # the screen says it all
    screen.console.print(
        f"Two recorded coding-agent runs, replayed as three, about {speed:g} times faster:"
    )
    for plan in scenario.PLANS:
        screen.console.print(f"  {plan.name:<15}{plan.expect}")
    with serve_metrics("127.0.0.1", 0) as endpoint, _sidecar(endpoint.url, root) as sidecar:
        screen.console.print(
            f"While it runs:  metrics  {endpoint.url}\n"
            f"                sidecar  {sidecar}/v1/verdicts\n"
        )
        replays = scenario.prepare(root, sidecar, speed, screen.say)
        cancelled = threading.Event()
        threads = [threading.Thread(target=r.run, args=(cancelled,), daemon=True) for r in replays]
        with screen.live(replays):
            for thread in threads:
                thread.start()
            _wait(replays, screen, cancelled)
    screen.console.print(summary(replays))
    _show_checkpoints(screen, replays)
    return 130 if cancelled.is_set() else 0


def check_speed(speed: float) -> None:
    """Refuse a speed that is none."""
    if not (math.isfinite(speed) and speed > 0):
        raise InvalidValueError("--speed", speed, "a number above 0, such as 12")


def root_folder(keep: str | PathLike[str] | None) -> Path:
    """Return the folder for everything the demo writes."""
    if keep is None:
        return Path(tempfile.mkdtemp(prefix="otel-budget-demo-"))
    root = Path(keep)
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        allowed = f"a folder that can be written to, or a new one ({exc.strerror})"
        raise InvalidValueError("--keep", str(root), allowed) from exc
    return root


def _show_checkpoints(screen: Screen, replays: list[scenario.Replay]) -> None:
    """Say where the last checkpoints are: a run that used nothing has none."""
    written = [replay.checkpoint for replay in replays if replay.checkpoint is not None]
    if not written:
        return
    say = screen.console.print
    say("\nEach run's last checkpoint, with its usage, limits and partial results, is in")
    folder = written[0].parent.parent
    say(f"  {folder}")
    for path in written:
        say(f"    {path.relative_to(folder)}")
    say("Look at one there:  python3 -m json.tool FILE")


def _wait(replays: list[scenario.Replay], screen: Screen, cancelled: threading.Event) -> None:
    """Wait for the end of the runs; Ctrl-C lets every one of them stop with what it has."""
    left = list(replays)
    while left:
        try:
            # Not Thread.join: interrupted, it takes a thread that goes on for one that is over.
            # And not without end: a signal that another thread is given wakes nobody here.
            if left[0].finished.wait(LOOK_EVERY):
                left.pop(0)
        except KeyboardInterrupt:
            if not cancelled.is_set():
                cancelled.set()
                screen.console.print("stopping: every run ends with what it has")


@contextlib.contextmanager
def _sidecar(target: str, root: Path) -> Iterator[str]:
    """Start a sidecar in a process of its own; yield its URL; stop it at the end."""
    log = root / "sidecar.log"
    command = [
        sys.executable, "-m", "otel_budget", "sidecar", "--target", target,
        "--interval", f"{INTERVAL}s", "--max-tokens", str(scenario.CEILING_TOKENS),
        "--listen", "127.0.0.1:0", "--storage", str(root / "sidecar.db"),
    ]  # fmt: skip
    with log.open("w", encoding="utf-8") as out:
        # A session of its own: a Ctrl-C here is for the runs, and the sidecar sees how they end.
        process = subprocess.Popen(  # noqa: S603 - our own program
            command, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, "NO_COLOR": "1"},
            start_new_session=True,
        )  # fmt: skip
        try:
            yield _address(process, log)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    """Wait until the sidecar says where it listens."""
    waited = threading.Event()
    for _ in range(int(_START_TIMEOUT / 0.05)):
        said = log.read_text(encoding="utf-8")
        found = re.search(r"http://127\.0\.0\.1:\d+", said.partition("listening on")[2])
        if found:
            return found.group()
        if process.poll() is not None:
            break
        waited.wait(0.05)
    raise OtelBudgetError(f"the sidecar did not start; it said: {log.read_text(encoding='utf-8')}")
