"""The audit log on disk: append-only, found by run, time, kind and budget, and bounded."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_budget.core.audit import AuditEntry, AuditKind, AuditPage, AuditQuery
from otel_budget.sidecar.storage.base import Changes, Restored
from otel_budget.sidecar.storage.sqlite.state import LEAP
from otel_budget.sidecar.storage.sqlite.storage import SqliteStorage, open_sqlite
from tests.support.sidecar_fixtures import START, SteadyClock

DAY = 86_400.0


def entry(number: int, **fields: object) -> AuditEntry:
    """Return the entry of a verdict, one second after that before."""
    given = {"kind": AuditKind.VERDICT, "at": START + number, "session_id": "run-1"}
    return AuditEntry(**{**given, **fields}, number=number)  # type: ignore[arg-type] # as given


def taken(number: int, revision: str = "a") -> AuditEntry:
    """Return the entry of a configuration."""
    body = {"event": "taken", "revision": revision, "policy": "{}"}
    return entry(number, kind=AuditKind.CONFIGURATION, session_id="", body=body)


class Opened:
    """Opens the storage of one folder, and closes it in the end."""

    def __init__(self, folder: Path) -> None:
        """Open nothing yet."""
        self.path = folder / "otel-budget.db"
        self.storages: list[SqliteStorage] = []
        self.restored = Restored()

    def __call__(
        self, clock: SteadyClock | None = None, size: int = 10**8, keep: float = 90 * DAY
    ) -> SqliteStorage:
        """Open it."""
        storage, self.restored = open_sqlite(
            str(self.path), clock or SteadyClock(), audit_size=size, audit_keep=keep
        )
        self.storages.append(storage)
        return storage


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    """Return what opens a storage."""
    opens = Opened(tmp_path)
    yield opens
    for storage in opens.storages:
        storage.close()


def numbers(page: AuditPage) -> list[int]:
    """Return which entries are on a page."""
    return [json.loads(line)["number"] for line in page.lines]


def found(storage: SqliteStorage, **asked: object) -> list[int]:
    """Return which entries a query finds."""
    return numbers(storage.audit(AuditQuery(**asked)))  # type: ignore[arg-type] # as given


@pytest.fixture
def filled(opened: Opened) -> SqliteStorage:
    """Return a storage with entries of every kind."""
    storage = opened()
    storage.commit(Changes(0, audit=[
        taken(1), entry(2), entry(3, session_id="run-2", budget="team"),
        entry(4, kind=AuditKind.ORDER), entry(5, kind=AuditKind.TOP_UP, session_id="",
                                              budget="team"), entry(6),
    ]))  # fmt: skip
    return storage


def test_an_entry_is_one_line_of_json_whatever_is_in_it(opened: Opened) -> None:
    """No newline, control character or half of a surrogate pair gets out of its string."""
    storage = opened()
    nasty = "a\nb\r\x1b[31m\u2028\ud800\x00"
    storage.commit(Changes(0, audit=[entry(1, session_id="x\ny", body={"reason": nasty})]))
    (line,) = storage.audit(AuditQuery()).lines
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["body"] == {"reason": nasty}
    assert found(storage, session_id="x\ny") == [1]


def test_what_is_no_json_is_said_in_place_of_the_body(opened: Opened) -> None:
    """It keeps nothing else from the log."""
    storage = opened()
    storage.commit(Changes(0, audit=[entry(1, body={"used": float("nan")}), entry(2)]))
    first, _ = storage.audit(AuditQuery()).lines
    assert json.loads(first)["body"]["event"] == "unwritable"


@pytest.mark.parametrize(("asked", "want"), [
    ({}, [1, 2, 3, 4, 5, 6]),
    ({"session_id": "run-1"}, [2, 4, 6]),
    ({"session_id": "run-1", "kind": AuditKind.ORDER}, [4]),
    ({"budget": "team"}, [3, 5]),
    ({"kind": AuditKind.VERDICT}, [2, 3, 6]),
    ({"kind": AuditKind.CONFIGURATION}, [1]),
    ({"since": START + 3, "until": START + 5}, [3, 4]),
    ({"since": START + 3, "until": START + 6, "kind": AuditKind.TOP_UP}, [5]),
    ({"since": START + 3, "session_id": "run-1"}, [4, 6]),
    ({"after": 4}, [5, 6]),
    ({"after": 4, "newest": True}, [3, 2, 1]),
    ({"newest": True, "limit": 2}, [6, 5]),
    ({"session_id": "run"}, []),
    ({"budget": "nothing", "since": START}, []),
])  # fmt: skip
def test_entries_are_found_by_all_that_is_asked(
    filled: SqliteStorage, asked: dict[str, object], want: list[int]
) -> None:
    """``since`` is inclusive, ``until`` is not."""
    assert found(filled, **asked) == want


def test_pages_follow_each_other_without_a_gap(filled: SqliteStorage) -> None:
    """The last one says that it is."""
    first = filled.audit(AuditQuery(limit=4))
    assert (numbers(first), first.next_after, first.begins) == ([1, 2, 3, 4], 4, 1)
    second = filled.audit(AuditQuery(limit=4, after=first.next_after))
    assert (numbers(second), second.next_after) == ([5, 6], None)


def test_a_large_answer_is_cut_and_goes_on(opened: Opened) -> None:
    """At least one entry is on every page, however large it is."""
    storage = opened()
    large = {"x": "y" * 3_000_000}
    storage.commit(Changes(0, audit=[entry(n, body=large) for n in (1, 2, 3)]))
    first = storage.audit(AuditQuery())
    assert (numbers(first), first.next_after) == ([1], 1)
    assert found(storage, after=2) == [3]


def test_a_hundred_thousand_entries_stay_within_their_bytes(opened: Opened) -> None:
    """The oldest go first, in pieces; the configuration they were judged by stays."""
    storage = opened(size=5_000_000)
    body = {"message": "m" * 200}
    storage.commit(Changes(0, audit=[taken(1), taken(2, "b")]))
    number = 3
    for _ in range(100):
        batch = [entry(n, body=body) for n in range(number, number + 1000)]
        storage.commit(Changes(0, audit=batch))
        number += 1000
    while storage.stats().audit_is_behind:
        storage.commit(Changes(0))
    kept = found(storage, newest=True, limit=1)
    assert kept == [number - 1]
    page = storage.audit(AuditQuery())
    first = numbers(page)
    assert first[0] == 2, "the newest configuration before the oldest entry"
    assert first[1] > 80_000
    assert first[1:] == list(range(first[1], first[1] + 999))
    assert storage.stats().audit_dropped == first[1] - 2
    assert storage.stats().size < 20_000_000


def test_the_count_of_bytes_goes_on_in_another_process(opened: Opened) -> None:
    """Neither is all deleted at once, nor does the log grow past its bound."""
    body = {"message": "m" * 200}
    storage = opened(size=500_000)
    storage.commit(Changes(0, audit=[taken(1), *(entry(n, body=body) for n in range(2, 902))]))
    storage.close()
    storage = opened(size=500_000)
    before = len(found(storage))
    storage.commit(Changes(0, audit=[entry(902, body=body)]))
    assert len(found(storage)) == before + 1
    for number in range(903, 2500):
        storage.commit(Changes(0, audit=[entry(number, body=body)]))
    size = sum(map(len, storage.audit(AuditQuery()).lines))
    assert 250_000 < size < 500_000


def test_entries_past_their_days_go_by_time_that_passed(opened: Opened) -> None:
    """A clock that leaps by years deletes nothing."""
    clock = SteadyClock()
    storage = opened(clock, keep=10 * DAY)
    storage.commit(Changes(0, audit=[taken(1), entry(2), entry(3, at=START + 9 * DAY)]))
    clock.advance(1000 * DAY)
    storage.commit(Changes(0, audit=[entry(4, at=clock.now)]))
    assert found(storage) == [1, 2, 3, 4]
    for _ in range(12 * 4):
        clock.advance(DAY / 4)
        storage.commit(Changes(1, past_runs=(), audit=[]))
        storage.commit(Changes(0, audit=[entry(found(storage, newest=True, limit=1)[0] + 1,
                                               at=clock.now)]))  # fmt: skip
    assert found(storage)[:2] == [1, 3]


def test_a_commit_that_fails_leaves_no_entry(opened: Opened) -> None:
    """And the next one goes on as if nothing had been."""
    storage = opened()
    storage.commit(Changes(0, audit=[entry(1)]))
    with pytest.raises(Exception, match="UNIQUE"):
        storage.commit(Changes(0, audit=[entry(2), entry(1)]))
    storage.commit(Changes(0, audit=[entry(2)]))
    assert found(storage) == [1, 2]


def test_an_altered_entry_is_left_out_and_counted(
    opened: Opened, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be believed explains nothing."""
    storage = opened()
    storage.commit(Changes(0, audit=[entry(1), entry(2, body={"reason": "enough"})]))
    storage.close()
    with sqlite3.connect(tmp_path / "otel-budget.db") as db:
        db.execute("UPDATE audit SET body = replace(body, 'enough', 'ENOUGH') WHERE number = 2")
    db.close()
    storage = opened()
    page = storage.audit(AuditQuery())
    assert (numbers(page), page.unreadable) == ([1], 1)
    assert storage.stats().unreadable == 1
    assert "audit log cannot be read" in caplog.text


def test_a_damaged_file_gives_back_its_entries_and_no_number_twice(
    opened: Opened, tmp_path: Path
) -> None:
    """The new log says that it begins anew, and how much of the old one it has."""
    storage = opened()
    storage.commit(Changes(0, audit=[entry(n, body={"n": n}) for n in range(1, 51)]))
    storage.close()
    file = tmp_path / "otel-budget.db"
    content = bytearray(file.read_bytes())
    content[16:200] = bytes(184)
    file.write_bytes(content)
    storage, restored = opened(), opened.restored
    assert found(storage) == list(range(1, 51))
    assert restored.incidents == ({"event": "log_begun_anew", "why": "damaged", "entries": 50},)
    assert restored.audit_number == 50 + LEAP
    storage.commit(Changes(0, audit=[entry(restored.audit_number + 1)]))


def test_a_storage_of_before_gets_the_log_and_one_of_before_does_not_mind_it(
    opened: Opened,
    tmp_path: Path,
) -> None:
    """The table is made where it is missing."""
    opened().close()
    with sqlite3.connect(tmp_path / "otel-budget.db") as db:
        db.execute("DROP TABLE audit")
    db.close()
    storage = opened()
    storage.commit(Changes(0, audit=[entry(1)]))
    assert found(storage) == [1]
