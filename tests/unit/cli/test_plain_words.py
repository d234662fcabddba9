"""Plain words are read as argparse reads them, or left to it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_budget.cli.command import Command
from otel_budget.cli.main import found_commands, parser
from otel_budget.cli.plain_words import Plain
from tests.support.paths import ROOT
from tests.unit.project.test_lazy_import import HEAVY

COMMANDS = {
    command.name: command
    for command in found_commands()
    if isinstance(command, Command) and command.plain is not None
}
WORDS = st.sampled_from(
    ["run-1", "claude-code", "codex", "", "x", "-", "--", "-x", "--json", "--sidecar", "--url",
     "--run", "--fail-closed", "http://a", "--sidecar=http://b", "--url=", "--si", "--json=1", "="]
)  # fmt: skip


@given(st.sampled_from(sorted(COMMANDS)), st.lists(WORDS, max_size=6))
def test_what_is_read_is_what_argparse_reads(name: str, words: list[str]) -> None:
    """Whatever is typed: the same arguments, or none, and argparse has the word."""
    plain = COMMANDS[name].plain
    assert isinstance(plain, Plain)
    found = plain.read(words)
    if found is None:
        return
    expected = vars(parser(name).parse_args([name, *words]))
    del expected["command"]
    assert vars(found) == expected


@pytest.mark.parametrize(
    "words", [["run-1"], ["run-1", "--json"], ["--sidecar", "http://a", "run-1"]]
)
def test_what_people_type_is_plain(words: list[str]) -> None:
    plain = COMMANDS["check"].plain
    assert plain is not None
    assert plain.read(words) is not None


def test_check_loads_nothing_that_it_does_not_use() -> None:
    """An agent waits for it at every step; argparse and http.client take as long as the rest."""
    code = (
        "import sys; from otel_budget.cli.main import main; main(sys.argv[1:]);"
        "print(sorted(sys.modules), file=sys.stderr)"
    )
    words = ["check", "run-1", "--sidecar", "http://127.0.0.1:9"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True, cwd=ROOT,
        env={**os.environ, "OTEL_BUDGET_SIDECAR_TOKEN_FILE": ""},
    )  # fmt: skip
    loaded = set(done.stderr.strip("[]\n").replace("'", "").split(", "))
    heavy = HEAVY | {"argparse", "http.client", "email", "ssl", "logging", "pathlib"}
    assert "otel_budget.cli.commands.check" in loaded
    assert not loaded & heavy
