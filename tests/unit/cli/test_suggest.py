"""``otel-budget suggest limits``: what it proposes from traces, and what it refuses."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from otel_budget.cli.main import main
from otel_budget.config.load import load
from otel_budget.core.quantities import Number
from otel_budget.policy.suggestion import EndedRun
from otel_budget.replay.ended_runs import Group
from otel_budget.replay.suggest import advise, as_json, as_yaml
from otel_budget.sidecar.factory import ceilings_in, suggesting_in

Line = dict[str, Any]


def run(
    name: str, tokens: int, *, workflow: str = "nightly", end: str | None = "completed",
    resolved: bool | None = None, limits: Line | None = None, cost: str | None = "0.10",
) -> list[Line]:  # fmt: skip
    """Return the lines of a run of a minute."""
    named = {"session_id": name}
    labels = {"labels": {"workflow": workflow}} if workflow else {}
    own = {} if limits is None else {"limits": limits}
    spent = {} if cost is None else {"cost_usd": cost}
    judged = {} if resolved is None else {"resolved": resolved}
    lines = [
        {"t": 1000.0, **named, "start": True, **labels, **own},
        {"t": 1060.0, **named, "use": {"tokens": tokens, "api_calls": 1, **spent}},
    ]
    return lines if end is None else [*lines, {"t": 1060.0, **named, "end": end, **judged}]


def trace(folder: Path, *runs: list[Line]) -> str:
    """Write runs, one after the other in the file and all at once in time."""
    lines = sorted((line for one in runs for line in one), key=lambda line: float(line["t"]))
    path = folder / "trace.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def good(number: int, tokens: int = 1000, workflow: str = "nightly") -> list[list[Line]]:
    return [run(f"{workflow[:2]}-{n}", tokens, workflow=workflow) for n in range(number)]


def suggested(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(["suggest", "limits", *arguments])
    out, err = capsys.readouterr()
    return status, out, err


def test_it_proposes_by_the_runs_that_ended_well_and_counts_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = trace(
        tmp_path, *good(20), run("bad", 9000, resolved=False), run("late", 5000, end="stopped"),
        run("open", 7000, end=None),
    )  # fmt: skip
    status, out, err = suggested(capsys, "--traces", path, "--json")
    assert status == 0
    assert err == "otel-budget: run 'open' has no end: it counts as open\n"
    found = json.loads(out)
    assert (found["by"], found["runs"], found["open"]) == (None, 22, 1)
    (group,) = found["groups"]
    assert (group["runs"], group["ended_well"]) == (22, 20)
    assert group["ends"] == {"completed": 20, "not_resolved": 1, "stopped": 1}
    tokens = group["resources"]["tokens"]
    assert tokens["quantiles"] == {"p50": 1000, "p75": 1000, "p90": 1000, "p95": 1000}
    assert (tokens["max"], tokens["proposed"], tokens["runs"]) == (1000, 1300, 20)
    assert tokens["would_have_cut"] == {"ended_well": 0, "warned": 0, "all": 2, "of": 22}
    assert group["resources"]["cost"]["proposed"] == "0.13"


def test_what_a_run_used_counts_whatever_its_own_limits_were(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [run(f"r{n}", 1000, limits={"max_tokens": 10}) for n in range(10)]
    found = json.loads(suggested(capsys, "--traces", trace(tmp_path, *runs), "--json")[1])
    assert found["groups"][0]["resources"]["tokens"]["max"] == 1000


def test_below_ten_runs_it_refuses_and_says_how_many_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = suggested(capsys, "--traces", trace(tmp_path, *good(9)))
    assert status == 1
    assert err == "otel-budget: no limit is proposed\n"
    assert "tokens: no limit is proposed: 9 runs ended well and say what they used" in out
    status, out, err = suggested(capsys, "--traces", trace(tmp_path, run("o", 1, end=None)))
    assert (status, out) == (1, "")
    assert err.endswith("otel-budget: no limit is proposed: no run is over\n")


def test_workflows_are_apart_if_that_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = trace(tmp_path, *good(10), *good(12, 8000, "review"), run("x", 5, workflow=""))
    status, out, _ = suggested(capsys, "--by", "workflow", "--traces", path, "--json")
    assert status == 0
    groups = {group["workflow"]: group for group in json.loads(out)["groups"]}
    proposals = {name: group["resources"]["tokens"]["proposed"] for name, group in groups.items()}
    assert proposals == {"": None, "nightly": 1300, "review": 11_000}
    _, text, _ = suggested(capsys, "--by", "workflow", "--traces", path)
    assert "workflow review: 12 of 12 runs ended well (12 completed)" in text
    assert "runs that name no workflow: 1 of 1 runs ended well" in text


def test_the_section_it_prints_is_one_that_the_sidecar_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, file = trace(tmp_path, *good(10), *good(10, 8000, "review")), tmp_path / "sidecar.yaml"
    file.write_text(suggested(capsys, "--traces", path, "--yaml")[1])
    limits = load(file, needs_source=False).resource_limits
    assert suggesting_in(limits) is None
    assert ceilings_in(limits) == {
        "duration": 76.0, "tokens": 11_000, "api_calls": 2, "cost": Decimal("0.13"),
    }  # fmt: skip
    file.write_text(suggested(capsys, "--traces", path, "--by", "workflow", "--yaml")[1])
    limits = load(file, needs_source=False).resource_limits
    suggesting = suggesting_in(limits)
    assert suggesting is not None
    assert suggesting.at_most["tokens"] == 11_000
    assert "#   tokens 1,300: 95% of 10 runs" in file.read_text()
    file.write_text(suggested(capsys, "--traces", trace(tmp_path, *good(3)), "--yaml")[1])
    assert file.read_text().endswith("# Nothing is proposed.\n")
    assert ceilings_in(load(file, needs_source=False).resource_limits) == {}


def test_a_name_that_a_server_gives_cannot_leave_its_comment() -> None:
    group = Group()
    group.add(EndedRun({"tokens": 5}, ended_well=True), "completed")
    text = as_yaml(advise({"a\nresource_limits: {max_tokens: 1}": group}, {}), by_workflow=True)
    assert all(line.startswith("#") for line in text.splitlines())


def test_a_limit_would_have_warned_the_runs_that_come_to_the_line_that_the_policy_draws() -> None:
    group = Group()
    group.add(EndedRun({"tokens": 55}, ended_well=True), "completed")
    group.add(EndedRun({"tokens": 54}, ended_well=True), "completed")
    assert group.cut_by("tokens", 100, 0.55).warned == 1  # 0.55 x 100 is above 55, as floats go


def test_a_limit_in_the_section_is_a_number_however_small_it_is() -> None:
    group = Group()
    for _ in range(10):
        used: dict[str, Number] = {"duration": 8e-6, "cost": Decimal("8e-8")}
        group.add(EndedRun(used, ended_well=True), "completed")
    advice = advise({"": group}, {})
    section = yaml.safe_load(as_yaml(advice, by_workflow=False))
    assert section == {"resource_limits": {"max_duration_seconds": 1e-5, "max_cost_usd": 1.1e-7}}
    (told,) = json.loads(as_json(advice, by_workflow=False, open_runs=0))["groups"]
    assert told["resources"]["cost"]["proposed"] == "0.00000011"


def test_resources_are_named_in_a_sentence_as_people_write_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = suggested(capsys, "--traces", trace(tmp_path, *good(1)))
    assert "  API calls: no limit is proposed: 1 run ended well and says what it used; it" in out
    assert "  time: no limit is proposed: 1 run ended" in out


def test_the_warning_thresholds_of_a_file_count(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "sidecar.yaml"
    file.write_text("resource_limits: {token_warning_threshold: 0.5}\n")
    path = trace(tmp_path, *good(10))
    found = json.loads(suggested(capsys, "--traces", path, "--json", "--config", str(file))[1])
    assert found["groups"][0]["resources"]["tokens"]["proposed"] == 2100


def test_a_cost_that_is_not_known_proposes_no_limit_on_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [run(f"r{n}", 1000, cost=None) for n in range(10)]
    found = json.loads(suggested(capsys, "--traces", trace(tmp_path, *runs), "--json")[1])
    cost = found["groups"][0]["resources"]["cost"]
    assert (cost["runs"], cost["proposed"]) == (0, None)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--traces: give either --traces or --prometheus"),
        (["--traces", "x", "--from", "-7d"], "--from: goes with --prometheus"),
        (["--prometheus", "http://127.0.0.1:1"], "--from: is missing"),
        (["--prometheus", "nowhere", "--from", "-7d"], "--prometheus: 'nowhere' is not allowed"),
        (["--traces", "no.jsonl"], "no.jsonl: cannot be read"),
    ],
)
def test_wrong_usage_is_said(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = suggested(capsys, *arguments)
    assert (status, out) == (2, "")
    assert said in err
