"""The demo as a service: the recorded runs again and again, for a sidecar that is elsewhere.

For dashboards, which want to be looked at for longer than twenty seconds. Every round has session
ids of its own; the checkpoints of the last few rounds are kept.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import signal
import threading
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

from otel_budget import serve_metrics
from otel_budget.config.values import split_address
from otel_budget.demo import LOOK_EVERY, check_speed, root_folder, scenario
from otel_budget.demo.screen import Screen
from otel_budget.errors import InvalidValueError
from otel_budget.sdk.checkpoints.store import CheckpointFolder

#: Twice as fast as recorded: a round takes some three minutes.
SPEED = 2.0
#: Rounds whose checkpoints are kept.
KEPT = 5
#: Seconds between two rounds.
PAUSE = 5.0


def serve_demo(
    listen: str,
    sidecar: str,
    speed: float = SPEED,
    keep: str | PathLike[str] | None = None,
) -> int:
    """Replay the runs round after round until SIGTERM or Ctrl-C; return the exit code.

    listen: host and port of ``/metrics``. sidecar: its URL; one that is not there yet is waited for
    by the runs, which meanwhile go by their own limits. speed, keep: as for ``run_demo``.

    Raises InvalidValueError, or ListenError for an address that cannot be listened on.
    """
    check_speed(speed)
    host, port = _address(listen)
    root = root_folder(keep)
    screen = Screen()
    logging.getLogger("otel_budget").setLevel(logging.CRITICAL)  # the screen says it all
    ended = threading.Event()
    with _told_to_end(ended), serve_metrics(host, port) as endpoint:
        screen.console.print(f"metrics {endpoint.url}, sidecar {sidecar}, checkpoints in {root}")
        number = 0
        while not ended.is_set():
            number += 1
            screen.console.print(f"round {number}")
            _round(scenario.prepare(root, sidecar, speed, screen.say, _names(number)), ended)
            _forget(number - KEPT, root)
            ended.wait(PAUSE)
    screen.console.print("ended in order")
    return 0


def _address(listen: str) -> tuple[str, int]:
    try:
        return split_address(listen)
    except InvalidValueError as exc:
        raise InvalidValueError("--serve", listen, "host:port, such as 127.0.0.1:9464") from exc


def _round(replays: list[scenario.Replay], ended: threading.Event) -> None:
    threads = [threading.Thread(target=replay.run, args=(ended,)) for replay in replays]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():  # as in the demo: a signal may wake nobody here
            thread.join(LOOK_EVERY)


def _names(number: int) -> str:
    return f"demo-{{}}-{number:04d}"


def _forget(number: int, root: Path) -> None:
    """Delete the checkpoints of a round that is long over."""
    for plan in scenario.PLANS:
        folder = CheckpointFolder(root, _names(number).format(plan.name)).path
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _told_to_end(ended: threading.Event) -> Iterator[None]:
    """Set the event on SIGTERM and SIGINT: every run then ends with what it has."""
    signals = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: ended.set()) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
