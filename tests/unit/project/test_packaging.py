"""What is published as a package: what it needs is declared."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from types import ModuleType

import pytest

from tests.support.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

#: What is imported under another name than the one it is declared by, or that its user has.
BROUGHT = {
    "agents": "openai-agents",
    "google": "protobuf, of which opentelemetry-proto is made, and which it pins",
    "langchain": "who gives create_agent a middleware has it",
    "langgraph": "what langchain's agents are made of",
    "pydantic_ai": "pydantic-ai-slim",
    "pydantic_core": "a type of pydantic's, which pins it",
}


def imported() -> set[str]:
    """Return the packages of others that the program imports, at its top or inside a function."""
    names: set[str] = set()
    for path in (ROOT / "otel_budget").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names.update(alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"otel_budget", "opentelemetry"}


def test_every_package_that_is_imported_is_declared() -> None:
    """One that only another package brings may be gone with that one's next version."""
    lists = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    declared = {re.split(r"[\[<>=]", one)[0].lower() for lines in lists for one in lines}
    declared |= {name.replace("-", "_") for name in declared}
    distributions = packages_distributions()
    missing = {
        name
        for name in imported()
        # An adapter's library is not installed here: there its name is the package's own.
        if not declared & {one.lower() for one in distributions.get(name, [name])}
    }
    assert missing <= set(BROUGHT), missing


def test_the_source_distribution_is_the_whole_repository() -> None:
    """Its tests read deploy/, grafana/, the Makefile and more: all of it, or none would pass."""
    targets = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"][
        "build"
    ]["targets"]
    assert set(targets) == {"wheel"}, "a list of what is shipped is one that falls behind"


@pytest.fixture
def hatch_build(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the build's hook, without the builder, which is not installed here."""
    stand_in = ModuleType("hatchling.metadata.plugin.interface")
    stand_in.MetadataHookInterface = object  # type: ignore[attr-defined] # a stand-in
    monkeypatch.setitem(sys.modules, stand_in.__name__, stand_in)
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_packages_page_links_to_the_repository_that_it_was_built_with(
    hatch_build: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every relative link and picture of README; without an address none is made up."""
    hook = hatch_build.Description()
    hook.root = str(ROOT)
    monkeypatch.setenv(hatch_build.VARIABLE, "https://git.example.org/team/otel-budget/")
    metadata: dict[str, dict[str, str]] = {}
    hook.update(metadata)
    links = re.findall(r"\]\(([^)#][^)]*)\)", metadata["readme"]["text"])
    assert len(links) > 20
    assert all(link.startswith("https://") for link in links)
    home = "https://git.example.org/team/otel-budget"
    assert f"{home}/blob/HEAD/docs/design.md" in links
    assert f"{home}/raw/HEAD/docs/pictures/overview.png" in links
    assert metadata["urls"]["Repository"] == home
    monkeypatch.delenv(hatch_build.VARIABLE)
    metadata = {}
    hook.update(metadata)
    assert metadata["readme"]["text"] == (ROOT / "README.md").read_text(encoding="utf-8")
    assert "urls" not in metadata
