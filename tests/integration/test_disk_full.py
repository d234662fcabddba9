"""A disk that is full, for real: the run goes on, and the checkpoints before stay whole."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from otel_budget import ResourceMonitor, semconv
from otel_budget.sdk.checkpoints.store import CheckpointFolder
from tests.support.exposition import line, page, serve
from tests.support.figures import note
from tests.support.processes import sidecar, until
from tests.support.real import REQUIRE

SIZE = 512 * 1024
"""Bytes of the small disk."""


@contextmanager
def small_disk(at: Path) -> Iterator[Path]:
    """Mount a small file system; without the right to do so skip the test, or fail if told to."""
    mount, umount = shutil.which("mount"), shutil.which("umount")
    options = ["-t", "tmpfs", "-o", f"size={SIZE},mode=0777", "tmpfs", str(at)]
    sudo = [] if os.geteuid() == 0 else ["sudo", "-n"]
    problem = "there is no mount program"
    if mount is not None and umount is not None:
        try:
            done = subprocess.run(
                [*sudo, mount, *options], capture_output=True, text=True, check=False
            )
            problem = "" if done.returncode == 0 else done.stderr.strip()
        except OSError as exc:
            problem = str(exc)
    if problem:
        message = f"NOT TESTED FOR REAL: no small disk could be mounted: {problem}"
        if os.environ.get(REQUIRE) == "1":
            pytest.fail(f"{message} ({REQUIRE}=1)", pytrace=False)
        pytest.skip(message)
    try:
        yield at
    finally:
        subprocess.run([*sudo, str(umount), str(at)], check=True)


def test_a_full_disk_fails_checkpoints_loudly_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each is logged and counted; the previous one is whole; with room again, they go on."""
    with small_disk(tmp_path) as disk:
        monitor = ResourceMonitor(session_id="full", project_root=disk)
        monitor.record_operation(5)
        first = monitor.checkpoint({"step": 1})
        assert first is not None
        filler = disk / "filler"
        with filler.open("wb", buffering=0) as file:
            while True:
                try:
                    file.write(b"x" * 4096)
                except OSError:
                    break
        monitor.record_operation(6)
        assert monitor.checkpoint({"step": 2}) is None
        assert monitor.checkpoint() is None
        assert caplog.text.count("No space left on device; the run goes on") == 2
        assert monitor.should_continue()
        assert os.listdir(first.parent) == [first.name]  # noqa: PTH208 - hidden ones, too
        saved = CheckpointFolder(disk, "full").read()
        assert (saved.usage.tokens, saved.state) == (5, {"step": 1})
        filler.unlink()
        monitor.close(timeout=0)
        saved = CheckpointFolder(disk, "full").read()
        assert (saved.usage.tokens, saved.state) == (11, {"step": 2})
        assert monitor._record.checkpoint_failures == 2
    note(
        "Nothing lost",
        "a run on a full disk (a tmpfs of 512 kB) wants to save twice",
        "2 failures logged and counted, the run goes on, the checkpoint before is whole; with room "
        "again the next one is written",
    )


def test_a_state_larger_than_the_disk_fails_and_leaves_the_disk_as_it_was(tmp_path: Path) -> None:
    """Half of it must not stay and take the room of the next one."""
    with small_disk(tmp_path) as disk:
        monitor = ResourceMonitor(session_id="large", project_root=disk)
        assert monitor.checkpoint({"small": True}) is not None
        free = shutil.disk_usage(disk).free
        assert monitor.checkpoint({"large": "x" * SIZE * 2}) is None
        assert shutil.disk_usage(disk).free == free
        assert monitor.checkpoint({"small": True}) is not None
        monitor.close(timeout=0)


def test_a_sidecar_on_a_full_disk_says_nothing_it_cannot_keep(tmp_path: Path) -> None:
    """No verdict is published that is not stored; with room again nothing is missing."""
    disk = tmp_path / "disk"
    disk.mkdir()
    with serve() as endpoint, small_disk(disk):
        endpoint.show(page(line(semconv.SESSION_TOKENS, 5, "run-1")))
        flags = ("--target", endpoint.url, "--interval", "100ms", "--storage", str(disk / "l.db"))
        with sidecar(tmp_path, *flags) as process:
            until(lambda: process.verdict("run-1"))
            fill(disk / "filler")
            runs = [line(semconv.SESSION_TOKENS, 9, f"run-{n}") for n in range(1, 40)]
            endpoint.show(page(*runs))
            failed = until(lambda: failures(process.url))
            for number in range(1, 40):
                verdict = process.verdict(f"run-{number}")
                assert verdict is None or number == 1, "published, and not stored"
            (disk / "filler").unlink()
            until(lambda: (process.verdict("run-1") or {})["resources"]["tokens"]["used"] == 9)
            fill(disk / "filler")
            endpoint.show(page(line(semconv.SESSION_TOKENS, 11, "run-1")))
            began = time.monotonic()
            process.process.send_signal(signal.SIGTERM)
            assert process.process.wait(10) == 0
            took = time.monotonic() - began
            assert took < 5
            assert "database or disk is full" in process.said()
    note(
        "Nothing lost",
        "the sidecar's storage on a full disk, runs spending, then SIGTERM",
        f"{failed:.0f} ticks failed and were counted, nothing was published that is not stored; "
        f"with room again all is there; ended in {took:.1f} s",
    )


def failures(url: str) -> float:
    """Return the number of ticks that failed."""
    with urllib.request.urlopen(url + "/metrics", timeout=5) as answer:
        found = re.search(
            r"(?m)^otel_budget_sidecar_tick_failures_total (\S+)$", answer.read().decode()
        )
    return 0.0 if found is None else float(found[1])


def fill(path: Path) -> None:
    """Fill the disk to the last block."""
    with path.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(b"x" * 4096)
            except OSError:
                return
