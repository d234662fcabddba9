"""Checkpoints that cannot be trusted are refused with their path, and the previous one offered."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from otel_budget import ResourceMonitor
from otel_budget.errors import CheckpointError, InvalidValueError
from tests.support.monitors import Make

Spoil = Callable[[Path], object]


def edited(**changes: Any) -> Spoil:
    """Return what changes keys of a checkpoint, None to take one out; the digest stays."""

    def spoil(path: Path) -> None:
        data = json.loads(path.read_text()) | changes
        gone = [key for key, value in changes.items() if value is None]
        path.write_text(json.dumps({k: v for k, v in data.items() if k not in gone}))

    return spoil


def replaced_by_a_folder(path: Path) -> None:
    """Put a folder where the checkpoint was."""
    path.unlink()
    path.mkdir()


SPOILT: dict[str, tuple[Spoil, str]] = {
    "empty": (lambda path: path.write_text(""), "a whole JSON document"),
    "truncated": (lambda path: path.write_text(path.read_text()[:-30]), "a whole JSON document"),
    "not text": (lambda path: path.write_bytes(b"\xff\xfe\x00"), "cannot be used"),
    "not json": (lambda path: path.write_text("<html>"), "a whole JSON document"),
    "no object": (lambda path: path.write_text("[1]"), "a JSON object"),
    "too deep": (lambda path: path.write_text("[" * 100_000), "cannot be used"),
    "altered usage": (edited(usage={"tokens": 1}), "it was altered"),
    "altered state": (edited(state={"step": 99}), "it was altered"),
    "a key is missing": (edited(limits=None), "exactly schema"),
    "a key too many": (edited(extra=1), "exactly schema"),
    "newer schema": (edited(schema=2), "schema: 2"),
    "no schema": (edited(schema=None), "the one this version reads"),
    "a folder": (replaced_by_a_folder, "cannot be used"),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_a_spoilt_checkpoint_is_refused_and_the_previous_one_offered(
    kind: str, make: Make, tmp_path: Path
) -> None:
    """With its path and what is wrong with it; and resuming from the previous one works."""
    spoil, problem = SPOILT[kind]
    monitor = make(session_id="spoilt", project_root=tmp_path)
    monitor.record_operation(5)
    first, newest = monitor.checkpoint({"step": 1}), monitor.checkpoint({"step": 2})
    assert first is not None
    assert newest is not None
    spoil(newest)
    with pytest.raises(CheckpointError) as caught:
        ResourceMonitor.resume("spoilt", tmp_path)
    assert (caught.value.path, caught.value.previous) == (str(newest), str(first))
    assert problem in str(caught.value)
    assert f"pass checkpoint={str(first)!r}" in str(caught.value)
    resumed = ResourceMonitor.resume("spoilt", tmp_path, checkpoint=caught.value.previous)
    assert resumed.state == {"step": 1}
    assert resumed.get_usage_report().tokens == 5
    resumed.close(timeout=0)


def test_the_first_one_has_no_previous_to_offer(make: Make, tmp_path: Path) -> None:
    """And the refusal says so."""
    path = make(session_id="first", project_root=tmp_path).checkpoint()
    assert path is not None
    path.write_text("{")
    with pytest.raises(CheckpointError, match="there is no earlier checkpoint") as caught:
        ResourceMonitor.resume("first", tmp_path)
    assert caught.value.previous is None


def test_a_checkpoint_of_another_session_is_refused(make: Make, tmp_path: Path) -> None:
    """However it came into this one's folder."""
    theirs = make(session_id="theirs", project_root=tmp_path).checkpoint()
    mine = make(session_id="mine", project_root=tmp_path).checkpoint()
    assert theirs is not None
    assert mine is not None
    target = mine.with_name("000002.json")
    target.write_text(theirs.read_text())
    with pytest.raises(CheckpointError, match="is of session 'theirs', not 'mine'") as caught:
        ResourceMonitor.resume("mine", tmp_path)
    assert caught.value.previous == str(mine)


@pytest.mark.parametrize("there", ["no folder", "an empty folder"])
def test_a_run_without_checkpoints_cannot_be_resumed(there: str, tmp_path: Path) -> None:
    """The refusal names the folder that was looked into."""
    folder = tmp_path / ".otel_budget" / "checkpoints" / "none"
    if there == "an empty folder":
        folder.mkdir(parents=True)
        (folder / ".123.abc.tmp").write_text("half")
        (folder / "notes.json").write_text("{}")
    with pytest.raises(CheckpointError, match="holds no checkpoint") as caught:
        ResourceMonitor.resume("none", tmp_path)
    assert caught.value.path == str(folder)


def test_a_project_that_is_a_file_is_refused_like_any_other(tmp_path: Path) -> None:
    """Not with whatever the operating system raises."""
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot be read"):
        ResourceMonitor.resume("any", tmp_path / "file")


def test_a_run_begins_in_a_project_that_is_a_file_and_says_so_when_it_saves(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Once, with the path, and without a traceback."""
    (tmp_path / "file").write_text("")
    with make(session_id="any", project_root=tmp_path / "file") as monitor:
        assert not caplog.records
        assert monitor.checkpoint() is None
    assert all(record.exc_info is None for record in caplog.records)
    assert "no checkpoint was written" in caplog.text


def test_a_named_checkpoint_that_is_not_there_is_refused(make: Make, tmp_path: Path) -> None:
    """And the newest before it offered."""
    path = make(session_id="named", project_root=tmp_path).checkpoint()
    assert path is not None
    missing = path.with_name("000007.json")
    with pytest.raises(CheckpointError, match="No such file") as caught:
        ResourceMonitor.resume("named", tmp_path, checkpoint=missing)
    assert caught.value.previous == str(path)


def test_a_session_id_that_climbs_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    """Before anything is read."""
    with pytest.raises(InvalidValueError, match="session_id"):
        ResourceMonitor.resume("../../etc", tmp_path)
