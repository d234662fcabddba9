"""``otel-budget run`` with real child processes: what is counted, how they end, what is said."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from otel_budget.launcher import watchdog
from otel_budget.launcher.watchdog import RUN_FOLDER
from tests.support.paths import ROOT
from tests.support.ports import free_port
from tests.support.processes import SidecarProcess, sidecar, until

if TYPE_CHECKING:
    from collections.abc import Iterator

FAKE = ROOT / "tests/support/fake_agent.py"


class Ran(NamedTuple):
    """What came of a run."""

    status: int
    out: str
    err: str
    summary: dict[str, Any]

    @property
    def tokens(self) -> int:
        """What was counted."""
        return int(self.summary["verdict"]["resources"]["tokens"]["used"])


def environment() -> dict[str, str]:
    """Return an environment without telemetry."""
    dropped = ("OTEL_", "BUDGET_", "CLAUDE_")
    return {k: v for k, v in os.environ.items() if not k.startswith(dropped)} | {
        "PYTHONPATH": str(ROOT)
    }


def start(folder: Path, flags: str, *command: str, **options: Any) -> subprocess.Popen[str]:
    """Start ``otel-budget run``."""
    environ = environment() | options.pop("env", {})
    return subprocess.Popen(
        [sys.executable, "-m", "otel_budget", "run", *flags.split(), "--summary-json",
         str(folder / "summary.json"), "--", *command],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=environ, cwd=folder, **options,
    )  # fmt: skip


def ended(process: subprocess.Popen[str], folder: Path, timeout: float = 90) -> Ran:
    """Wait for its end."""
    out, err = process.communicate(timeout=timeout)
    file = folder / "summary.json"
    found = json.loads(file.read_text()) if file.exists() else {}
    return Ran(process.returncode, out, err, found)


def run(folder: Path, flags: str, *command: str, **options: Any) -> Ran:
    """Run a program to its end."""
    return ended(start(folder, flags, *command, **options), folder)


def fake(*arguments: str) -> tuple[str, ...]:
    """Return the command of the fake agent as a program that is no agent."""
    return (sys.executable, str(FAKE), *arguments)


@pytest.fixture
def claude(tmp_path: Path) -> str:
    """Return the path of a program that is called ``claude``."""
    program = tmp_path / "bin" / "claude"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{FAKE}" "$@"\n')
    program.chmod(0o755)
    return str(program)


# --- exit statuses --------------------------------------------------------------------------------
def test_a_program_within_its_budget_exits_with_its_own_status(tmp_path: Path) -> None:
    ran = run(tmp_path, "--max-tokens 100000", *fake("--calls", "3", "--exit", "7"))
    assert (ran.status, ran.out) == (7, "done\n"), ran.err
    assert ran.tokens == 3000
    assert ran.summary["ended_by"] == "itself"
    assert "3,000 of 100,000" in ran.err


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        (("no-such-program",), 127, "not found"),
        (("/",), 126, "cannot be run"),
        (("sh", "-c", "kill -9 $$"), 137, "SIGKILL"),
    ],
)
def test_a_program_that_cannot_be_run_or_is_killed_exits_as_in_a_shell(
    tmp_path: Path, command: tuple[str, ...], status: int, said: str
) -> None:
    ran = run(tmp_path, "--max-tokens 100000", *command)
    assert ran.status == status
    assert said in ran.err


@pytest.mark.parametrize(
    "flags",
    ["--max-tokens -1", "--max-cost-usd=-2", "--warn-at 2", "--agent cursor", "--grace nan",
     "--run a/b", "--storage /nowhere/at/all.db",
     "--run=", "--sidecar=", "--storage=", "--agent=", "--storage /"],
)  # fmt: skip
def test_a_bad_value_is_refused_before_anything_starts(tmp_path: Path, flags: str) -> None:
    ran = run(tmp_path, flags, "touch", "started")
    assert ran.status == 2
    assert flags.partition("=")[0].split()[0] in ran.err
    assert not (tmp_path / "started").exists()


def test_no_limit_is_said_and_refused_with_strict(tmp_path: Path) -> None:
    ran = run(tmp_path, "", *fake("--calls", "1"))
    assert ran.status == 0
    assert "no limit" in ran.err
    ran = run(tmp_path, "--strict", "touch", "started")
    assert ran.status == 2
    assert not (tmp_path / "started").exists()


# --- the end --------------------------------------------------------------------------------------
def test_a_program_past_its_budget_is_sent_sigint_after_its_grace(tmp_path: Path) -> None:
    ran = run(tmp_path, "--max-tokens 3000 --grace 0", *fake("--calls", "1000", "--pause", "0.5"))
    assert ran.status == 3, ran.err
    assert ran.summary["ended_by"] == "signal"
    assert ran.summary["signals"] == ["SIGINT"]
    assert 3000 <= ran.tokens <= 9000
    assert "stopped by its budget" in ran.err


def test_a_program_that_is_never_heard_of_is_stopped_when_its_time_is_up(tmp_path: Path) -> None:
    ran = run(tmp_path, "--max-duration 1 --grace 0", "sleep", "60")
    assert ran.status == 3, ran.err
    assert ran.summary["signals"] == ["SIGINT"]
    assert ran.summary["seconds"] >= 1
    assert "NOTHING WAS COUNTED" in ran.err
    assert "its time is up (1.0 s)" in ran.err


def test_one_that_ignores_signals_is_killed_with_what_it_has_started(tmp_path: Path) -> None:
    child = tmp_path / "child"
    ran = run(
        tmp_path, "--max-tokens 3000 --grace 0",
        *fake("--calls", "100000", "--ignore", "SIGINT", "--ignore", "SIGTERM", "--child",
              str(child)),
    )  # fmt: skip
    assert ran.status == 3, ran.err
    assert ran.summary["signals"] == ["SIGINT", "SIGTERM", "SIGKILL"]
    until(lambda: is_gone(int(child.read_text())))


def test_what_a_wrapper_has_started_ends_with_it(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    inner = " ".join(fake("--calls", "100000", "--ignore", "SIGINT", "--ignore", "SIGTERM"))
    ran = run(
        tmp_path, "--max-tokens 3000 --grace 0", "sh", "-c", f"{inner} & echo $! > {pid}; wait"
    )
    assert ran.status == 3, ran.err
    assert is_gone(int(pid.read_text()))


def test_hooks_let_an_agent_give_its_last_answer(tmp_path: Path, claude: str) -> None:
    ran = run(tmp_path, "--max-tokens 10000", claude, "-p", "--calls", "100")
    assert ran.status == 3, ran.err
    assert "final answer" in ran.out
    assert "Wrap up" in ran.out, "it was briefed at the warning line"
    assert ran.tokens == 11_000, "the call that crossed, and the last answer"
    assert ran.summary["ended_by"] == "hooks"
    assert ran.summary["signals"] == []
    assert re.fullmatch(r"claude --resume [0-9a-f-]{36}", ran.summary["resume"])


def test_an_agent_that_goes_on_after_its_hooks_said_stop_is_sent_a_signal(
    tmp_path: Path, claude: str
) -> None:
    ran = run(tmp_path, "--max-tokens 3000 --no-hooks", claude, "-p", "--calls", "1000")
    assert ran.status == 3, ran.err
    assert ran.summary["signals"] == ["SIGINT"]


def test_a_limit_that_the_last_call_crosses_ends_nothing(tmp_path: Path, claude: str) -> None:
    program = (claude, "-p", "--calls", "2", "--answers", "--exit", "5")
    ran = run(tmp_path, "--max-tokens 3000", *program)
    assert ran.status == 5, ran.err
    assert ran.tokens == 3000
    assert ran.summary["ended_by"] == "itself"
    assert "with its last call it came over its limit" in ran.err


def test_a_run_that_has_used_what_it_may_is_not_started_again(tmp_path: Path, claude: str) -> None:
    kept = f"--run job --storage {tmp_path / 'kept.db'}"
    ran = run(tmp_path, f"{kept} --max-tokens 3000", claude, "-p", "--calls", "2", "--answers")
    assert ran.status == 0, ran.err
    ran = run(tmp_path, f"{kept} --max-tokens 3000", claude, "-p", "--calls", "2")
    assert (ran.status, ran.out) == (3, ""), ran.err
    assert "was not started: its run has used what it may" in ran.err
    assert "tokens at 100.0% (3,000 of 3,000)" in ran.err
    assert "--run job --storage" in ran.summary["resume"]


def test_a_ledger_named_without_its_folder_is_kept_where_the_command_was_typed(
    tmp_path: Path,
) -> None:
    for used in (2000, 4000):
        ran = run(tmp_path, "--run job --storage kept.db --max-tokens 9000", *fake("--calls", "2"))
        assert (ran.status, ran.tokens) == (0, used), ran.err
    assert (tmp_path / "kept.db").exists()


def test_after_a_raise_the_run_goes_on_and_both_processes_count(
    tmp_path: Path, claude: str
) -> None:
    kept = f"--run job --storage {tmp_path / 'kept.db'}"
    ran = run(tmp_path, f"{kept} --max-tokens 3000", claude, "-p", "--calls", "20")
    assert (ran.status, ran.tokens) == (3, 4000), ran.err
    ran = run(tmp_path, f"{kept} --max-tokens 9000", claude, "-p", "--calls", "3")
    assert ran.out == "done\n"
    assert (ran.status, ran.tokens) == (0, 7000), ran.err


def test_a_program_that_uses_otel_budget_is_counted_and_ends_itself(tmp_path: Path) -> None:
    script = """
import time
from otel_budget import ResourceMonitor
with ResourceMonitor() as monitor:
    while monitor.should_continue():
        monitor.record_operation(tokens=2000, api_call=True)
        time.sleep(0.3)
print(monitor.session_id, monitor.get_usage_report().tokens)
"""
    ran = run(tmp_path, "--run job --max-tokens 20000", sys.executable, "-c", script)
    assert ran.status == 3, ran.err
    assert ran.out.split() == ["job", str(ran.tokens)]
    assert 20_000 <= ran.tokens <= 40_000
    assert ran.summary["ended_by"] == "own_guard"
    assert ran.summary["signals"] == []


def test_runs_that_a_program_names_itself_are_in_the_summary(tmp_path: Path) -> None:
    script = """
from otel_budget import ResourceMonitor
for name in ("one", "two"):
    with ResourceMonitor(session_id=name) as monitor:
        monitor.record_operation(tokens=1000, api_call=True)
"""
    ran = run(tmp_path, "--max-tokens 20000", sys.executable, "-c", script)
    assert ran.status == 0, ran.err
    assert {each["session_id"] for each in ran.summary["others"]} == {"one", "two"}
    assert ran.summary["counted"]


# --- a sidecar that is there ----------------------------------------------------------------------
@contextmanager
def a_sidecar(folder: Path, **more: Any) -> Iterator[SidecarProcess]:
    """Run a sidecar with a receiver."""
    config = {
        "source": {"otlp": {"address": f"127.0.0.1:{free_port()}"}},
        "listen": {"address": f"127.0.0.1:{free_port()}", **more.pop("listen", {})},
        "storage": {"path": str(folder / "sidecar.db")},
        **more,
    }
    file = folder / "sidecar.json"
    file.write_text(json.dumps(config))
    with sidecar(folder, config=file) as process:
        yield process


def test_a_sidecar_that_is_there_is_used_and_its_ceilings_hold(tmp_path: Path, claude: str) -> None:
    with a_sidecar(tmp_path, resource_limits={"max_tokens": 3000}) as judge:
        env = {"OTEL_BUDGET_SIDECAR_URL": judge.url}
        ran = run(tmp_path, "--run job", claude, "-p", "--calls", "20", env=env)
        assert (ran.status, ran.tokens) == (3, 4000), ran.err
        assert ran.summary["ended_by"] == "hooks"
        known = judge.verdict("job")
        assert known is not None
        assert known["run_state"] == "stopped"


def test_a_sidecar_that_is_there_hears_of_the_end_of_any_program(tmp_path: Path) -> None:
    with a_sidecar(tmp_path) as judge:
        env = {"OTEL_BUDGET_SIDECAR_URL": judge.url}
        ends = (("done", "0", "completed"), ("broken", "7", "failed"))
        for name, status, state in ends:
            flags = f"--run {name} --max-tokens 9000"
            run(tmp_path, flags, *fake("--calls", "1", "--exit", status), env=env)
            assert (judge.verdict(name) or {})["run_state"] == state
        flags = "--run over --max-tokens 3000 --grace 0"
        ran = run(tmp_path, flags, *fake("--calls", "1000"), env=env)
        assert ran.status == 3
        assert (judge.verdict("over") or {})["run_state"] == "stopped"


def test_hooks_reach_a_sidecar_that_wants_a_token(tmp_path: Path, claude: str) -> None:
    token = tmp_path / "token"
    token.write_text("a-token-that-nobody-guesses\n")
    token.chmod(0o600)
    with a_sidecar(tmp_path, listen={"read_token_file": str(token)}) as judge:
        env = {"OTEL_BUDGET_SIDECAR_URL": judge.url, "OTEL_BUDGET_SIDECAR_TOKEN_FILE": str(token)}
        ran = run(tmp_path, "--max-tokens 3000", claude, "-p", "--calls", "20", env=env)
        assert (ran.status, ran.tokens) == (3, 4000), ran.err
        assert ran.summary["ended_by"] == "hooks"


def test_without_a_receiver_there_another_sidecar_is_started_or_nothing(
    tmp_path: Path, claude: str
) -> None:
    with sidecar(tmp_path, "--target", "http://127.0.0.1:1/metrics") as judge:
        env = {"OTEL_BUDGET_SIDECAR_URL": judge.url}
        ran = run(tmp_path, "--max-tokens 3000", claude, "-p", "--calls", "1", env=env)
        assert (ran.status, ran.tokens) == (0, 1000), ran.err
        assert "has no receiver" in ran.err
        ran = run(tmp_path, "--max-tokens 3000 --strict", "touch", "started", env=env)
        assert ran.status == 2
        assert not (tmp_path / "started").exists()


def test_a_limit_of_every_resource_is_taken_and_one_that_nobody_can_judge_is_said(
    tmp_path: Path,
) -> None:
    flags = (
        "--max-tokens 90000 --max-api-calls 100 --max-tool-calls 100 --max-cost-usd 0.5 "
        "--max-duration 600 --max-active-seconds 600.5 --warn-at 0.5"
    )
    ran = run(tmp_path, flags, *fake("--calls", "8", "--pause", "0.2"))
    assert ran.status == 0, ran.err
    assert ran.tokens == 8000
    assert "cost" in ran.summary["verdict"]["unjudged"]
    assert "limited, and not known" in ran.err
    assert ran.summary["verdict"]["resources"]["tokens"]["warning_at"] == 45_000
    ran = run(tmp_path, f"{flags} --strict", *fake("--calls", "2"))
    assert ran.status == 2, "it ended by itself, and one of its limits did not hold it"


# --- what is not counted --------------------------------------------------------------------------
def test_nothing_counted_is_said_loudly_and_fails_with_strict(tmp_path: Path) -> None:
    ran = run(tmp_path, "--max-tokens 3000", "sh", "-c", "exit 0")
    assert (ran.status, ran.summary["counted"]) == (0, False)
    assert "NOTHING WAS COUNTED" in ran.err
    ran = run(tmp_path, "--max-tokens 3000 --strict", "sh", "-c", "exit 0")
    assert (ran.status, ran.summary["exit_status"], ran.summary["program_exit_status"]) == (2, 2, 0)
    assert "2 (--strict: it was not guarded; the program itself: status 0)" in ran.err


# --- signals --------------------------------------------------------------------------------------
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_passed_on_once(tmp_path: Path, number: signal.Signals) -> None:
    script = f"""
import signal, sys, time
heard = []
signal.signal({int(number)}, lambda *_: heard.append(1))
print("ready", flush=True)
while not heard: time.sleep(0.01)
time.sleep(0.5)
print(len(heard), flush=True)
sys.exit(9)
"""
    ours = signal.getsignal(number)
    if ours is signal.SIG_IGN:  # as of nohup, which what is started inherits, and keeps to
        signal.signal(number, signal.SIG_DFL)
    process = start(tmp_path, "--max-tokens 10", sys.executable, "-c", script)
    signal.signal(number, ours)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    ran = ended(process, tmp_path)
    assert (ran.status, ran.out) == (9, "1\n")
    assert ran.summary["ended_by"] == "user"


def test_a_run_that_was_stopped_and_continued_takes_that_for_no_signal(tmp_path: Path) -> None:
    script = """
import time
from otel_budget.launcher.signals import SignalInbox
with SignalInbox(job_control=False) as inbox:
    print("ready", flush=True)
    until = time.monotonic() + 3
    while time.monotonic() < until:
        if (taken := inbox.take(0.05)) is not None:
            print(taken, flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=tmp_path,
        env=environment(),
    ) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        for _ in range(5):
            process.send_signal(signal.SIGSTOP)
            time.sleep(0.2)
            process.send_signal(signal.SIGCONT)
            time.sleep(0.2)
        assert process.stdout.read() == ""


def test_a_run_that_breaks_leaves_no_program_that_nobody_watches(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    broken = f"""
import sys
from otel_budget.__main__ import main
from otel_budget.launcher.supervision import Supervision
def breaks(self):
    while not __import__("os").path.exists({str(pid)!r}):
        pass
    raise ValueError("broken")
Supervision.run = breaks
program = ["sh", "-c", "echo $$ > {pid}; exec sleep 60"]
sys.argv = ["otel-budget", "run", "--max-tokens", "9", "--", *program]
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", broken], capture_output=True, text=True, env=environment(),
        cwd=tmp_path, check=False, stdin=subprocess.DEVNULL, timeout=60,
    )  # fmt: skip
    assert "broken" in done.stderr
    until(lambda: bool(pid.read_text().strip()) and is_gone(int(pid.read_text())))


def test_a_killed_run_leaves_neither_sidecar_nor_program_nor_files(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    pid = tmp_path / "pid"
    process = start(
        tmp_path, "--max-tokens 100000", "sh", "-c", f"echo $$ > {pid}; sleep 600 & wait",
        env={"TMPDIR": str(scratch)},
    )  # fmt: skip
    program = int(until(lambda: pid.read_text() if pid.exists() else ""))
    sidecars = children_of(process.pid)
    process.kill()
    process.communicate()
    until(lambda: is_gone(program))
    until(lambda: all(map(is_gone, sidecars)))
    until(lambda: not list(scratch.iterdir()))


def test_what_was_started_in_the_moment_of_that_kill_is_ended_too(tmp_path: Path) -> None:
    """The watchdog was not told of it yet: it is known by the folder of its run."""
    folder = tmp_path / "run"
    folder.mkdir()
    started = subprocess.Popen(["sleep", "600"], env={**os.environ, RUN_FOLDER: str(folder)})
    another = subprocess.Popen(["sleep", "600"], env={**os.environ, RUN_FOLDER: f"{folder}-2"})
    try:
        subprocess.run(
            [sys.executable, "-I", "-S", watchdog.__file__], input=f"folder {folder}\n",
            text=True, check=True, timeout=60,
        )  # fmt: skip
        assert started.wait(60) == -signal.SIGTERM
        assert not folder.exists()
        assert another.poll() is None
    finally:
        for process in (started, another):
            process.kill()
            process.wait()


# --- the sidecar ----------------------------------------------------------------------------------
def test_a_sidecar_that_dies_is_started_again_where_it_was(tmp_path: Path) -> None:
    process = start(
        tmp_path, "--max-tokens 100000",
        *fake("--calls", "60", "--pause", "0.1", "--persists"),
    )  # fmt: skip
    killed = until(lambda: sidecar_of(process.pid))
    time.sleep(2)
    os.kill(killed, signal.SIGKILL)
    ran = ended(process, tmp_path)
    assert ran.status == 0, ran.err
    assert "started again" in ran.err
    lost = [row for row in ran.err.splitlines() if row.startswith("agent: ")]
    unanswered = [row for row in lost if "refused" not in row]
    assert len(unanswered) <= 1, "the one that it had when it was killed"
    acknowledged = int(ran.out.removeprefix("done: ")) - len(lost)
    # What it had stored, and could answer no more, is counted as well.
    assert acknowledged <= ran.tokens / 1000 <= acknowledged + len(unanswered)


def children_of(pid: int) -> list[int]:
    """Return the children of a process."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(each) for each in listed]


def sidecar_of(pid: int) -> int | None:
    """Return the sidecar that a run has started, once its program runs."""
    found = {
        child: Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        for child in children_of(pid)
    }
    sidecars = [child for child, words in found.items() if b"sidecar" in words]
    runs = any(str(FAKE).encode() in words for words in found.values())
    return sidecars[0] if sidecars and runs else None


def is_gone(pid: int) -> bool:
    """Tell whether a process has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
