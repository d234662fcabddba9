"""The alerts: Prometheus's and Grafana's are the same, and fire when they should and only then."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from grafana import grafana_rules, prometheus_rules
from grafana.condition import OWNERS
from grafana.conditions_sidecar import conditions
from otel_budget import semconv
from tests.support.paths import ROOT
from tests.support.real import require

REPOSITORY = ROOT
RULES = REPOSITORY / "deploy" / "prometheus" / "otel-budget.rules.yaml"
CASES = yaml.safe_load((REPOSITORY / "tests" / "cases" / "alerts.yaml").read_text())
CONDITIONS = {condition.name: condition for condition in conditions()}
PLACES = {
    "agents": {"job": "agents", "instance": "a:9464"},
    "sidecar": {"job": "otel-budget-sidecar", "instance": "s:9465"},
}
METRICS = {
    metric.name: metric
    for metric in (*semconv.SESSION_METRICS, *semconv.PROCESS_METRICS, *semconv.SIDECAR_METRICS)
}


def rules(name: str = "alert") -> dict[str, dict[str, Any]]:
    """Return the rules of Prometheus by name."""
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return {rule[name]: rule for rule in group["rules"] if name in rule}


def managed() -> dict[str, dict[str, Any]]:
    """Return the rules of Grafana by title."""
    file = REPOSITORY / "grafana" / "provisioning" / "alerting" / "rules.yaml"
    (group,) = yaml.safe_load(file.read_text())["groups"]
    return {rule["title"]: rule for rule in group["rules"]}


# --- the same conditions twice --------------------------------------------------------------------
def test_both_have_all_conditions_with_the_same_severity_and_wait() -> None:
    """And nothing else."""
    assert list(rules()) == list(managed()) == list(CONDITIONS)
    for name, condition in CONDITIONS.items():
        for rule in (rules()[name], managed()[name]):
            assert rule["for"] == condition.wait
            assert rule["labels"] == {"severity": condition.severity}


def test_each_says_both_numbers_and_where_to_look() -> None:
    """A number that is, one that was allowed, what to do, which dashboard."""
    for name, rule in rules().items():
        texts = rule["annotations"]
        shown = re.findall(r"\| (?:humanize\w*|printf)", texts["summary"])
        fixed = re.findall(r"\b\d+[sm]?\b", texts["summary"])
        enough = 1 if name in ("OtelBudgetStopped", "OtelBudgetConfigReloadFailed") else 2
        assert len(shown) + len(fixed) >= enough, texts["summary"]
        assert shown, texts["summary"]
        assert len(texts["description"]) > 30
        assert texts["runbook"] == f"docs/runbooks.md#{name.lower()}"
        assert texts["dashboard"].startswith(f"/d/{CONDITIONS[name].dashboard}")
        assert set(managed()[name]["annotations"]) == set(texts)


@pytest.mark.parametrize("made", [prometheus_rules.rules_file, grafana_rules.rules_file])
def test_alerts_link_to_the_runbooks_where_it_was_said_where_these_are(
    made: Callable[[str], str],
) -> None:
    """By the annotation that Grafana's and others' links are made of; no host is made up."""
    page = "https://git.example.org/team/blob/main/docs/runbooks.md"
    (group,) = yaml.safe_load(made(page))["groups"]
    linked = {
        rule.get("alert", rule.get("title")): rule["annotations"]["runbook_url"]
        for rule in group["rules"]
        if "annotations" in rule
    }
    assert linked == {name: f"{page}#{name.lower()}" for name in CONDITIONS}
    assert "runbook_url" not in made("")
    assert "://" not in RULES.read_text()


def test_every_alert_has_its_runbook_and_every_runbook_its_alert() -> None:
    """Under the heading that the alert links to."""
    text = (REPOSITORY / "docs" / "runbooks.md").read_text()
    assert re.findall(r"^### (\w+)$", text, re.MULTILINE) == list(CONDITIONS)


def test_only_metrics_that_are_exported_are_asked_for() -> None:
    """In any expression or text of either."""
    recorded = set(rules("record"))
    for text in (RULES.read_text(), json.dumps(managed())):
        for name in re.findall(r"(?<![:\w/-])otel_budget_[a-z_]+(?![\w:])", text):
            assert name in METRICS, name
        for name in re.findall(r"\w+:otel_budget_\w+:\w+", text):
            assert name in recorded, name


def test_what_is_recorded_is_read_and_means_the_same() -> None:
    """An alert of Prometheus reads what its group has just recorded; Grafana's is complete."""
    records = prometheus_rules.recorded()
    for name, condition in CONDITIONS.items():
        expr = rules()[name]["expr"]
        for record, inline in records.items():
            if record != OWNERS:  # nobody else can know what was known first
                expr = expr.replace(record, inline)
        assert " ".join(expr.split()) == condition.routed
        assert managed()[name]["data"][0]["model"]["expr"] == condition.routed
    assert "burn_rate:delta30m" in rules()["OtelBudgetFastBurn"]["expr"]


def test_grafanas_rules_are_what_file_provisioning_reads() -> None:
    """Unique uids, a condition that is among the data, texts that use values that are there."""
    uids = [rule["uid"] for rule in managed().values()]
    assert len(uids) == len(set(uids))
    assert all(re.fullmatch(r"[a-z0-9-]{1,40}", uid) for uid in uids)
    for name, rule in managed().items():
        letters = [query["refId"] for query in rule["data"]]
        assert rule["condition"] == letters[-1], name
        assert (rule["noDataState"], rule["execErrState"]) == ("OK", "Error")
        for text in rule["annotations"].values():
            assert set(re.findall(r"\$values\.(\w+)", text)) <= set(letters), name
            assert set(re.findall(r"\$labels\.(\w+)", text)) <= set(CONDITIONS[name].labels), name
            assert "query" not in text, name
    assert len(grafana_rules.expressions()) > len(CONDITIONS)


# --- firing, and not ------------------------------------------------------------------------------
def series_of(case: dict[str, Any]) -> list[dict[str, str]]:
    """Return the healthy series with what the case makes of them."""
    found: dict[str, str] = {}
    for place, own in PLACES.items():
        away = case.get("without", ())
        healthy = {
            name: values
            for name, values in CASES["healthy"][place].items()
            if name not in away and name.partition("{")[0] not in away
        }
        for name, values in {**healthy, **case.get(place, {})}.items():
            metric, _, inside = name.rstrip("}").partition("{")
            labels = {**own, **dict(re.findall(r'(\w+)="([^"]*)"', inside))}
            text = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
            found[f"{metric}{{{text}}}"] = values
    return [{"series": name, "values": str(values)} for name, values in found.items()]


def expected(fires: dict[str, Any], annotations: dict[str, str]) -> dict[str, Any]:
    """Return one alert as promtool is to see it."""
    condition = CONDITIONS[fires["alert"]]
    texts = {
        "summary": fires["says"],
        "description": condition.description,
        "runbook": annotations["runbook"],
        "dashboard": re.sub(
            r"{{ \$labels\.(\w+) }}", lambda m: fires["labels"][m[1]], annotations["dashboard"]
        ),
    }
    labels = {**fires["labels"], "severity": condition.severity}
    return {"exp_labels": labels, "exp_annotations": texts}


def promtool_test(case: dict[str, Any]) -> dict[str, Any]:
    """Return a case as promtool reads it: every alert is looked at, at every moment."""
    times = case["at"] if isinstance(case["at"], list) else [case["at"]]
    checks = []
    for name, rule in rules().items():
        fires = [one for one in case.get("fires", ()) if one["alert"] == name]
        if any(one["says"] == "*" for one in fires):
            continue
        alerts = [expected(one, rule["annotations"]) for one in fires]
        checks += [{"eval_time": at, "alertname": name, "exp_alerts": alerts} for at in times]
    return {
        "name": case["note"], "interval": "15s", "input_series": series_of(case),
        "alert_rule_test": checks,
    }  # fmt: skip


@pytest.mark.real("promtool")
def test_each_fires_when_it_should_and_only_then(tmp_path: Path) -> None:
    """With its labels and its words, by Prometheus's own engine; all others stay silent."""
    tests = [promtool_test(case) for case in CASES["cases"]]
    file = tmp_path / "alerts.test.yaml"
    content = {"rule_files": [str(RULES)], "evaluation_interval": "15s", "tests": tests}
    file.write_text(yaml.safe_dump(content, width=1000))
    done = subprocess.run(
        [require("promtool"), "test", "rules", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case_in_which_it_fires() -> None:
    """In words, not with a star."""
    fired = {
        one["alert"]
        for case in CASES["cases"]
        for one in case.get("fires", ())
        if one["says"] != "*"
    }
    assert fired == set(CONDITIONS)


@pytest.mark.real("promtool")
def test_the_rules_pass_prometheuss_own_lint() -> None:
    """All lints, fatal."""
    command = [require("promtool"), "check", "rules", "--lint=all", "--lint-fatal", str(RULES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_kubernetes_resource_holds_the_same_rules() -> None:
    """Both are generated; nobody edits one of them."""
    file = REPOSITORY / "deploy" / "kubernetes" / "monitoring" / "prometheusrule.yaml"
    assert yaml.safe_load(file.read_text())["spec"] == yaml.safe_load(RULES.read_text())
