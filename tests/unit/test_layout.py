"""The layout in docs/design.md is the tree's."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_layout_names_every_module_and_none_that_is_gone() -> None:
    """A reader finds each file there, by its folder's line."""
    text = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    layout = text.split("## 7. Layout", 1)[1].split("```", 2)[1]
    words = set(re.findall(r"[A-Za-z_0-9]+", layout))
    files = [p for top in ("otel_budget", "grafana") for p in (ROOT / top).rglob("*.py")]
    modules = {p.stem for p in files if not p.stem.startswith("_")}
    assert not modules - words
    folders = {p.parent.name for p in files}
    named = set(re.findall(r"(?m)^ +([a-z]+)/ ", layout))
    assert named <= folders | {"dashboards"}
