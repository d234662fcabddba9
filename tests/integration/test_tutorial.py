"""README's install commands and the tutorial are run, in a fresh clone and a fresh environment.

Only what differs on each machine is replaced: the repository's address, and the ports, which may be
in use.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from otel_budget import __version__
from tests.support.paths import ROOT
from tests.support.ports import free_port
from tests.support.processes import until
from tests.support.real import missing

README = (ROOT / "README.md").read_text(encoding="utf-8")
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
METRICS_PORT, SIDECAR_PORT = "9464", "9465"


def blocks(text: str, language: str) -> list[str]:
    """Return the code blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def install_blocks() -> list[str]:
    """Return the two ways to install it that README shows."""
    section = README.split("## Install")[1].split("\n## ")[0]
    return blocks(section, "sh")


class Place:
    """A folder with an environment of its own, in which commands run as a reader runs them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
        ours = ("OTEL_", "PYTHON", "PIP_REQUIRE_VIRTUALENV")
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
        self.environment["PATH"] = f"{folder / 'venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"

    def run(self, commands: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Run shell commands and return what they said."""
        return subprocess.run(
            ["sh", "-ec", commands], capture_output=True, text=True, timeout=timeout,
            cwd=self.folder, env=self.environment, check=False,
        )  # fmt: skip

    def must(self, commands: str) -> str:
        """Run shell commands that have to succeed; return what they printed."""
        done = self.run(commands)
        said = done.stdout + done.stderr
        if done.returncode and "Retrying (Retry(" in said:
            missing("the packages that an installation needs cannot be reached")
        assert done.returncode == 0, f"{commands}\n{said}"
        return said

    @contextmanager
    def start(self, command: str, log: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
        """Run one command until the end of the block; yield its process and its log."""
        path = self.folder / log
        with path.open("wb") as out:
            process = subprocess.Popen(
                ["sh", "-c", f"exec {command}"], stdout=out, stderr=subprocess.STDOUT,
                cwd=self.folder, env=self.environment,
            )  # fmt: skip
        try:
            yield process, path
        finally:
            process.terminate()
            process.wait(20)


def repository() -> str:
    """Return the address of this repository, if it is one that can be cloned."""
    if not (ROOT / ".git").exists():
        missing("this is no Git repository, so nothing can be cloned from it")
    return ROOT.as_uri()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Return a place where README's first way to install it has been followed."""
    place = Place(tmp_path_factory.mktemp("reader"))
    place.must(install_blocks()[0].replace("REPOSITORY", repository()))
    return place


def test_the_readmes_install_commands_give_a_command_and_a_package(installed: Place) -> None:
    assert installed.must("otel-budget version").split()[1].startswith(__version__)
    assert installed.must("python -c 'import otel_budget; print(otel_budget.__file__)'").startswith(
        str(installed.folder / "venv")
    )


def test_it_can_be_installed_without_a_clone_of_ones_own(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.must(install_blocks()[1].replace("REPOSITORY", repository()))
    assert place.must("python -c 'import otel_budget; print(otel_budget.__version__)'").strip() == (
        __version__
    )


def test_the_tutorial_installs_it_as_the_readme_does() -> None:
    tutorial = blocks(TUTORIAL, "sh")[0].splitlines()
    assert [line for line in tutorial if "venv" not in line] == install_blocks()[0].splitlines()


def test_the_tutorial_works_as_it_is_written(installed: Place) -> None:
    """The ceiling stops the first run; the second one, whose ceiling was raised, is done."""
    metrics, sidecar = str(free_port()), str(free_port())

    def here(text: str) -> str:
        return text.replace(METRICS_PORT, metrics).replace(SIDECAR_PORT, sidecar)

    _, start, run_agent, look, again, raise_it, show = blocks(TUTORIAL, "sh")
    (agent,) = blocks(TUTORIAL, "python")
    assert again == run_agent
    (installed.folder / "agent.py").write_text(here(agent), encoding="utf-8")
    installed.environment["OTEL_EXPORTER_PROMETHEUS_PORT"] = metrics
    installed.environment["OTEL_BUDGET_SIDECAR_URL"] = f"http://127.0.0.1:{sidecar}"
    *prepare, serve = here(start).strip().splitlines()
    installed.must("\n".join(prepare))
    with installed.start(f"{serve} --listen 127.0.0.1:{sidecar}", "sidecar.log") as (process, log):
        until(lambda: "listening on" in log.read_text(), process)
        with installed.start(run_agent.strip(), "first.log") as (first, printed):
            until(lambda: "step 3:" in printed.read_text(), first)
            said = installed.run(look).stdout
            assert len(re.findall(r"tokens at [0-9.]+% \([0-9,]+ of 60,000\)", said)) >= 2, said
            assert first.wait(60) == 0
        assert re.search(r"stopped: tokens at 8[0-9.]+% \(.* of 60,000\)", printed.read_text())
        assert installed.run("otel-budget check tutorial").returncode == 3
        with installed.start(again.strip(), "second.log") as (second, printed):
            until(lambda: "step 3:" in printed.read_text(), second)
            installed.must(raise_it)
            assert second.wait(60) == 0
        assert printed.read_text().endswith("done\n")
        assert "worth it" in installed.must(show)


def test_the_tutorials_output_is_what_the_programs_print(installed: Place) -> None:
    """The lines of numbers that it shows, but for when the agent was asked."""
    shown = [line for text in blocks(TUTORIAL, "text") for line in text.splitlines()]
    assert len(shown) >= 4
    printed = (installed.folder / "first.log").read_text(encoding="utf-8")
    assert "keep partial results" in printed
    stopped = next(line for line in shown if line.startswith("stopped"))
    form = re.sub(r"[0-9][0-9.,]*", "N", stopped)
    assert form in re.sub(r"[0-9][0-9.,]*", "N", printed)
