"""Runs that were forgotten or superseded: kept for 30 days, within bounds.

- The bound is in bytes: one in all, and a sixteenth of it for each target, so that a target that
  makes up runs pushes out its own and no others. In all it is the target with the most that
  gives way. The oldest go first.
- Time is what passed in small steps (Age): a clock that is wrong once deletes nothing.
- What has to go goes in small pieces, one with each commit; never all at once, and never before the
  first answer after a start.
- Beside each row, in another place of the file, stands what its run used.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from otel_budget.core.observation import plain_target
from otel_budget.logs.once import OncePerSubject
from otel_budget.logs.text import one_line
from otel_budget.sidecar.storage import codec
from otel_budget.sidecar.storage.records import UNREADABLE_ROW, Key, sealed, unsealed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from otel_budget.core.quantities import Number
    from otel_budget.ledger.run import RunTotals
    from otel_budget.sidecar.storage.sqlite.rows import Rows

logger = logging.getLogger(__name__)

#: Seconds an archived run is kept, and seconds between two looks for older ones.
KEEP_ARCHIVED = 30 * 86_400.0
PURGE_EVERY = 3600.0
#: Seconds for which it is kept what operators ordered.
KEEP_ACTIONS = 365 * 86_400.0
#: Bytes of archived rows that are kept by default: some 300,000 runs.
ARCHIVE_SIZE = 256_000_000
#: The share of it that the runs of one target may take.
_TARGETS_SHARE = 16
#: What a row takes at least, with its place in the indices.
_ROW_LEAST = 1024
#: Rows that are deleted at most with one commit.
PIECE = 500
#: Stands for the target of rows that earlier versions archived.
_UNKNOWN = ""
_KIND = "archived"


class Archive:
    """The archived rows of one storage."""

    def __init__(self, rows: Rows, most: int) -> None:
        """Take what reads the storage. most: bytes that they may take."""
        self._rows, self._most = rows, most
        self.evicted = 0
        """Runs so far that were deleted before their time, for want of room."""
        self._sizes: dict[str, int] | None = None
        """Bytes by target; None if they have to be counted."""
        self._purged_at: float | None = None
        self._behind = False
        """True while there is more to delete than one piece."""
        self._told: dict[str, str] = {}
        self._notices = OncePerSubject(logger, "targets let more runs go than the storage keeps")

    @property
    def is_behind(self) -> bool:
        """True while there is more to delete than goes with one commit."""
        return self._behind

    def recount(self) -> None:
        """Take note that what is stored is not what was counted."""
        self._sizes = None

    def add(self, run: RunTotals, size: int, at: float) -> None:
        """Note a run that was archived. size: of its row. at: by Age."""
        key = Key.of(run.session_id, run.started_at)
        target = min(map(plain_target, run.targets), default=_UNKNOWN)
        size = max(size, _ROW_LEAST)
        used = sealed(codec.amounts_to_json(run.totals()), _KIND, *key)
        self._rows.db.execute(
            "INSERT OR REPLACE INTO archived_run VALUES (?, ?, ?, ?, ?, ?)",
            (*key, target, at, size, used),
        )
        if self._sizes is not None:
            self._sizes[target] = self._sizes.get(target, 0) + size

    def used(self, key: Key) -> Mapping[str, Number]:
        """Return what an archived run had used; empty if that is not known."""
        row = self._rows.db.execute(
            "SELECT CAST(used AS BLOB) FROM archived_run WHERE session_id = ? AND started_at = ?",
            key,
        ).fetchone()
        try:
            return {} if row is None else codec.amounts_from_json(unsealed(row[0], _KIND, *key))
        except UNREADABLE_ROW:
            return {}

    def remove(self, keys: Iterable[Key]) -> None:
        """Note runs that are live again."""
        db = self._rows.db
        for key in keys:
            found = db.execute(
                "SELECT CAST(target AS BLOB), bytes FROM archived_run "
                "WHERE session_id = ? AND started_at = ?", key,
            ).fetchall()  # fmt: skip
            if found:
                db.execute("DELETE FROM archived_run WHERE session_id = ? AND started_at = ?", key)
                self._take_off(found)

    def tidy(self, now: float) -> None:
        """Delete a piece of what is too old, or too much. now: by Age."""
        left = PIECE
        if self._purged_at is None:
            self._purged_at = now  # not at once: a start has other things to do
        elif self._behind or now - self._purged_at >= PURGE_EVERY:
            self._purged_at = now
            self._rows.db.execute("DELETE FROM operator_action WHERE at < ?", (now - KEEP_ACTIONS,))
            left -= self._delete(
                "SELECT a.rowid, CAST(coalesce(target, ?) AS BLOB), coalesce(bytes, ?) "
                "FROM account a LEFT JOIN archived_run USING (session_id, started_at) "
                "WHERE archived = 1 AND archived_at < ? LIMIT ?",
                _UNKNOWN, _ROW_LEAST, now - KEEP_ARCHIVED, left,
            )  # fmt: skip
        sizes = self._counted()
        while left > 0:
            target = self._most_of(sizes)
            if target is None:
                break
            gone = self._push_out(target, sizes, left)
            left -= gone
            self.evicted += gone
        self._behind = left <= 0
        self._notices.note(self._told, logging.WARNING)

    def _counted(self) -> dict[str, int]:
        if self._sizes is None:
            db = self._rows.db
            rows = db.execute(
                "SELECT CAST(target AS BLOB), sum(bytes), count(*) FROM archived_run "
                "GROUP BY target"
            ).fetchall()
            self._sizes = {target.decode("utf-8", "replace"): size for target, size, _ in rows}
            (archived,) = db.execute("SELECT count(*) FROM account WHERE archived = 1").fetchone()
            unknown = archived - sum(row[2] for row in rows)
            if unknown > 0:
                self._sizes[_UNKNOWN] = self._sizes.get(_UNKNOWN, 0) + unknown * _ROW_LEAST
        return self._sizes

    def _most_of(self, sizes: Mapping[str, int]) -> str | None:
        """Return the target of which something has to go; None if all may stay."""
        if not sizes:
            return None
        target = max(sizes, key=sizes.__getitem__)
        too_much = target != _UNKNOWN and sizes[target] > self._most // _TARGETS_SHARE
        return target if too_much or sum(sizes.values()) > self._most else None

    def _push_out(self, target: str, sizes: dict[str, int], most: int) -> int:
        """Delete the oldest rows of a target, as many as have to go; return how many did."""
        if target == _UNKNOWN:
            rows = self._rows.db.execute(
                "SELECT rowid, ? FROM account WHERE archived = 1 AND NOT EXISTS (SELECT 1 FROM "
                "archived_run r WHERE r.session_id = account.session_id "
                "AND r.started_at = account.started_at) ORDER BY archived_at LIMIT ?",
                (_ROW_LEAST, most),
            ).fetchall()
        else:
            rows = self._rows.db.execute(
                "SELECT a.rowid, r.bytes FROM archived_run r JOIN account a "
                "USING (session_id, started_at) WHERE r.target = ? ORDER BY r.at LIMIT ?",
                (target, most),
            ).fetchall()
            self._tell(target)
        going = []
        for rowid, size in rows:
            if self._most_of(sizes) != target:
                break
            sizes[target] -= size
            going.append((rowid,))
        if not going:  # what was counted is not there
            self._sizes = None
            sizes.clear()
        self._delete_rows(going)
        return len(going)

    def _tell(self, target: str) -> None:
        self._told[target] = (
            f"target {one_line(target)} lets more runs go than the storage keeps for it: the "
            "oldest are deleted before their 30 days are over, and would begin at 0 if they came "
            "back. Does it make up ids? If not, raise storage.archive_size"
        )

    def _delete(self, query: str, *values: object) -> int:
        rows = self._rows.db.execute(query, values).fetchall()
        self._delete_rows([(rowid,) for rowid, _, _ in rows])
        self._take_off((target, size) for _, target, size in rows)
        return len(rows)

    def _take_off(self, gone: Iterable[tuple[bytes, int]]) -> None:
        """Keep count of rows that are there no more: to count all of them takes a tick's time."""
        if self._sizes is None:
            return
        for name, size in gone:
            target = name.decode("utf-8", "replace")
            left = self._sizes.get(target, 0) - size
            self._sizes[target] = left
            if left <= 0:
                del self._sizes[target]

    def _delete_rows(self, rows: Sequence[tuple[object, ...]]) -> None:
        self._rows.db.executemany(
            "DELETE FROM archived_run WHERE (session_id, started_at) IN "
            "(SELECT session_id, started_at FROM account WHERE rowid = ?)",
            rows,
        )
        self._rows.db.executemany("DELETE FROM account WHERE rowid = ?", rows)
