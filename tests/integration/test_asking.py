"""A real run that was told to stop waits, and an operator answers it over the command line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_operators import ADMIN, READ, ask, session
from tests.support.figures import note
from tests.support.ports import free_port
from tests.support.processes import SidecarProcess, sidecar, until

RUN = "asks"
#: Uses up its limit, and waits for as long as each line of its input says.
ASKS = """
import json, sys, time
from otel_budget import BudgetExceeded, ResourceLimits, ResourceMonitor, serve_metrics

folder, url = sys.argv[1:]
serve_metrics("127.0.0.1", 0, register=folder)
limits = ResourceLimits.only(max_tokens=1000)
with ResourceMonitor(limits, "asks", sidecar=url, limits_from_outside=True) as monitor:
    monitor.record_operation(1000, api_call=True)
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            verdict = monitor.wait_until_allowed(float(line)) or monitor.verdict
        except BudgetExceeded as refused:
            verdict = refused.verdict
        print(json.dumps({
            "at": time.time(), "action": verdict.action, "reason": verdict.reason,
            "message": verdict.message, "left": monitor.get_tokens_remaining(),
            "active": monitor.get_usage_report().active_seconds,
        }), flush=True)
"""


class Asking:
    """A run that waits when it is told to."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def wait(self, seconds: float) -> None:
        """Have it wait for so long at most."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()

    def told(self) -> dict[str, Any]:
        """Return what the wait came to."""
        assert self.process.stdout is not None
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found


@contextmanager
def asking(folder: Path, url: str) -> Iterator[Asking]:
    """Start it, at its limit."""
    process = subprocess.Popen(
        [sys.executable, "-c", ASKS, str(folder / "agents"), url],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "OTEL_BUDGET_SIDECAR_TOKEN_FILE": str(folder / "read")},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield Asking(process)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def port(tmp_path: Path) -> int:
    """Where the sidecar of a test listens; its tokens and its runs are in the folder."""
    (tmp_path / "agents").mkdir()
    for name, token in (("read", READ), ("admin", ADMIN)):
        (tmp_path / name).write_text(token)
    return free_port()


@contextmanager
def judging(folder: Path, port: int) -> Iterator[SidecarProcess]:
    """Run a sidecar, at the same address each time."""
    file = folder / "sidecar.yaml"
    file.write_text(json.dumps({
        "source": {"scrape": {"file_sd": [f"{folder}/agents/*.json"], "interval": "100ms"}},
        "listen": {
            "address": f"127.0.0.1:{port}",
            "read_token_file": str(folder / "read"),
            "admin_token_file": str(folder / "admin"),
        },
        "storage": {"path": str(folder / "ledger.db")},
    }))  # fmt: skip
    with sidecar(folder, config=file) as process:
        yield process


def state(process: SidecarProcess) -> tuple[str | None, str | None]:
    """Return the state of the run, as it was judged, and its status."""
    status, verdict = ask(process, f"/v1/verdicts/{RUN}")
    return (verdict["run_state"], verdict["status"]) if status == 200 else (None, None)


def test_an_operator_raises_the_limit_of_a_run_that_waits_and_it_goes_on(
    tmp_path: Path, port: int
) -> None:
    """Past its own limit, by what is added to the one in force; refused, it ends."""
    with (
        judging(tmp_path, port) as process,
        asking(tmp_path, f"http://127.0.0.1:{port}") as run,
    ):
        run.wait(120)
        until(lambda: state(process) == ("waiting", "exceeded"))
        listed = session(process, tmp_path, "list").stdout
        assert re.search(rf"{RUN} +waiting \d+\.?\d* ?\w+ +stop +limit_exceeded", listed), listed
        assert "waits until it may go on" in session(process, tmp_path, "show", RUN).stdout
        too_little = session(process, tmp_path, "limits", RUN, "--max-tokens", "+0", "--for", "1h",
                             "--reason", "let me see")  # fmt: skip
        assert too_little.returncode == 1, too_little.stdout
        ordered = ask(process, f"/v1/sessions/{RUN}/limits",
                      {"reason": "go on", "for_seconds": 3600, "max_tokens": 1500})  # fmt: skip
        at = time.time()
        told = run.told()
        assert (ordered[1]["changes"], ordered[1]["own_limits_replaced"]) == (True, ["tokens"])
        assert (told["action"], told["left"]) == ("continue", 500)
        until(lambda: state(process)[0] == "running")
        more = session(process, tmp_path, "limits", RUN, "--max-tokens", "+2500", "--for", "1h",
                       "--reason", "worth it")  # fmt: skip
        assert (more.returncode, more.stderr) == (0, "")
        until(
            lambda: ask(process, f"/v1/verdicts/{RUN}")[1]["resources"]["tokens"]["limit"] == 4000
        )
        back = session(process, tmp_path, "limits", RUN, "--configured", "--reason", "enough")
        assert back.returncode == 0
        until(lambda: ask(process, f"/v1/verdicts/{RUN}")[1]["action"] == "stop")
        run.wait(120)
        until(lambda: state(process)[0] == "waiting")
        refused = session(process, tmp_path, "stop", RUN, "--by", "ann", "--reason", "no more")
        assert (refused.returncode, "it is refused" in refused.stdout) == (0, True)
        told_at = run.told()
        assert told_at["reason"] == "operator_stop"
        assert told_at["message"] == "stopped by ann: no more"
    note(
        "A run waits for more",
        "a run at its own limit waits, and an operator gives it another one",
        f"it goes on {max(0.0, told['at'] - at) * 1000:.0f} ms after the answer to the operator",
    )


def test_the_sidecar_is_killed_while_a_run_waits_and_the_next_one_answers_it(
    tmp_path: Path, port: int
) -> None:
    """It waits on; a timeout in between leaves it as it was."""
    with asking(tmp_path, f"http://127.0.0.1:{port}") as run:
        with judging(tmp_path, port) as process:
            run.wait(0.2)
            assert (run.told()["reason"], process.process.poll()) == ("limit_exceeded", None)
            run.wait(120)
            until(lambda: state(process)[0] == "waiting")
            process.kill()
        with judging(tmp_path, port) as process:
            until(lambda: state(process) == ("waiting", "exceeded"))
            raised = session(process, tmp_path, "limits", RUN, "--max-tokens", "none", "--for",
                             "1h", "--reason", "go on")  # fmt: skip
            assert raised.returncode == 0, raised.stdout
            told = run.told()
            assert (told["action"], told["left"]) == ("continue", None)
