"""``otel-budget replay``: what it prints, where, and how it exits."""

import gzip
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from otel_budget.cli.main import main

LINES = [
    {"t": 0.0, "session_id": "r1", "start": True, "limits": {"max_tokens": 100}},
    {"t": 1.0, "session_id": "r1", "use": {"tokens": 60, "api_calls": 1, "cost_usd": "0.5"}},
    {"t": 2.0, "session_id": "r1", "use": {"tokens": 60, "api_calls": 1, "cost_usd": "0.5"}},
    {"t": 3.0, "session_id": "r1", "use": {"tokens": 60, "api_calls": 1, "cost_usd": "0.5"}},
    {"t": 4.0, "session_id": "r1", "end": "completed", "resolved": True},
]


@pytest.fixture
def config(tmp_path: Path) -> str:
    """Return a file with a policy and nothing else."""
    path = tmp_path / "policy.yaml"
    path.write_text("resource_limits: {max_cost_usd: 100}\n")
    return str(path)


def trace(path: Path, lines: list[dict[str, Any]]) -> str:
    """Write a trace."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def test_json_has_an_object_a_change_and_then_the_summary(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing else is on standard output, and nothing on standard error."""
    path = trace(tmp_path / "t.jsonl", LINES)
    assert main(["replay", "--config", config, "--traces", path, "--json"]) == 0
    out, err = capsys.readouterr()
    *changes, last = map(json.loads, out.splitlines())
    assert err == ""
    assert changes == [
        {"t": 0.0, "session_id": "r1", "action": "continue", "status": "ok",
         "reason": "within_limits", "limit_from": None,
         "used": {"duration": 0.0, "tokens": 0, "api_calls": 0, "cost": 0.0}, "budgets": []},
        {"t": 2.0, "session_id": "r1", "action": "stop", "status": "exceeded",
         "reason": "limit_exceeded", "limit_from": "session",
         "used": {"duration": 2.0, "tokens": 120, "api_calls": 2, "cost": 1.0}, "budgets": []},
    ]  # fmt: skip
    summary = last["summary"]
    assert (summary["runs"], summary["open"], summary["stopped"]) == (1, 0, 1)
    assert summary["resolved"] == {"judged": 1, "resolved": 1, "kept": 0, "cut": 1}
    assert summary["used"] == {"tokens": 120, "api_calls": 2, "cost": 1.0}
    assert summary["saved"] == {"tokens": 60, "api_calls": 1, "cost": 0.5}
    assert summary["overshoot"] == {"tokens": 0, "api_calls": 0, "cost": 0.0}


def test_a_run_that_is_kept_going_shows_its_overshoot(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is booked in the run as well."""
    path = trace(tmp_path / "t.jsonl", LINES)
    main(["replay", "--config", config, "--traces", path, "--json", "--keep-going"])
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])["summary"]
    assert summary["used"] == {"tokens": 180, "api_calls": 3, "cost": 1.5}
    assert summary["overshoot"] == {"tokens": 60, "api_calls": 1, "cost": 0.5}
    assert summary["saved"] == {"tokens": 0, "api_calls": 0, "cost": 0.0}


def test_a_forecast_follows_the_line_that_reaches_the_share(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once for each run, limited resource and share; the change of the line stands before it."""
    path = trace(tmp_path / "t.jsonl", LINES)
    main(["replay", "--config", config, "--traces", path, "--json", "--forecast-at", "0.5,0.9"])
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()[:-1]]
    assert [(one["t"], list(one)[2]) for one in found] == [
        (0.0, "action"), (1.0, "forecast"), (2.0, "action"), (2.0, "forecast"),
    ]  # fmt: skip
    first = found[1]["forecast"]
    assert (first["resource"], first["share"]) == ("tokens", 0.5)
    assert first.keys() == {
        "resource", "share", "calls_left", "calls_left_range", "seconds_left",
        "seconds_left_range",
    }  # fmt: skip
    low, high = first["calls_left_range"]
    assert 0 <= low <= first["calls_left"] <= high
    assert found[3]["forecast"]["calls_left"] == 0


def test_a_report_for_people_says_stops_and_sums(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With bars."""
    path = trace(tmp_path / "t.jsonl", LINES)
    assert main(["replay", "--config", config, "--traces", path]) == 0
    out = capsys.readouterr().out
    assert "2.0 s  r1 [session]: tokens at 120.0% (120 of 100): stop" in out
    assert "told to stop: 1 (limit_exceeded 1; by the limit of session 1)" in out
    assert "66.6% used: 120 of 180, 60 saved" in out.replace("66.7%", "66.6%")
    assert "resolved runs kept: 0 of 1" in out


def test_a_run_without_an_end_is_one_warning_and_no_failure(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It counts in the summary as open."""
    second = {"t": 3.0, "session_id": "r2", "start": True}
    path = trace(tmp_path / "t.jsonl", [*LINES[:-1], second])
    assert main(["replay", "--config", config, "--traces", path, "--json"]) == 0
    out, err = capsys.readouterr()
    assert len(err.splitlines()) == 1
    assert "2 runs have no end" in err
    assert json.loads(out.splitlines()[-1])["summary"]["open"] == 2


def test_several_files_packed_or_not_are_merged_by_time(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run may stand in several of them."""
    packed = tmp_path / "b.jsonl.gz"
    with gzip.open(packed, "wt") as file:
        file.writelines(json.dumps(line) + "\n" for line in LINES[1::2])
    plain = trace(tmp_path / "a.jsonl", LINES[::2])
    whole = trace(tmp_path / "c.jsonl", LINES)
    said = []
    for files in ([plain, str(packed)], [whole]):
        assert main(["replay", "--config", config, "--json", "--traces", *files]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]


def test_standard_input_is_a_trace(
    config: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As ``-``; blank lines say nothing."""
    text = "\n\n".join(json.dumps(line) for line in LINES) + "\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert main(["replay", "--config", config, "--traces", "-", "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


WRONG = [
    ([{**LINES[0], "tokens": 5}], "t.jsonl:1: tokens: is not a key here"),
    ([LINES[0], {**LINES[1], "use": {"tokens": -1}}], "t.jsonl:2: tokens: -1 is not allowed"),
    ([LINES[0], {**LINES[1], "t": 5}, LINES[2]], "t.jsonl:3: t: is 3.000 s older"),
    ([LINES[1]], "t.jsonl:1: session_id: r1 has no line with"),
    ([LINES[0], LINES[0]], "t.jsonl:2: start: r1 begins a second time"),
    ([*LINES, {**LINES[3], "t": 5.0}], "t.jsonl:6: session_id: r1 has no line with"),
    ([], "t.jsonl: it has no lines"),
]


@pytest.mark.parametrize(("lines", "said"), WRONG, ids=[said for _, said in WRONG])
def test_a_trace_that_cannot_be_is_refused_with_file_and_line(
    lines: list[dict[str, Any]],
    said: str,
    config: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It exits with 2."""
    path = trace(tmp_path / "t.jsonl", lines)
    assert main(["replay", "--config", config, "--traces", path, "--json"]) == 2
    assert said in capsys.readouterr().err


def test_lines_within_a_second_are_put_in_order(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second is allowed, not more."""
    path = trace(tmp_path / "t.jsonl", [LINES[0], LINES[2], LINES[1], *LINES[3:]])
    assert main(["replay", "--config", config, "--traces", path, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[1])["t"] == 2.0


def test_what_cannot_be_read_is_refused(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that is not there, one that is cut off, a line without end, no UTF-8."""
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(gzip.compress(json.dumps(LINES[0]).encode() + b"\n")[:-9])
    long = tmp_path / "long.jsonl"
    long.write_text("x" * 70_000)
    other = tmp_path / "other.jsonl"
    other.write_bytes(b"\xff\xfe\n")
    for path, said in (
        (tmp_path / "none.jsonl", "none.jsonl: cannot be read: No such file"),
        (cut, "cut.jsonl.gz:"),
        (long, "long.jsonl:1: a line of more than 65,536 bytes"),
        (other, "other.jsonl:1: it is not UTF-8"),
    ):
        assert main(["replay", "--config", config, "--traces", str(path)]) == 2
        assert said in capsys.readouterr().err


def test_the_whole_configuration_is_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its source and where it listens, though neither is opened."""
    path = trace(tmp_path / "t.jsonl", LINES)
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("resource_limits: {max_tokens: 5}\nlisten: {adress: x}\n")
    assert main(["replay", "--config", str(wrong), "--traces", path]) == 2
    assert "wrong.yaml:2: listen.adress: is not a key here" in capsys.readouterr().err
    assert main(["replay", "--config", str(tmp_path / "no.yaml"), "--traces", path]) == 2


@pytest.mark.parametrize("shares", ["0", "1.5", "x", "0.5,,0.8", "nan"])
def test_a_share_is_above_0_and_at_most_1(
    shares: str, config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is wrong usage."""
    path = trace(tmp_path / "t.jsonl", LINES)
    with pytest.raises(SystemExit) as caught:
        main(["replay", "--config", config, "--traces", path, "--forecast-at", shares])
    assert caught.value.code == 2
    assert "above 0 and at most 1" in capsys.readouterr().err


def test_traces_may_be_named_one_flag_each(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """None of them is left out."""
    other = [{**line, "session_id": "r2"} for line in LINES]
    files = [trace(tmp_path / "1.jsonl", LINES), trace(tmp_path / "2.jsonl", other)]
    flags = [part for file in files for part in ("--traces", file)]
    assert main(["replay", "--config", config, *flags, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["summary"]["runs"] == 2
