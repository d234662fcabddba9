"""What the storage keeps of runs that are forgotten: within bounds, fairly, and by its own time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from otel_budget import semconv
from otel_budget.ledger.run import RunTotals
from otel_budget.sidecar.storage.base import Changes
from otel_budget.sidecar.storage.sqlite import file
from otel_budget.sidecar.storage.sqlite.archive import KEEP_ARCHIVED, PIECE, PURGE_EVERY
from otel_budget.sidecar.storage.sqlite.storage import SqliteStorage, open_sqlite
from tests.support.paths import TESTS
from tests.support.sidecar_fixtures import START, SteadyClock, session

DAY = 86_400.0
SIZE = 1_600_000
"""Bytes of the archive in these tests: a hundred small runs for each target."""


@pytest.fixture
def clock() -> SteadyClock:
    return SteadyClock()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "otel-budget.db")


@pytest.fixture
def storage(path: str, clock: SteadyClock) -> Iterator[SqliteStorage]:
    opened, _ = open_sqlite(path, clock, SIZE)
    yield opened
    opened.close()


def run(session_id: str, target: str = "http://one/metrics", tokens: int = 5) -> RunTotals:
    """Return a run that was seen at a target."""
    made = RunTotals(session_id, START, START)
    shown = session(session_id, tokens, started_at=START)
    made.observe(shown._replace(target=target), confirmed=True)
    return made


def archived(storage: SqliteStorage, target: str) -> int:
    """Return how many runs are kept of a target."""
    query = "SELECT count(*) FROM archived_run JOIN account USING (session_id, started_at) "
    return int(storage._db.execute(query + "WHERE target = ?", (target,)).fetchone()[0])


def test_a_target_that_makes_up_runs_pushes_out_its_own_and_no_others(
    storage: SqliteStorage, clock: SteadyClock, caplog: pytest.LogCaptureFixture
) -> None:
    hostile, honest = "http://hostile/metrics", "http://honest/metrics"
    storage.commit(Changes(1, [], [run(f"honest-{n}", honest) for n in range(50)]))
    for batch in range(10):
        clock.advance(1)
        storage.commit(Changes(1, [], [run(f"{batch}-{n}", hostile) for n in range(40)]))
    assert archived(storage, honest) == 50
    assert archived(storage, hostile) == SIZE // 16 // 1024
    assert storage.archived("9-0", START) is not None, "the newest are kept"
    assert storage.archived("0-0", START) is None
    assert storage.stats().evicted == 400 - archived(storage, hostile)
    assert caplog.text.count("lets more runs go than the storage keeps for it") == 1
    assert hostile in caplog.text


def test_in_all_the_target_with_the_most_gives_way(
    storage: SqliteStorage, clock: SteadyClock
) -> None:
    """However many targets there are, each within its own bound."""
    storage.commit(Changes(1, [], [run("honest", "http://honest/metrics")]))
    for number in range(40):
        clock.advance(1)
        target = f"http://{number}/metrics"
        storage.commit(Changes(1, [], [run(f"{number}-{n}", target) for n in range(90)]))
    counts = [archived(storage, f"http://{number}/metrics") for number in range(40)]
    assert sum(counts) <= SIZE // 1024
    assert min(counts) >= SIZE // 1024 // 41 - 1
    assert archived(storage, "http://honest/metrics") == 1


def test_what_earlier_versions_archived_counts_and_goes_first(
    path: str, clock: SteadyClock
) -> None:
    """It is not known where it was seen."""
    storage, _ = open_sqlite(path, clock, SIZE)
    storage.commit(Changes(1, [], [run(f"old-{n}") for n in range(3000)]))
    storage._db.execute("DELETE FROM archived_run")
    storage.close()
    storage, _ = open_sqlite(path, clock, SIZE)
    for second in range(5):
        storage.commit(Changes(1, [run("live", tokens=second)], [run(f"new-{second}")]))
    (kept,) = storage._db.execute("SELECT count(*) FROM account WHERE archived = 1").fetchone()
    assert kept == SIZE // 1024
    assert archived(storage, "http://one/metrics") == 5
    storage.close()


@pytest.mark.parametrize("days", [31, -31, 400])
def test_a_clock_that_is_wrong_at_a_start_deletes_nothing(
    days: float, path: str, clock: SteadyClock
) -> None:
    """Whether it is put right while the sidecar runs, or at the next start."""
    storage, _ = open_sqlite(path, clock)
    storage.commit(Changes(1, [], [run("kept")]))
    for wrong in (days * DAY, -days * DAY) * 3:
        storage.close()
        clock.advance(wrong)
        storage, _ = open_sqlite(path, clock)
        for tokens in range(5):
            clock.advance(PURGE_EVERY)
            storage.commit(Changes(1, [run("live", tokens=tokens)]))
        clock.advance(wrong)
        storage.commit(Changes(1, [run("live")]))
        clock.advance(-wrong)
    assert storage.archived("kept", START) is not None
    storage.close()


def test_what_is_too_old_goes_piece_by_piece_and_the_file_shrinks(
    path: str, clock: SteadyClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "_FREE_MOST", 200)
    storage, _ = open_sqlite(path, clock, 1 << 30)
    storage.commit(Changes(1, [], [run(f"run-{n}") for n in range(8 * PIECE)]))
    storage._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    largest = storage.stats().size
    for _ in range(31):
        clock.advance(KEEP_ARCHIVED / 30)
        storage.commit(Changes(1, [run("live", tokens=int(clock.now))]))
    left: list[int] = []
    for _ in range(20):
        storage.commit(Changes(1))
        (now,) = storage._db.execute("SELECT count(*) FROM account WHERE archived = 1").fetchone()
        left.append(now)
    assert left[-1] == 0
    assert max(a - b for a, b in pairwise(left)) == PIECE
    storage._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert storage.stats().size < largest / 2
    (rows,) = storage._db.execute("SELECT count(*) FROM archived_run").fetchone()
    assert rows == 0
    storage.close()


def test_a_run_that_is_taken_up_again_is_no_part_of_it(storage: SqliteStorage) -> None:
    storage.commit(Changes(1, [], [run("again"), run("other")]))
    again = storage.archived("again", START)
    assert again is not None
    storage.commit(Changes(1, [again]))
    assert archived(storage, "http://one/metrics") == 1
    storage.commit(Changes(1, [], [again]))
    assert archived(storage, "http://one/metrics") == 2


def test_what_an_archived_run_used_is_known_though_its_row_is_lost(storage: SqliteStorage) -> None:
    storage.commit(Changes(1, [], [run("lost", tokens=5000)]))
    storage._db.execute("UPDATE account SET body = '{'")
    lost = storage.archived("lost", START)
    assert lost is not None
    assert lost.totals()[semconv.TOKENS] == 5000
    assert lost.uncertainty.at_least


def test_a_commit_that_fails_counts_nothing(storage: SqliteStorage, clock: SteadyClock) -> None:
    broken = run("broken")
    broken.resets = object()  # type: ignore[assignment] # not JSON: stands for any failure
    for _ in range(3):
        with pytest.raises(TypeError):
            storage.commit(Changes(1, [], [*(run(f"r{n}") for n in range(90)), broken]))
    storage.commit(Changes(1, [], [run(f"r{n}") for n in range(90)]))
    assert (archived(storage, "http://one/metrics"), storage.stats().evicted) == (90, 0)


def test_a_file_of_an_earlier_version_can_shrink_as_well(path: str) -> None:
    script = (TESTS / "golden" / "storage_v2.sql").read_text()
    with sqlite3.connect(path) as old:
        old.executescript(script)
    old.close()
    storage, restored = open_sqlite(path)
    assert storage._db.execute("PRAGMA auto_vacuum").fetchone() == (2,)
    assert len(restored.runs) == 1
    storage.close()


def test_what_is_counted_is_what_is_there_whatever_came_and_went(
    storage: SqliteStorage, clock: SteadyClock
) -> None:
    for n in range(40):
        storage.commit(Changes(1, [], [run(f"r{n}-{i}", f"http://{i}/metrics") for i in range(9)]))
    clock.advance(KEEP_ARCHIVED - 1)
    storage.commit(Changes(1, [], [run(f"new-{n}") for n in range(30)]))
    taken_up = [storage.archived(f"new-{n}", START) for n in range(7)]
    storage.commit(Changes(1, [account for account in taken_up if account is not None]))
    clock.advance(PURGE_EVERY)
    storage.commit(Changes(1, [], [run("last")]))
    counted = dict(storage._archive._counted())
    storage._archive.recount()
    assert counted == storage._archive._counted()
    assert archived(storage, "http://one/metrics") == 24
