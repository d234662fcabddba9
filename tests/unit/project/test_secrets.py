"""Secrets that others on the host may read are said, with what they can do with them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from otel_budget.config.load import load
from otel_budget.files.token_file import open_to
from otel_budget.sidecar.config_summary import warnings


@pytest.mark.parametrize(
    ("mode", "who"),
    [(0o600, ""), (0o400, ""), (0o640, ""), (0o644, "every user of this host"), (0o604, "every")],
)
def test_a_file_is_open_to_whoever_its_mode_lets_in(tmp_path: Path, mode: int, who: str) -> None:
    """A group that this process is in does not count: so secrets are mounted for it."""
    file = tmp_path / "token"
    file.write_text("t" * 32)
    file.chmod(mode)
    assert open_to(file).startswith(who)
    assert bool(open_to(file)) == bool(who)


def test_a_group_that_is_another_s_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a file that is not there is somebody else's error."""
    file = tmp_path / "token"
    file.write_text("t" * 32)
    file.chmod(0o640)
    monkeypatch.setattr(os, "getegid", lambda: -2)
    monkeypatch.setattr(os, "getgroups", list)
    assert open_to(file) == "its group"
    assert open_to(tmp_path / "missing") == ""


def test_it_is_said_at_the_start_and_by_config_check(tmp_path: Path) -> None:
    """For the admin token and the read token alike."""
    for name, mode in (("admin", 0o644), ("read", 0o604)):
        (tmp_path / name).write_text(name * 8)
        (tmp_path / name).chmod(mode)
    listen: dict[str, Any] = {"admin_token_file": str(tmp_path / "admin"),
                              "read_token_file": str(tmp_path / "read")}  # fmt: skip
    file = tmp_path / "sidecar.yaml"
    source = {"scrape": {"targets": ["http://127.0.0.1:9464/metrics"]}}
    file.write_text(json.dumps({"source": source, "listen": listen}))
    said = warnings(load(file))
    assert [text.partition(":")[0] for text in said] == [
        "listen.admin_token_file", "listen.read_token_file",
    ]  # fmt: skip
    assert "every user of this host can read" in said[0]
    assert said[0].endswith("stop and release runs with it: chmod 600 it")
