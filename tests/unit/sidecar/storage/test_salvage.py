"""Damage to a storage: no number of it is believed, no other run is lost, and it is said."""

from __future__ import annotations

import logging
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from otel_budget import semconv
from otel_budget.core.budget import Budget, Window, WindowKind
from otel_budget.core.observation import Observation, RunAttributes, RunObservation, shared_labels
from otel_budget.core.override import Override, OverrideKind
from otel_budget.core.quantities import Number
from otel_budget.ledger.ledger import Ledger
from otel_budget.ledger.run import RunTotals
from otel_budget.policy.suggester import PastRun
from otel_budget.policy.suggestion import EndedRun
from otel_budget.sidecar.storage.base import Changes, Restored
from otel_budget.sidecar.storage.book_rows import in_whole_tokens
from otel_budget.sidecar.storage.sqlite.salvage import salvaged
from otel_budget.sidecar.storage.sqlite.storage import SqliteStorage, open_sqlite
from tests.support.sidecar_fixtures import START, SteadyClock, session, verdict

NAME = "otel-budget.db"
RUNS = 40
LARGE = "run-7"
"""A run whose row takes several pages."""
STOP = Override(OverrideKind.STOP, "because", at=START)


def run(number: int, tokens: int) -> RunTotals:
    """Return a run that was seen once, or, of one, in many processes."""
    made = RunTotals(f"run-{number}", START, START)
    processes = 30 if made.session_id == LARGE else 1
    for n in range(processes):
        shown = session(made.session_id, tokens, started_at=START)
        attributes = shown.attributes._replace(incarnation_at=START + n)
        target = f"http://{n}.agents.example.org:9464/metrics"
        made.observe(shown._replace(target=target, attributes=attributes), confirmed=True)
    return made


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder as it is after a kill: some commits in the file, later ones in its log."""
    begun = tmp_path_factory.mktemp("begun")
    storage, _ = open_sqlite(str(begun / NAME), SteadyClock())
    for commit in range(4):
        runs = [run(n, 1000 * commit + n) for n in range(RUNS) if commit == 0 or n % 4 == commit]
        said = [verdict(a.session_id, 9 * commit + 1, tokens=a.totals()[semconv.TOKENS],  # type: ignore[arg-type] # an int
                        started_at=START) for a in runs]  # fmt: skip
        storage.commit(Changes(9 * commit + 1, runs, [], said))
        if commit == 1:
            storage._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    storage.commit(Changes(30, [], [run(100, 77)], [], (run(0, 0), STOP)))
    killed = begun.with_name("killed")
    shutil.copytree(begun, killed)
    storage.close()
    return killed


@pytest.fixture(scope="module")
def truth(image: Path) -> dict[str, object]:
    """Return the tokens of each live run in it."""
    whole = image.with_name("whole")
    shutil.copytree(image, whole)
    storage, restored = opened(whole)
    storage.close()
    return use(restored)


@pytest.fixture
def killed(image: Path, tmp_path: Path) -> Path:
    """Return a copy of it to be damaged."""
    return Path(shutil.copytree(image, tmp_path / "killed"))


def use(restored: Restored) -> dict[str, object]:
    """Return the tokens of each run."""
    return {a.session_id: a.totals()[semconv.TOKENS] for a in restored.runs}


def opened(folder: Path) -> tuple[SqliteStorage, Restored]:
    return open_sqlite(str(folder / NAME), SteadyClock())


def closed(folder: Path) -> Path:
    """Let a sidecar open and close it: everything is in the file then."""
    opened(folder)[0].close()
    return folder


def flip(file: Path, bit: int) -> None:
    content = bytearray(file.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)


@pytest.mark.parametrize("part", [NAME, f"{NAME}-wal"])
@pytest.mark.parametrize("seed", range(25))
def test_a_flipped_bit_changes_no_use_loses_no_other_run_and_is_said(
    part: str, seed: int, killed: Path, truth: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    folder = closed(killed) if part == NAME else killed
    size = (folder / part).stat().st_size
    flip(folder / part, random.Random(seed).randrange(8 * 100, 8 * size))
    caplog.clear()
    caplog.set_level(logging.WARNING)
    storage, restored = opened(folder)
    found = use(restored)
    assert found.keys() == truth.keys()
    others = {a.session_id for a in restored.runs if found[a.session_id] != truth[a.session_id]}
    assert len(others) <= 3, "those of one page"
    for account in restored.runs:
        if account.session_id in others:
            assert found[account.session_id] <= truth[account.session_id]  # type: ignore[operator] # ints
            assert account.uncertainty.at_least or part != NAME
    assert restored.sequence >= 30
    if others or any(a.uncertainty.at_least for a in restored.runs):
        assert caplog.text
    again = storage.archived("run-100", START)
    assert again is not None
    assert again.totals()[semconv.TOKENS] == 77
    storage.close()


def cut_in_a_page(folder: Path) -> None:
    log = folder / f"{NAME}-wal"
    log.write_bytes(log.read_bytes()[:-1000])


def cut_between_pages(folder: Path) -> None:
    log = folder / f"{NAME}-wal"
    log.write_bytes(log.read_bytes()[: 32 + 4120])


def remove(folder: Path) -> None:
    (folder / f"{NAME}-wal").unlink()


@pytest.mark.parametrize("damage", [cut_in_a_page, cut_between_pages, remove])
def test_a_log_whose_end_is_gone_is_said_and_no_sequence_is_given_twice(
    damage: Callable[[Path], None], killed: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The runs are there with what was known before."""
    damage(killed)
    storage, restored = opened(killed)
    assert len(restored.runs) == RUNS
    assert restored.sequence >= 30
    assert "log" in caplog.text
    caplog.clear()
    storage.commit(Changes(31, [run(0, 1)]))
    storage.close()
    opened(killed)[0].close()
    assert caplog.text == "", "once"


def test_a_kill_is_no_damage(killed: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever it left of a commit: that was never answered, nor published."""
    log = killed / f"{NAME}-wal"
    content = log.read_bytes()
    torn = bytearray(content[-4120:])
    torn[4:8] = bytes(4)  # no commit ends with this frame
    log.write_bytes(content + torn)
    storage, restored = opened(killed)
    assert (len(restored.runs), restored.sequence) == (RUNS, 30)
    assert caplog.text == ""
    storage.close()


@pytest.mark.parametrize("damage", ["header", "pages of zeros", "half"])
def test_rows_of_a_damaged_file_are_read_one_by_one(
    damage: str, killed: Path, truth: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    """Live ones stay live, those that were forgotten stay that, and orders stay with their runs."""
    file = closed(killed) / NAME
    content = bytearray(file.read_bytes())
    if damage == "header":
        content[16:200] = bytes(184)
    elif damage == "pages of zeros":
        content[4096 : 3 * 4096] = bytes(2 * 4096)
    else:
        del content[len(content) // 2 :]
    file.write_bytes(content)
    storage, restored = opened(killed)
    found = use(restored)
    assert found.items() <= truth.items()
    if damage != "half":
        assert found == truth
        assert storage.archived("run-100", START) is not None
        assert storage.overrides("run-0", START, 9) == [STOP]
        assert restored.sequence >= 30
    assert len(found) >= RUNS // 8  # the begin of a file is tables and indices
    assert restored.sequence >= 28
    assert "is damaged" in caplog.text
    storage.close()


def test_the_newest_of_several_copies_of_a_row_counts(
    killed: Path, truth: dict[str, object]
) -> None:
    """There is one in the file, and others in the log."""
    found = salvaged(str(killed / NAME))
    live = {
        key.session_id: account.totals()[semconv.TOKENS]
        for key, (_, account, at) in found.runs.items()
        if at is None
    }
    assert live == truth
    assert [key.session_id for key, row in found.runs.items() if row[2]] == ["run-100"]


def test_a_run_whose_newest_row_was_lost_has_used_what_its_last_verdict_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Once it is damaged only: an account that is whole may know of less than its verdict."""
    said = [verdict(f"run-{n}", 1, tokens=5000, started_at=START) for n in range(2)]
    storage, _ = opened(tmp_path)
    storage.commit(Changes(1, [run(0, 70), run(1, 5000)], [], said))
    storage.close()
    storage, restored = opened(tmp_path)
    assert use(restored) == {"run-0": 70, "run-1": 5000}
    storage.raise_to_verdicts(restored)
    assert "the newest rows of 1 runs were lost" in caplog.text
    storage.close()
    storage, restored = opened(tmp_path)
    assert use(restored) == {"run-0": 5000, "run-1": 5000}
    assert {a.session_id: bool(a.uncertainty.at_least) for a in restored.runs} == {
        "run-0": True,
        "run-1": False,
    }
    storage.close()


def test_how_runs_ended_is_read_from_a_damaged_file(tmp_path: Path) -> None:
    """Else a sidecar would suggest nothing for a while, and only say so."""
    storage, _ = open_sqlite(str(tmp_path / NAME), SteadyClock())
    ended = EndedRun({semconv.TOKENS: 9}, ended_well=True)
    older = PastRun("nightly", "run-1", START, START, ended._replace(used={semconv.TOKENS: 5}))
    newer = PastRun("nightly", "run-1", START, START + 1, ended)
    storage.commit(Changes(1, [run(1, 9)], past_runs=[older]))
    storage.commit(Changes(1, past_runs=[newer, PastRun("", "run-2", None, START, ended)]))
    storage.close()
    content = bytearray((tmp_path / NAME).read_bytes())
    content[16:200] = bytes(184)
    (tmp_path / NAME).write_bytes(content)
    storage, restored = opened(tmp_path)
    storage.close()
    assert {past_run.key: past_run for past_run in restored.past_runs} == {
        ("run-1", START): newer,
        ("run-2", None): PastRun("", "run-2", None, START, ended),
    }


DAYS = 86_400.0
BOOKS = {
    "total": Budget("total", Window(WindowKind.TOTAL), {semconv.TOKENS: 10}, per=("user",)),
    "day": Budget("day", Window(WindowKind.CALENDAR, every="day"), {semconv.TOKENS: 10}),
    "rolling": Budget("rolling", Window(WindowKind.ROLLING, DAYS), {semconv.TOKENS: 10}),
    "first": Budget("first", Window(WindowKind.FIRST_USE, DAYS / 2), {semconv.TOKENS: 10}),
}


class Owner:
    """A sidecar's ledger and storage over four days of use, before and after damage."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now, self.used = folder, 0.0, 0
        self.open()

    def open(self) -> None:
        """Begin with what is stored."""
        self.storage, self.restored = open_sqlite(str(self.folder / "db"), lambda: self.now)
        self.ledger = Ledger()
        for one in self.restored.runs:
            self.ledger.adopt(one, self.now)
        self.ledger.books.restore(self.restored.books, self.restored.clock_set)
        self.ledger.use_budgets(tuple(BOOKS.values()), self.now)
        self.ledger.books.advance(self.now)

    def use(self, tokens: int, at: float) -> None:
        """Let a run use more, and store it."""
        self.now, self.used = at, self.used + tokens
        attributes = RunAttributes(started_at=1.0, labels=shared_labels({"user": "ann"}))
        counters: dict[tuple[str, str], Number] = {(semconv.TOKENS, ""): self.used}
        sample = RunObservation("r", "t", at, counters, attributes)
        self.ledger.books.advance(at)
        self.ledger.apply(Observation("scrape", at, (sample,)))
        runs, books = list(self.ledger.runs.values()), self.ledger.books.unstored()
        self.storage.commit(Changes(1, runs, books=books))
        self.ledger.books.stored()

    def in_all(self) -> dict[str, int]:
        """Return what the books hold of each budget, its history and what is on its way there."""
        held = {}
        for name, one in BOOKS.items():
            group = ("ann",) if one.per else ()
            windows = [
                *self.storage.closed_windows(name, group, -1),
                *map(in_whole_tokens, self.ledger.books.unstored().closings),
            ]
            cells = [c for _, c in self.ledger.books._books[name].groups[group].cells.items()]
            held[name] = sum(
                int(w.used.get(semconv.TOKENS, 0)) for w in windows if w.budget == name
            )
            held[name] += sum(
                int(c.used.get(semconv.TOKENS, 0)) // 1000 for c in cells if not c.closed
            )
        return held


@pytest.mark.parametrize("away", [0.0, 3 * DAYS])
def test_books_of_a_damaged_file_are_read_row_by_row_and_say_at_least(
    away: float, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is smaller, and nothing is twice: copies of rows that are over lie in the file."""
    (tmp_path / "a").mkdir()
    owner = Owner(tmp_path / "a")
    for hour in range(0, 96, 5):
        owner.use(7, 1000.0 + hour * 3600)
    used = {name: owner.ledger.books.use_of(name, ("ann",) if one.per else ()).used
            for name, one in BOOKS.items()}  # fmt: skip
    held = owner.in_all()
    assert held == dict.fromkeys(BOOKS, owner.used)
    owner.storage.close()
    file = tmp_path / "a" / "db"
    content = file.read_bytes()
    file.write_bytes(content[:16] + bytes(4080) + content[4096:])
    owner.now += away
    owner.open()
    assert owner.in_all() == held
    assert "is shown as 'at least'" in caplog.text
    for name, one in BOOKS.items():
        now = owner.ledger.books.use_of(name, ("ann",) if one.per else ())
        assert semconv.TOKENS in now.at_least or name == "first"
        if not away:
            assert now.used == used[name]
    owner.storage.close()


def test_a_budget_of_which_nothing_is_left_begins_anew_loudly(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    owner = Owner(tmp_path)
    owner.use(7, 1000.0)
    owner.storage.close()
    file = tmp_path / "db"
    content = file.read_bytes().replace(b'{"book"', b'{"bo_k"')
    file.write_bytes(content[:16] + bytes(4080) + content[4096:])
    owner.now = 2000.0
    owner.open()
    assert owner.ledger.books.use_of("day", ()).counted_from == 2000.0
    assert "none. Every other begins anew now" in caplog.text
    owner.storage.close()
