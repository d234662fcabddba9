"""The parts of compose.yaml as processes: their own files, with loopback in place of host names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.ports import free_port
from tests.support.processes import sidecar, until
from tests.support.prometheus_process import prometheus_with
from tests.support.query import Prometheus

DEPLOY = Path(__file__).parents[2] / "deploy"


@pytest.mark.real("prometheus")
def test_demo_sidecar_and_prometheus_find_each_other(tmp_path: Path) -> None:
    """Every target is up, runs are judged, rules are evaluated, nothing fires that should not."""
    hosts = {name: f"127.0.0.1:{free_port()}" for name in ("demo:9464", "sidecar:9465")}
    hosts["alertmanager:9093"] = f"127.0.0.1:{free_port()}"
    config = tmp_path / "sidecar.yaml"
    text = (DEPLOY / "sidecar.yaml").read_text()
    text = text.replace("0.0.0.0:9465", hosts["sidecar:9465"])
    text = text.replace("/var/lib/otel-budget/", f"{tmp_path}/")
    config.write_text(text.replace("demo:9464", hosts["demo:9464"]))
    command = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["demo"]["command"]
    given = [
        part.replace("0.0.0.0:9464", hosts["demo:9464"]).replace(
            "sidecar:9465", hosts["sidecar:9465"]
        )
        for part in command
    ]
    given += ["--speed", "60", "--keep", str(tmp_path / "kept")]
    rules = tmp_path / "otel-budget.rules.yaml"
    rules.write_text((DEPLOY / "prometheus" / rules.name).read_text())
    file = tmp_path / "prometheus.yaml"
    text = (DEPLOY / "prometheus" / file.name).read_text()
    for name, address in hosts.items():
        text = text.replace(name, address)
    text = text.replace("interval: 5s ", "interval: 1s ").replace("interval: 15s", "interval: 1s")
    file.write_text(text)
    with sidecar(tmp_path, config=config) as side, (tmp_path / "demo.log").open("w") as log:
        demo = subprocess.Popen(
            [sys.executable, "-m", "otel_budget", *given], stdout=log, stderr=log
        )
        try:
            with prometheus_with(tmp_path, file) as url:
                server = Prometheus(url)
                until(lambda: len(server.vector("up == 1")) == 2, demo)
                until(lambda: side.verdict("demo-sidecar-limit-0001"), side.process)
                until(lambda: server.vector("workflow_team_model:otel_budget_usage_tokens:rate5m"))
                found = until(lambda: server.vector("otel_budget_verdict == 0"), demo)
                jobs = {row["metric"]["job"] for row in server.vector("up == 1")}
        finally:
            demo.terminate()
            assert demo.wait(10) == 0, (tmp_path / "demo.log").read_text()
    assert jobs == {"agents", "otel-budget-sidecar"}
    assert {row["metric"]["job"] for row in found} == {"otel-budget-sidecar"}
