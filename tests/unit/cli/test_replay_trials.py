"""``otel-budget replay`` with --sweep, --plot or two configurations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from otel_budget.cli.main import main
from tests.unit.replay.test_plot import size_of
from tests.unit.replay.traces import run, text_of


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with two configurations and a trace of three runs."""
    monkeypatch.chdir(tmp_path)
    Path("strict.yaml").write_text("resource_limits: {max_tokens: 150}\n", encoding="utf-8")
    Path("wide.yaml").write_text("resource_limits: {max_tokens: 250}\n", encoding="utf-8")
    three = run("a", [100]), run("b", [100, 100], resolved=False), run("c", [100, 100, 100])
    Path("runs.jsonl").write_text(text_of(*three), encoding="utf-8")
    return tmp_path


def replay(*words: str) -> int:
    """Run the command on the trace."""
    return main(["replay", "--traces", "runs.jsonl", *words])


def objects(text: str) -> list[dict[str, Any]]:
    """Return what was printed as JSON lines."""
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.usefixtures("files")
def test_a_sweep_gives_an_object_for_each_limit_then_the_summary(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What it kept, what it spent, and by what runs were cut."""
    assert replay("--config", "wide.yaml", "--sweep", "max_tokens=50..400/4", "--json") == 0
    *found, last = objects(capsys.readouterr().out)
    assert [one["frontier"]["limit"] for one in found] == [50, 100, 200, 400]
    assert found[2] == {"frontier": {
        "config": "wide.yaml", "limit_key": "max_tokens", "limit": 200, "runs": 3, "cut": 2,
        "cut_by": {"limit_exceeded": 2},
        "resolved": {"resolved": 2, "kept": 1, "cut": 1, "kept_share": 0.5},
        "used": {"tokens": 500, "api_calls": 5, "cost": 0.0005},
        "recorded": {"tokens": 600, "api_calls": 6, "cost": 0.0006},
        "spent_share": {"tokens": 0.833333, "api_calls": 0.833333, "cost": 0.833333},
    }}  # fmt: skip
    assert last == {"summary": {
        "limit_key": "max_tokens", "limits": [50, 100, 200, 400], "configs": ["wide.yaml"],
        "runs": 3, "open": 0,
    }}  # fmt: skip


@pytest.mark.usefixtures("files")
def test_a_sweep_is_a_table_with_bars(capsys: pytest.CaptureFixture[str]) -> None:
    """The picture's equivalent in text."""
    assert replay("--config", "wide.yaml", "--sweep", "max_tokens=50..400/4") == 0
    text = capsys.readouterr().out
    assert "resolved runs kept, of 2" in text
    row = next(line for line in text.splitlines() if line.strip().startswith("200 "))
    assert "\u2588" * 10 + "\u2591" * 10 + "   50%" in row
    assert row.rstrip().endswith("limit_exceeded 2")


@pytest.mark.usefixtures("files")
def test_runs_without_an_end_and_with_limits_of_their_own_are_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each once, on standard error."""
    runs = run("a", [100], end=False, limits={"max_tokens": 50}), run("b", [100])
    Path("runs.jsonl").write_text(text_of(*runs), encoding="utf-8")
    assert replay("--config", "wide.yaml", "--sweep", "max_tokens=50..400/4", "--json") == 0
    out, err = capsys.readouterr()
    assert objects(out)[-1]["summary"]["open"] == 1
    assert err == (
        "otel-budget: run 'a' has no end: it counts as open\n"
        "otel-budget: 1 of the runs began with a max_tokens of their own, which holds beside each "
        "that is tried\n"
    )


@pytest.mark.usefixtures("files")
def test_two_configurations_are_told_apart_and_compared(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The changes of each, then run by run, then a summary of each."""
    assert replay("--config", "strict.yaml", "--config", "wide.yaml", "--json") == 0
    found = objects(capsys.readouterr().out)
    changes = [one for one in found if "action" in one]
    assert {one["config"] for one in changes} == {"strict.yaml", "wide.yaml"}
    assert [one["config"] for one in changes if one["session_id"] == "b"] == [
        "strict.yaml", "wide.yaml", "strict.yaml", "wide.yaml",
    ]  # fmt: skip
    compared = [one["comparison"] for one in found if "comparison" in one]
    assert [(one["session_id"], one["differs"]) for one in compared] == [
        ("b", True), ("c", True), ("a", False),
    ]  # fmt: skip
    assert compared[0]["resolved"] is False
    assert compared[0]["verdicts"] == [
        {"config": "strict.yaml", "action": "stop", "t": 1020.0, "reason": "limit_exceeded",
         "limit_from": "sidecar", "used": {"tokens": 200, "api_calls": 2, "cost": 0.0002}},
        {"config": "wide.yaml", "action": "continue", "t": None, "reason": None,
         "limit_from": None, "used": {"tokens": 200, "api_calls": 2, "cost": 0.0002}},
    ]  # fmt: skip
    assert [one["summary"]["config"] for one in found[-2:]] == ["strict.yaml", "wide.yaml"]


@pytest.mark.usefixtures("files")
def test_two_configurations_are_tables_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    """Sums first, then the runs that are not treated alike."""
    assert replay("--config", "strict.yaml", "--config", "wide.yaml") == 0
    text = capsys.readouterr().out
    assert "2 of 3 runs not alike" in text
    assert "stop at 200 tokens: limit_exceeded (sidecar)" in text
    assert replay("--config", "wide.yaml", "--config", "wide.yaml") == 0
    assert "Both do the same to each of 3 runs." in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["--config", "wide.yaml"],
        ["--config", "strict.yaml", "--config", "wide.yaml"],
        ["--config", "wide.yaml", "--sweep", "max_tokens=50..400/4"],
        ["--config", "strict.yaml", "--config", "wide.yaml", "--sweep", "max_tokens=50..400/4"],
    ],
)
def test_each_of_them_can_be_drawn(files: Path, words: list[str]) -> None:
    """A picture beside what is printed."""
    assert replay(*words, "--plot", "picture.png") == 0
    assert size_of(files / "picture.png") == (1200, 800)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--config", "wide.yaml", "--sweep", "max_tokens=5..1/3"], "--sweep: 5..1: the lower"),
        (["--config", "none.yaml", "--plot", "a.pdf"], "--plot: 'a.pdf' is not allowed"),
        (["--config", "wide.yaml", "--plot", "none/a.png"], "a file in a folder that is there"),
        (["--config", "wide.yaml", "--sweep", "max_tokens=1..9/3", "--keep-going"],
         "--keep-going: does not go with --sweep"),
        (["--config", "wide.yaml", "--sweep", "max_tokens=1..9/3", "--forecast-at", "0.5"],
         "--forecast-at: does not go with --sweep"),
        (["--config", "wide.yaml"] * 3, "allowed: one file, or two to be compared"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("files")
def test_what_cannot_be_is_refused_before_anything_is_read(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wrong usage is exit status 2, and says what to do; the trace is not even looked for."""
    assert main(["replay", "--traces", "none.jsonl", *words]) == 2
    assert said in capsys.readouterr().err
