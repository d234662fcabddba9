"""Checkpoints on disk: a run's usage, limits and the caller's own state, whole or not at all.

A checkpoint is written to a temporary file, synced, linked to its final name (which nobody else has
then), and its folder synced; so whatever dies when, every file under a final name is whole. The
digest inside tells a file that was altered afterwards. Where the file system offers no sync (CIFS,
FUSE, vboxsf) a power loss could take the newest: that is said, once, and is no failure. Files are
``PROJECT_ROOT/.otel_budget/checkpoints/SESSION_ID/NNNNNN.json``, for their owner alone to read; the
newest ``KEEP`` stay.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from otel_budget import semconv
from otel_budget.errors import CheckpointError, InvalidValueError, NoCheckpointError
from otel_budget.instrumentation.forked import ProcessLock
from otel_budget.model import checks
from otel_budget.model.limits import ResourceLimits
from otel_budget.model.usage import ResourceUsage

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger("otel_budget")

#: Version of the file format. A reader refuses another one.
SCHEMA = 1
KEEP = 10
#: The start of a run, and the bytes of a file within which it is written.
_BEGUN, _HEAD = re.compile(rb'"started_at": ([0-9]+(?:\.[0-9]+)?)'), 1024
_NAME = re.compile(r"([0-9]{6,})\.json")
#: Seconds after which a temporary file belongs to nobody any more.
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
_KEYS = ("schema", "written_at", "usage", "limits", "labels", "progress", "state", "sha256")
#: Only in the last checkpoint of a run that ended. A version before it refuses that one file.
_OUTCOME = "outcome"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint as it is on disk."""

    usage: ResourceUsage
    """All the run used when it was written."""
    limits: ResourceLimits
    labels: Mapping[str, str]
    """Workflow and scope of the run."""
    written_at: float
    """Unix time in seconds."""
    progress: float | None = None
    state: Any = None
    """The caller's own, JSON types; None if there was none."""
    outcome: str | None = None
    """How the run ended, one of ``semconv.ENDED_STATES``; None if it had not, or did not say."""

    @property
    def started_at(self) -> float:
        """When its run began, in Unix time: half of the run's identity."""
        return self.usage.started_at


class CheckpointFolder:
    """The checkpoints of one run. Nothing is created before the first one is written."""

    def __init__(self, project_root: Path, session_id: str) -> None:
        """Name the folder. session_id is checked: it is part of the path."""
        checks.session_id(session_id)
        self.session_id = session_id
        self.path = Path(project_root) / ".otel_budget" / "checkpoints" / session_id

    def write(self, checkpoint: Checkpoint) -> Path:
        """Write the next checkpoint and remove the oldest past ``KEEP``.

        Raises OSError when the disk will not take it, TypeError or ValueError when the state is
        not JSON; either way the earlier checkpoints stay whole.
        """
        text = _encode(checkpoint)
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
        with suppress(OSError):  # an old checkpoint that stays is no loss
            self._tidy()
        return final

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
            if newest.started_at < _peek(earlier) <= newest.written_at:
                with suppress(CheckpointError):  # the newest can be read: this one is not missed
                    found = earlier, self._read(earlier)
        return found

    def read(self, path: Path | None = None) -> Checkpoint:
        """Read a checkpoint, by default the newest.

        Raises CheckpointError naming the file, what is wrong, and the previous one to use instead.
        """
        return self.latest()[1] if path is None else self._read(path)

    def _read(self, target: Path) -> Checkpoint:
        try:
            checkpoint = _decode(target.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, InvalidValueError, RecursionError) as exc:
            raise CheckpointError(
                str(target), f"cannot be used: {exc}", self._before(target)
            ) from exc
        if checkpoint.usage.session_id != self.session_id:
            problem = f"is of session {checkpoint.usage.session_id!r}, not {self.session_id!r}"
            raise CheckpointError(str(target), problem, self._before(target))
        return checkpoint

    def _make_folder(self) -> None:
        """Make the folders. What they hold is the caller's own: for nobody else to read."""
        self.path.parents[2].mkdir(parents=True, exist_ok=True)
        for folder in (self.path.parents[1], self.path.parent, self.path):
            folder.mkdir(mode=0o700, exist_ok=True)

    def _number(self, temporary: Path) -> Path:
        """Give a file the next number that nobody has taken, another process least of all."""
        with _numbering:
            number = (self._numbers() or [0])[-1] + 1
            while True:
                final = self._file(number)
                try:
                    final.hardlink_to(temporary)
                except FileExistsError:
                    number += 1
                except OSError:  # a file system without links: whoever is last has the number
                    return temporary.rename(final)
                else:
                    return final

    def _numbers(self) -> list[int]:
        try:
            names = os.listdir(self.path)  # noqa: PTH208 - names only, in one call
        except FileNotFoundError:
            return []
        return sorted(int(m[1]) for name in names if (m := _NAME.fullmatch(name)))

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

    def _tidy(self) -> None:
        """Remove the oldest past ``KEEP``, and what killed processes left half written."""
        for old in self._numbers()[:-KEEP]:
            with suppress(OSError):  # not ours to remove
                self._file(old).unlink()
        for leftover in self.path.glob(".*.tmp"):
            with suppress(OSError):  # gone already, or not ours to remove
                if time.time() - leftover.stat().st_mtime > _LEFTOVER:
                    leftover.unlink()


def _peek(path: Path) -> float:
    """Return when the run of a checkpoint began, by the head of the file: a state may be large.

    0 if that cannot be read.
    """
    try:
        with path.open("rb") as file:
            begun = _BEGUN.search(file.read(_HEAD))
    except OSError:
        return 0.0
    return float(begun[1]) if begun else 0.0


def folder_or_none(project_root: object) -> Path | None:
    """Return a project's folder. Raises InvalidValueError for what is not a path."""
    if project_root is None:
        return None
    try:
        return Path(project_root)  # type: ignore[arg-type] # checked by trying
    except TypeError as exc:
        raise InvalidValueError("project_root", project_root, "a path, or None") from exc


def _encode(checkpoint: Checkpoint) -> str:
    body = {
        "schema": SCHEMA,
        "written_at": checkpoint.written_at,
        "usage": checkpoint.usage.to_dict(),
        "limits": checkpoint.limits.to_dict(),
        "labels": dict(checkpoint.labels),
        "progress": checkpoint.progress,
        "state": checkpoint.state,
    }
    if checkpoint.outcome is not None:
        body[_OUTCOME] = checkpoint.outcome
    # Through JSON once, so that the digest is over what a reader will see (1 and "1" as keys, …).
    body = json.loads(json.dumps(body, allow_nan=False))
    return json.dumps({**body, "sha256": _digest(body)}, indent=1) + "\n"


def _decode(text: str) -> Checkpoint:
    try:
        data = json.loads(text)
    except ValueError as exc:
        raise InvalidValueError("file", text[:80], "a whole JSON document") from exc
    if not isinstance(data, dict):
        raise InvalidValueError("file", data, "a JSON object")
    schema = data.get("schema")
    if schema != SCHEMA:
        raise InvalidValueError("schema", schema, f"{SCHEMA}, the one this version reads")
    if set(data) - {_OUTCOME} != set(_KEYS):
        raise InvalidValueError("keys", sorted(data), "exactly " + ", ".join(_KEYS))
    digest = data.pop("sha256")
    if digest != _digest(data):
        raise InvalidValueError("sha256", digest, "the digest of the content: it was altered")
    return Checkpoint(
        usage=ResourceUsage.from_dict(_mapping(data, "usage")),
        limits=ResourceLimits.from_dict(_mapping(data, "limits")),
        labels={str(k): str(v) for k, v in _mapping(data, "labels").items()},
        written_at=checks.seconds("written_at", data["written_at"]),
        progress=checks.progress(data["progress"]),
        state=data["state"],
        outcome=checks.choice(_OUTCOME, data[_OUTCOME], semconv.ENDED_STATES)
        if _OUTCOME in data
        else None,
    )


def _mapping(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    if not isinstance(data[key], dict):
        raise InvalidValueError(key, data[key], "a JSON object")
    return data[key]  # type: ignore[no-any-return]


def _digest(body: Mapping[str, Any]) -> str:
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


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
