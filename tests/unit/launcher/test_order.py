"""What ``otel-budget run`` is told to do, checked before anything starts."""

from pathlib import Path

import pytest

from otel_budget.errors import InvalidValueError
from otel_budget.launcher.order import Order, checked_file


def test_a_file_is_where_the_command_was_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert checked_file("--storage", "kept.db") == tmp_path / "kept.db"


def test_a_file_is_refused_that_could_not_be_written_at_the_end(tmp_path: Path) -> None:
    assert checked_file("--summary-json", str(tmp_path / "new.json")) == tmp_path / "new.json"
    assert checked_file("--summary-json", None) is None
    for wrong in (tmp_path, tmp_path / "none" / "new.json"):
        with pytest.raises(InvalidValueError, match="--summary-json"):
            checked_file("--summary-json", str(wrong))


def test_calls_that_are_kept_back_are_the_runs_and_no_ceiling_of_its_sidecar() -> None:
    """They stand in the resource; a configuration file has no such key."""
    order = Order(command=("claude",), run="r", limits={"max_tokens": 1000}, wrap_up_calls=1)
    assert order.attributes["otel_budget.wrap_up_calls"] == "1"
    assert order.ceilings == {"max_tokens": 1000}
    assert "otel_budget.wrap_up_calls" not in Order(command=("claude",), run="r").attributes
