"""Checkpoints of several runs, and of several processes of one run, in one folder: none is lost."""

from __future__ import annotations

import json
import logging
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_budget import ResourceMonitor
from otel_budget.core.usage import ResourceUsage
from otel_budget.sdk.checkpoints.format import TakenUp
from otel_budget.sdk.checkpoints.store import KEEP, used_by_all
from otel_budget.testing import FakeClock
from tests.support.monitors import Make


def killed(monitor: ResourceMonitor) -> None:
    """Let its process end without another word."""
    monitor._run.checkpoints._folder = None


def saved_tokens(root: Path, name: str) -> list[int]:
    """Return the tokens in each checkpoint, oldest first."""
    folder = root / ".otel_budget" / "checkpoints" / name
    return [
        json.loads(path.read_text())["usage"]["tokens"] for path in sorted(folder.glob("*.json"))
    ]


def taken_up(clock: FakeClock, root: Path, name: str) -> ResourceMonitor:
    """Resume a run."""
    clock.advance(1)
    return ResourceMonitor.resume(name, root, clock=clock.clock)


def test_a_new_run_under_an_id_removes_no_checkpoint_of_one_that_did_not_complete(
    clock: FakeClock, make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It has its own newest ones; and who resumes is told of the other run."""
    first = make(session_id="shared", project_root=tmp_path)
    first.record_operation(900_000)
    first.checkpoint({"work": "precious"})
    killed(first)
    clock.advance(5)
    second = make(session_id="shared", project_root=tmp_path)
    for _ in range(KEEP + 3):
        second.record_operation(1)
        second.checkpoint()
    assert saved_tokens(tmp_path, "shared") == [900_000, *range(4, KEEP + 4)]
    killed(second)
    with caplog.at_level(logging.WARNING, "otel_budget"):
        again = taken_up(clock, tmp_path, "shared")
    assert again.get_usage_report().tokens == KEEP + 3
    assert "000001.json" in caplog.text
    again.close(timeout=0)
    other = ResourceMonitor.resume(
        "shared", tmp_path, clock=clock.clock,
        checkpoint=tmp_path / ".otel_budget" / "checkpoints" / "shared" / "000001.json",
    )  # fmt: skip
    assert other.state == {"work": "precious"}
    other.close(timeout=0)


def test_runs_that_completed_make_room(clock: FakeClock, make: Make, tmp_path: Path) -> None:
    """A job that runs each night under one id fills no disk."""
    for night in range(2 * KEEP):
        clock.advance(86_400)
        run = make(session_id="nightly", project_root=tmp_path)
        run.record_operation(night)
        run.checkpoint()
        run.close(timeout=0)
    assert len(saved_tokens(tmp_path, "nightly")) <= KEEP + 2


def test_a_run_that_is_resumed_again_and_again_keeps_its_newest_checkpoints(
    clock: FakeClock, make: Make, tmp_path: Path
) -> None:
    """What a process took up is carried on by it."""
    run = make(session_id="again", project_root=tmp_path)
    for _ in range(2 * KEEP):
        run.record_operation(1)
        run.checkpoint()
        killed(run)
        run = taken_up(clock, tmp_path, "again")
    assert saved_tokens(tmp_path, "again") == list(range(KEEP + 1, 2 * KEEP + 1))
    assert run.get_usage_report().tokens == 2 * KEEP


def test_what_two_processes_used_that_took_up_a_run_at_once_is_in_the_next_resume(
    clock: FakeClock, make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """However many checkpoints each wrote; it is said, and counted once by those that follow."""
    run = make(session_id="twice", project_root=tmp_path)
    run.record_operation(1000, api_call=True, cost_usd=1)
    run.checkpoint()
    killed(run)
    one, two = (taken_up(clock, tmp_path, "twice") for _ in range(2))
    one.record_operation(300_000, api_call=True, cost_usd=3)
    one.checkpoint()
    for _ in range(KEEP + 5):
        two.record_operation(1, api_call=True, cost_usd=Decimal("0.01"))
        two.checkpoint()
    for monitor in (one, two):
        killed(monitor)
    for more in range(3):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "otel_budget"):
            again = taken_up(clock, tmp_path, "twice")
        used = again.get_usage_report()
        assert used.tokens == 301_000 + KEEP + 5 + more
        assert used.cost_usd == 4 + (KEEP + 5) * Decimal("0.01")
        assert ("at the same time" in caplog.text) is (more == 0)
        again.record_operation(1)
        again.checkpoint()
        killed(again)


def test_what_an_older_process_goes_on_to_use_counts_as_well(
    clock: FakeClock, make: Make, tmp_path: Path
) -> None:
    """It was taken for dead, and goes on beside the one that took its run up."""
    run = make(session_id="alive", project_root=tmp_path)
    run.record_operation(100)
    run.checkpoint()
    newer = taken_up(clock, tmp_path, "alive")
    run.record_operation(50)
    run.checkpoint()
    newer.record_operation(7)
    newer.checkpoint()
    for monitor in (run, newer):
        killed(monitor)
    assert taken_up(clock, tmp_path, "alive").get_usage_report().tokens == 157


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 1000)), max_size=8))
def test_the_use_of_processes_is_added_up_whatever_each_took_up(
    steps: list[tuple[int, int]],
) -> None:
    """In a row, or beside one another; the sum is never less than what any of them knew."""
    began = ResourceUsage("r", started_at=1.0, tokens=10)
    rows: list[tuple[TakenUp | None, ResourceUsage]] = [(None, began)]
    for at, (_, own) in enumerate(steps):
        carried = used_by_all(rows)
        used = ResourceUsage("r", started_at=1.0, tokens=carried.tokens + own)
        rows.append((TakenUp(2.0 + at, carried), used))
    assert used_by_all(rows).tokens == 10 + sum(own for _, own in steps)
    beside = [(None, began)] + [
        (TakenUp(2.0 + at, began), ResourceUsage("r", started_at=1.0, tokens=10 + own))
        for at, (_, own) in enumerate(steps)
    ]
    assert used_by_all(reversed(beside)).tokens == 10 + sum(own for _, own in steps)
