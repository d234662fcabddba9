"""The layout in docs/design.md is the tree's, and each folder says what it is for."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import grimp

from tests.support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

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


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Not for types alone either: what needs each other is one subject, or lacks a protocol."""
    graph = grimp.build_graph("otel_budget", exclude_type_checking_imports=False)
    imports = {m: graph.find_modules_directly_imported_by(m) for m in graph.modules}
    assert not _circles(imports)


def _circles(imports: Mapping[str, set[str]]) -> set[tuple[str, ...]]:
    """Return the groups of modules each of which imports, by whatever way, all of its group."""
    reached: dict[str, set[str]] = {}
    for module in imports:
        seen: set[str] = set()
        ahead = [module]
        while ahead:
            new = imports[ahead.pop()] - seen
            seen |= new
            ahead += new
        reached[module] = seen
    return {
        tuple(sorted(other for other in reached[module] if module in reached[other]))
        for module in imports
        if module in reached[module]
    }
