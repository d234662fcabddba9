"""A storage that goes away, or is damaged, while it is used: nothing is lost, and it is said."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from otel_budget import semconv
from otel_budget.core.override import Override, OverrideKind
from otel_budget.sidecar.storage.base import Restored, StorageError, UnusableStorageError
from otel_budget.sidecar.storage.sqlite.storage import open_sqlite
from tests.support.figures import note
from tests.support.sidecar_fixtures import START, Sidecar, ceilings, reading, session, sidecar

RULES = ceilings(tokens=1000)
NAME = "otel-budget.db"


def stepped(parts: Sidecar, *runs: tuple[str, int]) -> None:
    """Take in a reading with these runs and their tokens."""
    parts.clock.advance(1)
    now = parts.clock.now
    sessions = [session(run, tokens, at=now) for run, tokens in runs]
    parts.evaluator.tick(reading(*sessions, at=now), RULES, 3600.0, now)


def begun(folder: Path) -> Sidecar:
    """Return a sidecar with a run that an operator stopped, and one that was forgotten."""
    parts = sidecar(folder)
    stepped(parts, ("run-1", 10), ("old", 70))
    parts.evaluator._ledger.runs["old"].ended_at = START - 3600
    stepped(parts, ("run-1", 20))
    stop = Override(OverrideKind.STOP, "because", at=START)
    parts.evaluator.apply_override("run-1", stop, RULES, 3600.0, parts.clock.now)
    return parts


def after_a_kill(folder: Path, image: Path) -> Restored:
    """Return what a sidecar finds that starts on what is on the disk now."""
    shutil.copytree(folder, image)
    storage, restored = open_sqlite(str(image / NAME))
    found = storage.archived("old", START - 10)
    assert found is None or found.totals()[semconv.TOKENS] == 70
    storage.close()
    return restored


def unlink(*ends: str) -> Callable[[Path], None]:
    """Return what removes parts of a storage."""

    def remove(folder: Path) -> None:
        for end in ends:
            (folder / f"{NAME}{end}").unlink()

    remove.__name__ = f"unlink {', '.join(ends) or 'all'}"
    return remove


def move(folder: Path) -> None:
    """Move the file alone to another name."""
    (folder / NAME).rename(folder / "elsewhere.db")


def restore(folder: Path) -> None:
    """Put a backup in its place, as an operator might."""
    with sqlite3.connect(folder / NAME) as connection:
        connection.execute("VACUUM INTO ?", (str(folder / "backup"),))
    connection.close()
    (folder / "backup").replace(folder / NAME)


def old_log(folder: Path) -> None:
    """Put another log beside it."""
    log = folder / f"{NAME}-wal"
    shutil.copy(log, folder / "log")
    (folder / "log").replace(log)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "volume"
    made.mkdir()
    return made


@pytest.mark.parametrize(
    "happens",
    [
        unlink("", "-wal", "-shm"),
        unlink(""),
        unlink("-wal"),
        unlink("-shm"),
        move,
        restore,
        old_log,
    ],
    ids=lambda happens: happens.__name__,
)
def test_a_storage_that_goes_away_is_begun_anew_in_its_place_with_all_that_was_in_it(
    happens: Callable[[Path], None], folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    parts = begun(folder)
    happens(folder)
    stepped(parts, ("run-1", 30), ("run-2", 5))
    assert "while this runs" in caplog.text
    assert parts.storage.stats().renewals == 1
    restored = after_a_kill(folder, tmp_path / "image")
    by_id = {account.session_id: account for account in restored.runs}
    assert by_id["run-1"].totals()[semconv.TOKENS] == 30
    assert by_id["run-1"].overrides.stop is not None
    assert {v.session_id for v in restored.verdicts} == {"run-1", "run-2"}
    assert restored.sequence == max(v.sequence or 0 for v in restored.verdicts)
    stepped(parts, ("run-1", 40))
    assert parts.storage.stats().renewals == 1, "it is used as any other"
    assert parts.storage.archived("old", START - 10) is not None
    parts.storage.close()
    note(
        "Nothing lost",
        f"the storage of a running sidecar goes away ({happens.__name__}), and then a SIGKILL",
        "begun anew with all that was in it: use, an operator's stop, verdicts, the last number",
    )


def test_what_lay_in_its_place_is_kept(folder: Path) -> None:
    parts = begun(folder)
    (folder / NAME).unlink()
    (folder / NAME).write_text("something else")
    stepped(parts, ("run-1", 30))
    (aside,) = folder.glob(f"{NAME}.replaced-*")
    assert aside.read_text() == "something else"
    parts.storage.close()


def test_a_folder_that_is_gone_fails_each_step_until_it_is_there_again(
    folder: Path, tmp_path: Path
) -> None:
    """Nothing is published meanwhile, no order is taken, and nothing is lost then."""
    parts = begun(folder)
    shutil.rmtree(folder)
    for tokens in (30, 40):
        with pytest.raises(StorageError, match="No such file"):
            stepped(parts, ("run-1", tokens))
    release = Override(OverrideKind.RELEASE, "go on", at=START)
    with pytest.raises(StorageError, match="No such file"):
        parts.evaluator.apply_override("run-1", release, RULES, 3600.0, parts.clock.now)
    folder.mkdir()
    stepped(parts, ("run-1", 50))
    restored = after_a_kill(folder, tmp_path / "image")
    assert restored.runs[0].totals()[semconv.TOKENS] == 50
    assert restored.runs[0].overrides.stop is not None
    parts.storage.close()


def test_one_whose_place_another_sidecar_has_taken_says_so_and_writes_nothing(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The other one does not go on with a log that is not its own, either."""
    parts = begun(folder)
    (folder / NAME).rename(folder / "moved.db")
    other, restored = open_sqlite(str(folder / NAME))
    assert (restored.runs, restored.sequence) == ((), 0)
    assert "no file that it belongs to" in caplog.text
    for _ in range(2):
        with pytest.raises(UnusableStorageError, match="another sidecar uses it"):
            stepped(parts, ("run-1", 30))
    assert other.load().runs == ()
    other.close()
    stepped(parts, ("run-1", 40))
    restored = after_a_kill(folder, tmp_path / "image")
    assert restored.runs[0].totals()[semconv.TOKENS] == 40
    parts.storage.close()


def test_a_file_that_is_damaged_while_it_is_used_is_set_aside_and_written_out_of_memory(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    parts = begun(folder)
    parts.storage._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    parts.storage._db.execute("PRAGMA cache_size = 0")
    with (folder / NAME).open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(8 * 4096))
    with pytest.raises(StorageError, match="malformed"):
        stepped(parts, ("run-1", 30))
    stepped(parts, ("run-1", 40), ("old", 71))
    assert len(list(folder.glob(f"{NAME}.damaged-*"))) >= 1
    restored = after_a_kill(folder, tmp_path / "image")
    by_id = {account.session_id: account for account in restored.runs}
    assert by_id["run-1"].totals()[semconv.TOKENS] == 40
    assert by_id["run-1"].overrides.stop is not None
    assert parts.storage.stats().renewals == 1
    parts.storage.close()
