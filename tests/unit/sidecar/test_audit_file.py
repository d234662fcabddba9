"""The audit log in a file: whole, in order and once, whatever happened to the file."""

import asyncio
import json
import os
from pathlib import Path

import pytest

from otel_budget.core.audit import AuditPage, AuditQuery
from otel_budget.sidecar.audit_file import AuditFile
from otel_budget.sidecar.storage.base import StorageError


class Log:
    """A log in memory, as the storage gives it."""

    def __init__(self, *numbers: int) -> None:
        """Begin with these entries."""
        self.numbers = list(numbers)
        self.fails = False
        self.ups: list[bool] = []

    def number(self) -> int:
        """Return that of the newest entry."""
        return max(self.numbers, default=0)

    async def read(self, query: AuditQuery) -> AuditPage:
        """Return entries of it, three at once."""
        if self.fails:
            raise StorageError("disk I/O error")
        behind = [n for n in self.numbers if n > (query.after or 0)]
        lines = tuple(json.dumps({"number": n}, separators=(",", ":")) for n in behind[:3])
        return AuditPage(lines, behind[2] if len(behind) > 3 else None)

    def file(self, path: Path | None) -> AuditFile:
        """Return what writes it."""
        return AuditFile(path, self.number, self.read, self.ups.append)


def written(path: Path) -> list[int]:
    """Return the numbers in a file."""
    return [json.loads(line)["number"] for line in path.read_text().splitlines()]


def test_a_new_file_has_the_entries_of_this_process_and_all_that_follow(tmp_path: Path) -> None:
    path, log = tmp_path / "audit.jsonl", Log(1, 2)
    file = log.file(path)
    log.numbers += range(3, 12)
    assert asyncio.run(file.catch_up())
    assert written(path) == list(range(3, 12))
    assert path.stat().st_mode & 0o777 == 0o600
    log.numbers.append(12)
    assert asyncio.run(file.catch_up())
    assert written(path) == list(range(3, 13))


def test_a_file_goes_on_where_a_killed_process_left_it(tmp_path: Path) -> None:
    """A line that was cut off is written again; what was never written follows."""
    path = tmp_path / "audit.jsonl"
    path.write_text('{"number":1}\n{"number":2}\n{"number":3,"at"')
    assert asyncio.run(Log(1, 2, 3, 4, 5).file(path).catch_up())
    assert written(path) == [1, 2, 3, 4, 5]


def test_what_others_wrote_into_the_file_stays(tmp_path: Path) -> None:
    """Only the begin of a line of ours is taken back."""
    path, log = tmp_path / "audit.jsonl", Log(1)
    path.write_text("not ours\n[]\nneither")
    file = log.file(path)
    log.numbers.append(2)
    assert asyncio.run(file.catch_up())
    assert path.read_text() == 'not ours\n[]\nneither\n{"number":2}\n'


def test_a_file_that_cannot_be_written_is_said_once_and_gets_all_of_it_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A folder that is not there stands for whatever keeps it from being written."""
    path, log = tmp_path / "gone" / "audit.jsonl", Log()
    file = log.file(path)
    log.numbers += [1, 2]
    assert not asyncio.run(file.catch_up())
    log.numbers.append(3)
    assert not asyncio.run(file.catch_up())
    assert caplog.text.count("entries cannot be written") == 1
    path.parent.mkdir()
    assert asyncio.run(file.catch_up())
    assert written(path) == [1, 2, 3]
    assert log.ups == [False, False, True]


def test_half_of_a_piece_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So no line is in the file twice, nor cut off in its middle."""
    path, log = tmp_path / "audit.jsonl", Log()
    file = log.file(path)
    log.numbers += [1, 2]
    write, calls = os.write, []

    def full(handle: int, data: bytes) -> int:
        calls.append(handle)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return write(handle, bytes(data)[:7])

    monkeypatch.setattr(os, "write", full)
    assert not asyncio.run(file.catch_up())
    assert path.read_text() == ""
    monkeypatch.setattr(os, "write", write)
    assert asyncio.run(file.catch_up())
    assert written(path) == [1, 2]


def test_entries_that_are_not_in_the_log_any_more_hold_nothing_up(tmp_path: Path) -> None:
    path, log = tmp_path / "audit.jsonl", Log()
    file = log.file(path)
    log.numbers += [900, 901]
    assert asyncio.run(file.catch_up())
    assert written(path) == [900, 901]


def test_a_log_that_cannot_be_read_is_said_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = Log()
    file = log.file(tmp_path / "audit.jsonl")
    log.numbers.append(1)
    log.fails = True
    assert not asyncio.run(file.catch_up())
    assert "disk I/O error" in caplog.text


def test_standard_output_gets_the_lines(capsys: pytest.CaptureFixture[str]) -> None:
    log = Log(1)
    file = log.file(None)
    log.numbers.append(2)
    assert asyncio.run(file.catch_up())
    assert capsys.readouterr().out == '{"number":2}\n'


def test_what_there_is_at_the_end_is_still_written(tmp_path: Path) -> None:
    path, log = tmp_path / "audit.jsonl", Log()

    async def run() -> None:
        file = log.file(path)
        file.begin()
        await asyncio.sleep(0)
        log.numbers.append(1)
        await file.finish()

    asyncio.run(run())
    assert written(path) == [1]
