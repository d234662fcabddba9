"""The command: what it prints, and how it exits."""

import dataclasses
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from otel_budget import __version__
from otel_budget.cli import commands
from otel_budget.cli.main import found_commands, main
from otel_budget.cli.options import ENV_SIDECAR
from otel_budget.core import verdict_json
from otel_budget.core.forecast import Estimate, Forecast
from otel_budget.core.reasons import Action
from otel_budget.core.verdict import LimitStatus
from otel_budget.sdk.sidecar_client.exchange import Limits
from tests.support.raw_server import serve_raw
from tests.support.sidecar_fixtures import START, verdict

GOOD = """
source: {scrape: {targets: ["http://127.0.0.1:9464/metrics"]}}
resource_limits: {max_tokens: 2000000, max_cost_usd: 2.5}
verdicts: {lease: 30s}
"""


@contextmanager
def answering(status: int, body: str) -> Iterator[str]:
    """Serve one answer to everything; yield the URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_version_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out == f"otel-budget {__version__}\n"
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"otel-budget {__version__}\n"


@pytest.mark.parametrize("argv", [[], ["config"], ["nonsense"], ["check"], ["sidecar", "--nope"]])
def test_wrong_usage_exits_2_and_shows_the_right_one(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2
    assert "usage: otel-budget" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["", "demo", "sidecar", "check", "config check", "version"])
def test_help_teaches(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    if command in ("", "sidecar", "check"):
        assert "examples:" in told
    if command == "check":
        assert "exit status:" in told


def test_each_command_is_a_file_of_its_name() -> None:
    """To add one is to add a file: it is found, and its help is shown."""
    folder = Path(commands.__path__[0])
    files = sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
    assert [command.name for command in found_commands()] == files
    assert {
        "check",
        "config",
        "demo",
        "doctor",
        "health",
        "read",
        "session",
        "sidecar",
        "version",
    } <= (set(files))


def test_to_find_the_commands_loads_nothing_of_the_extra() -> None:
    """An agent's environment has ``check`` and ``session`` without it, and at once."""
    code = (
        "import sys; from otel_budget.cli.main import parser; parser();"
        "print(sorted(sys.modules.keys() & {'h11', 'pydantic', 'rich', 'starlette', 'uvicorn',"
        " 'yaml', 'sqlite3', 'asyncio', 'otel_budget.sidecar', 'otel_budget.sources'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(
    ("words", "status"), [("version", 0), ("config check /no/such.yaml", 2), ("hook codex", 0)]
)
def test_a_stream_that_is_closed_changes_no_exit_status(
    closed: str, words: str, status: int
) -> None:
    line = f'"{sys.executable}" -m otel_budget {words} {closed}'
    done = subprocess.run(["sh", "-c", line], input="", capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (status, False), done.stderr


# --- check ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("action", "status", "expected"),
    [
        (Action.CONTINUE, LimitStatus.OK, 0),
        (Action.CONTINUE, LimitStatus.APPROACHING, 0),
        (Action.STOP, LimitStatus.APPROACHING, 3),
        (Action.STOP, LimitStatus.EXCEEDED, 3),
        (Action.STOP, LimitStatus.INCONCLUSIVE, 4),
        (Action.CONTINUE, LimitStatus.INCONCLUSIVE, 4),
    ],
)
def test_check_exits_by_the_verdict(action: Action, status: LimitStatus, expected: int) -> None:
    with answering(200, verdict_json.to_json(verdict(action=action, status=status))) as url:
        assert main(["check", "run-1", "--sidecar", url]) == expected


def test_check_says_the_verdict_and_each_resource(capsys: pytest.CaptureFixture[str]) -> None:
    with answering(200, verdict_json.to_json(verdict())) as url:
        main(["check", "run-1", "--sidecar", url])
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == "run-1: continue (within_limits): tokens at 10"
    assert second == "  no data yet; the run began at 2023-11-14T22:13:10.000Z"
    assert third == "  ok          tokens at 1.0% (10 of 1,000), limit of the sidecar"


def test_check_says_how_much_of_each_resource_is_left_and_what_ends_first(
    capsys: pytest.CaptureFixture[str],
) -> None:
    forecast = Forecast(Estimate(23.4, 19.2, 27.1), Estimate(754.0, 600.0, 900.0))
    known = verdict()
    tokens = known.resources["tokens"]._replace(forecast=forecast)
    told = dataclasses.replace(known, resources={"tokens": tokens})
    with answering(200, verdict_json.to_json(told)) as url:
        main(["check", "run-1", "--sidecar", url])
    assert capsys.readouterr().out.splitlines()[-1] == (
        "  ok          tokens at 1.0% (10 of 1,000), limit of the sidecar; "
        "about 23 calls left (19 to 27), 12 min, the first to end"
    )


def test_check_says_how_old_the_data_are_and_whether_the_run_has_begun_or_ended(
    capsys: pytest.CaptureFixture[str],
) -> None:
    stopped = verdict(action=Action.STOP, status=LimitStatus.EXCEEDED, started_at=None)
    stopped = dataclasses.replace(stopped, data_at=START - 12.5, run_state="stopped")
    with answering(200, verdict_json.to_json(stopped)) as url:
        assert main(["check", "run-1", "--sidecar", url]) == 3
    first, second, _ = capsys.readouterr().out.splitlines()
    assert first.endswith("tokens at 10 (the run has ended: stopped)")
    assert second == (
        "  data 12.5 s old when judged at 2023-11-14T22:13:20.000Z; "
        "the run does not say when it began"
    )


def test_the_help_of_check_does_not_invite_to_gate_a_rerun(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["check", "--help"])
    told = capsys.readouterr().out
    assert "|| exit" not in told
    assert "history" in told


def test_check_gives_the_verdict_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    with answering(200, verdict_json.to_json(verdict())) as url:
        assert main(["check", "run-1", "--sidecar", url + "/", "--json"]) == 0
    assert verdict_json.from_json(capsys.readouterr().out) == verdict()


def test_check_finds_the_sidecar_by_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with answering(200, verdict_json.to_json(verdict())) as url:
        monkeypatch.setenv(ENV_SIDECAR, url)
        assert main(["check", "run-1"]) == 0


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (404, '{"detail": "no run \'run-1\' is known here"}', "no run 'run-1' is known here"),
        (503, '{"detail": "not yet"}', "not yet"),
        (500, "<html>", "500 Internal Server Error"),
        (404, "[]", "404 Not Found"),
        (299, "<html>", "does not answer like a sidecar"),
    ],
)
def test_check_exits_4_when_nobody_knows(
    status: int, body: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(status, body) as url:
        assert main(["check", "run-1", "--sidecar", url]) == 4
        said = capsys.readouterr()
        assert told in said.out + said.err
        main(["check", "run-1", "--sidecar", url, "--json"])
    if status != 299:
        answer = json.loads(capsys.readouterr().out)
        assert answer["session_id"] == "run-1"
        assert told in answer["error"]


def test_check_exits_4_when_no_sidecar_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "run-1", "--sidecar", "http://127.0.0.1:9"]) == 4
    assert "nothing answers at http://127.0.0.1:9" in capsys.readouterr().out


def test_check_asks_the_sidecar_itself_whatever_proxy_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with answering(200, verdict_json.to_json(verdict())) as url:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.delenv("no_proxy", raising=False)
        assert main(["check", "run-1", "--sidecar", url]) == 0


def test_check_does_not_go_where_it_is_sent(capsys: pytest.CaptureFixture[str]) -> None:
    with answering(200, verdict_json.to_json(verdict())) as other:
        moved = f"HTTP/1.1 302 Found\r\nLocation: {other}/\r\nContent-Length: 0\r\n\r\n"
        with serve_raw(lambda connection, _over: connection.sendall(moved.encode())) as address:
            assert main(["check", "run-1", "--sidecar", f"http://{address}"]) == 4
    assert "answers 302 Found" in capsys.readouterr().out


def test_check_does_not_read_without_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = Limits(silence=5.0, body=100)
    monkeypatch.setattr("otel_budget.sdk.sidecar_client.request._LIMITS", limits)
    with answering(200, verdict_json.to_json(verdict()) + " " * 1_000_000) as url:
        assert main(["check", "run-1", "--sidecar", url]) == 4
    assert "the answer is longer than 100 bytes" in capsys.readouterr().out


@pytest.mark.parametrize(
    "argv",
    [
        ["check", "-- bad"],
        ["check", "../etc"],
        ["check", "run-1", "--sidecar", "file:///etc/passwd"],
        ["check", "run-1", "--sidecar", "localhost:9465"],
        ["check", "run-1", "--sidecar", "http://127.0.0.1:port"],
    ],
)
def test_check_refuses_what_cannot_be(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    assert "is not allowed; allowed:" in capsys.readouterr().err


# --- config check and sidecar ---------------------------------------------------------------------
def test_config_check_says_what_would_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "sidecar.yaml"
    file.write_text(GOOD)
    assert main(["config", "check", str(file)]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"OK: {file}\n")
    for part in ("http://127.0.0.1:9464/metrics", "tokens 2,000,000", "cost $2.50", "lease 30 s"):
        assert part in told


def test_config_check_warns_of_an_address_others_reach(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "sidecar.yaml"
    file.write_text(GOOD)
    main(["config", "check", str(file)])
    assert "warning" not in capsys.readouterr().out
    file.write_text(GOOD + 'listen: {address: "0.0.0.0:9465"}\n')
    assert main(["config", "check", str(file)]) == 2
    assert "listen: other hosts may reach 0.0.0.0:9465" in capsys.readouterr().err
    file.write_text(GOOD + 'listen: {address: "0.0.0.0:9465", allow_unauthenticated: true}\n')
    assert main(["config", "check", str(file)]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("  warning:  listen: other hosts may reach 0.0.0.0:9465")
    assert "who reaches it reads all verdicts" in last


def test_config_check_warns_of_a_receiver_others_reach(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a token, and with one in clear text that others can read."""
    (tmp_path / "tokens").write_text("t" * 32)
    (tmp_path / "tokens").chmod(0o644)
    file = tmp_path / "sidecar.yaml"
    for more, words in (
        ("allow_unauthenticated: true", ["who reaches it pushes whatever it likes"]),
        ("token_file: tokens", ["tokens come in clear text", "every user of this host can read"]),
    ):
        file.write_text(f'source: {{otlp: {{address: "0.0.0.0:4318", {more}}}}}\n')
        assert main(["config", "check", str(file)]) == 0
        said = capsys.readouterr().out
        assert "source:   OTLP pushed to 0.0.0.0:4318" in said
        for each in words:
            assert each in said


def test_config_check_warns_of_a_ceiling_that_a_preset_cannot_be_held_against(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Claude Code exports tokens and money, and no calls."""
    file = tmp_path / "sidecar.yaml"
    target = '{url: "http://127.0.0.1:9464/metrics", preset: claude_code}'
    text = "source: {scrape: {targets: [TARGET]}}\nresource_limits: {LIMITS}\n"
    file.write_text(
        text.replace("TARGET", target).replace("LIMITS", "max_api_calls: 5, max_tokens: 9")
    )
    assert main(["config", "check", str(file)]) == 0
    (warned,) = [line for line in capsys.readouterr().out.splitlines() if "warning:" in line]
    assert (
        "resource_limits.max_api_calls is not judged for programs read by preset claude_c" in warned
    )
    assert "it has no counter of API calls, only log events" in warned
    times = "max_tokens: 9, max_active_seconds: 5, max_duration_seconds: 9"
    file.write_text(text.replace("TARGET", target).replace("LIMITS", times))
    main(["config", "check", str(file)])
    assert "warning" not in capsys.readouterr().out, "they go by the clock"


@pytest.mark.parametrize(
    ("preset", "limit", "warned"),
    [
        ("codex", "max_cost_usd", "it knows no prices"),
        ("gemini_cli", "max_cost_usd", ""),
        ("vllm", "max_tool_calls", "its metrics do not show it"),
        ("claude_code", "max_cost_usd", None),
        ("codex", "max_tool_calls", None),
    ],
)
def test_config_check_knows_of_each_preset_what_it_cannot_say(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    preset: str,
    limit: str,
    warned: str | None,
) -> None:
    """Scraped, through a Prometheus, and for all targets that name none."""
    file = tmp_path / "sidecar.yaml"
    for source in (
        f"scrape: {{targets: [{{url: 'http://a/metrics', preset: {preset}}}]}}",
        f"scrape: {{targets: ['http://a/metrics'], preset: {preset}}}",
        f"prometheus: {{url: 'http://a', preset: {preset}}}",
    ):
        file.write_text(f"source: {{{source}}}\nresource_limits: {{{limit}: 5}}\n")
        main(["config", "check", str(file)])
        found = [row for row in capsys.readouterr().out.splitlines() if "warning:" in row]
        if warned is None:
            assert not found
        else:
            (line,) = found
            assert f"resource_limits.{limit} is not judged for programs read by preset" in line
            assert warned in line


def test_config_check_knows_what_log_events_say(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pushed, calls are known of Claude Code; money of Codex is not."""
    file = tmp_path / "sidecar.yaml"
    limits = "resource_limits: {max_api_calls: 5, max_cost_usd: 5}"
    file.write_text(f"source: {{otlp: {{presets: [claude_code, codex]}}}}\n{limits}\n")
    main(["config", "check", str(file)])
    (line,) = [row for row in capsys.readouterr().out.splitlines() if "warning:" in row]
    assert "max_cost_usd is not judged for programs that push and are read by preset codex" in line


def test_config_check_refuses_a_storage_the_sidecar_would_refuse(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "sidecar.yaml"
    file.write_text(GOOD + "storage: {path: nowhere/x.db}\n")
    assert main(["config", "check", str(file)]) == 2
    assert f"{file}:5: storage.path: there is no folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["sidecar.yaml"]


def test_config_check_says_all_that_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "sidecar.yaml"
    file.write_text(GOOD + "budgets: [1]\nlisten: {address: nowhere}\n")
    assert main(["config", "check", str(file)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"otel-budget: {file}:") for line in lines)


def test_a_reload_that_is_asked_for_while_the_sidecar_starts_does_not_end_it() -> None:
    """SIGHUP waits for the sidecar to listen for it; in a process with no other threads."""
    code = """
import os, signal
from otel_budget.cli.main import main
from otel_budget.config import load
from otel_budget.errors import ConfigFileError

received = []
signal.signal(signal.SIGHUP, lambda number, _: received.append(number))

def hang_up(path):
    os.kill(os.getpid(), signal.SIGHUP)
    assert not received
    raise ConfigFileError(path, "is wrong")

load.load = hang_up
assert main(["sidecar", "--config", "sidecar.yaml"]) == 2
assert received == [signal.SIGHUP]
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_config_check_of_no_file_exits_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "check", str(tmp_path / "none.yaml")]) == 2
    assert "cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "level"), [([], logging.WARNING), (["--log-level", "debug"], logging.DEBUG)]
)
def test_the_sidecar_logs_from_the_level_that_is_asked_for(
    flags: list[str], level: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = logging.getLogger("otel_budget")
    before = logger.level
    monkeypatch.setenv("RES_OPTIONS", "attempts:1")  # else the command sets it for the process
    monkeypatch.setattr("otel_budget.sidecar.main.run", lambda *_: None)
    try:
        assert main(["sidecar", "--target", "http://127.0.0.1:1/metrics", *flags]) == 0
        assert logger.getEffectiveLevel() == level
    finally:
        logger.setLevel(before)


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        ([], "otel-budget: give one of --target/--file-sd, --prometheus, --otlp\n"),
        (["--target", "http://a/metrics", "--prometheus", "http://b"], "--prometheus"),
        (["--target", "nowhere"], "--target"),
        (["--target", "http://a/metrics", "--max-tokens", "-1"], "--max-tokens"),
        (["--target", "http://a/metrics", "--lease", "0s"], "--lease"),
        (["--target", "http://a/metrics", "--max-cost-usd", "nan"], "--max-cost-usd"),
        (["--target", "http://a/metrics", "--listen", "9465"], "--listen"),
        (
            ["--config", "x.yaml", "--max-tokens", "0", "--prometheus", "http://b"],
            "--config takes no other flags: put --prometheus, --max-tokens into the file",
        ),
    ],
)
def test_sidecar_refuses_wrong_flags_by_name(
    argv: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sidecar", *argv]) == 2
    assert named in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "package", "reader"),
    [
        (["sidecar", "--target", "http://a/metrics"], "uvicorn", "otel_budget.sidecar"),
        (["config", "check", "x.yaml"], "pydantic", "otel_budget.config"),
        (["demo"], "rich", "otel_budget.demo"),
    ],
)
def test_without_the_extra_it_says_what_to_install(
    argv: list[str],
    package: str,
    reader: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in list(sys.modules):
        if name.startswith((reader, f"{package}.")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    assert main(argv) == 2
    said = capsys.readouterr().err
    assert package in said
    assert "pip install '.[sidecar]'" in said


def test_ctrl_c_ends_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("otel_budget.sdk.sidecar_client.request.Asker.get", interrupted)
    assert main(["check", "run-1"]) == 130


def test_a_terminal_that_lacks_a_sign_shows_another() -> None:
    """Help and verdicts have signs that an old locale cannot show."""
    done = subprocess.run(
        [sys.executable, "-m", "otel_budget", "doctor", "--help"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "A trial run (doctor-?)" in done.stdout
