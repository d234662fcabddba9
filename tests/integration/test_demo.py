"""The demo: what it refuses, what Ctrl-C does, and that it fits a terminal."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from otel_budget import Prices, Verdict
from otel_budget.cli import main
from otel_budget.demo import scenario, trace
from otel_budget.demo.screen import bars
from otel_budget.instrumentation.record import Amounts
from otel_budget.testing import stop_verdict
from tests.processes import until


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
        process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True)
    try:
        until(lambda: after in said.read_text() or None)
        os.killpg(process.pid, signal.SIGINT)
        began = time.monotonic()
        until(lambda: "stopping: every run ends with what it has" in said.read_text() or None)
        assert process.wait(10) == 130
        took = time.monotonic() - began
    finally:
        process.kill()
        process.wait()
    text = said.read_text()
    assert took < 5, text
    rows = re.findall(r"^(\S+) +(\S+) +(\S+) +(\S+) +\d+/\d+ ", text, re.MULTILINE)
    assert rows == [(plan.name, "interrupted", "interrupted", "you") for plan in scenario.PLANS], (
        text
    )
    assert "None" not in text
    assert "Traceback" not in text
    assert not [line for line in text.splitlines() if len(line) > 80 and str(tmp_path) not in line]


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
    for call in trace.load(recording):
        parts = (call.cache_read_tokens, call.cache_write_tokens, call.reasoning_tokens)
        into, out = call.input_tokens, call.output_tokens
        used = Amounts(into + out, into, out, *parts, api_call=True)
        cost = prices.cost_of(call.model, None, used)
        assert cost is not None
        assert 0 < cost < scenario.COST_LIMIT


def test_news_of_any_verdict_fit_a_line() -> None:
    """Also of those that the demo's own runs do not meet."""
    verdict: Verdict = stop_verdict("demo")
    kind, news = scenario._news(verdict)
    assert kind == "stop"
    assert len(news) <= 55
