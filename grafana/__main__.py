"""Write what the dashboards and the alerts generate; with --check, say what is out of date.

Run from the repository: ``python -m grafana [--check] [--runbooks URL]``. Alerts name the path of
their runbook in the repository; with the URL of that page they have a ``runbook_url`` as well,
which Grafana and other tools show as a link.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from urllib.parse import urlsplit

from grafana import grafana_rules, prometheus_rules
from grafana.board import encode
from grafana.budgets import budgets
from grafana.fleet import fleet
from grafana.overview import overview
from grafana.session import session
from grafana.sidecar import sidecar
from grafana.yaml_text import Block, to_yaml

HERE = Path(__file__).parent
DEPLOY = HERE.parent / "deploy"
ALERTING = HERE / "provisioning" / "alerting"


def dashboards() -> dict[str, str]:
    """Return the JSON of every dashboard by its uid."""
    made = (overview(), session(), fleet(), budgets(), sidecar())
    return {str(dashboard.uid): encode(dashboard) for dashboard in made}


def config_maps() -> str:
    """Return the dashboards as Kubernetes ConfigMaps, labelled for Grafana's own sidecar."""
    return "---\n".join(
        to_yaml(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {
                    "name": uid,
                    "labels": {"app.kubernetes.io/name": "otel-budget", "grafana_dashboard": "1"},
                },
                "data": {f"{uid}.json": Block(text)},
            }
        )
        for uid, text in dashboards().items()
    )


def documents(runbooks: str = "") -> dict[Path, str]:
    """Return every generated file by its path. runbooks: URL of the page of runbooks, if any."""
    return {
        **{HERE / "dashboards" / f"{uid}.json": text for uid, text in dashboards().items()},
        ALERTING / "rules.yaml": grafana_rules.rules_file(runbooks),
        ALERTING / "contact-points.yaml": grafana_rules.contact_points_file(),
        ALERTING / "policies.yaml": grafana_rules.policies_file(),
        DEPLOY / "prometheus" / "otel-budget.rules.yaml": prometheus_rules.rules_file(runbooks),
        DEPLOY / "kubernetes" / "monitoring" / "prometheusrule.yaml": (
            prometheus_rules.rules_resource(runbooks)
        ),
        DEPLOY / "kubernetes" / "monitoring" / "dashboards.yaml": config_maps(),
    }


def main() -> int:
    """Write, or check; the exit status is 1 if a file is out of date."""
    parser = argparse.ArgumentParser(prog="python -m grafana", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("--runbooks", type=_page, metavar="URL")
    given = parser.parse_args()
    stale = []
    for path, text in documents(given.runbooks or "").items():
        if not given.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path.name)
    if stale:
        sys.stderr.write(f"out of date: {', '.join(stale)}; run: make grafana\n")
    return 1 if stale else 0


def _page(text: str) -> str:
    """Take the URL of a page without a fragment."""
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.fragment:
        raise argparse.ArgumentTypeError(f"{text!r} is not the http(s) URL of a page")
    return text


if __name__ == "__main__":
    sys.exit(main())
