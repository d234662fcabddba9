"""docs/replay.md: its examples are run, and its tables have the keys that there are."""

import json
import re
from pathlib import Path

import pytest

from otel_budget.cli.main import main
from otel_budget.replay import trace_json
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "replay.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    """Return the fenced blocks of one kind."""
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


def keys_after(heading: str) -> set[str]:
    """Return the names in the first column of the table that follows a text."""
    rows = PAGE.split(heading, 1)[1].split("|---|---|\n", 1)[1].split("\n\n", 1)[0].splitlines()
    return {name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])}


@pytest.mark.parametrize("example", blocks("console"), ids=lambda text: str(text.splitlines()[0]))
def test_an_example_prints_what_the_page_says(
    example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """To the last character; … stands for the summary."""
    command, *printed = example.splitlines()
    (tmp_path / "policy.yaml").write_text(blocks("yaml")[0])
    (tmp_path / "runs.jsonl").write_text(blocks("jsonl")[0])
    monkeypatch.chdir(tmp_path)
    assert main(command.removeprefix("$ otel-budget ").split()) == 0
    out = capsys.readouterr().out.splitlines()
    if printed[-1] == "…":
        del printed[-1], out[-1]
    assert out == printed


def test_the_tables_have_the_keys_of_a_summary_and_of_a_limit_of_a_sweep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy, trace = tmp_path / "policy.yaml", tmp_path / "runs.jsonl"
    policy.write_text(blocks("yaml")[0])
    trace.write_text(blocks("jsonl")[0])
    command = ["replay", "--config", str(policy), "--traces", str(trace), "--json"]
    assert main(command) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])["summary"]
    assert summary.keys() <= keys_after("**The summary**, last")
    assert main([*command, "--sweep", "max_tokens=50k..200k/2"]) == 0
    first, *_, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["frontier"].keys() <= keys_after("and then a summary with")
    said = PAGE.split("and then a summary with", 1)[1].split(":\n", 1)[0]
    assert last["summary"].keys() == set(re.findall(r"`(\w+)`", said))


def test_the_tables_have_the_keys_that_a_trace_may_have() -> None:
    """All of them, and no other."""
    assert keys_after("## The format of traces") == set(trace_json.KEYS)
    use = keys_after("`use` has what") | {"api_call"}
    assert use == set(trace_json.USE_KEYS)
