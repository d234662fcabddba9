"""The page of what the reliability tests saw points at tests that are there."""

import ast
import json
import sys

import pytest

from tests.support.paths import ROOT

sys.path.insert(0, str(ROOT / "docs"))

from reliability import SECTIONS  # docs is no package

FIGURES = json.loads((ROOT / "docs/reliability.json").read_text(encoding="utf-8"))["figures"]
SHOWN_BY = sorted({figure["test"].partition("[")[0] for figure in FIGURES})


@pytest.mark.parametrize("test", SHOWN_BY)
def test_what_shows_a_figure_is_there(test: str) -> None:
    """It was not renamed or removed since it was measured."""
    path, *names = test.split("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    written = {
        name
        for node in ast.walk(tree)
        for name in (
            [node.name] if isinstance(node, ast.FunctionDef | ast.ClassDef)
            else [target.id for target in node.targets if isinstance(target, ast.Name)]
            if isinstance(node, ast.Assign)
            else []
        )
    }  # fmt: skip
    assert names[0] in written


def test_each_part_of_the_page_has_figures() -> None:
    assert {figure["section"] for figure in FIGURES} == set(SECTIONS)
