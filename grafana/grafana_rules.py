"""The table of conditions as Grafana-managed rules, in the form of file provisioning.

What differs from Prometheus: a further number is a query of its own, whose labels are among the
alert's, and ``$values`` has it; a condition is an expression over queries. Templates are not
escaped: Grafana expands no bare ``$name`` in annotations.
"""

from __future__ import annotations

import re
from typing import Any

from grafana.condition import OWN, Condition
from grafana.conditions_sidecar import conditions
from grafana.words import dashboard_path, fill, labels_of, shown, where_to_read
from grafana.yaml_text import to_yaml

FOLDER = "otel-budget"
#: As ``grafana/provisioning/datasources`` has it.
DATASOURCE = "prometheus"
CONTACT = "otel-budget"
_FIRES = "FIRES"


def expressions() -> list[tuple[str, str, str]]:
    """Return name, letter and expression of every query of every rule."""
    return [
        (condition.name, letter, expr)
        for condition in conditions()
        for letter, expr in _queries(condition).items()
    ]


def _queries(condition: Condition) -> dict[str, str]:
    """Return the expressions by letter: A is the condition, then its numbers in order."""
    further = (number.expr.replace(OWN, "").replace("{}", "") for number in condition.numbers)
    return {chr(ord("A") + n): expr for n, expr in enumerate((condition.routed, *further))}


def _rule(condition: Condition, runbooks: str) -> dict[str, Any]:
    queries = [_query(letter, expr) for letter, expr in _queries(condition).items()]
    return {
        "uid": _uid(condition.name),
        "title": condition.name,
        "condition": _FIRES,
        "data": [*queries, _fires()],
        # No series is what a condition that does not hold looks like.
        "noDataState": "OK",
        "execErrState": "Error",
        "for": condition.wait,
        "annotations": {
            "summary": _words(condition, condition.summary),
            "description": _words(condition, condition.description),
            **where_to_read(condition, runbooks),
            "dashboard": _words(condition, dashboard_path(condition)),
        },
        "labels": {"severity": condition.severity},
        "isPaused": False,
    }


def _query(letter: str, expr: str) -> dict[str, Any]:
    return {
        "refId": letter,
        "relativeTimeRange": {"from": 600, "to": 0},
        "datasourceUid": DATASOURCE,
        "model": {
            "refId": letter,
            "datasource": {"type": "prometheus", "uid": DATASOURCE},
            "editorMode": "code",
            "expr": expr,
            "instant": True,
            "range": False,
            "intervalMs": 1000,
            "maxDataPoints": 43200,
        },
    }


def _fires() -> dict[str, Any]:
    """Return the expression that is 1 for whatever A has, its value be 0 or not."""
    return {
        "refId": _FIRES,
        "relativeTimeRange": {"from": 0, "to": 0},
        "datasourceUid": "__expr__",
        "model": {
            "refId": _FIRES,
            "datasource": {"type": "__expr__", "uid": "__expr__"},
            "type": "math",
            "expression": "is_number($A)",
        },
    }


def _words(condition: Condition, text: str) -> str:
    """Write a text in Grafana's template language."""
    names = labels_of(condition)
    names["value"] = shown("$values.A.Value", condition.form)
    for place, number in enumerate(condition.numbers, start=1):
        letter = chr(ord("A") + place)
        found = number.words.replace("{}", shown(f"$values.{letter}.Value", number.form))
        names[number.name] = (
            f"{{{{ if $values.{letter} }}}}{found}{{{{ else }}}}{number.otherwise}{{{{ end }}}}"
        )
    return fill(text, names)


def _uid(name: str) -> str:
    """Return a stable uid: lower case with dashes, at most 40 characters."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()


def rules_file(runbooks: str = "") -> str:
    """Return the alert rules. runbooks: see ``words.where_to_read``."""
    group = {
        "orgId": 1, "name": "otel-budget", "folder": FOLDER, "interval": "15s",
        "rules": [_rule(condition, runbooks) for condition in conditions()],
    }  # fmt: skip
    return to_yaml({"apiVersion": 1, "groups": [group]})


def contact_points_file() -> str:
    """Return whom to tell: the Alertmanager that Prometheus tells, too, so that one of both does.

    It mutes what Grafana says if Prometheus has said it (see deploy/alertmanager).
    """
    receiver = {
        "uid": CONTACT, "type": "prometheus-alertmanager",
        "settings": {"url": "http://alertmanager:9093"}, "disableResolveMessage": False,
    }  # fmt: skip
    points = [{"orgId": 1, "name": CONTACT, "receivers": [receiver]}]
    return to_yaml({"apiVersion": 1, "contactPoints": points})


def policies_file() -> str:
    """Return when to tell: one notice for each run and condition, again after four hours."""
    policy = {
        "orgId": 1, "receiver": CONTACT,
        "group_by": [
            "alertname", "session_id", "budget", "group", "resource", "limit_from",
        ],
        "group_wait": "5s", "group_interval": "1m", "repeat_interval": "4h",
    }  # fmt: skip
    return to_yaml({"apiVersion": 1, "policies": [policy]})
