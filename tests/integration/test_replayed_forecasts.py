"""What is forecast of the recorded runs is the same wherever it is asked."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from evaluation.cases import cases, every_call
from evaluation.contestants import ours_in_process
from evaluation.runs import for_scoring
from evaluation.traces import trace
from otel_budget import semconv

RUNS = for_scoring()[:10]
SHARES = (0.25, 0.5, 0.8)


def test_a_replay_forecasts_what_was_measured(tmp_path: Path) -> None:
    """otel-budget replay --forecast-at says the figures that docs/forecast.md is made of."""
    config = tmp_path / "sidecar.yaml"
    config.write_text("{}\n", encoding="utf-8")
    for run in RUNS:
        lines = map(json.dumps, trace([run], {"max_tokens": run.tokens}))
        (tmp_path / f"{run.session_id}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    command = [
        sys.executable, "-m", "otel_budget", "replay", "--config", str(config), "--json",
        "--keep-going", "--forecast-at", ",".join(map(str, SHARES)),
        "--traces", *map(str, sorted(tmp_path.glob("*.jsonl"))),
    ]  # fmt: skip
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    replayed = {
        (line["session_id"], line["forecast"]["share"]): line["forecast"]
        for line in map(json.loads, told.splitlines())
        if "forecast" in line
    }
    assert len(replayed) == len(RUNS) * len(SHARES)
    for run in RUNS:
        samples = every_call(run)
        asked = cases(run, samples, semconv.TOKENS, limits=(1.0,), used=SHARES)
        for case, _, mine in ours_in_process(samples, asked):
            line = replayed[run.session_id, case.used_share]
            for estimate, name in (
                (mine.calls_left, "calls_left"), (mine.seconds_left, "seconds_left"),
            ):  # fmt: skip
                assert estimate is not None
                assert line[name] == pytest.approx(estimate.value, rel=1e-6)
                assert line[f"{name}_range"] == pytest.approx(estimate[1:], rel=1e-6)
