"""The demo: what it refuses, what Ctrl-C does, and that it fits a terminal."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from otel_budget import Prices, Verdict
from otel_budget.cli.main import main
from otel_budget.demo import play, recordings, scenario
from otel_budget.demo.screen import bars
from otel_budget.sdk.checkpoints.store import CheckpointFolder
from otel_budget.sdk.usage_arguments import OperationUsage
from otel_budget.testing import stop_verdict
from tests.support.ports import free_port
from tests.support.processes import sidecar, until


@pytest.mark.parametrize("speed", ["0", "-1", "nan", "inf"])
def test_a_speed_that_is_none_is_refused(speed: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is started or written."""
    assert main(["demo", "--speed", speed]) == 2
    assert "--speed: " in capsys.readouterr().err


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_file_to_keep_things_in_is_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what would do."""
    (tmp_path / "file").write_text("precious")
    assert main(["demo", "--keep", str(tmp_path / name)]) == 2
    assert "allowed: a folder" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "precious"


@pytest.mark.parametrize("after", ["call 1 of", "call 2 of"])
def test_ctrl_c_ends_every_run_with_what_it_has_at_once(after: str, tmp_path: Path) -> None:
    """The keyboard's signal goes to every process of the terminal's foreground."""
    command = [sys.executable, "-u", "-m", "otel_budget", "demo", "--keep", str(tmp_path)]
    said = tmp_path / "said"
    with said.open("w") as out:
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        until(lambda: after in said.read_text() or None)
        os.killpg(process.pid, signal.SIGINT)
        until(lambda: "stopping: every run keeps what it has" in said.read_text() or None)
        assert process.wait(60) == 130
    finally:
        process.kill()
        process.wait()
    text = said.read_text()
    rows = re.findall(r"^(\S+) +(\S+) +(\S+) +(\S+) +\d+/\d+ ", text, re.MULTILINE)
    assert rows == [(plan.name, "interrupted", "interrupted", "you") for plan in scenario.PLANS], (
        text
    )
    assert "None" not in text
    assert "Traceback" not in text
    assert not [line for line in text.splitlines() if len(line) > 80 and str(tmp_path) not in line]


@pytest.mark.parametrize("flags", [("--serve", "here"), ("--sidecar", "http://127.0.0.1:9465")])
def test_a_service_wants_an_address_and_only_a_service_a_sidecar(
    flags: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """With what would do."""
    assert main(["demo", *flags]) == 2
    assert f"{flags[0]}: " in capsys.readouterr().err


def test_as_a_service_it_goes_on_round_after_round_until_it_is_told_to_end(tmp_path: Path) -> None:
    """For a sidecar that it did not start: new runs each round, whose results are kept."""
    (tmp_path / "targets").mkdir()
    port = free_port()
    target = f"http://127.0.0.1:{port}/metrics"
    ceiling = str(scenario.CEILING_TOKENS)
    with sidecar(
        tmp_path, "--target", target, "--interval", "0.1s", "--max-tokens", ceiling
    ) as side:
        command = [
            sys.executable, "-u", "-m", "otel_budget", "demo", "--serve", f"127.0.0.1:{port}",
            "--sidecar", side.url, "--speed", "300", "--keep", str(tmp_path / "kept"),
        ]  # fmt: skip
        said = tmp_path / "said"
        with said.open("w") as out:
            process = subprocess.Popen(command, stdout=out, stderr=out)
        try:
            stopped = until(lambda: side.verdict("demo-own-limit-0001"), process)
            until(lambda: "round 2" in said.read_text() or None, process)
            with urllib.request.urlopen(target, timeout=5) as page:
                text = page.read().decode()
            assert until(lambda: side.verdict("demo-nearly-done-0002"), process)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, "else it would go on round after round"
        finally:
            process.kill()
            process.wait()
        assert side.process.poll() is None
    assert stopped["run_state"] in ("running", "stopped")
    assert re.search(r'session_info{.*team="billing",workflow="fix-bug"} 1', text)
    assert re.search(r'phase_tokens_total{.*phase="plan",session_id="demo-own-limit-0001"', text)
    assert said.read_text().endswith("stopped\n")
    assert "Traceback" not in said.read_text()
    kept = {path.name for path in (tmp_path / "kept" / ".otel_budget" / "checkpoints").iterdir()}
    assert "demo-own-limit-0001" in kept


def test_a_service_keeps_the_checkpoints_of_the_last_rounds_only(tmp_path: Path) -> None:
    """It goes on for weeks; the disk does not grow with it."""
    folders = [
        CheckpointFolder(tmp_path, play._names(number).format(plan.name)).path
        for number in (1, 2)
        for plan in scenario.PLANS
    ]
    for folder in folders:
        folder.mkdir(parents=True)
    play._delete_checkpoints(1, tmp_path)
    play._delete_checkpoints(-3, tmp_path)
    assert [folder.exists() for folder in folders] == [False] * 3 + [True] * 3


def test_the_bars_are_against_the_limit_that_will_count(tmp_path: Path) -> None:
    """The ceiling of the sidecar, from the start, though the run knows nothing of it."""
    replays = scenario.prepare(tmp_path, "http://127.0.0.1:1", 12, lambda *_: None)
    try:
        (_, table) = bars(replays).renderables
        amounts = [str(cell) for cell in table.columns[3].cells]  # type: ignore[union-attr]
        assert [text for text in amounts if text.startswith("0 of") and "000" in text] == [
            "0 of 100,000",
            "0 of 240,000",
            "0 of 290,000",
        ]
    finally:
        for replay in replays:
            replay.monitor.close(timeout=0)


@pytest.mark.parametrize("recording", ["claude", "codex"])
def test_every_recorded_call_has_a_price(recording: str) -> None:
    """By the model in the recording: a demo of money without any would be none."""
    prices = Prices()
    for call in recordings.load(recording):
        parts = (call.cache_read_tokens, call.cache_write_tokens, call.reasoning_tokens)
        into, out = call.input_tokens, call.output_tokens
        used = OperationUsage(into + out, into, out, *parts, api_call=True)
        cost = prices.cost_of(call.model, None, used)
        assert cost is not None
        assert 0 < cost < scenario.COST_LIMIT


def test_news_of_any_verdict_fit_a_line() -> None:
    """Also of those that the demo's own runs do not meet."""
    verdict: Verdict = stop_verdict("demo")
    kind, news = scenario._news(verdict)
    assert kind == "stop"
    assert len(news) <= 55
