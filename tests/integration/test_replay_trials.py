"""Limits, two configurations and pictures over what a real Prometheus has of runs."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from otel_budget import semconv
from otel_budget.cli.main import main
from tests.support.exposition import line, page, serve
from tests.support.prometheus_process import prometheus
from tests.unit.replay.test_plot import size_of

pytestmark = pytest.mark.real("prometheus")


def runs(**tokens: int) -> str:
    """Return what a process shows of runs that have used so many tokens."""
    return page(
        *(line(semconv.SESSION_TOKENS, used, name) for name, used in tokens.items()),
        *(line(semconv.SESSION_API_CALLS, used // 100, name) for name, used in tokens.items()),
    )


def test_a_sweep_a_comparison_and_a_picture_of_a_history(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is made of the trace that the history gives; nothing of it stays behind."""
    monkeypatch.chdir(tmp_path)
    for name, limit in (("strict", 150), ("wide", 1000)):
        Path(f"{name}.yaml").write_text(f"resource_limits: {{max_tokens: {limit}}}\n")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    with serve() as target, prometheus(tmp_path, [target.address]) as url:
        begin = time.time()
        for used in (100, 200, 300, 400):
            target.show(runs(large=used, small=min(used, 200)))
            target.wait_until_asked(3)
        history = ("replay", "--prometheus", url, f"--from={begin}", "--json")

        swept = ("--sweep", "max_tokens=100..1600/3", "--plot", "swept.png")
        assert main([*history, "--config", "wide.yaml", *swept]) == 0
        *points, summary = map(json.loads, capsys.readouterr().out.splitlines())
        assert [(p["frontier"]["limit"], p["frontier"]["cut"]) for p in points] == [
            (100, 2), (400, 1), (1600, 0),
        ]  # fmt: skip
        assert points[-1]["frontier"]["used"] == {"tokens": 600, "api_calls": 6, "cost": 0.0}
        assert (summary["summary"]["runs"], summary["summary"]["open"]) == (2, 2)

        both = ("--config", "strict.yaml", "--config", "wide.yaml", "--write-trace", "kept.jsonl")
        assert main([*history, *both]) == 0
        found = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
        compared = [one["comparison"] for one in found if "comparison" in one]
        assert {one["session_id"]: one["differs"] for one in compared} == {
            "large": True, "small": True,
        }  # fmt: skip
        assert [one["summary"]["cut"] for one in found[-2:]] == [2, 0]
        assert '"start"' in Path("kept.jsonl").read_text()

        assert main([*history, "--config", "strict.yaml", "--plot", "use.png"]) == 0
        *changes, last = map(json.loads, capsys.readouterr().out.splitlines())
        stopped = {one["session_id"] for one in changes if one["action"] == "stop"}
        assert stopped == {"large", "small"}
        assert last["summary"]["history"]["samples"] > 0
    assert size_of(tmp_path / "swept.png") == size_of(tmp_path / "use.png")
    assert not list(temporary.iterdir())
