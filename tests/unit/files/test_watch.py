"""Files that changed are noticed."""

import os
from pathlib import Path

import pytest

from otel_budget.files.watch import FileWatch


def test_a_file_counts_as_changed_until_it_was_read(tmp_path: Path) -> None:
    """Whatever the reader made of it."""
    file = tmp_path / "a"
    file.write_text("1")
    watch = FileWatch(file)
    stamps = watch.changed()
    assert stamps is not None
    assert watch.changed() == stamps
    watch.read_as_of(stamps)
    assert watch.changed() is None


def test_a_file_that_was_written_or_replaced_has_changed(tmp_path: Path) -> None:
    """By its size, its time, or because it is another file; any one of several is enough."""
    one, other = tmp_path / "a", tmp_path / "b"
    one.write_text("1")
    other.write_text("1")
    watch = FileWatch(one, other)
    watch.read_as_of(watch.changed())
    other.write_text("22")
    watch.read_as_of(watch.changed())
    os.utime(other, ns=(5, 5))
    assert watch.changed() is not None
    watch.read_as_of(watch.changed())
    (tmp_path / "c").write_text("22")
    os.utime(tmp_path / "c", ns=(5, 5))
    (tmp_path / "c").replace(other)
    assert watch.changed() is not None


def test_what_was_read_without_stamps_is_read_again(tmp_path: Path) -> None:
    """As after a file that could not be looked at; one that is gone says so."""
    file = tmp_path / "a"
    file.write_text("1")
    watch = FileWatch(file)
    watch.read_as_of(None)
    assert watch.changed() is not None
    file.unlink()
    with pytest.raises(FileNotFoundError):
        watch.changed()
