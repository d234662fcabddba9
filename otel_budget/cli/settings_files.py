"""Another program's settings file: read, changed at once or not at all, and put back to the byte.

Beside the file are a copy of what was there (``….before-otel-budget``) and a note of what was
written (``….otel-budget``). While the file is as it was written, the copy is put back; after that
only our own parts are taken out of it.
"""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget.agents.settings import Undo
from otel_budget.errors import InvalidValueError, OtelBudgetError
from otel_budget.files.json_text import JsonTextError, parsed

if TYPE_CHECKING:
    from otel_budget.agents.settings import AgentSettings, Wanted

_COPY: Final = ".before-otel-budget"
_NOTE: Final = ".otel-budget"
#: A file with keys and the like in it is its owner's alone, unless it was not.
_MODE: Final = 0o600
_MOST: Final = 10_000_000


class SettingsFileError(OtelBudgetError):
    """Say why a file cannot be changed, and that it was not."""


class Plan(NamedTuple):
    """What becomes of one file."""

    path: Path
    before: bytes | None
    """None: there is no such file."""
    after: bytes | None
    """None: it is taken away."""
    base: bytes | None = None
    """What is there without our parts."""
    undo: tuple[Undo, ...] = ()
    notes: tuple[str, ...] = ()
    keeps_copy: bool = False
    """Of a removal: the file has changed since, so the copy may have something more to tell."""

    @property
    def changes(self) -> bool:
        """Tell whether anything is to be written."""
        return self.before != self.after


class _Note(NamedTuple):
    """What was written."""

    written: str
    """Hash of the whole file."""
    existed: bool
    undo: tuple[Undo, ...]


def to_install(settings: AgentSettings, file: str, wanted: Wanted) -> Plan:
    """Return how a file gets our parts, or gets them anew. Raises OtelBudgetError."""
    path = Path(file)
    before = _read(path)
    base, _ = _without(settings, path, before)
    try:
        change = settings.added(file, _text(path, base), wanted)
    except InvalidValueError as exc:
        raise InvalidValueError("", exc.value, "", sentence=f"{path}: {exc}") from exc
    except JsonTextError as exc:
        raise SettingsFileError(f"{path} {exc}") from exc
    after: bytes | None = change.text.encode()
    if (base is None and not change.text) or _is_same(before, after):
        after = before
    return Plan(path, before, after, base, change.undo, change.notes)


def to_remove(settings: AgentSettings, file: str) -> Plan:
    """Return how a file is as it was before. Raises OtelBudgetError."""
    path = Path(file)
    before = _read(path)
    base, is_exact = _without(settings, path, before)
    notes: tuple[str, ...] = ()
    if before is not None and base != before and not is_exact:
        notes = ("it was changed since; only what otel-budget wrote is taken out",)
        if _beside(path, _COPY).exists():
            notes = (f"{notes[0]}. What was there before is in {_beside(path, _COPY)}",)
    return Plan(path, before, base, notes=notes, keeps_copy=not is_exact)


def write(plan: Plan) -> None:
    """Write a file with our parts, and what puts it back. Raises OSError, SettingsFileError."""
    target = _target(plan.path)
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    after = plan.after or b""
    note = {
        "about": "what otel-budget install wrote; otel-budget install … --remove takes it out",
        "written": sha256(after).hexdigest(),
        "existed": plan.base is not None,
        "undo": [[list(one.path), one.was] for one in plan.undo],
    }
    if plan.base is not None:
        _replace(_beside(plan.path, _COPY), plan.base, like=target)
    _replace(_beside(plan.path, _NOTE), json.dumps(note, indent=1).encode() + b"\n", like=target)
    _check(plan)
    _replace(target, after, like=target)


def put_back(plan: Plan) -> None:
    """Write a file without our parts, or take it away. Raises OSError, SettingsFileError."""
    target = _target(plan.path)
    _check(plan)
    if plan.after is None:
        target.unlink()
    else:
        _replace(target, plan.after, like=target)
    _beside(plan.path, _NOTE).unlink(missing_ok=True)
    if not plan.keeps_copy:
        _beside(plan.path, _COPY).unlink(missing_ok=True)


def _without(
    settings: AgentSettings, path: Path, before: bytes | None
) -> tuple[bytes | None, bool]:
    """Return a file without our parts, and whether that is what was there, to the byte."""
    note = _note(path)
    if before is None:
        return None, True
    if note is not None and sha256(before).hexdigest() == note.written:
        copy = _read(_beside(path, _COPY)) if note.existed else None
        if copy is not None or not note.existed:
            return copy, True
    text = _text(path, before) or ""
    try:
        removed = settings.removed(str(path), text, () if note is None else note.undo).text
    except JsonTextError as exc:
        raise SettingsFileError(f"{path} {exc}") from exc
    return removed.encode(), False


def _note(path: Path) -> _Note | None:
    """Return what was written, as far as that is known."""
    found = _read(_beside(path, _NOTE))
    try:
        note = json.loads(found or b"")
        undo = tuple(Undo(tuple(map(str, one)), was) for one, was in note["undo"])
        return _Note(str(note["written"]), bool(note["existed"]), undo)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            found = file.read(_MOST + 1)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise SettingsFileError(f"{path} cannot be read: {exc.strerror}") from exc
    if len(found) > _MOST:
        raise SettingsFileError(f"{path} is larger than {_MOST:,} bytes, and is left alone")
    return found


def _text(path: Path, content: bytes | None) -> str | None:
    try:
        return None if content is None else content.decode()
    except UnicodeDecodeError as exc:
        raise SettingsFileError(f"{path} is not UTF-8, and is left alone") from exc


def _is_same(before: bytes | None, after: bytes | None) -> bool:
    """Tell whether two contents say the same, wherever in the file they say it."""
    if before is None or after is None:
        return before is after
    with suppress(JsonTextError, UnicodeDecodeError):
        return before == after or parsed(before.decode()) == parsed(after.decode())
    return before == after


def _target(path: Path) -> Path:
    """Return the file itself, where the path is a link to it."""
    return path.resolve()


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _check(plan: Plan) -> None:
    if _read(plan.path) != plan.before:
        raise SettingsFileError(f"{plan.path} was changed just now, and is left alone: try again")


def _replace(path: Path, content: bytes, *, like: Path) -> None:
    """Write a file at once, with the mode and owner of another one, if that is there."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            _dress(file.fileno(), like)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _dress(handle: int, like: Path) -> None:
    try:
        stat = like.stat()
    except FileNotFoundError:
        os.fchmod(handle, _MODE)
        return
    mine = os.fstat(handle)
    if (stat.st_uid, stat.st_gid) != (mine.st_uid, mine.st_gid):
        try:
            os.fchown(handle, stat.st_uid, stat.st_gid)
        except PermissionError as exc:
            raise SettingsFileError(f"{like} is another user's or group's, and left alone") from exc
    os.fchmod(handle, stat.st_mode & 0o7777)
