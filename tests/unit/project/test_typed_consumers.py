"""Code as the documents show it passes a strict type checker, as a user's own would."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import textwrap
from pathlib import Path

from otel_budget import ResourceLimits
from otel_budget.core.limits import DEFAULT_THRESHOLD
from tests.support.paths import ROOT

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
#: What a reader has already: names that a block uses and another one, or the text, brings.
GIVEN = """\
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from otel_budget import BudgetExceeded, ResourceLimits, ResourceMonitor, serve_metrics

Agent: Any
app: Any
agent: Any
completion: Any
model: Any
response: Any
tools: Any
Celery: Any
FastAPI: Any
JSONResponse: Any
OpenAIResponsesModel: Any
StreamingResponse: Any
create_agent: Any
execute_phase: Any
estimated_tokens: int
ask_model: Any
look_up: Any
crawl: Any
migrate: Any
tables: list[str]
hour: float
limits: ResourceLimits
monitor: ResourceMonitor
phases: list[str]
SIDECAR = "http://127.0.0.1:9465"
"""
#: Everything that is said to be taken, of which no block shows all.
WIDER = """\
from decimal import Decimal
from pathlib import Path

from otel_budget import Prices, ResourceLimits, ResourceMonitor

ResourceLimits(max_tokens=1e6, max_api_calls=10, max_cost_usd=5, max_duration_seconds=60)
ResourceLimits(3600, 1_000_000, 1000, 2.5, 300)
ResourceLimits(max_cost_usd=Decimal("0.10"), on_unpriced="stop", on_unknown_usage="estimate")
ResourceLimits.only(max_cost_usd=0.5)
cost: Decimal | None = ResourceLimits(max_cost_usd=5).max_cost_usd
tokens: int | None = ResourceLimits(max_tokens=1e6).max_tokens
with ResourceMonitor(ResourceLimits(), prices="prices.yaml", project_root="runs") as monitor:
    monitor.update_limits(max_cost_usd=3)
    monitor.record_operation(tokens=None, cost_usd=1)
    monitor.record_operation(cost_usd=0.25, extras={"web_searches": 2})
    monitor.record_operation(cost_usd=Decimal("0.25"), outcome="error")
    monitor.should_continue(1)
    monitor.wait_for_stop(1)
    go_on: bool = monitor.wait_until_allowed(1) is not None
    monitor.close("failed", 2)
ResourceMonitor(project_root=Path("runs"), first_verdict_timeout=5, prices=Prices())
ResourceMonitor(limits_from_outside=True)
"""


def snippets() -> dict[str, str]:
    """Return every block of Python in the documents by where it is."""
    found = {}
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for block in re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            line = text[: block.start()].count("\n") + 1
            found[f"{document.stem}:{line}"] = block[1]
    return found


def test_every_block_of_python_in_the_documents_passes_strict_types(tmp_path: Path) -> None:
    """Names that a reader has already are given; so is that a block leaves out annotations."""
    blocks = snippets()
    assert len(blocks) > 15
    for number, (place, block) in enumerate(blocks.items()):
        given = [
            line for line in GIVEN.splitlines() if f"import {line.partition(':')[0]}" not in block
        ]
        body = textwrap.indent("\n".join((*given, block, "...\n")), "    ")
        text = f"# {place}\nasync def block() -> None:\n{body}"
        (tmp_path / f"block_{number:02}.py").write_text(text, encoding="utf-8")
    (tmp_path / "wider.py").write_text(WIDER, encoding="utf-8")
    done = subprocess.run(
        [
            sys.executable, "-m", "mypy", "--strict", "--ignore-missing-imports",
            "--no-error-summary",
            "--allow-untyped-defs", "--allow-incomplete-defs", "--allow-untyped-calls",
            "--disable-error-code=untyped-decorator",
            "--cache-dir", str(ROOT / ".mypy_cache" / "consumer"), str(tmp_path),
        ],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_signature_for_type_checkers_is_the_one_that_is_there() -> None:
    """It is written out beside the fields; names, order and defaults are theirs."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(ResourceLimits)))
    (written,) = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == "__init__"
    )
    names = [argument.arg for argument in written.args.args][1:]
    default = {"DEFAULT_THRESHOLD": DEFAULT_THRESHOLD}
    values = [
        default[node.id] if isinstance(node, ast.Name) else ast.literal_eval(node)
        for node in written.args.defaults
    ]
    there = inspect.signature(ResourceLimits).parameters.values()
    assert list(zip(names, values, strict=True)) == [(p.name, p.default) for p in there]
