"""docs/troubleshooting.md names what is there: log lines, metrics, alerts and pages."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from otel_budget import semconv
from otel_budget.core.reasons import Reason
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
_SPANS = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL))
#: The names of all metrics.
KNOWN = {m.name for m in vars(semconv).values() if isinstance(m, semconv.Metric)}
#: Words of the log: more than two, in plain letters.
QUOTED = [s for s in _SPANS if len(s.split()) > 2 and not re.search(r"[=(){}\[\]]|otel-budget", s)]


@cache
def _said() -> str:
    """Return every text in the code, a line each; its placeholders as ``…``."""
    texts = []
    for file in sorted((ROOT / "otel_budget").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(re.sub(r"%[-+.,0-9]*[a-z]", "…", node.value))
            elif isinstance(node, ast.JoinedStr):
                parts = (p.value if isinstance(p, ast.Constant) else "…" for p in node.values)
                texts.append("".join(map(str, parts)))
    return "\n".join(texts)


@pytest.mark.parametrize("words", QUOTED)
def test_a_log_line_that_is_quoted_is_said_in_the_code(words: str) -> None:
    assert words.strip("…: ") in _said()


def test_it_quotes_log_lines() -> None:
    assert len(QUOTED) > 10


def test_metrics_alerts_and_reasons_that_are_named_exist() -> None:
    metrics = set(re.findall(r"otel_budget_[a-z_]+", PAGE))
    assert metrics - {"otel_budget_sidecar_"} <= KNOWN
    rules = (ROOT / "deploy" / "prometheus" / "otel-budget.rules.yaml").read_text()
    for alert in re.findall(r"OtelBudget[A-Za-z]+", PAGE):
        assert f"alert: {alert}\n" in rules
    section = PAGE.split("## It was stopped")[1].split("\n## ")[0]
    named = {
        r
        for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
        for r in re.findall(r"`(\w+)`", row)
    }
    stops = {str(reason) for reason in Reason} - {"within_limits", "finishing"}
    assert stops - {"approaching_limit_progress_unknown"} <= named


def test_its_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        file, _, anchor = target.partition("#")
        text = (
            (ROOT / "docs" / file).resolve().read_text() if (ROOT / "docs" / file).is_file() else ""
        )
        assert text or (ROOT / "docs" / file).is_dir(), target
        heads = {
            re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-")
            for h in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        }
        assert not anchor or anchor in heads, target
