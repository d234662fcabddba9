"""What each agent is started with: arguments and environment, and nothing of the user's lost."""

import json
from pathlib import Path
from typing import Any

import pytest

from otel_budget.agents.claude_code import launch as claude
from otel_budget.agents.codex import launch as codex
from otel_budget.agents.gemini_cli import launch as gemini
from otel_budget.agents.launching import Launch, Request, merged_attributes, otlp_environment
from otel_budget.errors import InvalidValueError

RECEIVER = "http://127.0.0.1:4318"
HOOKS = "http://127.0.0.1:9465/v1/hooks/claude-code?run=run-1"


def request(*arguments: str, environ: dict[str, str] | None = None, **more: Any) -> Request:
    """Return what is to be started."""
    return Request(
        arguments=arguments,
        environ=environ or {},
        receiver=RECEIVER,
        hook_url=more.pop("hook_url", HOOKS),
        hook_command=f"curl -sf '{HOOKS}'",
        run="run-1",
        attributes={"otel_budget.session_id": "run-1", "otel_budget.max_tokens": "40000"},
        read_file=more.pop("read_file", _no_file),
        **more,
    )


def _no_file(path: str) -> str:
    raise FileNotFoundError(path)


def settings_of(launch: Launch) -> dict[str, Any]:
    """Return what follows the one ``--settings``."""
    assert launch.arguments.count("--settings") == 1
    found: dict[str, Any] = json.loads(launch.arguments[launch.arguments.index("--settings") + 1])
    return found


# --- resource attributes and endpoints ------------------------------------------------------------
@pytest.mark.parametrize(
    ("given", "merged"),
    [
        ("", "otel_budget.session_id=r"),
        ("team=a,env=b", "team=a,env=b,otel_budget.session_id=r"),
        ("otel_budget.session_id=old,team=a", "team=a,otel_budget.session_id=r"),
        (" team=a , ,", "team=a,otel_budget.session_id=r"),
    ],
)
def test_resource_attributes_of_the_user_stay_and_ours_replace_older_ones_of_ours(
    given: str, merged: str
) -> None:
    assert merged_attributes(given, {"otel_budget.session_id": "r"}) == merged


def test_a_value_that_would_end_an_attribute_is_encoded() -> None:
    assert merged_attributes("", {"otel_budget.x": "a,b=c d"}) == "otel_budget.x=a%2Cb%3Dc%20d"


def test_an_endpoint_of_the_users_keeps_its_traces() -> None:
    found = otlp_environment({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://otel.example"}, RECEIVER)
    assert "OTEL_EXPORTER_OTLP_ENDPOINT" not in found
    assert found["OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"] == f"{RECEIVER}/v1/metrics"
    assert found["OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"] == f"{RECEIVER}/v1/logs"


@pytest.mark.parametrize(
    ("given", "exporters"),
    [(None, "otlp"), ("none", "otlp"), ("prometheus", "prometheus,otlp"), ("otlp", "otlp"),
     ("console, otlp", "console,otlp")],
)  # fmt: skip
def test_an_exporter_of_the_users_stays_beside_otlp(given: str | None, exporters: str) -> None:
    environ = {} if given is None else {"OTEL_METRICS_EXPORTER": given}
    assert otlp_environment(environ, RECEIVER)["OTEL_METRICS_EXPORTER"] == exporters


# --- Claude Code ----------------------------------------------------------------------------------
def test_claude_code_gets_telemetry_by_environment_and_by_settings() -> None:
    launch = claude.launch(request("-p", "hello"))
    settings = settings_of(launch)
    assert launch.arguments[-2:] == ("-p", "hello")
    assert launch.environment["CLAUDE_CODE_ENABLE_TELEMETRY"] == "1"
    assert launch.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] == RECEIVER
    assert launch.environment["OTEL_RESOURCE_ATTRIBUTES"] == (
        "otel_budget.session_id=run-1,otel_budget.max_tokens=40000"
    )
    assert settings["env"] == launch.environment, "an env of a settings file would win otherwise"
    assert launch.hooks
    assert launch.hooks_end
    assert not launch.shows_reason, "in text mode Claude Code says nothing"


def test_claude_code_is_asked_at_every_event_of_its_hooks() -> None:
    settings = settings_of(claude.launch(request("-p")))
    assert "PostToolBatch" in settings["hooks"]
    for event, hooks in settings["hooks"].items():
        if event == "SessionStart":
            assert hooks[0]["hooks"][0]["command"] == f"curl -sf '{HOOKS}'", (
                "it takes no http there"
            )
        else:
            assert hooks[0]["hooks"][0]["url"] == HOOKS
            assert hooks[0]["hooks"][0]["type"] == "http"


OWN = {"model": "opus", "hooks": {"Stop": [{"hooks": [{"type": "command", "command": "mine"}]}]}}


@pytest.mark.parametrize("spelled", ["two", "one", "file", "twice"])
def test_settings_of_the_user_are_merged_and_the_last_ones_win(
    spelled: str, tmp_path: Path
) -> None:
    file = tmp_path / "own.json"
    file.write_text(json.dumps(OWN), encoding="utf-8")
    given = {
        "two": ("--settings", json.dumps(OWN)),
        "one": (f"--settings={json.dumps(OWN)}",),
        "file": ("--settings", str(file)),
        "twice": ("--settings", '{"model":"haiku"}', "--settings", json.dumps(OWN)),
    }[spelled]
    asked = request("-p", *given, "hi", read_file=lambda path: Path(path).read_text())
    launch = claude.launch(asked)
    settings = settings_of(launch)
    assert settings["model"] == "opus"
    assert settings["hooks"]["Stop"][0] == OWN["hooks"]["Stop"][0]  # type: ignore[index] # a mapping
    assert settings["hooks"]["Stop"][1]["hooks"][0]["url"] == HOOKS
    assert launch.arguments[2:] == ("-p", "hi")


def test_what_stands_behind_a_double_dash_is_no_flag() -> None:
    launch = claude.launch(request("-p", "--", "--settings", "x"))
    assert launch.arguments[2:] == ("-p", "--", "--settings", "x")


@pytest.mark.parametrize("bad", ["{", "[1]", "/nowhere/settings.json", '{"hooks": []}'])
def test_settings_that_cannot_be_merged_are_refused(bad: str) -> None:
    with pytest.raises(InvalidValueError, match="--settings"):
        claude.launch(request("--settings", bad, read_file=_no_file))


@pytest.mark.parametrize("flag", ["--bare", "--safe-mode"])
def test_a_mode_without_hooks_is_said(flag: str) -> None:
    launch = claude.launch(request(flag, "-p"))
    assert not launch.hooks
    assert flag in launch.notes[0]
    assert "hooks" not in settings_of(launch)


def test_no_hooks_means_none() -> None:
    launch = claude.launch(request("-p", hooks=False))
    assert not launch.hooks
    assert not launch.notes
    assert "hooks" not in settings_of(launch)


@pytest.mark.parametrize(
    ("arguments", "terminal", "interactive"),
    [((), True, True), (("-p",), True, False), (("--print", "x"), True, False), ((), False, False)],
)
def test_claude_code_is_on_the_terminal_unless_it_prints(
    arguments: tuple[str, ...], *, terminal: bool, interactive: bool
) -> None:
    assert claude.launch(request(*arguments, on_terminal=terminal)).interactive is interactive


def test_a_sidecar_that_wants_credentials_is_asked_by_commands_alone() -> None:
    settings = settings_of(claude.launch(request("-p", hook_url="")))
    kinds = {hooks[0]["hooks"][0]["type"] for hooks in settings["hooks"].values()}
    assert kinds == {"command"}


# --- Codex ----------------------------------------------------------------------------------------
def test_codex_gets_telemetry_by_configuration_in_front_of_its_command() -> None:
    launch = codex.launch(request("exec", "hi"))
    assert launch.arguments[-2:] == ("exec", "hi")
    assert (
        'otel.exporter={otlp-http={endpoint="http://127.0.0.1:4318/v1/logs",protocol="binary"}}'
        in launch.arguments
    )
    assert 'otel.metrics_exporter="none"' in launch.arguments
    assert "--no-daemon" not in launch.arguments, "exec has no background server"


def test_codex_runs_hooks_only_if_they_are_trusted() -> None:
    launch = codex.launch(request("exec", "hi"))
    assert not launch.hooks
    assert "trust" in launch.notes[0]
    launch = codex.launch(request("exec", "hi", trust_hooks=True))
    assert launch.hooks
    assert not launch.hooks_end, "its hooks can deny tools and cannot end it"
    assert "--dangerously-bypass-hook-trust" in launch.arguments
    assert any(argument.startswith("hooks.PreToolUse=[") for argument in launch.arguments)
    launch = codex.launch(request("--dangerously-bypass-hook-trust", "exec", "hi"))
    assert launch.hooks
    assert launch.arguments.count("--dangerously-bypass-hook-trust") == 1


@pytest.mark.parametrize("trusted", [True, False])
def test_hooks_of_codex_that_are_installed_are_not_given_twice(*, trusted: bool) -> None:
    config = '[hooks.state."/h/.codex/hooks.json:stop:0:0"]\ntrusted_hash = "x"' if trusted else ""
    files = {
        "/h/.codex/hooks.json": 'curl "${OTEL_BUDGET_HOOK_URL:-http://x}/codex"',
        "/h/.codex/config.toml": config,
    }
    asked: dict[str, Any] = {"environ": {"HOME": "/h"}, "read_file": files.__getitem__}
    launch = codex.launch(request("exec", "hi", **asked))
    assert launch.hooks is trusted
    assert bool(launch.notes) is not trusted
    launch = codex.launch(request("exec", "hi", trust_hooks=True, **asked))
    assert launch.hooks
    assert not any(argument.startswith("hooks.") for argument in launch.arguments)


@pytest.mark.parametrize(
    ("arguments", "interactive"),
    [((), True), (("fix it",), True), (("-m", "exec", "fix it"), True), (("resume", "x"), True),
     (("exec", "x"), False), (("-c", "a=b", "exec", "x"), False)],
)  # fmt: skip
def test_codex_on_the_terminal_has_no_background_server(
    arguments: tuple[str, ...], *, interactive: bool
) -> None:
    launch = codex.launch(request(*arguments, on_terminal=True))
    assert launch.interactive is interactive
    assert ("--no-daemon" in launch.arguments) is interactive


def test_codex_commands_that_are_no_session_stay_as_they_are() -> None:
    assert codex.launch(request("login")).arguments == ("login",)


# --- Gemini ---------------------------------------------------------------------------------------
def test_gemini_gets_telemetry_by_environment_and_ends_at_a_signal() -> None:
    launch = gemini.launch(request("-p", "hi"))
    assert launch.arguments == ("-p", "hi")
    assert launch.environment["GEMINI_TELEMETRY_OTLP_ENDPOINT"] == RECEIVER
    assert launch.environment["GEMINI_CLI_NO_RELAUNCH"] == "true"
    assert not launch.hooks
    assert "install gemini-cli" in launch.notes[0]


def test_gemini_has_hooks_where_they_are_installed() -> None:
    def read(path: str) -> str:
        if path == "/home/u/.gemini/settings.json":
            return json.dumps({"hooks": {"BeforeModel": [{"x": "$OTEL_BUDGET_HOOK_URL/gemini"}]}})
        raise FileNotFoundError(path)

    launch = gemini.launch(request("-p", "hi", environ={"HOME": "/home/u"}, read_file=read))
    assert launch.hooks
    assert not launch.notes


# --- how it goes on -------------------------------------------------------------------------------
def test_a_new_session_of_claude_code_is_named_so_that_it_can_be_resumed() -> None:
    launch = claude.launch(request("-p", "hi", new_session="0-1-2"))
    assert launch.arguments[2:4] == ("--session-id", "0-1-2")
    assert launch.resume == ("claude", "--resume", "0-1-2")


@pytest.mark.parametrize("flag", ["--resume", "-r", "--continue", "-c", "--session-id"])
def test_a_session_that_claude_code_goes_on_with_is_not_named_anew(flag: str) -> None:
    launch = claude.launch(request(flag, "-p", "hi", new_session="0-1-2"))
    assert "0-1-2" not in launch.arguments
    assert launch.resume == ("claude", "--continue")


def test_a_session_that_is_not_kept_cannot_be_resumed() -> None:
    launch = claude.launch(request("--no-session-persistence", "-p", new_session="0-1-2"))
    assert not launch.resume
    assert not codex.launch(request("exec", "--ephemeral", "x")).resume


def test_codex_and_gemini_go_on_with_the_last_session_of_the_folder() -> None:
    assert codex.launch(request("exec", "x")).resume == ("codex", "exec", "resume", "--last")
    assert codex.launch(request()).resume == ("codex", "resume", "--last")
    assert gemini.launch(request()).resume == ("gemini", "--resume", "latest")
