"""Write the documents that come out of the code; with --check, say which are out of date.

Run from the repository: ``python docs/generate.py [--check]``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from accuracy import accuracy_page
from budgets import budgets_page
from choosing_limits import choosing_limits_page
from cli import cli_page
from coding_agents import agents_page
from forecast import forecast_page
from reliability import reliability_page

from otel_budget import __version__, semconv
from otel_budget.sidecar.api import app

HERE = Path(__file__).parent

_SECTIONS = (
    (
        "Per session, from the agent",
        (
            "Every series has the label `session_id`; the labels below come on top. They are on a "
            "Prometheus page (`serve_metrics()`), or are [pushed](otlp-export.md) by these names."
        ),
        semconv.SESSION_METRICS,
    ),
    (
        "Per process, from the agent",
        "OpenTelemetry instruments, exported by whatever reader the application has, also by OTLP.",
        semconv.PROCESS_METRICS,
    ),
    ("From the sidecar", "On the sidecar's own `/metrics`.", semconv.SIDECAR_METRICS),
)


def metrics_page() -> str:
    """Return the page of all metrics."""
    lines = [
        "# Metrics",
        "",
        "Generated from `otel_budget/semconv.py` by `docs/generate.py`; do not edit by hand. What",
        "they mean to each other is in [design.md](design.md), section 4.",
    ]
    for title, text, metrics in _SECTIONS:
        lines += ["", f"## {title}", "", text, "", "| name | type | labels | meaning |"]
        lines += ["|---|---|---|---|"]
        for metric in metrics:
            labels = ", ".join(f"`{label}`" for label in metric.labels) or "none"
            lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |")
    return "\n".join(lines) + "\n"


_DASHBOARDS = """# Dashboards

Generated from `grafana/dashboards/*.json` by `docs/generate.py`; do not edit by hand. What each
panel is for is also behind its info mark in Grafana. They are code (`grafana/`, `make grafana`), in
the schema that Grafana 10.4 and later read. CI has no Grafana; it runs every expression of every
panel, variable and annotation on a real Prometheus over real runs, once while all is well and once
while everything is wrong, and holds tables and legends against the labels it gets.

Two habits of theirs. What a process used within a time is counted from where its series begin, not
by `increase` alone: that misses what a counter shows at its first scrape, which of a short run is
most of it. And an empty answer is never drawn as 0: a 0 is shown only where a sidecar is there to
say so.

The pictures are not Grafana's: they are drawn with matplotlib out of the same queries, over
recorded runs that were replayed (`make pictures`).

To load them into a Grafana of your own: import the JSON files, or mount them with
`grafana/provisioning`; `deploy/kubernetes/monitoring` has them as ConfigMaps.
"""


def dashboards_page() -> str:
    """Return the page of all dashboards and their panels."""
    parts = [_DASHBOARDS]
    order = ("overview", "session", "fleet", "budgets", "sidecar")
    for name in order:
        file = HERE.parent / "grafana" / "dashboards" / f"otel-budget-{name}.json"
        board = json.loads(file.read_text(encoding="utf-8"))
        title = board["title"].removeprefix("otel-budget / ")
        parts.append(f"\n## {title}\n\n{board['description']}\n\n")
        picture = {"session": "run"}.get(name, name)
        if (HERE / "pictures" / f"{picture}.png").exists():
            parts.append(f"![{title}](pictures/{picture}.png)\n\n")
        parts.append("| panel | what it says |\n|---|---|\n")
        for panel in board["panels"]:
            if panel["type"] == "row":
                parts.append(f"| ***{panel['title']}*** | |\n")
            else:
                parts.append(f"| {panel['title']} | {panel['description']} |\n")
        marks = [mark["name"] for mark in board["annotations"]["list"]]
        if marks:
            parts.append(f"\nMarked on every graph: {', '.join(marks).lower()}.\n")
    return "".join(parts)


def documents() -> dict[Path, str]:
    """Return every generated document by its path."""
    description = json.dumps(app.description(__version__), indent=2) + "\n"
    return {
        HERE / "accuracy.md": accuracy_page(),
        HERE / "agents.md": agents_page(),
        HERE / "budgets.md": budgets_page(),
        HERE / "choosing-limits.md": choosing_limits_page(),
        HERE / "cli.md": cli_page(),
        HERE / "dashboards.md": dashboards_page(),
        HERE / "forecast.md": forecast_page(),
        HERE / "metrics.md": metrics_page(),
        HERE / "openapi.json": description,
        HERE / "reliability.md": reliability_page(),
    }


def main() -> int:
    """Write, or check; the exit status is 1 if a document is out of date."""
    stale = []
    for path, text in documents().items():
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(path.name)
    if stale:
        sys.stderr.write(f"out of date: {', '.join(stale)}; run: python docs/generate.py\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
