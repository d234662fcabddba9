"""What documents and messages tell people to install can be installed: from a clone."""

from __future__ import annotations

import re
import tomllib

import pytest

from otel_budget.errors import how_to_install
from tests.support.paths import ROOT

PLACES = ("*.md", "docs/*.md", "examples/*", "deploy/**/*", "otel_budget/**/*.py")
LINE = re.compile(r"pip install[^\n`]*")
OURS = re.compile(
    r"(?:\.|\./otel-budget|otel-budget)(?:\[([a-z,-]+)\])?(?P<address> @ git\+REPOSITORY)?"
)


def told() -> list[tuple[str, str]]:
    """Return file and what follows ``pip install``, of every line that tells to install us."""
    found = []
    for pattern in PLACES:
        for path in ROOT.glob(pattern):
            if path.is_file() and path.suffix != ".pyc":
                text = path.read_text(encoding="utf-8").replace("\\\n", " ")
                found += [(str(path.relative_to(ROOT)), line) for line in LINE.findall(text)]
    return [(path, line) for path, line in found if re.search(r"otel-budget|'\.|'git", line)]


EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "optional-dependencies"
]


@pytest.mark.parametrize(("path", "line"), told())
def test_every_install_line_names_a_clone_and_extras_that_there_are(path: str, line: str) -> None:
    """The package is on no index; a name there would be somebody else's."""
    quoted = re.findall(r"'([^']+)'", line)
    assert len(quoted) == 1, f"{path}: {line}"
    if quoted[0] in {".[{extra}]", "git+REPOSITORY"}:
        return  # the message: see below; and the repository itself
    match = OURS.fullmatch(quoted[0])
    assert match, f"{path}: {line}"
    assert quoted[0].startswith(".") or match["address"], f"{path}: {line}"
    assert set(filter(None, (match[1] or "").split(","))) <= set(EXTRAS), f"{path}: {line}"


def test_the_lines_were_looked_at() -> None:
    """In the README, the documents, the deployment's files and the program."""
    places = {path.partition("/")[0] for path, _ in told()}
    assert places >= {"README.md", "docs", "deploy", "otel_budget"}


def test_what_a_message_tells_to_install_is_a_clone_with_an_extra() -> None:
    """As in the documents."""
    assert how_to_install("sidecar") == "pip install '.[sidecar]' in a clone of otel-budget"


def test_the_python_versions_that_are_claimed_are_those_that_are_tested() -> None:
    """By CI: the one it runs on, and those of .ci/pythons; 3.12 by hand, as CONTRIBUTING says."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    claimed = {
        line.rpartition(" ")[2]
        for line in project["classifiers"]
        if line.startswith("Programming Language :: Python :: 3.")
    }
    assert claimed == {"3.11", "3.12", "3.13", "3.14"}
    assert project["requires-python"] == ">=3.11"
