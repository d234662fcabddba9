"""A clean environment for each coding agent: a throw-away home, dummy keys, the loopback provider.

Nothing of the machine's own settings gets in, and nothing is sent to anywhere but this machine.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_CODEX_CONFIG: Final = """
model = "gpt-5.4"
model_provider = "scripted"
check_for_update_on_startup = false

[model_providers.scripted]
name = "scripted"
base_url = "{url}/v1"
env_key = "SCRIPTED_KEY"
wire_api = "responses"
supports_websockets = false

[analytics]
enabled = false

[projects."{work}"]
trust_level = "trusted"
"""

_GEMINI_SETTINGS: Final = {
    "security": {"auth": {"selectedType": "gemini-api-key"}},
    "general": {"enableAutoUpdate": False, "enableAutoUpdateNotification": False},
    "privacy": {"usageStatisticsEnabled": False},
}

_CLAUDE_STATE: Final = {
    "hasCompletedOnboarding": True,
    "theme": "dark",
    "customApiKeyResponses": {"approved": ["sk-ant-dummy-0000"[-20:]], "rejected": []},
}

#: What makes each agent run its tools without asking anybody.
_FREELY: Final = {
    "claude-code": ("--allowedTools", "Bash"),
    "codex": ("--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"),
    "gemini-cli": ("--yolo",),
}


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a program."""

    code: int
    """Exit status; of a program that a signal ended, minus that signal."""
    out: str
    err: str


@dataclass(slots=True)
class Home:
    """A home folder, a folder to work in, and the environment of whoever lives there."""

    folder: Path
    programs: Path
    provider_url: str
    env: dict[str, str] = field(init=False)
    """A whole environment: nothing of this process's is in it."""
    work: Path = field(init=False)

    def __post_init__(self) -> None:
        """Make the folders and the settings that a user would have after the first start."""
        self.work = self.folder / "work"
        for name in ("work", "tmp", ".codex", ".gemini", ".claude"):
            (self.folder / name).mkdir(parents=True)
        config = _CODEX_CONFIG.format(url=self.provider_url, work=self.work)
        (self.folder / ".codex/config.toml").write_text(config, encoding="utf-8")
        self._write(".gemini/settings.json", _GEMINI_SETTINGS)
        trusted = {str(self.work): {"hasTrustDialogAccepted": True, "projects": {}}}
        self._write(".claude.json", _CLAUDE_STATE | {"projects": trusted})
        own = Path(sys.executable).parent
        node = Path(shutil.which("node") or "/usr/bin/node").parent
        self.env = {
            "PATH": os.pathsep.join(map(str, (self.programs, own, node, "/usr/bin", "/bin"))),
            "HOME": str(self.folder), "TERM": "xterm-256color", "SHELL": "/bin/bash",
            "LANG": "C.UTF-8", "TMPDIR": str(self.folder / "tmp"),
            "ANTHROPIC_API_KEY": "sk-ant-dummy-0000", "ANTHROPIC_BASE_URL": self.provider_url,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1",
            "DISABLE_ERROR_REPORTING": "1",
            "SCRIPTED_KEY": "dummy",
            "GEMINI_API_KEY": "dummy", "GOOGLE_GEMINI_BASE_URL": self.provider_url,
            "GEMINI_CLI_TRUST_WORKSPACE": "true", "NO_BROWSER": "1",
        }  # fmt: skip

    def _write(self, name: str, content: object) -> None:
        (self.folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    def run(self, *command: str, env: dict[str, str] | None = None, timeout: float = 60) -> Done:
        """Run a program to its end, without a terminal."""
        done = subprocess.run(
            command, cwd=self.work, env=self.env | (env or {}), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr)


def headless(agent: str, prompt: str, *, resume: str | None = None) -> tuple[str, ...]:
    """Return the command that has an agent work on a prompt without a terminal."""
    freely = _FREELY[agent]
    if agent == "claude-code":
        again = ("--resume", resume) if resume else ()
        return ("claude", "-p", prompt, "--output-format", "json", *freely, *again)
    if agent == "codex":
        again = ("resume", resume) if resume else ()
        return ("codex", "exec", *again, "--json", *freely, prompt)
    again = ("--resume", resume) if resume else ()
    return ("gemini", "-p", prompt, "--output-format", "json", *freely, *again)
