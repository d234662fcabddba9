"""Operators act on a real sidecar, over HTTP and from the command line; what they order lasts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from otel_budget import semconv
from tests.integration.test_disk_full import small_disk
from tests.support.exposition import Exposition, line, page, serve
from tests.support.figures import note
from tests.support.processes import SidecarProcess, agent, sidecar, until

RUN = "run-1"
READ, ADMIN = "r" * 32, "a" * 32
STARTED_AT = repr(1_700_000_000.25)


@pytest.fixture
def shown() -> Iterator[Exposition]:
    """A run that has used 500 of 1000 tokens."""
    with serve() as endpoint:
        show(endpoint, 500)
        yield endpoint


def show(endpoint: Exposition, tokens: int, state: str = "running") -> None:
    """Let the run have used so many tokens."""
    states = [
        line(semconv.SESSION_STATE, int(each == state), RUN, state=each)
        for each in semconv.SESSION_STATES
    ]
    endpoint.show(
        page(
            line(semconv.SESSION_TOKENS, tokens, RUN),
            line(semconv.SESSION_START, STARTED_AT, RUN),
            line(semconv.INCARNATION_START, STARTED_AT, RUN),
            *states,
        )
    )


@contextmanager
def operated(
    folder: Path, shown: Exposition, storage: Path | None = None
) -> Iterator[SidecarProcess]:
    """Run a sidecar that knows both tokens, until it has a verdict."""
    for name, token in (("read", READ), ("admin", ADMIN)):
        (folder / name).write_text(token)
    file = folder / "sidecar.yaml"
    config = {
        "source": {"scrape": {"targets": [shown.url], "file_sd": [f"{folder}/agents/*.json"],
                              "interval": "100ms"}},
        "resource_limits": {"max_tokens": 1000},
        "listen": {
            "address": "127.0.0.1:0",
            "read_token_file": str(folder / "read"),
            "admin_token_file": str(folder / "admin"),
        },
        "storage": {"path": str((storage or folder) / "ledger.db")},
    }  # fmt: skip
    file.write_text(json.dumps(config))
    with sidecar(folder, config=file) as process:
        until(lambda: ask(process, f"/v1/verdicts/{RUN}")[0] == 200)
        yield process


def ask(
    process: SidecarProcess, path: str, data: object = None, token: str | None = ADMIN
) -> tuple[int, Any]:
    """Ask, or order; return the status and the JSON."""
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    body = None if data is None else json.dumps(data).encode()
    request = urllib.request.Request(process.url + path, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, json.load(exc)


def session(process: SidecarProcess, folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run ``otel-budget session``."""
    names = {
        "OTEL_BUDGET_SIDECAR_URL": process.url,
        "OTEL_BUDGET_SIDECAR_TOKEN_FILE": str(folder / "read"),
        "OTEL_BUDGET_ADMIN_TOKEN_FILE": str(folder / "admin"),
    }
    return subprocess.run(
        [sys.executable, "-m", "otel_budget", "session", *argv],
        capture_output=True, text=True, check=False, timeout=30, env={**os.environ, **names},
    )  # fmt: skip


def test_an_operator_stops_a_run_and_it_stays_stopped(tmp_path: Path, shown: Exposition) -> None:
    """Through a crash of the sidecar at once after the order; until it is released."""
    with operated(tmp_path, shown) as process:
        told = session(process, tmp_path, "stop", RUN, "--reason", "runs in circles", "--by", "ann")
        assert (told.returncode, told.stderr) == (0, "")
        assert "stopped by ann: runs in circles" in told.stdout
        process.kill()
        assert "run 'run-1': stop ordered by ann (from 127.0.0.1): runs in circles" in (
            process.said()
        )
    with operated(tmp_path, shown) as process:
        _, verdict = ask(process, f"/v1/verdicts/{RUN}", token=READ)
        assert (verdict["action"], verdict["reason"]) == ("stop", "operator_stop")
        # On a busy machine the target may be read a little later than its samples go stale.
        until(lambda: ask(process, f"/v1/verdicts/{RUN}", token=READ)[1]["status"] == "ok")
        shown_text = session(process, tmp_path, "show", RUN).stdout
        assert "runs in circles" in shown_text
        listed = session(process, tmp_path, "list").stdout
        assert RUN in listed
        assert "operator_stop" in listed
        assert session(process, tmp_path, "release", RUN, "--reason", "fine").returncode == 0
        _, verdict = ask(process, f"/v1/verdicts/{RUN}", token=READ)
        assert (verdict["action"], verdict["reason"]) == ("continue", "within_limits")
        _, known = ask(process, f"/v1/sessions/{RUN}", token=READ)
        assert [(o["kind"], o["reason"]) for o in known["orders"]] == [
            ("release", "fine"), ("stop", "runs in circles"),
        ]  # fmt: skip
        assert (known["stop"], known["limits"]) == (None, None)
    note(
        "Operators can act",
        "a run is ordered to stop, and the sidecar is killed at once (SIGKILL)",
        "after its restart the run is still stopped, by name and reason; a release lets it go on",
    )  # fmt: skip


def test_a_running_agent_hears_the_order(
    tmp_path: Path, shown: Exposition, monkeypatch: pytest.MonkeyPatch
) -> None:
    with operated(tmp_path, shown) as process:
        (tmp_path / "agents").mkdir()
        monkeypatch.setenv("OTEL_BUDGET_SIDECAR_TOKEN_FILE", str(tmp_path / "read"))
        options = {"register": str(tmp_path / "agents"), "sidecar": process.url, "tokens": 0}
        with agent("agent-1", **options) as running:
            until(lambda: ask(process, "/v1/verdicts/agent-1")[0] == 200)
            status, _ = ask(process, "/v1/sessions/agent-1/stop", {"reason": "enough"})
            assert status == 200
            result = running.result()
        assert (result["action"], result["reason"]) == ("stop", "operator_stop")


def test_other_ceilings_hold_for_a_time(tmp_path: Path, shown: Exposition) -> None:
    with operated(tmp_path, shown) as process:
        show(shown, 1500)
        until(lambda: ask(process, f"/v1/verdicts/{RUN}")[1]["action"] == "stop")
        more = ("--max-tokens", "2000", "--for", "3", "--reason", "worth it")
        assert session(process, tmp_path, "limits", RUN, *more).returncode == 0
        ordered_at = time.monotonic()
        _, verdict = ask(process, f"/v1/verdicts/{RUN}")
        tokens = verdict["resources"]["tokens"]
        assert (verdict["action"], tokens["limit"], tokens["limit_from"]) == (
            "continue", 2000, "operator",
        )  # fmt: skip
        until(lambda: ask(process, f"/v1/verdicts/{RUN}")[1]["action"] == "stop")
        assert time.monotonic() - ordered_at > 2.5
        less = {"reason": "save", "for_seconds": 600, "max_tokens": 100, "max_api_calls": None}
        assert ask(process, f"/v1/sessions/{RUN}/limits", less)[0] == 200
        _, known = ask(process, f"/v1/sessions/{RUN}")
        assert known["limits"]["limits"] == {"max_tokens": 100, "max_api_calls": None}
        assert known["verdict"]["resources"]["tokens"]["limit"] == 100
        back = session(process, tmp_path, "limits", RUN, "--configured", "--reason", "done")
        assert back.returncode == 0
        _, verdict = ask(process, f"/v1/verdicts/{RUN}")
        assert verdict["resources"]["tokens"]["limit"] == 1000


def test_what_cannot_be_ordered_is_refused(tmp_path: Path, shown: Exposition) -> None:
    stop = {"reason": "because"}
    path = f"/v1/sessions/{RUN}/stop"
    with operated(tmp_path, shown) as process:
        assert ask(process, path, stop, READ)[0] == 403
        assert ask(process, path, stop, None)[0] == 401
        assert ask(process, path, stop, "x" * 32)[0] == 401
        assert ask(process, path, {})[0] == 400
        assert ask(process, "/v1/sessions/nobody/stop", stop)[0] == 404
        assert ask(process, "/v1/sessions/nobody")[0] == 404
        assert ask(process, f"/v1/sessions/{RUN}/pause", stop)[0] == 404
        assert ask(process, path)[0] == 405
        assert "no run 'nobody'" in session(process, tmp_path, "show", "nobody").stderr
        assert session(process, tmp_path, "stop", RUN, "--reason", "a\nb").returncode == 2
        assert ask(process, f"/v1/verdicts/{RUN}")[1]["action"] == "continue"
        show(shown, 500, "completed")
        until(lambda: ask(process, f"/v1/verdicts/{RUN}")[1]["run_state"] == "completed")
        status, problem = ask(process, path, stop)
        assert (status, problem["detail"]) == (409, "run 'run-1' has ended: completed")


def test_without_an_admin_token_nobody_acts(tmp_path: Path, shown: Exposition) -> None:
    with sidecar(tmp_path, "--target", shown.url) as process:
        until(lambda: process.verdict(RUN))
        status, problem = ask(process, f"/v1/sessions/{RUN}/stop", {"reason": "because"})
        assert status == 403
        assert "listen.admin_token_file" in problem["detail"]
        assert ask(process, f"/v1/verdicts/{RUN}")[1]["action"] == "continue"


def test_an_order_that_cannot_be_stored_does_not_hold(tmp_path: Path, shown: Exposition) -> None:
    """The operator is told; nothing is half ordered."""
    disk = tmp_path / "disk"
    disk.mkdir()
    with small_disk(disk), operated(tmp_path, shown, disk) as process:
        with (disk / "filler").open("wb", buffering=0) as filler:
            while True:
                try:
                    filler.write(b"x" * 4096)
                except OSError:
                    break
        stop = {"reason": "x" * 200}
        statuses = [ask(process, f"/v1/sessions/{RUN}/stop", stop)[0] for _ in range(3)]
        assert statuses[-1] == 503
        verdict = ask(process, f"/v1/verdicts/{RUN}")[1]
        if 200 not in statuses:
            assert verdict["action"] == "continue"
        (disk / "filler").unlink()
        assert ask(process, f"/v1/sessions/{RUN}/stop", stop)[0] == 200
        assert ask(process, f"/v1/verdicts/{RUN}")[1]["action"] == "stop"


def test_an_order_that_changes_nothing_says_so_and_exits_1(
    tmp_path: Path, shown: Exposition
) -> None:
    """Over HTTP and from the command line; one that does exits 0."""
    because = ("--reason", "worth it")
    with operated(tmp_path, shown) as process:
        released = session(process, tmp_path, "release", RUN, *because)
        assert released.returncode == 1
        assert "nothing changes: no operator has stopped the run" in released.stdout
        same = session(process, tmp_path, "limits", RUN, "--max-tokens", "1000", "--for", "2h",
                       "--json", *because)  # fmt: skip
        assert same.returncode == 1
        told = json.loads(same.stdout)
        assert told["changes"] is False
        assert told["notes"] == ["the ceiling on tokens was already 1,000"]
        assert session(process, tmp_path, "stop", RUN, *because).returncode == 0
        again = session(process, tmp_path, "stop", RUN, *because)
        assert again.returncode == 1
        assert "nothing changes: the run was stopped by" in again.stdout
        _, answer = ask(process, f"/v1/sessions/{RUN}/release", {"reason": "go on"})
        assert (answer["changes"], answer["notes"]) == (True, [])
        said = process.said()
        assert "release ordered by" in said
        assert "nothing changes: no operator has stopped the run" in said
        assert session(process, tmp_path, "stop", "nobody", *because).returncode == 1


def test_a_ceiling_above_a_runs_own_limit_is_said_to_hold_for_nothing(
    tmp_path: Path, shown: Exposition
) -> None:
    """With what would help; a stop of a process that is gone says that it may not arrive."""
    with operated(tmp_path, shown) as process:
        (tmp_path / "agents").mkdir()
        options = {"register": str(tmp_path / "agents"), "tokens": 0, "limits": {"max_tokens": 900}}
        with agent("agent-1", **options) as running:
            until(lambda: ask(process, "/v1/verdicts/agent-1")[0] == 200)
            more = ("--max-tokens", "3000", "--for", "2h", "--reason", "worth it")
            ordered = session(process, tmp_path, "limits", "agent-1", *more)
            assert ordered.returncode == 1
            assert "the run's own limit on tokens, 900, is stricter than 3,000" in ordered.stdout
            assert "update_limits" in ordered.stdout
            running.process.kill()
        until(lambda: ask(process, "/v1/verdicts/agent-1")[1]["status"] == "inconclusive")
        stopped = session(process, tmp_path, "stop", "agent-1", "--reason", "a ghost")
        assert stopped.returncode == 0
        assert "note: the run may never receive it: it was last seen" in stopped.stdout
