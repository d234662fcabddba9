"""The layout in docs/design.md is the tree's, and each folder says what it is for."""

from __future__ import annotations

import ast
import re

from tests.support.paths import ROOT

PACKAGES = sorted(p.parent for p in (ROOT / "otel_budget").rglob("__init__.py"))


def test_the_layout_names_every_folder_and_none_that_is_gone() -> None:
    """A reader who looks for something knows in which folder to look."""
    text = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    layout = text.split("## 7. Layout", 1)[1].split("```", 2)[1].split("\ngrafana/", 1)[0]
    assert set(re.findall(r"([a-z_]+)/", layout)) - {"data"} == {p.name for p in PACKAGES}


def test_each_folder_says_what_it_is_for() -> None:
    """The first lines of its __init__.py: what is in it, and what is not."""
    for package in PACKAGES:
        text = (package / "__init__.py").read_text(encoding="utf-8")
        assert ast.get_docstring(ast.parse(text)), package
