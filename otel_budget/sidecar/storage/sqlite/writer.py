"""Writes rows of the storage, within the caller's transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_budget.sidecar.storage.records import (
    Key,
    override_body,
    past_run_body,
    run_body,
    verdict_body,
)
from otel_budget.sidecar.storage.sqlite.schema import PAST_RUNS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from otel_budget.core.override import Override
    from otel_budget.core.verdict import Verdict
    from otel_budget.ledger.run import RunTotals
    from otel_budget.policy.suggester import PastRun, RunKey
    from otel_budget.sidecar.storage.sqlite.archive import Archive
    from otel_budget.sidecar.storage.sqlite.rows import Rows


class Writer:
    """Writes into one open storage."""

    def __init__(self, rows: Rows, archive: Archive) -> None:
        """Take what has the connection, and what keeps count of archived rows."""
        self._rows, self._archive = rows, archive
        self.live: dict[str, str] = {}
        """Session id to the key under which its live account is on disk."""

    def archived(self, run: RunTotals, at: float, commit: int) -> None:
        """Write a run that was forgotten. at: by Age."""
        key = Key.of(run.session_id, run.started_at)
        body = run_body(run, commit)
        self._rows.db.execute(
            "INSERT OR REPLACE INTO account VALUES (?, ?, 1, ?, ?)", (*key, at, body)
        )
        self._rows.db.execute("DELETE FROM verdict WHERE session_id = ? AND started_at = ?", key)
        self._archive.add(run, len(body), at)

    def override(self, key: Key, override: Override) -> None:
        """Write an operator's order for a run."""
        self._rows.db.execute(
            "INSERT INTO operator_action (at, session_id, started_at, body) VALUES (?, ?, ?, ?)",
            (override.at, *key, override_body(override, key)),
        )

    def runs(self, runs: Sequence[RunTotals], commit: int) -> list[Key]:
        """Write live accounts; return the key of each row, by session id."""
        keys = [Key.of(a.session_id, a.started_at) for a in runs]
        # Only a row that is under another key stays beside the new one: of a run whose start
        # became known after it was first stored, or of another run of the same id.
        moved = [Key(sid, key) for sid, key in keys if self.live.get(sid) != key]
        self._archive.remove(moved)
        for table in ("account WHERE archived = 0 AND", "verdict WHERE"):
            self._rows.db.executemany(
                f"DELETE FROM {table} session_id = ? AND started_at <> ?",  # noqa: S608 - two constants
                moved,
            )
        self._rows.db.executemany(
            "INSERT INTO account VALUES (?, ?, 0, NULL, ?) ON CONFLICT (session_id, started_at) "
            "DO UPDATE SET archived = 0, archived_at = NULL, body = excluded.body",
            ((*key, run_body(a, commit)) for key, a in zip(keys, runs, strict=True)),
        )
        return keys

    def verdicts(self, verdicts: Iterable[Verdict]) -> None:
        """Write verdicts in the place of those before them."""
        self._rows.db.executemany(
            "INSERT OR REPLACE INTO verdict VALUES (?, ?, ?)",
            ((*Key.of(v.session_id, v.started_at), verdict_body(v)) for v in verdicts),
        )

    def past_runs(self, past_runs: Collection[PastRun], dropped: Collection[RunKey]) -> None:
        """Write how runs ended, and delete of which runs that is not needed any more."""
        if not (past_runs or dropped):
            return
        self._rows.db.execute(PAST_RUNS)
        self._rows.db.executemany(
            "DELETE FROM past_run WHERE session_id = ? AND started_at = ?",
            (Key.of(*key) for key in dropped),
        )
        self._rows.db.executemany(
            "INSERT OR REPLACE INTO past_run VALUES (?, ?, ?)",
            ((*Key.of(*past_run.key), past_run_body(past_run)) for past_run in past_runs),
        )
