"""The coding agents themselves, from npm, in the versions that ``.ci/agents.json`` pins.

They are installed once for each content of that file, in ``.venv-agents`` or where
``OTEL_BUDGET_AGENTS`` says: without install scripts and without optional packages. What npm would
choose by the machine is named instead, since on an older Node it silently takes an older program.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from tests.support.paths import ROOT
from tests.support.real import missing

PINNED: Final = ROOT / ".ci" / "agents.json"
FOLDER: Final = "OTEL_BUDGET_AGENTS"
#: As users call them, and as the launcher recognises them.
COMMANDS: Final = {"claude-code": "claude", "codex": "codex", "gemini-cli": "gemini"}
_READY: Final = ".ready"
_TIMEOUT: Final = 600


def pinned() -> dict[str, dict[str, str]]:
    """Return the packages by the name of the agent."""
    found: dict[str, dict[str, str]] = json.loads(PINNED.read_text(encoding="utf-8"))
    return found


def folder_of_programs() -> Path:
    """Return a folder for a PATH with ``claude``, ``codex`` and ``gemini``; install them if needed.

    Skips the test loudly where npm or a platform is missing, or fails it if told to.
    """
    npm, system = shutil.which("npm"), _platform()
    if npm is None or shutil.which("node") is None:
        missing("npm and node are not installed: the coding agents come from there")
    if system is None:
        missing(f"no coding agents are pinned for {sys.platform} on {platform.machine()}")
    named = Path(os.environ.get(FOLDER) or ROOT / ".venv-agents")
    wanted = pinned()
    parts = json.dumps([wanted, system], sort_keys=True)
    folder = named / hashlib.sha256(parts.encode()).hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / _READY).exists():
            _install(npm, folder, wanted, system)
            (folder / _READY).touch()
    return folder / "bin"


def _platform() -> str | None:
    """Return the platform as npm's packages name it; None for one that nobody has tried."""
    machine = {"x86_64": "x64", "aarch64": "arm64", "arm64": "arm64"}.get(platform.machine())
    return f"{sys.platform}-{machine}" if sys.platform == "linux" and machine else None


def _install(npm: str, folder: Path, wanted: dict[str, dict[str, str]], system: str) -> None:
    """Install into ``node_modules``, and link the programs into ``bin``."""
    wants: dict[str, str] = {}
    for agent, each in wanted.items():
        spec = each["package"].format(platform=system, version=each["version"])
        wants |= {agent: spec} if spec.startswith("npm:") else {spec: each["version"]}
    manifest: dict[str, Any] = {"private": True, "dependencies": wants}
    (folder / "package.json").write_text(json.dumps(manifest), encoding="utf-8")
    options = ("--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund")
    done = subprocess.run(
        (npm, "install", *options, "--no-package-lock", "--no-update-notifier"),
        capture_output=True, text=True, timeout=_TIMEOUT, check=False, cwd=folder,
    )  # fmt: skip
    if done.returncode != 0:
        missing(f"the coding agents could not be installed: {done.stderr.strip()[-1000:]}")
    (folder / "bin").mkdir(exist_ok=True)
    for (agent, each), name in zip(wanted.items(), wants, strict=True):
        (program,) = (folder / "node_modules" / name).glob(each["program"])
        link = folder / "bin" / COMMANDS[agent]
        link.unlink(missing_ok=True)
        link.symlink_to(program)


if __name__ == "__main__":
    sys.stdout.write(f"{folder_of_programs()}\n")
