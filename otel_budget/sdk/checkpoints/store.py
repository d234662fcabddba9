"""Checkpoints on disk: a run's usage, limits and the caller's own state, whole or not at all.

A checkpoint is written to a temporary file, synced, linked to its final name (which is free then),
and its folder synced; so whatever dies when, every file under a final name is whole. The
digest inside tells a file that was altered afterwards. Where the file system offers no sync (CIFS,
FUSE, vboxsf) a power loss could take the newest: that is said, once, and is no failure. Files are
``PROJECT_ROOT/.otel_budget/checkpoints/SESSION_ID/NNNNNN.json``, for their owner alone to read; the
newest ``KEEP`` of a run stay.

Nothing is removed that another process may have to go on from: each keeps its own newest ones, and
those that were there when it took the run up, whose use it carries on. Of other runs under the id
only those that completed make room.
"""

from __future__ import annotations

import errno
import os
import re
import time
import uuid
from contextlib import suppress
from dataclasses import fields, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_budget.core import validation
from otel_budget.core.usage import ResourceUsage
from otel_budget.errors import CheckpointError, InvalidValueError, NoCheckpointError
from otel_budget.logs.logger import logger
from otel_budget.runtime.fork import ProcessLock
from otel_budget.sdk.checkpoints.format import Checkpoint, TakenUp, decode, encode
from otel_budget.sdk.phase_counters import plus

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_NAME = re.compile(r"([0-9]{6,})\.json")
#: Seconds after which a temporary file is taken to be abandoned.
_LEFTOVER = 3600.0
#: One checkpoint at a time takes its number; two monitors of one run share a folder.
_numbering = ProcessLock()
#: What a file system answers that does not offer to sync a file or a folder, or to open one for it.
_NOT_OFFERED = frozenset(
    (
        errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS,
        errno.EBADF, errno.EISDIR, errno.EACCES, errno.EPERM,
    )
)  # fmt: skip
#: File systems, by device, of which it was said that they do not sync.
_unsynced: set[int] = set()
#: Checkpoints of a run, or of all completed ones, that stay.
KEEP: Final = 10
#: The start of a run is at the head of a file, how it ended at its foot: a state may be large.
_BEGUN: Final = re.compile(rb'"started_at": ([0-9]+(?:\.[0-9]+)?)')
_COMPLETED: Final = re.compile(rb'^ "outcome": "completed",$', re.MULTILINE)
_HEAD: Final = 1024
_FOOT: Final = 2048
_NOT_ADDED: Final = ("session_id", "started_at", "duration_seconds", "active_seconds",
                     "last_checkpoint_at", "cost_usd")  # fmt: skip
_ADDED: Final = tuple(field.name for field in fields(ResourceUsage) if field.name not in _NOT_ADDED)


class Glimpse(NamedTuple):
    """What can be seen of a checkpoint without reading all of it."""

    started_at: float
    """When its run began; 0 if that cannot be seen."""
    completed: bool


_UNSEEN: Final = Glimpse(0.0, completed=False)


class CheckpointFolder:
    """The checkpoints of one run. Nothing is created before the first one is written."""

    def __init__(self, project_root: Path, session_id: str) -> None:
        """Name the folder. session_id is checked: it is part of the path."""
        validation.session_id(session_id)
        self.session_id = session_id
        self.path = Path(project_root) / ".otel_budget" / "checkpoints" / session_id
        self._own: frozenset[Path] = frozenset()
        """Those written here, and those that were there when the run was taken up."""

    def write(self, checkpoint: Checkpoint) -> Path:
        """Write the next checkpoint and remove the oldest past ``KEEP``.

        Raises OSError when the disk will not take it, TypeError or ValueError when the state is
        not JSON; either way the earlier checkpoints stay whole.
        """
        text = encode(checkpoint)
        self._make_folder()
        temporary = self.path / f".{os.getpid()}.{uuid.uuid4().hex}.tmp"
        try:
            with open(temporary, "x", encoding="utf-8", opener=_private) as file:
                file.write(text)
                file.flush()
                _sync(file.fileno(), self.path)
            final = self._number(temporary)
        finally:
            with suppress(OSError):  # the disk may be gone; the error that matters is raised
                temporary.unlink(missing_ok=True)
        _sync_folder(self.path)
        self._own |= {final}
        with suppress(OSError):  # an old checkpoint that stays is no loss
            self._tidy(checkpoint.started_at)
        return final

    def take_up(self) -> None:
        """Take note that what is there now is carried on by who writes here."""
        with suppress(OSError):
            self._own |= set(self._paths())

    def newest(self) -> Path | None:
        """Return the path of the newest checkpoint, or None."""
        numbers = self._numbers()
        return self._file(numbers[-1]) if numbers else None

    def latest(self) -> tuple[Path, Checkpoint]:
        """Read the newest checkpoint of the newest run. Raises CheckpointError as ``read`` does.

        That is the newest file, unless an older run wrote it after a newer one had begun under the
        same id: a process that hung, say, and ended late.
        """
        try:
            numbers = self._numbers()
        except OSError as exc:
            raise CheckpointError(str(self.path), f"cannot be read: {exc}") from exc
        if not numbers:
            raise NoCheckpointError(str(self.path), "holds no checkpoint of this run")
        path = self._file(numbers[-1])
        found = path, self._read(path)
        for number in reversed(numbers[:-1]):
            earlier, newest = self._file(number), found[1]
            # One written before the other run began is of a clock that was put back.
            if newest.started_at < glimpse(earlier).started_at <= newest.written_at:
                with suppress(CheckpointError):  # the newest can be read: this one is not missed
                    found = earlier, self._read(earlier)
        return found

    def read(self, path: Path | None = None) -> Checkpoint:
        """Read a checkpoint, by default the newest.

        Raises CheckpointError naming the file, what is wrong, and the previous one to use instead.
        """
        return self.latest()[1] if path is None else self._read(path)

    def with_all_use(self, newest: Checkpoint) -> Checkpoint:
        """Return a run's newest checkpoint with what all processes used that carried the run.

        Two of them may have taken it up at once.
        """
        found = {None if newest.taken_up is None else newest.taken_up.at: newest}
        for path in reversed(self._paths()):
            if glimpse(path).started_at == newest.started_at:
                with suppress(CheckpointError):
                    saved = self._read(path)
                    found.setdefault(None if saved.taken_up is None else saved.taken_up.at, saved)
        used = used_by_all((one.taken_up, one.usage) for one in found.values())
        return newest if used == newest.usage else replace(newest, usage=used)

    def unfinished_beside(self, newest: Checkpoint) -> Path | None:
        """Return the newest checkpoint of another run of the id that did not complete, or None."""
        looks = {path: glimpse(path) for path in self._paths()}
        completed = {look.started_at for look in looks.values() if look.completed}
        others = [
            path for path, look in looks.items()
            if look.started_at not in completed | {newest.started_at, 0.0}
        ]  # fmt: skip
        return others[-1] if others else None

    def _read(self, target: Path) -> Checkpoint:
        try:
            checkpoint = decode(target.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, InvalidValueError, RecursionError) as exc:
            raise CheckpointError(
                str(target), f"cannot be used: {exc}", self._before(target)
            ) from exc
        if checkpoint.usage.session_id != self.session_id:
            problem = f"is of session {checkpoint.usage.session_id!r}, not {self.session_id!r}"
            raise CheckpointError(str(target), problem, self._before(target))
        return checkpoint

    def _make_folder(self) -> None:
        """Make the folders. What they hold is the caller's own, and only its owner may read it."""
        self.path.parents[2].mkdir(parents=True, exist_ok=True)
        for folder in (self.path.parents[1], self.path.parent, self.path):
            folder.mkdir(mode=0o700, exist_ok=True)

    def _number(self, temporary: Path) -> Path:
        """Give a file the next free number, also if another process takes one at the same time."""
        with _numbering:
            number = (self._numbers() or [0])[-1] + 1
            while True:
                final = self._file(number)
                try:
                    final.hardlink_to(temporary)
                except FileExistsError:
                    number += 1
                except OSError:  # a file system without links: the last one gets the number
                    return temporary.rename(final)
                else:
                    return final

    def _numbers(self) -> list[int]:
        try:
            names = os.listdir(self.path)  # noqa: PTH208 - names only, in one call
        except FileNotFoundError:
            return []
        return sorted(int(m[1]) for name in names if (m := _NAME.fullmatch(name)))

    def _paths(self) -> list[Path]:
        return [self._file(number) for number in self._numbers()]

    def _file(self, number: int) -> Path:
        return self.path / f"{number:06d}.json"

    def _before(self, path: Path) -> str | None:
        match = _NAME.fullmatch(path.name)
        number = int(match[1]) if match else 0
        try:
            earlier = [n for n in self._numbers() if n < number]
        except OSError:
            return None
        return str(self._file(earlier[-1])) if earlier else None

    def _tidy(self, started_at: float) -> None:
        """Remove the oldest past ``KEEP``, and what killed processes left half written.

        started_at: of the run that is written here.
        """
        for old in may_go(self._paths(), started_at, self._own):
            with suppress(OSError):  # not ours to remove
                old.unlink()
        for leftover in self.path.glob(".*.tmp"):
            with suppress(OSError):  # gone already, or not ours to remove
                if time.time() - leftover.stat().st_mtime > _LEFTOVER:
                    leftover.unlink()


def glimpse(path: Path) -> Glimpse:
    """Look at a checkpoint's head and foot."""
    try:
        stat = path.stat()
    except OSError:
        return _UNSEEN
    return _glimpse(path, stat.st_ino, stat.st_mtime_ns)


@lru_cache(maxsize=4096)
def _glimpse(path: Path, _inode: int, _written_at: int) -> Glimpse:
    try:
        with path.open("rb") as file:
            begun = _BEGUN.search(file.read(_HEAD))
            file.seek(max(0, file.seek(0, 2) - _FOOT))
            completed = _COMPLETED.search(file.read()) is not None
    except OSError:
        return _UNSEEN
    return Glimpse(float(begun[1]) if begun else 0.0, completed)


def may_go(paths: Sequence[Path], started_at: float, own: frozenset[Path]) -> list[Path]:
    """Return the checkpoints that a process may remove. paths: all there are, oldest first.

    own: those it wrote, and those that were there when it took the run up.
    """
    seen = {path: glimpse(path) for path in paths}
    mine = [path for path in paths if path in own and seen[path].started_at == started_at]
    completed = {look.started_at for look in seen.values() if look.completed} - {started_at, 0.0}
    over = [path for path in paths if seen[path].started_at in completed]
    return mine[:-KEEP] + over[:-KEEP]


def used_by_all(newest: Iterable[tuple[TakenUp | None, ResourceUsage]]) -> ResourceUsage:
    """Return what a run used over all processes that carried it, also beside one another.

    newest: of each process, who it is and what the run had used by its newest checkpoint; one is
    None, or none is: the process that began the run. As everywhere, each begins from the larger of
    what is known and what it carried over.
    """
    row = sorted(newest, key=lambda one: 0.0 if one[0] is None else one[0].at)
    total = row[0][1]
    for taken_up, used in row[1:]:
        if taken_up is None:
            continue
        carried = taken_up.carried
        values: dict[str, Any] = {
            name: max(getattr(total, name), getattr(carried, name))
            + getattr(used, name)
            - getattr(carried, name)
            for name in _ADDED
        }
        own = plus(used.cost_usd, carried.cost_usd.copy_negate())
        last = [at for at in (total.last_checkpoint_at, used.last_checkpoint_at) if at is not None]
        total = replace(
            total,
            **values,
            cost_usd=plus(max(total.cost_usd, carried.cost_usd), own),
            duration_seconds=max(total.duration_seconds, used.duration_seconds),
            active_seconds=max(total.active_seconds, used.active_seconds),
            last_checkpoint_at=max(last, default=None),
        )
    return total


def folder_or_none(project_root: object) -> Path | None:
    """Return a project's folder. Raises InvalidValueError for what is not a path."""
    if project_root is None:
        return None
    try:
        return Path(project_root)  # type: ignore[arg-type] # checked by trying
    except TypeError as exc:
        raise InvalidValueError("project_root", project_root, "a path, or None") from exc


def _private(path: str, flags: int) -> int:
    """Open a file that only its owner may read."""
    return os.open(path, flags, 0o600)


def _sync_folder(path: Path) -> None:
    """Make the new name itself durable, where the file system does that."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError as exc:
        _unless_not_offered(exc, path)
        return
    try:
        _sync(handle, path)
    finally:
        os.close(handle)


def _sync(handle: int, path: Path) -> None:
    """Sync a file or a folder. Raises OSError if that failed, not if it is not offered."""
    try:
        os.fsync(handle)
    except OSError as exc:
        _unless_not_offered(exc, path)


def _unless_not_offered(exc: OSError, path: Path) -> None:
    """Raise a failure to sync; say of a file system that does not sync, once, what that means."""
    if exc.errno not in _NOT_OFFERED:
        raise exc
    device = path.stat().st_dev
    with _numbering:
        if device in _unsynced:
            return
        _unsynced.add(device)
    logger.warning(
        "checkpoints in %s: this file system does not sync to disk (%s); they are written, but a "
        "power loss could take the newest (said once)", path, exc.strerror,
    )  # fmt: skip
