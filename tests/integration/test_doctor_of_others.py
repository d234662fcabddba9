"""The doctor of those who run programs that nobody can change: pushed, scraped, or asking hooks."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from otel_budget.cli.main import main
from tests.integration.test_doctor import doctor, running, said
from tests.support.exposition import Exposition, serve
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CLAUDE = (
    'claude_code_token_usage_tokens_total{session_id="s-1",type="input",model="m"} 100\n'
    'claude_code_token_usage_tokens_total{session_id="s-1",type="output",model="m"} 10\n'
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without any settings."""
    folder = tmp_path / "home"
    folder.mkdir()
    for name in ("CLAUDE_CONFIG_DIR", "CODEX_HOME", "GEMINI_CLI_HOME", "OTEL_BUDGET_SIDECAR_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def shown() -> Iterator[Exposition]:
    """A page of Claude Code."""
    with serve() as exposition:
        exposition.text = CLAUDE
        yield exposition


def test_a_run_that_is_pushed_gets_its_verdict_and_nobody_is_told_to_be_scraped(
    tmp_path: Path, home: Path
) -> None:
    """No page of otel-budget's own is tried where programs push."""
    port = free_port()
    with running(tmp_path, source={"otlp": {"address": f"127.0.0.1:{port}"}}) as sidecar:
        code, found = doctor("--sidecar", sidecar.url, "--timeout", "10")
        assert code == 0, found
        assert "got nothing since it started" in said(found, "receiver", "warning")
        assert "a trial run was pushed" in said(found, "receiver", "ok")
        assert "1,000 tokens are in the verdict" in said(found, "verdict", "ok")
        assert "exporter" not in found
        assert "scrape" not in found
        code, found = doctor("--sidecar", sidecar.url, "--timeout", "10")
        assert "took 1 request since" in said(found, "receiver", "ok")
    assert not list(home.iterdir())


@pytest.mark.parametrize("header", [None, "authorization=Bearer%20wrong", "right"])
def test_a_receiver_that_wants_a_token(tmp_path: Path, home: Path, header: str | None) -> None:
    """It is taken from where exporters take it."""
    port, token = free_port(), tmp_path / "push.token"
    token.write_text("a-token-that-is-long-enough-for-anybody-0123456789\n")
    token.chmod(0o600)
    settings = {"address": f"127.0.0.1:{port}", "token_file": str(token)}
    with running(tmp_path, source={"otlp": settings}) as sidecar:
        right = f"Authorization=Bearer%20{token.read_text().strip()}"
        given = {} if header is None else {"OTEL_EXPORTER_OTLP_HEADERS": header}
        if header == "right":
            given = {"OTEL_EXPORTER_OTLP_HEADERS": right}
        code, found = doctor("--sidecar", sidecar.url, "--timeout", "10", **given)
    if header is None:
        assert "wants a token" in said(found, "receiver", "warning")
    elif header == "right":
        assert "a trial run was pushed" in said(found, "receiver", "ok")
    else:
        assert code == 1
        assert "a trial run is not taken" in said(found, "receiver", "broken")


def test_settings_that_name_this_sidecar_are_in_order(tmp_path: Path, home: Path) -> None:
    """And Codex's are said to wait for a key that only the user can press."""
    port = free_port()
    with running(tmp_path, source={"otlp": {"address": f"127.0.0.1:{port}"}}) as sidecar:
        for agent in ("claude-code", "codex", "gemini-cli"):
            assert main(["install", agent, "--yes", "--sidecar", sidecar.url]) == 0
        code, found = doctor("--sidecar", sidecar.url, "--timeout", "10")
    assert code == 0, found
    for title in ("Claude Code", "Codex CLI", "Gemini CLI"):
        assert f"{title} asks {sidecar.url}, which answers" in said(found, "hooks", "ok")
        assert f"{title} pushes to this sidecar's receiver" in said(found, "telemetry", "ok")
    assert "was not told to trust yet" in said(found, "hooks", "warning")
    config = home / ".codex/config.toml"
    config.write_text(config.read_text() + '[hooks.state."x"]\ntrusted_hash = "y"\n')
    with running(tmp_path, source={"otlp": {"address": f"127.0.0.1:{port}"}}) as sidecar:
        _, found = doctor("--sidecar", sidecar.url, "--timeout", "10")
    assert not [f for f in found["hooks"] if "trust" in f["said"]]


def test_settings_that_name_what_does_not_answer(tmp_path: Path, home: Path) -> None:
    """The sessions are held to no budget, and nothing of them is counted."""
    gone, receiver = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    words = ["--yes", "--sidecar", gone, "--receiver", receiver]
    assert main(["install", "claude-code", *words]) == 0
    with running(tmp_path, source={"otlp": {"address": f"127.0.0.1:{free_port()}"}}) as sidecar:
        code, found = doctor("--sidecar", sidecar.url, "--timeout", "10")
    assert code == 1
    assert f"Claude Code asks {gone}" in said(found, "hooks", "broken")
    assert f"Claude Code pushes to {receiver}" in said(found, "telemetry", "broken")


def test_traps_of_claude_code(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One port for all sessions; a variable that its hooks do not get; hooks and no telemetry."""
    folder = home / ".claude"
    folder.mkdir()
    env = {"CLAUDE_CODE_ENABLE_TELEMETRY": "1", "OTEL_METRICS_EXPORTER": "prometheus"}
    entry = {"hooks": [{"type": "command", "command": "otel-budget hook claude-code"}]}
    (folder / "settings.json").write_text(json.dumps({"env": env, "hooks": {"Stop": [entry]}}))
    with running(tmp_path, source={"otlp": {"address": f"127.0.0.1:{free_port()}"}}) as sidecar:
        given = {"OTEL_BUDGET_SIDECAR_URL": sidecar.url}
        code, found = doctor("--timeout", "10", **given)
        assert code == 1
        assert "shows its metrics at one port" in said(found, "telemetry", "warning")
        assert "takes its sidecar from an OTEL_… variable" in said(found, "hooks", "broken")
        code, found = doctor("--timeout", "10", **given, BUDGET_SIDECAR_URL=sidecar.url)
        assert code == 0
        (folder / "settings.json").write_text(json.dumps({"hooks": {"Stop": [entry]}}))
        code, found = doctor("--timeout", "10", **given, BUDGET_SIDECAR_URL=sidecar.url)
    assert "its telemetry is off" in said(found, "telemetry", "warning")


def test_a_page_of_another_program_is_known_by_its_preset(
    tmp_path: Path, home: Path, shown: Exposition
) -> None:
    """And its runs are looked for at the sidecar."""
    (tmp_path / "sd").mkdir()
    page = f"http://{shown.address}/metrics"
    with running(tmp_path) as sidecar:
        code, found = doctor("--sidecar", sidecar.url, "--metrics", page, "--timeout", "1")
        assert code == 1
        assert "(preset claude_code), with 1 run" in said(found, "page", "ok")
        assert "knows nothing of 1 of 1 runs: s-1" in said(found, "verdict", "broken")
        (tmp_path / "sd" / "claude.json").write_text(json.dumps([{"targets": [shown.address]}]))
        code, found = doctor("--sidecar", sidecar.url, "--metrics", page, "--timeout", "15")
    assert code == 0, found
    assert "has a verdict on each of them" in said(found, "verdict", "ok")
    assert os.environ["HOME"] == str(home)
