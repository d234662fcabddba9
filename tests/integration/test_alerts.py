"""From the metrics to the notice: rules in a real Prometheus, a real Alertmanager, a webhook."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from grafana.condition import OWNERS
from otel_budget import semconv
from tests.support.exposition import Exposition, serve
from tests.support.processes import until
from tests.support.prometheus_process import SCRAPE_INTERVAL, alertmanager_with, prometheus
from tests.support.real import require

DEPLOY = Path(__file__).parents[2] / "deploy"
ALERTMANAGER = DEPLOY / "alertmanager" / "alertmanager.yaml"
Notice = tuple[str, str, str]
"""Firing or resolved, the alert, the run (or the instance) it is about."""


class Webhook:
    """Somebody who is told."""

    def __init__(self) -> None:
        """Nothing was said yet."""
        self.notices: list[Notice] = []
        self.summaries: list[str] = []

    def told(self, payload: dict[str, Any]) -> None:
        """Keep what was said."""
        for alert in payload["alerts"]:
            labels = alert["labels"]
            about = labels.get("session_id") or labels.get("instance", "")
            self.notices.append((alert["status"], labels["alertname"], about))
            self.summaries.append(alert["annotations"]["summary"])

    def of(self, *names: str) -> list[Notice]:
        """Return what was said of some alerts."""
        return [notice for notice in self.notices if notice[1] in names]


@contextmanager
def webhook() -> Iterator[tuple[Webhook, str]]:
    """Listen; yield who is told, and the URL."""
    told = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.told(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield told, f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def alertmanager(folder: Path, url: str) -> Iterator[str]:
    """Run an Alertmanager with the shipped configuration, but without its patience."""
    config = yaml.safe_load(ALERTMANAGER.read_text())
    for route in (config["route"], *config["route"]["routes"]):
        route |= {"group_wait": "100ms", "group_interval": "300ms"}
    config["receivers"] = [
        {"name": "team", "webhook_configs": [{"url": url, "send_resolved": True}]}
    ]
    with alertmanager_with(folder, config) as address:
        yield address


def impatient_rules(folder: Path) -> Path:
    """Write the shipped rules with no waiting and a short interval."""
    rules = yaml.safe_load((DEPLOY / "prometheus" / "otel-budget.rules.yaml").read_text())
    for group in rules["groups"]:
        group["interval"] = SCRAPE_INTERVAL
        for rule in group["rules"]:
            if "alert" in rule:
                rule["for"] = "0s"
    file = folder / "rules.yaml"
    file.write_text(yaml.safe_dump(rules))
    return file


def agents_job(address: str) -> dict[str, Any]:
    """Return the shipped job for agents, with another's page for theirs."""
    (job, _) = yaml.safe_load((DEPLOY / "prometheus" / "scrape.yaml").read_text())["scrape_configs"]
    return {
        "job_name": "strangers",
        "static_configs": [{"targets": [address]}],
        "metric_relabel_configs": job["metric_relabel_configs"],
    }


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Exposition, Webhook]]:
    """What the sidecar shows, and who is told of it.

    A stranger shows all along, by the sidecar's names, that both runs are done.
    """
    folder = tmp_path_factory.mktemp("alerts")
    with (
        serve() as sidecar,
        serve() as stranger,
        webhook() as (told, url),
        alertmanager(folder, url) as address,
        prometheus(
            folder,
            [sidecar.address],
            [agents_job(stranger.address)],
            more={
                "rule_files": [str(impatient_rules(folder))],
                "alerting": {"alertmanagers": [{"static_configs": [{"targets": [address]}]}]},
            },
        ),
    ):
        owners = '{session_id="one",team="strangers"} 1\n'
        stranger.show(page({"one": 1, "two": 2}, "completed") + OWNERS + owners)
        yield sidecar, told


def page(runs: dict[str, int], state: str = "running", *, source_up: int = 1) -> str:
    """Return what a sidecar shows of runs that have used so many of 1,000 tokens."""
    lines = [
        f"{semconv.SIDECAR_SESSIONS.name} {len(runs)}",
        f'{semconv.SOURCE_UP.name}{{source="scrape"}} {source_up}',
    ]
    for run, tokens in runs.items():
        blind = not source_up
        status = "exceeded" if tokens >= 1000 else "approaching" if tokens >= 800 else "ok"
        status = "inconclusive" if blind else status
        why = f'session_id="{run}",status="{status}",reason="x",run_state="{state}"'
        one = f'session_id="{run}",resource="tokens"'
        lines += [
            f'{semconv.VERDICT.name}{{session_id="{run}"}} {int(tokens < 1000)}',
            f"{semconv.VERDICT_INFO.name}{{{why}}} 1",
            f'{semconv.USED.name}{{{one},unit="tokens"}} {tokens}',
            f'{semconv.EFFECTIVE_LIMIT.name}{{{one},unit="tokens"}} 1000',
            f'{semconv.WARNING_LIMIT.name}{{{one},unit="tokens"}} 800',
            f"{semconv.UTILIZATION.name}{{{one}}} {tokens / 1000}",
        ]
    return "".join(line + "\n" for line in lines)


def settle(told: Webhook, enough: Callable[[], bool]) -> None:
    """Wait until enough was said, and a little longer: once too often is wrong as well."""
    until(lambda: enough() or None)
    said = -1
    while said != len(told.notices):
        said = len(told.notices)
        time.sleep(1)


@pytest.mark.real("prometheus")
@pytest.mark.real("prometheus-alertmanager")
def test_one_notice_for_each_run_and_threshold_cleared_on_recovery(
    chain: tuple[Exposition, Webhook],
) -> None:
    """Two runs cross the warning line, then the limit, then end."""
    sidecar, told = chain
    near, over = "OtelBudgetApproaching", "OtelBudgetExceeded"
    sidecar.show(page({"one": 100, "two": 200}))
    until(lambda: sidecar.headers or None)
    time.sleep(1)
    assert told.notices == []
    sidecar.show(page({"one": 810, "two": 820}))
    settle(told, lambda: len(told.of(near)) >= 2)
    assert sorted(told.notices) == [("firing", near, "one"), ("firing", near, "two")]
    assert "one is near its limit: tokens at 810 of 1k (81%)" in told.summaries
    told.notices.clear()
    sidecar.show(page({"one": 1100, "two": 1200}))
    settle(told, lambda: len(told.of(over)) >= 2)
    assert sorted(told.of(near, over)) == [("firing", over, "one"), ("firing", over, "two")]
    told.notices.clear()
    sidecar.show(page({"one": 1100, "two": 1200}, "completed"))
    settle(told, lambda: len(told.of(over)) >= 2)
    assert sorted(told.of(over)) == [("resolved", over, "one"), ("resolved", over, "two")]
    # Of what is muted Alertmanager tells it only where it hears of both ends at once.
    cleared = told.of(near)
    assert set(cleared) <= {("resolved", near, "one"), ("resolved", near, "two")}
    assert len(cleared) == len(set(cleared))


@pytest.mark.real("prometheus")
@pytest.mark.real("prometheus-alertmanager")
def test_the_cause_is_told_and_not_each_of_its_effects(chain: tuple[Exposition, Webhook]) -> None:
    """A source that is down makes every run blind: that is one notice."""
    sidecar, told = chain
    told.notices.clear()
    sidecar.show(page({f"run-{n}": 100 for n in range(20)}, source_up=0))
    settle(told, lambda: len(told.of("OtelBudgetSourceDown")) >= 1)
    firing = [notice for notice in told.notices if notice[0] == "firing"]
    assert firing == [("firing", "OtelBudgetSourceDown", sidecar.address)]


@pytest.mark.real("amtool")
def test_the_shipped_configuration_is_accepted() -> None:
    """As it is, and with a webhook in place of the remark."""
    command = [require("amtool"), "check-config", str(ALERTMANAGER)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "7 inhibit rules" in done.stdout
    assert "1 templates" in done.stdout


def rendered(template: str, folder: Path, link: str = "", **labels: str) -> str:
    """Return what Slack is told of an alert, as Alertmanager writes it."""
    texts = {
        "summary": "r1 is near its limit: tokens at 810k of 1M (81%)", "description": "Finish.",
        "runbook": "docs/runbooks.md#x", "dashboard": "/d/x",
    }  # fmt: skip
    if link:
        texts["runbook_url"] = link
    labels |= {"alertname": "OtelBudgetApproaching", "session_id": "r1", "severity": "warning"}
    alert = {"status": "firing", "labels": labels, "annotations": texts}
    data = {"status": "firing", "alerts": [alert], "commonLabels": labels}
    file = folder / "data.json"
    file.write_text(json.dumps(data))
    done = subprocess.run(
        [
            require("amtool"), "template", "render",
            f"--template.glob={ALERTMANAGER.parent}/*.tmpl",
            f'--template.text={{{{ template "{template}" . }}}}', f"--template.data={file}",
        ],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


@pytest.mark.real("amtool")
def test_slack_is_told_what_is_the_matter_whose_it_is_and_what_to_do(tmp_path: Path) -> None:
    """By Alertmanager's own names for its texts, so that a receiver needs none of its own."""
    assert rendered("slack.default.title", tmp_path) == "WARNING: OtelBudgetApproaching r1"
    assert rendered("slack.default.text", tmp_path, team="search", user="ann").splitlines() == [
        "*r1 is near its limit: tokens at 810k of 1M (81%)*",
        "Whose: team search user ann ",
        "Finish.",
        "Runbook: docs/runbooks.md#x | Dashboard: /d/x",
    ]
    assert "Whose" not in rendered("slack.default.text", tmp_path)
    assert "Runbook: https://a/b#x |" in rendered("slack.default.text", tmp_path, "https://a/b#x")
    assert rendered("slack.default.color", tmp_path) == "warning"
