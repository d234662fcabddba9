"""The table of conditions as Prometheus's alerting rules, and the recording rules beside them."""

from __future__ import annotations

import re
from typing import Any

from grafana.budget_promql import burn as of_budget
from grafana.budget_promql import window_seconds
from grafana.condition import OWN, OWNERS, Condition, burn, owners
from grafana.conditions_budgets import BURN_WINDOWS
from grafana.conditions_sidecar import conditions
from grafana.promql import OVER, select, usage_rate
from grafana.words import dashboard_path, fill, labels_of, shown, where_to_read
from grafana.yaml_text import Block, to_yaml
from otel_budget import semconv

_OWNERS = "workflow, team, model"
#: How often the rules are evaluated.
INTERVAL = "15s"


def recorded() -> dict[str, str]:
    """Return what is added up over and over, by the name it is recorded under.

    Names as Prometheus's own guide has them: level, metric, operation.
    """
    rates = {
        f"workflow_team_model:{metric.name.removesuffix('_total')}:rate5m": (
            usage_rate(metric, by=_OWNERS)
        )
        for metric in (semconv.USAGE_TOKENS, semconv.USAGE_API_CALLS, semconv.USAGE_COST)
    }
    live = select(semconv.VERDICT_INFO, f'run_state!~"{OVER}"')
    burns = {
        f"session_id_resource:otel_budget_burn_rate:delta{window}": burn(window)
        for window in ("1m", "5m", "30m")
    }
    paces = {
        f"budget_group_resource:otel_budget_budget_burn_rate:increase{window}": of_budget(window)
        for window in BURN_WINDOWS
    }
    lengths = {"budget_group:otel_budget_budget_window_seconds:max": window_seconds()}
    runs = f"count by (status) (max by (session_id, status) ({live}))"
    counts = {"status:otel_budget_runs:count": runs}
    return {OWNERS: owners(), **rates, **counts, **burns, **paces, **lengths}


def groups(runbooks: str = "") -> list[dict[str, Any]]:
    """Return the rule groups. runbooks: see ``words.where_to_read``."""
    records = recorded()
    recording = [{"record": name, "expr": laid_out(expr)} for name, expr in records.items()]
    # Of one group, in this order: what is recorded is read by the alerts of the same evaluation.
    alerts = [_alert(condition, records, runbooks) for condition in conditions()]
    return [{"name": "otel-budget", "interval": INTERVAL, "rules": [*recording, *alerts]}]


def _alert(condition: Condition, records: dict[str, str], runbooks: str) -> dict[str, Any]:
    expr = condition.routed
    for name, inline in records.items():
        expr = expr.replace(inline, name)
    return {
        "alert": condition.name,
        "expr": laid_out(expr),
        "for": condition.wait,
        "labels": {"severity": condition.severity},
        "annotations": {
            "summary": _words(condition, condition.summary),
            "description": _words(condition, condition.description),
            **where_to_read(condition, runbooks),
            "dashboard": _words(condition, dashboard_path(condition)),
        },
    }


def _words(condition: Condition, text: str) -> str:
    """Write a text in Prometheus's template language.

    A further number is asked for when the text is written. Without one something else is
    written: an alert whose text failed would still be sent, but as an error message.
    """
    names = labels_of(condition)
    names["value"] = shown("$value", condition.form)
    for number in condition.numbers:
        own = number.labels
        matchers = ",".join(f"{label}=%q" for label in own)
        expr = number.expr.replace(OWN, matchers).replace("{}", "")
        given = " ".join(f"$labels.{label}" for label in own)
        asked = f"printf `{expr}` {given} | query" if own else f"query `{expr}`"
        found = number.words.replace("{}", shown(". | first | value", number.form))
        names[number.name] = (
            f"{{{{ with {asked} }}}}{found}{{{{ else }}}}{number.otherwise}{{{{ end }}}}"
        )
    return fill(text, names)


def laid_out(expr: str) -> Block:
    """Break an expression into lines before its set operators; its meaning is the same."""
    return Block(re.sub(r" (unless|and|or) (?=on \(|\(|[a-z])", r"\n\1 ", expr) + "\n")


def rules_file(runbooks: str = "") -> str:
    """Return the rules as Prometheus reads them."""
    return to_yaml({"groups": groups(runbooks)})


def rules_resource(runbooks: str = "") -> str:
    """Return the rules as the Prometheus operator reads them."""
    resource = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {
            "name": "otel-budget",
            "labels": {
                "app.kubernetes.io/name": "otel-budget",
                "app.kubernetes.io/component": "monitoring",
            },
        },
        "spec": {"groups": groups(runbooks)},
    }
    return to_yaml(resource)
