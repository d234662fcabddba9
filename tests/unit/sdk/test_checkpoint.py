"""Checkpoints: whole or not at all, ten of them, and never the end of a run."""

from __future__ import annotations

import errno
import json
import logging
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from otel_budget import ResourceMonitor
from otel_budget.sdk.checkpoints import store as module
from otel_budget.testing import FakeClock
from tests.support.monitors import Make


def files(root: Path) -> list[str]:
    """Return the names of all files under a project's checkpoints, hidden ones too."""
    return sorted(path.name for path in (root / ".otel_budget").rglob("*") if path.is_file())


def body(path: Path | None) -> dict[str, Any]:
    """Return what is in a checkpoint."""
    assert path is not None
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_a_checkpoint_has_usage_limits_labels_progress_and_state(
    make: Make, tmp_path: Path
) -> None:
    """In the folder of the contract, under a number, with a digest over all of it."""
    monitor = make(session_id="whole", project_root=tmp_path, workflow="w", max_tokens=50)
    monitor.record_operation(5)
    monitor.should_continue(0.25)
    path = monitor.checkpoint({"step": 3})
    assert path == tmp_path / ".otel_budget" / "checkpoints" / "whole" / "000001.json"
    found = body(path)
    assert found["schema"] == 1
    assert (found["usage"]["tokens"], found["usage"]["checkpoints"]) == (5, 1)
    assert found["limits"] == monitor.limits.to_dict()
    assert (found["labels"], found["progress"], found["state"]) == (
        {"workflow": "w"}, 0.25, {"step": 3},
    )  # fmt: skip
    assert len(found["sha256"]) == 64


def test_no_file_has_a_final_name_before_it_is_whole_and_synced(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the sync of the content there is only a temporary file; the folder is synced after."""
    seen: list[tuple[bool, list[str]]] = []

    def sync(handle: int, real: Any = os.fsync) -> None:
        kind = Path(f"/proc/self/fd/{handle}").resolve()
        seen.append((kind.is_dir(), [name for name in files(tmp_path) if name[0] != "."]))
        real(handle)

    monkeypatch.setattr(os, "fsync", sync)
    monitor = make(project_root=tmp_path)
    monitor.checkpoint()
    assert seen == [(False, []), (True, ["000001.json"])]
    assert files(tmp_path) == ["000001.json"]


@pytest.mark.parametrize("dies_at", ["fsync", "link"])
def test_one_that_fails_half_way_leaves_the_earlier_ones_and_nothing_else(
    dies_at: str,
    make: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is logged and counted, and the run goes on."""
    monitor = make(project_root=tmp_path)
    monitor.checkpoint({"step": 1})

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        if dies_at == "fsync":
            patch.setattr(os, "fsync", fail)
        else:
            patch.setattr(Path, "hardlink_to", fail)
            patch.setattr(Path, "rename", fail)
        assert monitor.checkpoint({"step": 2}) is None
    assert "No space left on device; the run goes on" in caplog.text
    assert files(tmp_path) == ["000001.json"]
    assert monitor._record.checkpoint_failures == 1
    assert body(monitor.checkpoint())["state"] == {"step": 2}  # it was kept for the next one
    assert monitor.get_usage_report().checkpoints == 2


def refuse_to_sync(patch: pytest.MonkeyPatch, kind: str, code: int) -> None:
    """Let the file system refuse to sync files, or folders, or to open a folder for that."""

    def sync(handle: int, real: Any = os.fsync) -> None:
        if Path(f"/proc/self/fd/{handle}").resolve().is_dir() == (kind == "folder"):
            raise OSError(code, os.strerror(code))
        real(handle)

    def opened(path: Any, flags: int, *rest: Any, real: Any = os.open, **more: Any) -> int:
        if Path(path).is_dir():
            raise OSError(code, os.strerror(code))
        return real(path, flags, *rest, **more)  # type: ignore[no-any-return]

    patch.setattr(module, "_unsynced", set())
    if kind == "opening a folder":
        patch.setattr(os, "open", opened)
    else:
        patch.setattr(os, "fsync", sync)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        *(("folder", code) for code in (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EACCES)),
        ("file", errno.EINVAL),
        ("file", errno.ENOSYS),
        ("opening a folder", errno.EACCES),
        ("opening a folder", errno.EISDIR),
    ],
)
def test_a_file_system_that_does_not_sync_costs_no_checkpoint(
    *,
    kind: str,
    code: int,
    make: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """CIFS, FUSE, vboxsf: it is written, returned and counted, old ones go; it is said once."""
    refuse_to_sync(monkeypatch, kind, code)
    for session_id in ("one", "two"):
        monitor = make(session_id=session_id, project_root=tmp_path)
        paths = [monitor.checkpoint({"step": step}) for step in range(12)]
        assert paths[-1] == tmp_path / f".otel_budget/checkpoints/{session_id}/000012.json"
        assert body(paths[-1])["state"] == {"step": 11}
        assert monitor._record.checkpoint_failures == 0
        assert monitor.get_usage_report().checkpoints == 12
    assert len(files(tmp_path)) == 20
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert f"does not sync to disk ({os.strerror(code)}); they are written, but a" in caplog.text


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EROFS])
def test_a_sync_that_fails_is_a_failure(
    kind: str, code: int, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that cannot keep what it took has not taken it; nothing older is removed then."""
    monitor = make(project_root=tmp_path)
    for _ in range(10):
        assert monitor.checkpoint() is not None
    refuse_to_sync(monkeypatch, kind, code)
    assert monitor.checkpoint() is None
    assert monitor._record.checkpoint_failures == 1
    assert "000001.json" in files(tmp_path)


def test_a_folder_that_cannot_be_tidied_up_costs_no_checkpoint(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is on disk already when the old ones are looked for."""
    monitor = make(project_root=tmp_path)
    looks = iter(range(9))

    def listed(folder: Any, real: Any = os.listdir) -> list[str]:
        if next(looks) > 0:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(folder)  # type: ignore[no-any-return]

    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", listed)
        assert monitor.checkpoint() is not None
    assert monitor._record.checkpoint_failures == 0


def test_two_processes_of_a_run_take_a_number_each(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one may be first at any moment, also between the look and the taking."""
    one = make(session_id="both", project_root=tmp_path)
    one.checkpoint({"of": "one"})
    real = Path.hardlink_to

    def other_first(self: Path, target: Path) -> None:
        monkeypatch.setattr(Path, "hardlink_to", real)
        make(session_id="both", project_root=tmp_path).checkpoint({"of": "the other"})
        real(self, target)

    monkeypatch.setattr(Path, "hardlink_to", other_first)
    written = one.checkpoint({"of": "one, again"})
    assert files(tmp_path) == ["000001.json", "000002.json", "000003.json"]
    assert body(written)["state"] == {"of": "one, again"}
    assert body(tmp_path / ".otel_budget/checkpoints/both/000002.json")["state"] == {
        "of": "the other"
    }


def test_where_there_are_no_links_a_rename_does(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some network and FAT file systems have none."""

    def unsupported(*_: Any) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(Path, "hardlink_to", unsupported)
    monitor = make(project_root=tmp_path)
    assert monitor.checkpoint() is not None
    assert body(monitor.checkpoint({"step": 2}))["state"] == {"step": 2}
    assert files(tmp_path) == ["000001.json", "000002.json"]


def test_what_a_checkpoint_holds_is_for_its_owner_alone(make: Make, tmp_path: Path) -> None:
    """Whatever the umask says; the project's own folder is not touched."""
    mask = os.umask(0)
    try:
        path = make(session_id="own", project_root=tmp_path / "new").checkpoint({"secret": 1})
    finally:
        os.umask(mask)
    assert path is not None
    modes = [place.stat().st_mode & 0o777 for place in (path, *list(path.parents)[:4])]
    assert modes == [0o600, 0o700, 0o700, 0o700, 0o777]


def test_the_newest_ten_are_kept(make: Make, tmp_path: Path) -> None:
    """Numbers go on."""
    monitor = make(project_root=tmp_path)
    for _ in range(14):
        monitor.checkpoint()
    assert files(tmp_path) == [f"{number:06d}.json" for number in range(5, 15)]


def test_what_a_killed_process_left_half_written_goes_after_an_hour(
    make: Make, tmp_path: Path
) -> None:
    """Not before: it may be another process's, just being written."""
    monitor = make(session_id="left", project_root=tmp_path)
    folder = tmp_path / ".otel_budget" / "checkpoints" / "left"
    folder.mkdir(parents=True)
    for name, age in ((".1.old.tmp", 4000), (".1.new.tmp", 10)):
        (folder / name).write_text("{")
        then = (folder / name).stat().st_mtime - age
        os.utime(folder / name, (then, then))
    monitor.checkpoint()
    assert files(tmp_path) == [".1.new.tmp", "000001.json"]


class Strange(dict[str, int]):
    """A mapping that changes while it is written out."""

    def items(self) -> Any:
        """Fail as such a one does."""
        raise RuntimeError("dictionary changed size during iteration")


@pytest.mark.parametrize(
    "state",
    [{"x": object()}, {"x": float("nan")}, {("a", 1): 2}, b"bytes", 10**5000, Strange(a=1)],
    ids=["object", "nan", "tuple key", "bytes", "huge", "changing"],
)
def test_a_state_that_is_not_json_is_loud_and_keeps_the_earlier_ones(
    state: Any, make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The run goes on, and so do its checkpoints, with the last good state."""
    monitor = make(project_root=tmp_path)
    monitor.checkpoint([1])
    assert monitor.checkpoint(state) is None
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert monitor._record.checkpoint_failures == 1
    assert monitor.state == [1]
    assert body(monitor.checkpoint())["state"] == [1]
    with pytest.raises((TypeError, ValueError, RuntimeError)):
        monitor.keep_state(state)  # where the caller asks for nothing else, it is told


def test_a_state_that_refers_to_itself_is_not_json_either(make: Make, tmp_path: Path) -> None:
    """Nor is one too deep to be written out."""
    monitor = make(project_root=tmp_path)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    loop: list[Any] = []
    loop.append(loop)
    assert monitor.checkpoint(loop) is None
    assert monitor.checkpoint(deep) is None
    assert monitor._record.checkpoint_failures == 2


def test_the_state_is_the_one_that_was_handed_over(make: Make, tmp_path: Path) -> None:
    """What its owner does to it afterwards is not in the next checkpoint."""
    monitor = make(project_root=tmp_path)
    state = {"done": ["a"]}
    monitor.keep_state(state)
    state["done"].append("b")
    assert body(monitor.checkpoint())["state"] == {"done": ["a"]}


@pytest.mark.parametrize("in_the_way", ["project", ".otel_budget", "checkpoints"])
def test_a_folder_that_cannot_be_made_never_raises_out_of_the_run(
    in_the_way: str, make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Here a file is in its way; it is said each time, with the path, and counted."""
    root = tmp_path / "project"
    at = {"project": root, ".otel_budget": root / ".otel_budget"}.get(
        in_the_way, root / ".otel_budget" / "checkpoints"
    )
    at.parent.mkdir(parents=True, exist_ok=True)
    at.write_text("in the way")
    monitor = make(project_root=root)
    monitor.record_operation(5)
    assert monitor.checkpoint() is None
    assert monitor.checkpoint({"a": 1}) is None
    assert str(at) in caplog.text
    assert monitor._record.checkpoint_failures == 2
    assert monitor.should_continue()
    monitor.close(timeout=0)
    assert monitor._record.checkpoint_failures == 3
    assert at.read_text() == "in the way"


def test_without_a_project_there_is_nowhere_to_write_to(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """That, too, is said and not raised; closing does not try."""
    monitor = make()
    assert monitor.checkpoint({"a": 1}) is None
    assert "there is no project_root" in caplog.text
    monitor.record_operation(1)
    monitor.close(timeout=0)
    assert monitor._record.checkpoint_failures == 1


def test_two_at_once_take_turns_and_a_later_one_never_has_lower_counts(
    make: Make, tmp_path: Path
) -> None:
    """Also of two monitors of one session, that share the folder."""
    monitors = [make(session_id="shared", project_root=tmp_path) for _ in range(2)]
    paths: list[Path | None] = []

    def work(monitor: ResourceMonitor) -> None:
        for _ in range(2):
            monitor.record_operation(1)
            paths.append(monitor.checkpoint())

    threads = [threading.Thread(target=work, args=(monitors[n // 2],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(path.name for path in paths if path) == [f"{n:06d}.json" for n in range(1, 9)]
    for monitor in monitors:
        monitor.close(timeout=0)
    assert body(module.CheckpointFolder(tmp_path, "shared").newest())["usage"]["tokens"] == 4


def test_closing_a_run_that_used_something_writes_a_last_checkpoint(
    make: Make, tmp_path: Path, clock: FakeClock
) -> None:
    """With all it used; a run that used nothing leaves nothing."""
    make(project_root=tmp_path / "none").close(timeout=0)
    assert not (tmp_path / "none").exists()
    monitor = make(session_id="last", project_root=tmp_path)
    monitor.record_operation(7)
    clock.advance(3)
    monitor.close(timeout=0)
    found = body(module.CheckpointFolder(tmp_path, "last").newest())
    assert (found["usage"]["tokens"], found["usage"]["duration_seconds"]) == (7, 3.0)
