"""``otel-budget install``: an agent's settings, changed with care and put back to the byte."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_budget.agents.known import hooks_of, names
from otel_budget.agents.settings import MARK
from otel_budget.cli.main import main
from tests.support.ports import free_port
from tests.support.raw_server import respond, serve_raw
from tests.support.real import require
from tests.support.scripted_sidecar import scripted

SIDECAR, RECEIVER = "http://127.0.0.1:9465", "http://127.0.0.1:4318"
FILES = {
    "claude-code": (".claude/settings.json",),
    "codex": (".codex/config.toml", ".codex/hooks.json"),
    "gemini-cli": (".gemini/settings.json",),
}
ODD = '{\n\t"model" : "opus",  "env": {"KEY":"secret" },\n\n    "hooks": {"Stop":[ ]}}'


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home of a user who has nothing yet."""
    for name in ("CLAUDE_CONFIG_DIR", "CODEX_HOME", "GEMINI_CLI_HOME", "OTEL_BUDGET_SIDECAR_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def install(agent: str, *words: str) -> int:
    """Run the command without asking, towards a sidecar that is named."""
    where = ["--sidecar", SIDECAR, "--receiver", RECEIVER]
    return main(["install", agent, "--yes", *([] if "--remove" in words else where), *words])


def everything(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def commands_of(settings: dict[str, Any]) -> list[str]:
    """Return the commands of all hooks."""
    return [
        hook["command"]
        for entries in settings["hooks"].values()
        for entry in entries
        for hook in entry["hooks"]
    ]


@pytest.mark.parametrize("agent", names())
def test_what_was_installed_where_nothing_was_goes_away_again(home: Path, agent: str) -> None:
    assert install(agent) == 0
    for file in FILES[agent]:
        assert (home / file).exists()
        assert stat.S_IMODE((home / file).stat().st_mode) == 0o600
    assert install(agent, "--remove") == 0
    assert everything(home) == {}


@pytest.mark.parametrize("agent", names())
def test_every_event_of_the_agent_asks_the_sidecar(home: Path, agent: str) -> None:
    """As its hooks are known, with a time that it waits."""
    require("curl")
    assert install(agent) == 0
    settings = json.loads((home / FILES[agent][-1]).read_text())
    table = hooks_of(agent)
    assert table is not None
    assert tuple(settings["hooks"]) == table.events
    for command in commands_of(settings):
        assert f"{SIDECAR}/v1/hooks" in command
        assert command.endswith(MARK)


def test_claude_codes_telemetry_goes_to_the_receiver(home: Path) -> None:
    assert install("claude-code") == 0
    settings = json.loads((home / ".claude/settings.json").read_text())
    env = settings["env"]
    assert env["CLAUDE_CODE_ENABLE_TELEMETRY"] == "1"
    assert env["OTEL_EXPORTER_OTLP_ENDPOINT"] == RECEIVER
    assert env["OTEL_EXPORTER_OTLP_PROTOCOL"] == "http/protobuf"
    assert (env["OTEL_METRICS_EXPORTER"], env["OTEL_LOGS_EXPORTER"]) == ("otlp", "otlp")
    assert settings["statusLine"]["command"].endswith(f"statusline {MARK}")


def test_codexs_telemetry_is_a_table_behind_the_users_own(home: Path) -> None:
    (home / ".codex").mkdir()
    config = home / ".codex/config.toml"
    config.write_bytes(b'model = "gpt"\r\n[projects."/x"]\r\ntrust_level = "trusted"')
    before = config.read_bytes()
    assert install("codex") == 0
    assert config.read_bytes().startswith(before)
    data = tomllib.loads(config.read_bytes().decode())
    assert data["otel"] == {
        "exporter": {"otlp-http": {"endpoint": f"{RECEIVER}/v1/logs", "protocol": "binary"}},
        "metrics_exporter": "none",
    }
    assert data["projects"]["/x"] == {"trust_level": "trusted"}
    assert install("codex", "--remove") == 0
    assert everything(home) == {".codex/config.toml": before}


def test_geminis_telemetry_goes_to_the_receiver_of_a_sidecar_that_is_named(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Otherwise its hooks are for ``otel-budget run`` alone, and its telemetry is the run's."""
    assert main(["install", "gemini-cli", "--yes"]) == 0
    settings = json.loads((home / ".gemini/settings.json").read_text())
    assert "telemetry" not in settings
    assert all('[ -z "$OTEL_BUDGET_HOOK_URL" ] ||' in c for c in commands_of(settings))
    assert "no sidecar is named" in capsys.readouterr().err
    assert install("gemini-cli") == 0
    settings = json.loads((home / ".gemini/settings.json").read_text())
    assert settings["telemetry"] == {
        "enabled": True, "target": "local", "otlpEndpoint": RECEIVER, "otlpProtocol": "http",
        "logPrompts": False,
    }  # fmt: skip
    assert not any("-z" in command for command in commands_of(settings))


@pytest.mark.parametrize("agent", ["claude-code", "gemini-cli"])
def test_an_odd_file_is_changed_in_place_and_restored_to_the_byte(home: Path, agent: str) -> None:
    file = home / FILES[agent][0]
    file.parent.mkdir()
    file.write_text(ODD)
    file.chmod(0o640)
    assert install(agent) == 0
    changed = json.loads(file.read_text())
    assert changed["model"] == "opus"
    assert changed["env"]["KEY"] == "secret"
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert file.with_name("settings.json.before-otel-budget").read_text() == ODD
    assert install(agent, "--remove") == 0
    assert everything(home) == {FILES[agent][0]: ODD.encode()}


SETTINGS = st.dictionaries(
    st.sampled_from(["model", "theme", "x"]), st.text(max_size=5) | st.lists(st.integers())
)


@settings(max_examples=50)
@given(SETTINGS, SETTINGS, st.sampled_from([None, 2, 4, "\t"]))
def test_any_file_is_restored_to_the_byte(
    data: dict[str, Any], env: dict[str, Any], indent: Any
) -> None:
    """However it is written, and whatever stands in it."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLAUDE_CONFIG_DIR", folder)
        file = Path(folder, "settings.json")
        file.write_text(json.dumps({**data, "env": env}, indent=indent))
        before = everything(Path(folder))
        assert install("claude-code") == 0
        assert json.loads(file.read_text()) | {"env": env} != {**data, "env": env}
        assert install("claude-code", "--remove") == 0
        assert everything(Path(folder)) == before


@pytest.mark.parametrize("agent", names())
def test_to_install_it_again_changes_nothing(
    home: Path, agent: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert install(agent) == 0
    first = everything(home)
    assert install(agent) == 0
    assert everything(home) == first
    assert "it is all there already" in capsys.readouterr().out


@pytest.mark.parametrize("agent", names())
def test_another_sidecar_takes_the_place_of_the_first(home: Path, agent: str) -> None:
    """And what was there before either comes back."""
    require("curl")
    assert install(agent) == 0
    assert install(agent, "--sidecar", "http://127.0.0.1:9500") == 0
    text = (home / FILES[agent][-1]).read_text()
    assert SIDECAR not in text
    assert "http://127.0.0.1:9500/v1/hooks" in text
    assert install(agent, "--remove") == 0
    assert everything(home) == {}


@pytest.mark.parametrize("agent", ["claude-code", "gemini-cli"])
def test_of_a_file_that_others_changed_only_our_parts_are_taken_out(
    home: Path, agent: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Said, and the copy of what was there stays."""
    file = home / FILES[agent][0]
    file.parent.mkdir()
    mine = {"hooks": [{"type": "command", "command": "mine"}]}
    given = {"model": "a", "hooks": {"SessionStart": [mine]}, "env": {"OTEL_LOGS_EXPORTER": "none"}}
    file.write_text(json.dumps(given, indent=2))
    assert install(agent) == 0
    changed = json.loads(file.read_text())
    changed["model"] = "b"
    changed["hooks"]["SessionStart"].append({"hooks": [{"type": "command", "command": "newer"}]})
    file.write_text(json.dumps(changed, indent=4))
    assert install(agent, "--remove") == 0
    left = json.loads(file.read_text())
    assert left == {
        "model": "b", "env": {"OTEL_LOGS_EXPORTER": "none"},
        "hooks": {"SessionStart": [mine, {"hooks": [{"type": "command", "command": "newer"}]}]},
    }  # fmt: skip
    assert "it was changed since" in capsys.readouterr().err
    assert file.with_name("settings.json.before-otel-budget").exists()


def test_hooks_that_codex_was_told_to_trust_keep_their_numbers(home: Path) -> None:
    """By which it knows them; ours come behind."""
    file = home / ".codex/hooks.json"
    file.parent.mkdir()
    mine = {"hooks": [{"type": "command", "command": "mine"}]}
    file.write_text(json.dumps({"hooks": {"PreToolUse": [mine]}}))
    assert install("codex") == 0
    assert json.loads(file.read_text())["hooks"]["PreToolUse"][0] == mine


@pytest.mark.parametrize("agent", ["codex", "gemini-cli"])
def test_a_run_sees_that_its_hooks_are_installed(home: Path, agent: str, way: str) -> None:
    """By the variable, whichever way they ask."""
    assert install(agent, *(["--fail-closed"] if way == "closed" else [])) == 0
    settings = json.loads((home / FILES[agent][-1]).read_text())
    assert all("OTEL_BUDGET_HOOK_URL" in command for command in commands_of(settings))


def test_of_a_codex_configuration_that_codex_changed_only_our_table_is_taken_out(
    home: Path,
) -> None:
    """It keeps what it was told to trust in the same file."""
    assert install("codex") == 0
    config = home / ".codex/config.toml"
    config.write_text(config.read_text() + '[hooks.state."x"]\ntrusted_hash = "y"\n')
    assert install("codex", "--remove") == 0
    assert config.read_text() == '[hooks.state."x"]\ntrusted_hash = "y"\n'


IN_THE_WAY: list[tuple[str, str, str, str]] = [
    ("claude-code", ".claude/settings.json",
     '{"env": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}}', "collector"),
    ("claude-code", ".claude/settings.json",
     '{"env": {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}}', "http/protobuf"),
    ("codex", ".codex/config.toml", '[otel]\nenvironment = "prod"\n', "it has [otel] already"),
    ("codex", ".codex/config.toml", 'otel.exporter = "none"\n', "it has [otel] already"),
    ("gemini-cli", ".gemini/settings.json",
     '{"telemetry": {"otlpEndpoint": "http://other:1"}}', "other:1"),
    ("gemini-cli", ".gemini/settings.json", '{"telemetry": {"outfile": "x.log"}}', "x.log"),
    ("claude-code", ".claude/settings.json", '{"model": "a"} // mine', "left alone"),
    ("claude-code", ".claude/settings.json", '{"hooks": []}', "left alone"),
    ("claude-code", ".claude/settings.json", '{"env": 7}', "left alone"),
    ("codex", ".codex/hooks.json", "# none", "left alone"),
    ("codex", ".codex/config.toml", "= 7", "left alone"),
]  # fmt: skip


@pytest.mark.parametrize("case", IN_THE_WAY, ids=lambda case: case[3])
def test_what_is_in_the_way_is_named_and_nothing_is_written(
    home: Path, case: tuple[str, str, str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Not even the other file."""
    agent, file, text, said = case
    (home / file).parent.mkdir()
    (home / file).write_text(text)
    before = everything(home)
    assert install(agent) in (1, 2)
    err = capsys.readouterr().err
    assert said in err
    assert str(home / file) in err
    assert everything(home) == before


def test_a_table_of_the_users_that_says_the_same_is_enough(home: Path) -> None:
    config = home / ".codex/config.toml"
    config.parent.mkdir()
    exporter = f'{{otlp-http={{endpoint="{RECEIVER}/v1/logs",protocol="binary"}}}}'
    config.write_text(f'[otel]\nmetrics_exporter="none"\nexporter={exporter}\nenvironment="p"\n')
    before = config.read_bytes()
    assert install("codex") == 0
    assert config.read_bytes() == before


def test_exporters_of_the_users_stay_beside_ours(home: Path) -> None:
    file = home / ".claude/settings.json"
    file.parent.mkdir()
    line = {"type": "command", "command": "mine"}
    env = {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_METRIC_EXPORT_INTERVAL": "5000"}
    file.write_text(json.dumps({"env": env, "statusLine": line}))
    assert install("claude-code") == 0
    settings = json.loads(file.read_text())
    assert settings["env"]["OTEL_METRICS_EXPORTER"] == "prometheus,otlp"
    assert settings["env"]["OTEL_METRIC_EXPORT_INTERVAL"] == "5000"
    assert settings["statusLine"] == line


def test_a_link_stays_one_and_what_it_leads_to_is_changed(home: Path) -> None:
    """As people have it who keep such files in a repository."""
    real = home / "dotfiles/claude.json"
    real.parent.mkdir()
    real.write_text("{}")
    link = home / ".claude/settings.json"
    link.parent.mkdir()
    link.symlink_to(real)
    assert install("claude-code") == 0
    assert link.is_symlink()
    assert "hooks" in json.loads(real.read_text())
    assert install("claude-code", "--remove") == 0
    assert real.read_text() == "{}"


def test_folders_of_the_agents_own_variables_are_used(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(home / "c"))
    monkeypatch.setenv("CODEX_HOME", str(home / "x"))
    assert install("claude-code") == install("codex") == 0
    assert {path.split("/")[0] for path in everything(home)} == {"c", "x"}


def test_a_projects_settings_are_those_of_the_present_folder(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "work").mkdir()
    os.chdir(home / "work")
    assert install("claude-code", "--project") == install("gemini-cli", "--project") == 0
    assert set(everything(home)) == {
        f"work/{name}{more}"
        for name in (".claude/settings.json", ".gemini/settings.json")
        for more in ("", ".otel-budget")
    }
    assert install("codex", "--project") == 2
    assert "--project" in capsys.readouterr().err


def test_nothing_is_written_without_a_yes(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor for show; and keys that stand around are not shown."""
    file = home / ".claude/settings.json"
    file.parent.mkdir()
    file.write_text('{\n  "env": {\n    "KEY": "secret"\n  }\n}\n')
    before = everything(home)
    words = ["install", "claude-code", "--sidecar", SIDECAR, "--receiver", RECEIVER]
    assert main([*words, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "CLAUDE_CODE_ENABLE_TELEMETRY" in shown
    assert "secret" not in shown
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert main(words) == 2
    assert "--yes" in capsys.readouterr().err
    monkeypatch.setattr("otel_budget.cli.commands.install._agreed", lambda: False)
    assert main(words) == 1
    assert everything(home) == before
    monkeypatch.setattr("otel_budget.cli.commands.install._agreed", lambda: True)
    assert main(words) == 0


def test_the_receiver_is_the_one_that_the_sidecar_tells(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = '{"endpoint": "http://127.0.0.1:4999", "token_required": true}'
    with scripted(lambda request: request.say(200, told)) as sidecar:
        assert main(["install", "claude-code", "--yes", "--sidecar", sidecar.url]) == 0
    text = (home / ".claude/settings.json").read_text()
    assert '"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4999"' in text
    assert "wants a token" in capsys.readouterr().err
    with scripted(lambda request: request.say(404, '{"detail": "none"}')) as sidecar:
        assert main(["install", "codex", "--yes", "--sidecar", sidecar.url]) == 0
    assert "has no receiver" in capsys.readouterr().err


@pytest.mark.parametrize(
    "url", ["http://a/$(reboot)", 'http://a/"', "http://a`x`", "file:///x", "http://a/?x=1"]
)
def test_a_url_that_a_shell_would_not_leave_alone_is_refused(home: Path, url: str) -> None:
    assert main(["install", "codex", "--yes", "--sidecar", url, "--receiver", RECEIVER]) == 2
    assert everything(home) == {}


# --- the commands, run by a shell -----------------------------------------------------------------
def ask(home: Path, agent: str, event: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command of a hook as the agent does."""
    settings = json.loads((home / FILES[agent][-1]).read_text())
    command = settings["hooks"][event][0]["hooks"][0]["command"]
    variables = {"PATH": os.environ["PATH"], "HOME": str(home), **env}
    return subprocess.run(
        ["/bin/sh", "-c", command], input='{"hook_event_name": "x"}', capture_output=True,
        text=True, check=True, env=variables, timeout=20,
    )  # fmt: skip


FIRST = {
    "claude-code": "UserPromptSubmit",
    "codex": "UserPromptSubmit",
    "gemini-cli": "BeforeAgent",
}
LATER = {"claude-code": "PreToolUse", "codex": "PreToolUse", "gemini-cli": "BeforeModel"}


@pytest.fixture(params=["curl", "own", "closed"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How the hooks ask: by curl, without it, or so that a step without an answer is blocked."""
    if request.param == "own":
        monkeypatch.setattr("shutil.which", lambda _: None)
    return str(request.param)


@pytest.mark.parametrize("agent", names())
def test_a_hook_hands_on_the_sidecars_answer(home: Path, agent: str, way: str) -> None:
    """Whoever asks."""
    with serve_raw(respond(b'{"continue": false}', "application/json")) as place:
        closed = ["--fail-closed"] if way == "closed" else []
        assert install(agent, "--sidecar", f"http://{place}", *closed) == 0
        assert ask(home, agent, FIRST[agent]).stdout == '{"continue": false}'
        assert ask(home, agent, LATER[agent]).stdout == '{"continue": false}'


@pytest.mark.parametrize("agent", names())
def test_a_hook_without_a_sidecar_lets_the_agent_go_on_and_says_so(home: Path, agent: str) -> None:
    """Once for each prompt; exit 0, as anything else would be an error of the hook."""
    require("curl")
    assert install(agent, "--sidecar", f"http://127.0.0.1:{free_port()}") == 0
    said = json.loads(ask(home, agent, FIRST[agent]).stdout)
    assert "held to no budget" in said["systemMessage"]
    assert ask(home, agent, LATER[agent]).stdout == ""


@pytest.mark.parametrize("agent", ["codex", "gemini-cli"])
def test_a_hook_in_a_run_asks_the_runs_own_sidecar(home: Path, agent: str) -> None:
    require("curl")
    with serve_raw(respond(b'{"continue": false}', "application/json")) as place:
        assert install(agent, "--sidecar", f"http://127.0.0.1:{free_port()}") == 0
        given = {"OTEL_BUDGET_HOOK_URL": f"http://{place}/v1/hooks", "OTEL_BUDGET_RUN": "run-1"}
        assert ask(home, agent, FIRST[agent], **given).stdout == '{"continue": false}'


def test_claude_codes_hooks_leave_a_run_to_its_own(home: Path) -> None:
    """``otel-budget run`` brings hooks by the command line, and all of them are called."""
    assert install("claude-code", "--sidecar", f"http://127.0.0.1:{free_port()}") == 0
    assert ask(home, "claude-code", "UserPromptSubmit", BUDGET_RUN="run-1").stdout == ""


def test_the_status_line_is_a_command_that_runs(home: Path) -> None:
    assert install("claude-code", "--sidecar", f"http://127.0.0.1:{free_port()}") == 0
    settings = json.loads((home / ".claude/settings.json").read_text())
    done = subprocess.run(
        ["/bin/sh", "-c", settings["statusLine"]["command"]], input='{"session_id": "s-1"}',
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith("budget: no sidecar")
    assert sys.executable.rpartition("/")[0] in settings["statusLine"]["command"]
