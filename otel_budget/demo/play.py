"""Replay the runs: once, with a sidecar process beside them, or round after round as a service.

The service is for a sidecar that runs elsewhere, and for dashboards, which people look at for
longer than twenty seconds. Every round has its own session ids; the checkpoints of the last few
rounds are kept.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Final

from otel_budget import serve_metrics
from otel_budget.config.values import split_address
from otel_budget.demo import scenario
from otel_budget.demo.screen import Screen, summary
from otel_budget.errors import InvalidValueError, OtelBudgetError
from otel_budget.sdk.checkpoints.store import CheckpointFolder

#: How many times faster than recorded. As a service a round takes some three minutes.
SPEED: Final = 12.0
SERVICE_SPEED: Final = 2.0
#: Seconds between two scrapes of the demo's sidecar.
INTERVAL: Final = 0.2
#: Rounds whose checkpoints are kept.
KEPT: Final = 5
#: Seconds between two rounds.
PAUSE: Final = 5.0
_START_TIMEOUT: Final = 20.0
#: Seconds between two looks whether there was a signal: one that another thread got wakes no wait.
_LOOK_EVERY: Final = 0.2


def run_demo(speed: float = SPEED, keep: str | PathLike[str] | None = None) -> int:
    """Replay the runs once; return the exit code.

    speed: how many times faster than recorded. keep: folder for the checkpoints, by default a new
    temporary one, which is left there to be looked at.

    Raises InvalidValueError for a speed that is not above 0, and for what cannot be a folder.
    """
    _check_speed(speed)
    root = _root_folder(keep)
    screen = _screen()
    cancelled, played = threading.Event(), list[scenario.Replay]()
    screen.console.print(
        f"Two recorded coding-agent runs, replayed as three, about {speed:g} times faster:"
    )
    _announce(screen, scenario.PLANS)
    with serve_metrics("127.0.0.1", 0) as endpoint, _sidecar(endpoint.url, root) as sidecar:
        screen.console.print(
            f"While it runs:  metrics  {endpoint.url}\n"
            f"                sidecar  {sidecar}/v1/verdicts, /v1/budgets\n"
        )
        played += _play(scenario.PLANS, (root, sidecar, speed), screen, cancelled)
        if not cancelled.is_set():
            screen.console.print("\nThree more, two of which share a budget:")
            _announce(screen, scenario.SHARING)
            screen.console.print("")
            played += _play(scenario.SHARING, (root, sidecar, speed), screen, cancelled)
    _show_checkpoints(screen, played)
    return 130 if cancelled.is_set() else 0


def _announce(screen: Screen, plans: Sequence[scenario.Plan]) -> None:
    """Say what there is to see."""
    for plan in plans:
        screen.console.print(f"  {plan.name:<15}{plan.expect}")


def _play(
    plans: Sequence[scenario.Plan],
    where: tuple[Path, str, float],
    screen: Screen,
    cancelled: threading.Event,
) -> list[scenario.Replay]:
    """Replay some runs at once, and sum up how they ended. where: as ``prepare`` has it."""
    replays = scenario.prepare(*where, screen.say, plans=plans)
    threads = [threading.Thread(target=r.run, args=(cancelled,), daemon=True) for r in replays]
    with screen.live(replays):
        for thread in threads:
            thread.start()
        _wait(replays, screen, cancelled)
    screen.console.print(summary(replays))
    return replays


def serve_demo(
    listen: str,
    sidecar: str,
    speed: float = SERVICE_SPEED,
    keep: str | PathLike[str] | None = None,
) -> int:
    """Replay the runs round after round until SIGTERM or Ctrl-C; return the exit code.

    listen: host and port of ``/metrics``. sidecar: its URL; if it is not there yet, the runs wait
    for it and go by their own limits meanwhile. speed, keep: as for ``run_demo``.

    Raises InvalidValueError, or ListenError for an address that cannot be listened on.
    """
    _check_speed(speed)
    host, port = _listen_address(listen)
    root = _root_folder(keep)
    screen = _screen()
    ended = threading.Event()
    with _set_on_signals(ended), serve_metrics(host, port) as endpoint:
        screen.console.print(f"metrics {endpoint.url}, sidecar {sidecar}, checkpoints in {root}")
        number = 0
        while not ended.is_set():
            number += 1
            screen.console.print(f"round {number}")
            _round(scenario.prepare(root, sidecar, speed, screen.say, _names(number)), ended)
            _delete_checkpoints(number - KEPT, root)
            ended.wait(PAUSE)
    screen.console.print("stopped")
    return 0


def _screen() -> Screen:
    logging.getLogger("otel_budget").setLevel(logging.CRITICAL)  # the screen says it all
    return Screen()


def _check_speed(speed: float) -> None:
    if not (math.isfinite(speed) and speed > 0):
        raise InvalidValueError("--speed", speed, "a number above 0, such as 12")


def _root_folder(keep: str | PathLike[str] | None) -> Path:
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


def _listen_address(listen: str) -> tuple[str, int]:
    try:
        return split_address(listen)
    except InvalidValueError as exc:
        raise InvalidValueError("--serve", listen, "host:port, such as 127.0.0.1:9464") from exc


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
    say("To look at one:  python3 -m json.tool FILE")


def _wait(replays: list[scenario.Replay], screen: Screen, cancelled: threading.Event) -> None:
    """Wait for the end of the runs; on Ctrl-C each of them stops and keeps what it has."""
    left = list(replays)
    while left:
        try:
            # Not Thread.join: interrupted, it takes a thread that still runs for one that is over.
            if left[0].finished.wait(_LOOK_EVERY):
                left.pop(0)
        except KeyboardInterrupt:
            if not cancelled.is_set():
                cancelled.set()
                screen.console.print("stopping: every run keeps what it has")


def _round(replays: list[scenario.Replay], ended: threading.Event) -> None:
    threads = [threading.Thread(target=replay.run, args=(ended,)) for replay in replays]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(_LOOK_EVERY)


def _names(number: int) -> str:
    """Return what the session ids of a round are made with."""
    return f"demo-{{}}-{number:04d}"


def _delete_checkpoints(number: int, root: Path) -> None:
    """Delete those of a round that ended long ago."""
    for plan in scenario.PLANS:
        folder = CheckpointFolder(root, _names(number).format(plan.name)).path
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _set_on_signals(ended: threading.Event) -> Iterator[None]:
    """Set the event on SIGTERM and SIGINT: every run then ends with what it has."""
    signals = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: ended.set()) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _sidecar(target: str, root: Path) -> Iterator[str]:
    """Start a sidecar process; yield its URL; stop it at the end."""
    log, config = root / "sidecar.log", root / "sidecar.yaml"
    config.write_text(_configuration(target, root), encoding="utf-8")
    command = [sys.executable, "-m", "otel_budget", "sidecar", "--config", str(config)]
    with log.open("w", encoding="utf-8") as out:
        # In another session of the terminal: a Ctrl-C is for the runs, and the sidecar sees them
        # end.
        process = subprocess.Popen(  # noqa: S603 - our own program
            command, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, "NO_COLOR": "1"},
            start_new_session=True,
        )  # fmt: skip
        try:
            yield _url_of(process, log)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _configuration(target: str, root: Path) -> str:
    """Return the sidecar's configuration: JSON is YAML, too."""
    config = {
        "source": {"scrape": {"targets": [target], "interval": f"{INTERVAL}s"}},
        "resource_limits": {"max_tokens": scenario.CEILING_TOKENS},
        "budgets": [scenario.BUDGET],
        "listen": {"address": "127.0.0.1:0"},
        "storage": {"path": str(root / "sidecar.db")},
    }
    return json.dumps(config, indent=1) + "\n"


def _url_of(process: subprocess.Popen[bytes], log: Path) -> str:
    """Wait until the sidecar's log says where it listens."""
    waited = threading.Event()
    for _ in range(int(_START_TIMEOUT / 0.05)):
        text = log.read_text(encoding="utf-8")
        found = re.search(r"http://127\.0\.0\.1:\d+", text.partition("listening on")[2])
        if found:
            return found.group()
        if process.poll() is not None:
            break
        waited.wait(0.05)
    raise OtelBudgetError(f"the sidecar did not start; its log: {log.read_text(encoding='utf-8')}")
