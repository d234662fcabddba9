"""Every page can be found: docs/index.md leads to it."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.paths import ROOT

INDEX = ROOT / "docs" / "index.md"
PAGES = {*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("deploy/*.md")}


def links(page: Path) -> set[Path]:
    """Return the files that a page links to."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    found = re.findall(r"\]\(([^)\s#]+)[^)]*\)", text)
    return {(page.parent / link).resolve() for link in found if "://" not in link}


def test_every_page_can_be_reached_from_the_index() -> None:
    reached, next_ones = set[Path](), {INDEX}
    while next_ones:
        reached |= next_ones
        next_ones = {
            link
            for page in next_ones
            for link in links(page)
            if link.suffix == ".md" and link.is_file() and ROOT in link.parents
        } - reached
    found = {ROOT / "deploy" / "README.md", *reached}
    assert not {str(page.relative_to(ROOT)) for page in PAGES - found}


def test_the_readme_and_the_index_lead_to_each_other_kind_of_page() -> None:
    assert INDEX in links(ROOT / "README.md")
    named = {page.name for page in links(INDEX)}
    assert named >= {"tutorial.md", "concepts.md", "design.md", "openapi.json"}


def test_the_index_of_decisions_has_each_of_them_by_its_title() -> None:
    folder = ROOT / "docs" / "adr"
    rows = re.findall(
        r"^\| (\d+) \| \[(.+?)\]\((\S+?)\) \| .+ \|$",
        (folder / "README.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    for number, title, name in rows:
        assert int(name[:4]) == int(number)
        first = (folder / name).read_text(encoding="utf-8").splitlines()[0]
        assert first == f"# {number}. {title}", name
    assert {name for _, _, name in rows} == {page.name for page in folder.glob("0*.md")}


def test_modules_that_a_document_names_are_there() -> None:
    """As ``folder/module.py`` or ``folder/``, from the package's own folder."""
    package = ROOT / "otel_budget"
    folders = "|".join(path.name for path in package.iterdir() if path.is_dir())
    path = re.compile(rf"`((?:{folders})/[a-z_0-9/]*(?:\.py)?)`")
    named = {
        (str(page.relative_to(ROOT)), name)
        for page in PAGES
        for name in path.findall(page.read_text(encoding="utf-8"))
    }
    assert len(named) > 40
    assert not {where for where in named if not (package / where[1]).exists()}
