"""The audit log on disk: rows are added, read, and, the oldest first, deleted for want of room.

- A row is an entry's JSON, sealed with a digest, and what it is found by. An entry is in the same
  commit as what it tells of.
- The log is bounded in bytes and in days. What has to go goes in pieces, a few with each commit,
  and down to seven eighths of the bytes, so that not every commit deletes. Days are time that
  passed in small steps (Age): a clock that is wrong once deletes nothing.
- The configuration in force at the oldest entry is kept, however old: what was decided by it can be
  explained.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_budget.core import audit
from otel_budget.core.audit import MOST_ENTRIES, AuditEntry, AuditKind, AuditPage, AuditQuery
from otel_budget.core.json_fields import Fields
from otel_budget.logs.once import Once
from otel_budget.sidecar.storage.records import UNREADABLE_ROW, Key, sealed, unsealed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from otel_budget.sidecar.storage.sqlite.rows import Rows

logger = logging.getLogger(__name__)

#: Bytes and seconds of the log that are kept by default: some 200,000 entries, a quarter of a year.
AUDIT_SIZE: Final = 256_000_000
AUDIT_KEEP: Final = 90 * 86_400.0
#: Seconds between two looks for what is too old.
_PURGE_EVERY: Final = 3600.0
#: The share of its bytes that the log is cut down to.
_CUT_TO: Final = 7 / 8
#: Rows that are deleted with one commit, at least: more of them where more came.
_PIECE: Final = 500
#: Bytes that one answer has at most.
_ANSWER_MOST: Final = 4_000_000
#: What a row takes beside its text, with its places in the indices.
_ROW_MORE: Final = 200
_KIND: Final = "audit"
#: How the text of each row begins.
BEGIN: Final = '{"number":'


class AuditStats(NamedTuple):
    """How the log is; the count is since the process began."""

    dropped: int = 0
    """Entries that were deleted for their age, or for want of room."""
    is_behind: bool = False
    """True while more are to be deleted."""


class AuditTable:
    """The log in one storage."""

    def __init__(self, rows: Rows, size: int = AUDIT_SIZE, keep: float = AUDIT_KEEP) -> None:
        """Take what has the connection. size: bytes. keep: seconds."""
        self._rows, self._size, self._keep = rows, size, keep
        self.dropped = 0
        """Entries so far that were deleted."""
        self._upto: int | None = None
        """Bytes of all entries there ever were; None if that has to be read."""
        self._gone = 0
        """Bytes of those that are deleted."""
        self._purged_at: float | None = None
        self._cut_through: int | None = None
        """Number of the last entry that is to be deleted; None if none is."""
        self._told = Once(1)

    @property
    def is_behind(self) -> bool:
        """True while there is more to delete than goes with one commit."""
        return self._cut_through is not None

    def stats(self) -> AuditStats:
        """Return how the log is."""
        return AuditStats(self.dropped, self.is_behind)

    def recount(self) -> None:
        """Take note that what is stored is not what was counted."""
        self._upto, self._cut_through = None, None

    def last_number(self) -> int:
        """Return the number of the newest entry; 0 if there is none."""
        (last,) = self._rows.db.execute("SELECT max(number) FROM audit").fetchone()
        return last or 0

    def write(self, entries: Iterable[AuditEntry]) -> None:
        """Add entries, each with its number."""
        self.put((entry, audit.to_json(entry)) for entry in entries)

    def put(self, entries: Iterable[tuple[AuditEntry, str]]) -> None:
        """Add entries with their text. The numbers are larger than all that are there."""
        upto, rows = self._count(), []
        for entry, line in entries:
            body = sealed(line, _KIND)
            upto += len(body) + _ROW_MORE
            key = Key.of(entry.session_id, entry.started_at)
            rows.append((entry.number, entry.at, str(entry.kind), *key, entry.budget, upto, body))
        self._rows.db.executemany("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        self._upto = upto

    def tidy(self, now: float, added: int = 0) -> None:
        """Delete a piece of what is too old, or too much. now: by Age. added: entries just now."""
        if self._cut_through is None:
            self._cut_through = self._too_much() or self._too_old(now)
        if self._cut_through is None:
            return
        piece = max(_PIECE, 2 * added)
        rows = self._rows.db.execute(
            "SELECT number, upto FROM audit WHERE number <= ? AND number <> ? "
            "ORDER BY number LIMIT ?",
            (self._cut_through, self._in_force_at(self._cut_through), piece),
        ).fetchall()
        self._rows.db.executemany("DELETE FROM audit WHERE number = ?", [row[:1] for row in rows])
        self.dropped += len(rows)
        if rows:
            self._gone = rows[-1][1]
        if len(rows) < piece:
            self._cut_through = None

    def _count(self) -> int:
        """Return the bytes of all entries there ever were."""
        if self._upto is None:
            newest = "SELECT upto FROM audit ORDER BY number DESC LIMIT 1"
            found = self._rows.db.execute(newest).fetchone()
            self._upto = found[0] if found else 0
            # Configurations may be older than the rest.
            oldest = self._rows.db.execute(
                "SELECT upto - length(body) - ? FROM audit WHERE kind <> ? ORDER BY number LIMIT 1",
                (_ROW_MORE, AuditKind.CONFIGURATION),
            ).fetchone()
            self._gone = oldest[0] if oldest else 0
        return self._upto

    def _too_much(self) -> int | None:
        """Return the number through which entries have to go for want of room."""
        total = self._count()
        if total - self._gone <= self._size:
            return None
        if self._told.first("full"):
            logger.warning(
                "the audit log is as large as storage.audit_size allows (%d MB): its oldest "
                "entries are deleted; audit.file has them written elsewhere, too",
                self._size // 10**6,
            )
        # The newest one stays, whatever its size: numbers go on from it.
        found = self._rows.db.execute(
            "SELECT number FROM audit WHERE upto >= ? AND number < (SELECT max(number) FROM audit) "
            "ORDER BY number LIMIT 1", (total - int(self._size * _CUT_TO),),
        ).fetchone()  # fmt: skip
        return found[0] if found else None

    def _too_old(self, now: float) -> int | None:
        if self._purged_at is None:
            self._purged_at = now  # not at once: a start has other things to do
        if now - self._purged_at < _PURGE_EVERY:
            return None
        self._purged_at = now
        (through,) = self._rows.db.execute(
            "SELECT max(number) FROM audit WHERE at < ? AND number < (SELECT max(number) FROM "
            "audit)", (now - self._keep,),
        ).fetchone()  # fmt: skip
        rows = self._rows.db.execute(
            "SELECT 1 FROM audit WHERE number <= ? AND number <> ? LIMIT 1",
            (through or 0, self._in_force_at(through or 0)),
        ).fetchone()
        return through if rows else None

    def _in_force_at(self, number: int) -> int:
        """Return the number of the configuration that was in force at an entry; 0 if none is."""
        taken = self._rows.db.execute(
            "SELECT number, CAST(body AS BLOB) FROM audit INDEXED BY audit_of_kind "
            "WHERE kind = ? AND kind <> 'verdict' AND number <= ? ORDER BY number DESC",
            (AuditKind.CONFIGURATION, number),
        )  # fmt: skip
        for found, body in taken:
            try:
                if json.loads(body)["body"].get("event") == "taken":
                    return int(found)
            except UNREADABLE_ROW:
                continue
        return 0

    def read(self, query: AuditQuery) -> AuditPage:
        """Return what the log has of what is asked for."""
        source, values = _found_by(query)
        most = max(1, min(query.limit, MOST_ENTRIES))
        order = "DESC" if query.newest else "ASC"
        rows = self._rows.db.execute(
            "SELECT number, CAST(body AS BLOB) FROM audit WHERE number IN "  # noqa: S608 - constants
            f"(SELECT number FROM {source} ORDER BY number {order} LIMIT ?) "
            f"ORDER BY number {order}",
            (*values, most + 1),
        ).fetchall()
        lines: list[str] = []
        size = bad = read = 0
        last: int | None = None
        for number, body in rows[:most]:
            size += len(body)
            if read and size > _ANSWER_MOST:
                break
            read, last = read + 1, number
            try:
                lines.append(unsealed(body, _KIND))
            except UNREADABLE_ROW:
                bad += 1
        if bad:
            self._rows.unreadable += bad
            logger.error("storage: %d entries of the audit log cannot be read. Check the disk", bad)
        (begins,) = self._rows.db.execute("SELECT min(number) FROM audit").fetchone()
        return AuditPage(tuple(lines), last if read < len(rows) else None, begins, bad)


def _found_by(query: AuditQuery) -> tuple[str, tuple[Any, ...]]:
    """Return table, index and condition of a query, and its values.

    The index is named: all of the others would have every row read, and there are many.
    """
    kind = "" if query.kind is None else str(query.kind)
    index = "audit"
    if query.since is not None or query.until is not None:
        index = "audit INDEXED BY audit_at"
    if kind and query.kind is not AuditKind.VERDICT:
        index = "audit INDEXED BY audit_of_kind"
    if query.budget:
        index = "audit INDEXED BY audit_of_budget"
    if query.session_id:
        index = "audit INDEXED BY audit_of_run"
    behind = "number < ?" if query.newest else "number > ?"
    is_verdict = query.kind is AuditKind.VERDICT
    parts: Mapping[str, Any] = {
        behind: query.after,
        "at >= ?": query.since,
        "at < ?": query.until,
        # What the index leaves out is said in the same words, else it is not used.
        "session_id = ? AND session_id <> ''": query.session_id or None,
        "budget = ? AND budget <> ''": query.budget or None,
        "kind = ?" if is_verdict else "kind = ? AND kind <> 'verdict'": kind or None,
    }
    given = {text: value for text, value in parts.items() if value is not None}
    return f"{index} WHERE {' AND '.join(given) or '1'}", tuple(given.values())


def entry_of(body: bytes) -> tuple[AuditEntry, str]:
    """Return the entry of a row, without its body, and its text. Raises one of UNREADABLE_ROW."""
    line = unsealed(body, _KIND)
    if line.encode() == body:
        raise ValueError("it has no digest")
    data = json.loads(line)
    entry = AuditEntry(
        kind=AuditKind(data["kind"]),
        at=Fields("entry", data).time("at"),
        session_id=data["session_id"] or "",
        started_at=data["run_started_at"],
        budget=data["budget"] or "",
        number=int(data["number"]),
    )
    return entry, line
