"""Which agents are known: whatever has a package."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_HOOKS = """
from otel_budget.agents.base import AgentHooks, EventKind, EventRow, Step, blocked

HOOKS = AgentHooks(
    name="made-up",
    title="Made Up",
    preset="made_up",
    events=("Prompt",),
    rows={"Prompt": EventRow(EventKind.PROMPT, {Step.END: blocked})},
)
"""
_LAUNCH = """
from otel_budget.agents.launching import Launch

TITLE, PROGRAMS, PACKAGES = "Made Up", ("made-up",), ("@made/up",)

def launch(request):
    return Launch(arguments=request.arguments)
"""
_SETTINGS = """
from otel_budget.agents.made_up.hooks import HOOKS
from otel_budget.agents.settings import JsonSettings, Telemetry, Trap, add_hooks, asks, take_out

NEEDS_NAME, THEN = False, "Done."

def files(environ, *, project):
    return (".made-up.json",)

def added(file, text, wanted):
    settings = JsonSettings(text)
    add_hooks(settings, HOOKS, lambda command: {"command": command},
              lambda kind: asks(HOOKS.name, wanted, kind))
    return settings.change()

def removed(file, text, undo):
    return take_out(text, undo)

def telemetry(data):
    return Telemetry(())

def traps(data, asking, environ):
    return (Trap("hooks", "has a trap", "mind it"),)
"""
_CODE = """
import sys
from otel_budget import agents
agents.__path__.append(sys.argv.pop(1))
from otel_budget.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An agent's package, as it would be among the others."""
    package = tmp_path / "more" / "made_up"
    package.mkdir(parents=True)
    (tmp_path / "more" / "__pycache__").mkdir()
    for name, text in (("__init__", ""), ("hooks", _HOOKS), ("launch", _LAUNCH),
                       ("settings", _SETTINGS)):  # fmt: skip
        (package / f"{name}.py").write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        ("hook --help", 0, "made-up"),
        ("hook made-up --url http://127.0.0.1:9 --fail-closed", 0, '"decision": "block"'),
        ("install made-up --yes --receiver http://127.0.0.1:9", 0, "Done."),
        ("run --help", 0, "made-up"),
        ("run --agent nobody -- true", 2, "made-up"),
    ],
)
def test_an_agent_is_known_to_every_command_by_its_package_alone(
    folder: Path, command: str, status: int, said: str
) -> None:
    """Nothing else has a list of them."""
    done = subprocess.run(
        [sys.executable, "-c", _CODE, str(folder / "more"), *command.split()],
        input='{"hook_event_name": "Prompt", "session_id": "s"}',
        capture_output=True, text=True, cwd=folder, timeout=60, check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
    )  # fmt: skip
    assert (done.returncode, said in done.stdout + done.stderr) == (status, True), done
