"""The store: nothing that was published is lost, and nothing damaged is overwritten."""

import contextlib
import errno
import fcntl
import json
import logging
import os
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from otel_budget import semconv
from otel_budget.core.observation import RunAttributes, shared_labels
from otel_budget.core.override import Override, OverrideKind
from otel_budget.core.uncertainty import UsageUncertainty
from otel_budget.ledger.run import RunTotals
from otel_budget.sidecar.clock import Boot
from otel_budget.sidecar.storage.base import Changes, UnusableStorageError
from otel_budget.sidecar.storage.codec import FORMAT, from_json, to_json
from otel_budget.sidecar.storage.sqlite import file as sqlite_access
from otel_budget.sidecar.storage.sqlite import storage as storage_module
from otel_budget.sidecar.storage.sqlite.archive import KEEP_ARCHIVED, PURGE_EVERY
from otel_budget.sidecar.storage.sqlite.storage import open_sqlite
from tests.support.figures import note
from tests.support.paths import TESTS
from tests.support.sidecar_fixtures import START, SteadyClock, session, verdict


def account(
    session_id: str = "run-1", tokens: int = 5, started_at: float | None = START
) -> RunTotals:
    """Return an account of a run that was seen once."""
    made = RunTotals(session_id, started_at, START)
    made.observe(session(session_id, tokens, started_at=started_at), confirmed=True)
    return made


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "otel-budget.db")


def written(path: str, changes: Changes) -> None:
    """Write changes in a process of their own, so to speak."""
    storage, _ = open_sqlite(path)
    storage.commit(changes)
    storage.close()


def test_a_new_file_is_empty(path: str) -> None:
    storage, restored = open_sqlite(path)
    storage.close()
    assert (restored.runs, restored.verdicts, restored.sequence) == ((), (), 0)


def test_what_was_written_comes_back_exactly(path: str) -> None:
    before = account()
    said = verdict(sequence=7, started_at=START)
    written(path, Changes(7, [before], [], [said]))
    storage, restored = open_sqlite(path)
    storage.close()
    assert [to_json(a) for a in restored.runs] == [to_json(before)]
    assert restored.verdicts == (said,)
    assert restored.sequence == 7


def test_nothing_changed_is_nothing_written(path: str) -> None:
    assert not Changes(7)
    written(path, Changes(7))
    storage, restored = open_sqlite(path)
    storage.close()
    assert restored.sequence == 0


def test_an_archived_run_is_not_live_but_can_be_taken_up_again(path: str) -> None:
    written(path, Changes(1, [account()], [], [verdict(started_at=START)]))
    written(path, Changes(1, [], [account(tokens=9)]))
    storage, restored = open_sqlite(path)
    assert (restored.runs, restored.verdicts) == ((), ())
    again = storage.archived("run-1", START)
    assert again is not None
    assert again.totals()[semconv.TOKENS] == 9
    assert storage.archived("run-1", START + 1) is None
    assert storage.archived("run-1", None) is None
    storage.commit(Changes(1, [again]))
    assert storage.archived("run-1", START) is None
    storage.close()


def test_a_superseded_run_is_archived_beside_its_successor(path: str) -> None:
    written(path, Changes(1, [account(started_at=START)]))
    written(path, Changes(2, [account(started_at=START + 5)], [account(started_at=START)]))
    storage, restored = open_sqlite(path)
    assert [a.started_at for a in restored.runs] == [START + 5]
    assert storage.archived("run-1", START) is not None
    storage.close()


def test_a_run_whose_start_becomes_known_later_stays_one_run(path: str) -> None:
    written(path, Changes(1, [account(started_at=None)]))
    written(path, Changes(2, [account(started_at=START)]))
    storage, restored = open_sqlite(path)
    storage.close()
    assert [a.started_at for a in restored.runs] == [START]


def test_a_transaction_that_fails_leaves_nothing_behind(path: str) -> None:
    storage, _ = open_sqlite(path)
    broken = account("run-2")
    broken.resets = object()  # type: ignore[assignment] # not JSON: stands for any failure
    with pytest.raises(TypeError):
        storage.commit(Changes(5, [account(), broken]))
    storage.commit(Changes(1, [], [], [verdict()]))
    storage.close()
    storage, restored = open_sqlite(path)
    storage.close()
    assert (restored.runs, restored.sequence) == ((), 1)


def test_what_was_committed_survives_a_process_that_never_closed(path: str, tmp_path: Path) -> None:
    storage, _ = open_sqlite(path)
    storage.commit(Changes(3, [account()], [], [verdict(sequence=3)]))
    image = tmp_path / "image"
    image.mkdir()
    for file in Path(path).parent.glob("otel-budget.db*"):  # as the disk is when the power goes
        (image / file.name).write_bytes(file.read_bytes())
    storage.close()
    survived, restored = open_sqlite(str(image / "otel-budget.db"))
    survived.close()
    assert (len(restored.runs), restored.sequence) == (1, 3)


def test_every_commit_is_synced_to_the_disk(path: str) -> None:
    storage, _ = open_sqlite(path)
    (level,) = storage._db.execute("PRAGMA synchronous").fetchone()
    (mode,) = storage._db.execute("PRAGMA journal_mode").fetchone()
    storage.close()
    assert (level, mode) == (2, "wal")


def test_what_was_archived_long_ago_is_deleted_in_the_next_transaction(path: str) -> None:
    clock = SteadyClock()
    storage, _ = open_sqlite(path, clock)
    storage.commit(Changes(1, [account("live")], [account("old")]))
    for day in range(30):
        clock.advance(KEEP_ARCHIVED / 30)
        storage.commit(Changes(1, [account("live", day)]))
    storage.commit(Changes(1, [], [account("newer")]))
    assert storage.archived("old", START) is not None, "not a second older than it may be"
    clock.advance(PURGE_EVERY - 1)
    storage.commit(Changes(1, [account("live", 6)]))
    assert storage.archived("old", START) is not None, "it is looked for once in a while"
    clock.advance(1)
    storage.commit(Changes(1, [account("live", 7)]))
    assert storage.archived("old", START) is None
    assert storage.archived("newer", START) is not None
    storage.close()
    storage, restored = open_sqlite(path)
    storage.close()
    assert [a.session_id for a in restored.runs] == ["live"]


@pytest.mark.parametrize("damage", ["truncated", "header alone"])
def test_a_damaged_file_is_set_aside_and_said_loudly(
    path: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    written(path, Changes(1, [account()], [], [verdict()]))
    spoil(Path(path), damage)
    spoiled = Path(path).read_bytes()
    storage, restored = open_sqlite(path)
    storage.close()
    (aside,) = Path(path).parent.glob("otel-budget.db.damaged-*")
    assert aside.read_bytes() == spoiled
    assert len(restored.runs) <= 1
    assert aside.name in caplog.text
    assert "damaged" in caplog.text


def spoil(file: Path, damage: str) -> None:
    """Damage a storage file in one of several ways."""
    if damage == "truncated":
        file.write_bytes(file.read_bytes()[:5000])
    else:
        file.write_bytes(file.read_bytes()[:16] + b"\xff" * 5000)


@pytest.mark.parametrize(
    ("damage", "least"),
    [("UPDATE meta SET value = 'many' WHERE key = 'sequence'", 7),
     ("UPDATE meta SET value = '5' WHERE key = 'sequence'", 7),
     ("UPDATE meta SET value = CAST(x'ff' AS TEXT) WHERE key IN ('sequence', 'state')", 1_000_000),
     ("DELETE FROM meta WHERE key IN ('sequence', 'state')", 1_000_000)],
)  # fmt: skip
def test_a_sequence_that_cannot_be_read_is_never_given_twice(
    path: str, damage: str, least: int
) -> None:
    written(path, Changes(7, [account()], [], [verdict(sequence=3, started_at=START)]))
    execute(Path(path), damage)
    storage, restored = open_sqlite(path)
    storage.close()
    assert restored.sequence >= least
    assert len(restored.runs) == 1


def execute(file: Path, statement: str, *values: object) -> list[tuple[object, ...]]:
    """Change a storage file behind its back, or look into it."""
    connection = sqlite3.connect(file)
    with connection:
        found = connection.execute(statement, values).fetchall()
    connection.close()
    return found


@pytest.mark.parametrize("text", ["root:x:0:0\n", "resource_limits:\n  max_tokens: 5\n" * 100])
def test_a_file_that_is_no_database_is_refused_untouched(path: str, text: str) -> None:
    Path(path).write_text(text)
    with pytest.raises(
        UnusableStorageError, match=r"is not a database; name another file in storage\.path"
    ):
        open_sqlite(path)
    assert Path(path).read_text() == text
    assert [file.name for file in Path(path).parent.iterdir()] == ["otel-budget.db"]


def test_an_empty_file_is_begun(path: str) -> None:
    Path(path).touch()
    written(path, Changes(1, [account()]))
    storage, restored = open_sqlite(path)
    storage.close()
    assert len(restored.runs) == 1


#: What damage makes of a row's text, each in its own way no account.
NO_ACCOUNTS = (
    "{", "[]", "5", '{"format": 1}', "[" * 100_000, b"\xff", 1.5,
)  # fmt: skip


@pytest.mark.parametrize("body", NO_ACCOUNTS)
def test_a_row_that_cannot_be_read_costs_no_other_run_and_is_kept(
    path: str, body: object, caplog: pytest.LogCaptureFixture
) -> None:
    both = [account("good"), account("bad")]
    said = [verdict("good", 1, started_at=START), verdict("bad", 2, started_at=START)]
    written(path, Changes(2, both, [], said))
    before = next(iter(execute(Path(path), "SELECT body FROM account WHERE session_id = 'good'")))
    execute(Path(path), "UPDATE account SET body = ? WHERE session_id = 'bad'", body)
    for _ in range(2):
        storage, restored = open_sqlite(path)
        assert sorted(a.session_id for a in restored.runs) == ["bad", "good"]
        assert {v.session_id for v in restored.verdicts} == {"bad", "good"}
        assert restored.sequence == 2
        storage.commit(Changes(2, [account("bad", 7)]))
        storage.close()
    ((kind, session_id, _, kept),) = execute(Path(path), "SELECT * FROM unreadable")
    assert (kind, session_id) == ("account", "bad")
    assert kept == (str(body) if body == 1.5 else body)
    assert caplog.text.count("1 rows of the table account cannot be read") == 1
    assert not list(Path(path).parent.glob("*.damaged-*"))
    after = next(iter(execute(Path(path), "SELECT body FROM account WHERE session_id = 'good'")))
    assert after == before
    note(
        "One costs one",
        f"a start with a row that cannot be read ({type(body).__name__} {str(body)[:20]!r})",
        "kept aside and said once; the other run's row as it was, and no number given twice",
    )


def test_a_run_whose_row_is_lost_has_used_at_least_what_its_last_verdict_says(path: str) -> None:
    """It is stopped if it was, by its own limits too, and what else it used is in doubt."""
    said = verdict(tokens=900, started_at=START)
    own = said.resources[semconv.TOKENS]._replace(limit_from="session")
    said = replace(said, resources={semconv.TOKENS: own}, progress=0.25, run_state="paused")
    written(path, Changes(1, [account(tokens=900)], [], [said]))
    execute(Path(path), "UPDATE account SET body = '{'")
    storage, restored = open_sqlite(path)
    (lost,) = restored.runs
    assert lost.totals() == {semconv.TOKENS: 900}
    assert lost.uncertainty.at_least == {semconv.TOKENS, semconv.COST}
    assert lost.attributes.limits == {semconv.TOKENS: 1000}
    assert (lost.attributes.progress, lost.attributes.state) == (0.25, "paused")
    lost.observe(session(tokens=901, started_at=START), confirmed=True)
    assert lost.totals()[semconv.TOKENS] == 901, "its process says itself what it used"
    storage.commit(Changes(1, [lost]))
    storage.close()
    storage, restored = open_sqlite(path)
    storage.close()
    assert to_json(restored.runs[0]) == to_json(lost)
    assert storage.stats().unreadable == 0


def test_an_order_outlives_the_row_of_its_run(path: str) -> None:
    """Whether it is live or archived, and whatever of its other orders cannot be read."""
    orders = [Override(OverrideKind.LIMITS, "more", at=START, until=START + 9,
                       limits={"tokens": 5}),
              Override(OverrideKind.STOP, "because", at=START + 1)]  # fmt: skip
    storage, _ = open_sqlite(path, SteadyClock(START + 5))
    for run in (account(), account("old")):
        for order in orders:
            storage.commit(Changes(1, [run], [], [], (run, order)))
    storage.commit(Changes(1, [], [account("old")]))
    storage.close()
    execute(Path(path), "UPDATE account SET body = '{'")
    storage, restored = open_sqlite(path, SteadyClock(START + 6))
    archived = storage.archived("old", START)
    assert archived is not None
    for lost in (restored.runs[0], archived):
        assert (lost.overrides.limits, lost.overrides.stop) == (orders[0], orders[1])
        assert lost.uncertainty.at_least
    execute(Path(path), "UPDATE operator_action SET body = '{\"kind\": 5}' WHERE id = 1")
    assert storage.overrides("run-1", START, 9) == [orders[1]]
    assert storage.stats().unreadable == 3
    storage.close()


def test_a_row_under_a_wrong_key_is_put_where_it_belongs(path: str) -> None:
    written(path, Changes(1, [account(tokens=5)]))
    execute(Path(path), "UPDATE account SET session_id = CAST(x'ff' AS TEXT)")
    for unreadable in (1, 0):
        storage, restored = open_sqlite(path)
        assert [to_json(a) for a in restored.runs] == [to_json(account(tokens=5))]
        assert storage.stats().unreadable == unreadable
        storage.close()


@pytest.mark.parametrize("table", ["account", "verdict", "operator_action"])
@pytest.mark.parametrize(
    ("was", "is_now"), [("5", "4"), ("running", "runninh"), ("run-1", "run-2")]
)
def test_a_row_that_was_altered_is_not_believed(
    path: str, table: str, was: str, is_now: str
) -> None:
    """Though it can be read: each has a digest of its text."""
    run = account(tokens=555)
    order = Override(OverrideKind.STOP, "running", by="run-1", at=START + 5)
    said = replace(verdict(tokens=555, started_at=START), run_state="running")
    written(path, Changes(1, [run], [], [said], (run, order)))
    query = f"UPDATE {table} SET body = replace(body, ?, ?)"  # noqa: S608 - from above
    execute(Path(path), query, was, is_now)
    storage, restored = open_sqlite(path)
    said_after, orders = restored.verdicts, storage.overrides("run-1", START, 9)
    assert storage.stats().unreadable == 1
    assert restored.runs[0].uncertainty.at_least == (
        {semconv.TOKENS, semconv.COST} if table == "account" else set()
    )
    assert (said_after == (said,), orders == [order]) == (
        table != "verdict",
        table != "operator_action",
    )
    storage.close()


def test_an_archived_row_that_cannot_be_read_leaves_its_run_in_doubt(path: str) -> None:
    written(path, Changes(1, [account()], [account("old")], [verdict(started_at=START)]))
    execute(Path(path), "UPDATE account SET body = '{' WHERE archived = 1")
    execute(Path(path), "UPDATE verdict SET body = '{}'")
    storage, restored = open_sqlite(path)
    assert (len(restored.runs), restored.verdicts) == (1, ())
    lost = storage.archived("old", START)
    assert lost is not None
    assert lost.uncertainty.at_least
    storage.close()
    kinds = execute(Path(path), "SELECT kind FROM unreadable")
    assert kinds == [("verdict",), ("account",)]


@pytest.mark.parametrize("key", ["schema_version", "account_format", "verdict_version"])
def test_a_file_of_a_newer_version_is_refused_untouched(path: str, key: str) -> None:
    written(path, Changes(1, [account()]))
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE meta SET value = '99' WHERE key = ?", (key,))
    connection.close()
    before = Path(path).read_bytes()
    with pytest.raises(UnusableStorageError, match=f"{key} 99.*upgrade otel-budget"):
        open_sqlite(path)
    assert Path(path).read_bytes() == before


def test_another_fact_is_another_format() -> None:
    """A version that knows fewer facts would put every row aside, and let all runs begin at 0.

    The last two are only in rows of runs that have one: others are read by it as before. Labels,
    the parent and what came after them stand beside the row.
    """
    assert (len(RunAttributes._fields), FORMAT) == (25, 4), "raise both, and add a migration"
    kept = account()
    kept.attributes = RunAttributes(progress=0.5)
    assert len(json.loads(to_json(kept))["facts"]) == 18
    kept.attributes = RunAttributes(progress=0.5, progress_further={"tool_calls": 3.0})
    assert from_json(to_json(kept)).attributes == kept.attributes
    assert len(json.loads(to_json(kept))["facts"]) == 19
    kept.attributes = RunAttributes(progress=0.5, idle_after=1800.0)
    assert from_json(to_json(kept)).attributes == kept.attributes
    kept.attributes = RunAttributes(
        progress=0.5, wrap_up_calls=2.0, waiting_since=9.5, limits_from_outside=1.0
    )
    assert from_json(to_json(kept)).attributes == kept.attributes
    kept.attributes = RunAttributes(progress=0.5, labels=shared_labels({"workflow": "nightly"}))
    assert from_json(to_json(kept)).attributes == kept.attributes
    assert len(json.loads(to_json(kept))["facts"]) == 18


def test_a_database_of_something_else_is_refused_untouched(path: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.close()
    with pytest.raises(UnusableStorageError, match=r"something else.*storage.path"):
        open_sqlite(path)


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UnusableStorageError, match=r"cannot be opened.*storage\.path"):
        open_sqlite(str(tmp_path / "nowhere" / "otel-budget.db"))


@pytest.mark.parametrize("name", ["the same", "a symbolic link", "a hard link"])
def test_a_second_sidecar_on_the_same_file_is_refused(
    name: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whatever name it goes there."""
    monkeypatch.setattr(storage_module, "_LOCK_TIMEOUT", 0.0)
    storage, _ = open_sqlite(path)
    other = tmp_path / "other.db"
    if name == "a symbolic link":
        other.symlink_to(path)
    elif name == "a hard link":
        other.hardlink_to(path)
    with pytest.raises(UnusableStorageError, match="another sidecar uses it"):
        open_sqlite(path if name == "the same" else str(other))
    storage.commit(Changes(1, [account()]))
    storage.close()
    open_sqlite(path)[0].close()


def no_locks(patch: pytest.MonkeyPatch) -> None:
    """Let the file system have no locks, as some network file systems."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    patch.setattr(fcntl, "fcntl", refuse)


def no_shared_memory(patch: pytest.MonkeyPatch) -> None:
    """Let SQLite have no memory that processes share, as on some network file systems."""
    real = sqlite_access._connected

    def connected(path: str, patience: float, mode: str) -> tuple[sqlite3.Connection, bytes]:
        if mode == "NORMAL":
            raise sqlite3.OperationalError("disk I/O error")
        return real(path, patience, mode)

    patch.setattr(sqlite_access, "_connected", connected)


@pytest.mark.parametrize("lacking", [no_locks, no_shared_memory])
def test_where_it_cannot_be_shared_with_readers_it_is_still_one_sidecars_own(
    lacking: Callable[[pytest.MonkeyPatch], None],
    path: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It works as ever, and it is said that nothing else can read it."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(storage_module, "_LOCK_TIMEOUT", 0.0)
    lacking(monkeypatch)
    storage, _ = open_sqlite(path)
    assert "nothing else can read it while this runs" in caplog.text
    storage.commit(Changes(1, [account()]))
    with pytest.raises(UnusableStorageError, match="stop that one"):
        open_sqlite(path)
    with (
        contextlib.closing(sqlite3.connect(path, timeout=0)) as reader,
        pytest.raises(sqlite3.OperationalError, match="locked"),
    ):
        reader.execute("SELECT * FROM account")
    storage.close()


def test_it_can_be_read_and_backed_up_while_it_is_written(path: str, tmp_path: Path) -> None:
    """Whoever reads sees one moment, and holds nothing up."""
    storage, _ = open_sqlite(path)
    storage.commit(Changes(1, [account()]))
    reader = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM account").fetchone() == (1,)
    storage.commit(Changes(2, [account("run-2")]))
    assert reader.execute("SELECT count(*) FROM account").fetchone() == (1,)
    reader.execute("COMMIT")
    reader.execute("VACUUM INTO ?", (str(tmp_path / "backup.db"),))
    storage.commit(Changes(3, [account("run-3")]))
    reader.close()
    storage.close()
    backup, restored = open_sqlite(str(tmp_path / "backup.db"))
    backup.close()
    assert [a.session_id for a in restored.runs] == ["run-1", "run-2"]
    assert restored.sequence == 2


def test_what_a_new_file_holds_is_for_its_owner_alone(path: str) -> None:
    """It says who used what; a mode that somebody gave it stays."""
    mask = os.umask(0)
    try:
        storage, _ = open_sqlite(path)
        storage.commit(Changes(1, [account()]))
        modes = {file.stat().st_mode & 0o777 for file in Path(path).parent.iterdir()}
        storage.close()
        Path(path).chmod(0o640)
        open_sqlite(path)[0].close()
    finally:
        os.umask(mask)
    assert modes == {0o600}
    assert Path(path).stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_file_of_an_older_version_is_brought_up_to_date_and_loses_nothing(
    path: str, version: int
) -> None:
    """The files are from before orders, before rows in an account, and before more facts."""
    script = (TESTS / "golden" / f"storage_v{version}.sql").read_text()
    with contextlib.closing(sqlite3.connect(path)) as old:
        old.executescript(script)
    for _ in range(2):  # the second time there is nothing to bring up to date
        storage, restored = open_sqlite(path)
        assert [a.session_id for a in restored.runs] == ["run-1"]
        assert restored.runs[0].totals()[semconv.TOKENS] == 70
        assert (restored.runs[0].overrides.stop is not None) == (version >= 2)
        assert (restored.sequence, restored.verdicts[0].sequence) == (7, 7)
        archived = storage.archived("run-0", START)
        assert archived is not None
        assert archived.totals()[semconv.TOKENS] == 30
        storage.close()
    with contextlib.closing(sqlite3.connect(path)) as now:
        versions = dict(now.execute("SELECT key, value FROM meta"))
    assert (versions["schema_version"], versions["account_format"]) == ("2", str(FORMAT))
    order = Override(OverrideKind.STOP, "because", at=time.time())
    written(path, Changes(8, [restored.runs[0]], [], [], (restored.runs[0], order)))
    storage, _ = open_sqlite(path)
    assert storage.overrides("run-1", START, 9)[0] == order
    assert to_json(storage.load().runs[0]) == to_json(restored.runs[0])
    storage.close()


def test_what_an_older_version_did_not_know_of_a_run_stays_unknown(path: str) -> None:
    """It stored that some calls have no price, not how many."""
    script = (TESTS / "golden" / "storage_v2.sql").read_text()
    with contextlib.closing(sqlite3.connect(path)) as old:
        old.executescript(script.replace('"at_least":[]', '"at_least":["cost"]'))
    for _ in range(3):
        storage, restored = open_sqlite(path)
        assert restored.runs[0].uncertainty == UsageUncertainty(unpriced_calls=1)
        storage.commit(Changes(8, restored.runs))
        storage.close()


def test_orders_are_kept_newest_first_and_a_run_has_only_its_own(path: str) -> None:
    mine, other = account(), account(started_at=START + 1)
    orders = [Override(OverrideKind.STOP, f"reason {n}", at=START + n) for n in range(3)]
    storage, _ = open_sqlite(path)
    for sequence, order in enumerate(orders, 1):
        storage.commit(Changes(sequence, [mine], [], [], (mine, order)))
    storage.commit(Changes(9, [], [], [], (other, orders[0])))
    assert storage.overrides("run-1", START, 2) == [orders[2], orders[1]]
    assert storage.overrides("run-1", START + 1, 9) == [orders[0]]
    assert storage.overrides("nobody", START, 9) == []
    storage.close()


DAY = 86_400.0


@pytest.mark.parametrize("wrong_by", [-DAY, 31 * DAY])
def test_a_run_stored_by_a_wrong_clock_is_put_right_when_that_is_known(
    path: str, wrong_by: float, caplog: pytest.LogCaptureFixture
) -> None:
    """By what passed meanwhile on a clock that nobody sets: its duration, and its orders."""
    clock = SteadyClock(START + wrong_by)
    storage, _ = open_sqlite(path, clock, boot=lambda: Boot("this machine", 100.0))
    run = RunTotals("run-1", None, clock.now - 10)
    run.observe(session(tokens=5, at=clock.now, started_at=None), confirmed=True)
    stop = Override(OverrideKind.STOP, "for an hour", at=clock.now, until=clock.now + 3600)
    run.overrides = run.overrides.after(stop)
    storage.commit(Changes(1, [run]))
    storage.close()
    right = SteadyClock(START + 60)
    for _ in range(2):
        storage, restored = open_sqlite(path, right, boot=lambda: Boot("this machine", 160.0))
        (found,) = restored.runs
        assert found.duration(right.now) == pytest.approx(70)
        assert found.overrides.holding(right.now + 3500).stop is not None
        assert found.overrides.holding(right.now + 3600).stop is None
        storage.close()
    assert caplog.text.count("the system's clock was set") == 1


@pytest.mark.parametrize("boot", [Boot(), Boot("another start of it", 5.0)])
def test_what_passed_over_a_restart_of_the_machine_is_taken_as_the_clock_says(
    path: str, boot: Boot
) -> None:
    clock = SteadyClock()
    storage, _ = open_sqlite(path, clock, boot=lambda: Boot("this machine", 100.0))
    storage.commit(Changes(1, [account()]))
    storage.close()
    clock.advance(DAY)
    storage, restored = open_sqlite(path, clock, boot=lambda: boot)
    storage.close()
    assert restored.runs[0].duration(clock.now) == pytest.approx(DAY)


def test_a_run_that_says_when_it_began_is_no_older_for_a_clock_that_was_ahead(path: str) -> None:
    """Its own host's clock was right all the time."""
    ahead = 31 * DAY
    storage, _ = open_sqlite(
        path, SteadyClock(START + ahead), boot=lambda: Boot("this machine", 100.0)
    )
    run = RunTotals("run-1", START - 10, START + ahead)
    shown = session(tokens=5, at=START + ahead, started_at=START - 10)
    run.observe(shown._replace(attributes=shown.attributes._replace(duration=None)), confirmed=True)
    storage.commit(Changes(1, [run]))
    storage.close()
    right = SteadyClock(START + 60)
    storage, restored = open_sqlite(path, right, boot=lambda: Boot("this machine", 160.0))
    storage.close()
    assert restored.runs[0].duration(right.now) == pytest.approx(70)
