"""Budgets that runs share, of a real sidecar: looked at and raised, over HTTP and by command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from otel_budget import semconv
from tests.support.exposition import Exposition, line, page, serve
from tests.support.processes import SidecarProcess, sidecar, until

READ, ADMIN = "r" * 32, "a" * 32
STARTED_AT = repr(1_700_000_000.25)
ANN, BOB = "budget:users{user=ann}", "budget:users{user=bob}"
TOP_UPS = "/v1/budgets/users/top-ups"
BODY = {"group": {"user": "ann"}, "amounts": {"tokens": 500}, "reason": "late release", "by": "bo"}


def show(endpoint: Exposition, **tokens: int) -> None:
    """Let two runs of ann and one of bob have used so many tokens."""
    lines = []
    for name, used in tokens.items():
        user = "bob" if name == "three" else "ann"
        lines += [
            line(semconv.SESSION_TOKENS, used, name),
            line(semconv.SESSION_START, STARTED_AT, name),
            line(semconv.INCARNATION_START, STARTED_AT, name),
            line(semconv.SESSION_INFO, 1, name, user=user, team="core"),
            *(
                line(semconv.SESSION_STATE, int(each == "running"), name, state=each)
                for each in semconv.SESSION_STATES
            ),
        ]
    endpoint.show(page(*lines))


@pytest.fixture
def shown() -> Iterator[Exposition]:
    """Two runs of ann that together used more than is allowed, and one of bob."""
    with serve() as endpoint:
        show(endpoint, one=600, two=500, three=100)
        yield endpoint


@contextmanager
def budgeted(folder: Path, shown: Exposition, window: object = None) -> Iterator[SidecarProcess]:
    """Run a sidecar with a budget of each user, and one that only looks, until it has verdicts.

    window: of the users' budget; None: a day.
    """
    for name, token in (("read", READ), ("admin", ADMIN)):
        (folder / name).write_text(token)
    file = folder / "sidecar.yaml"
    day = {"every": "day", "time_zone": "Asia/Kathmandu"}
    config = {
        "source": {"scrape": {"targets": [shown.url], "interval": "100ms"}},
        "budgets": [
            {"name": "users", "title": "Each user", "per": ["user"], "window": window or day,
             "limits": {"max_tokens": 1000}},
            {"name": "all", "window": "total", "limits": {"max_tokens": 100}, "mode": "shadow"},
        ],
        "listen": {
            "address": "127.0.0.1:0",
            "read_token_file": str(folder / "read"),
            "admin_token_file": str(folder / "admin"),
        },
        "storage": {"path": str(folder / "ledger.db")},
    }  # fmt: skip
    file.write_text(json.dumps(config))
    with sidecar(folder, config=file) as process:
        until(lambda: all(verdict(process, name) for name in ("one", "two", "three")))
        yield process


def ask(
    process: SidecarProcess, path: str, data: object = None, token: str = ADMIN, key: str = ""
) -> tuple[int, Any]:
    """Ask, or order; return the status and the JSON."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    if key:
        headers["Idempotency-Key"] = key
    body = None if data is None else json.dumps(data).encode()
    request = urllib.request.Request(process.url + path, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, json.load(exc)


def verdict(process: SidecarProcess, session_id: str) -> dict[str, Any]:
    """Return the verdict on a run; empty if there is none."""
    status, found = ask(process, f"/v1/verdicts/{session_id}", token=READ)
    return dict(found) if status == 200 else {}


def command(process: SidecarProcess, folder: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run ``otel-budget``."""
    names = {
        "OTEL_BUDGET_SIDECAR_URL": process.url,
        "OTEL_BUDGET_SIDECAR_TOKEN_FILE": str(folder / "read"),
        "OTEL_BUDGET_ADMIN_TOKEN_FILE": str(folder / "admin"),
    }
    return subprocess.run(
        [sys.executable, "-m", "otel_budget", *argv],
        capture_output=True, text=True, check=False, timeout=30, env={**os.environ, **names},
    )  # fmt: skip


def actions(process: SidecarProcess) -> list[str]:
    """Return what the three runs are told."""
    return [verdict(process, name)["action"] for name in ("one", "two", "three")]


def test_a_raise_lets_the_stopped_runs_go_on_and_is_there_once(
    tmp_path: Path, shown: Exposition
) -> None:
    """However often it is asked for, and through a crash of the sidecar at once after it."""
    with budgeted(tmp_path, shown) as process:
        until(lambda: actions(process) == ["stop", "stop", "continue"])
        assert verdict(process, "one")["limit_from"] == ANN
        _, group = ask(process, "/v1/budgets/users?group=user=ann", token=READ)
        assert group["resources"]["tokens"]["used"] == 1100
        assert group["resets_at"].endswith("+05:45")
        status, first = ask(process, TOP_UPS, BODY, key="k-1")
        assert status == 201
        assert actions(process) == ["continue", "continue", "continue"]
        process.kill()
        assert "budget 'users' (ann): tokens 500 added by bo (from 127.0.0.1)" in process.said()
    with budgeted(tmp_path, shown) as process:
        assert actions(process) == ["continue", "continue", "continue"]
        assert ask(process, TOP_UPS, BODY, key="k-1") == (201, first)
        other = {**BODY, "amounts": {"tokens": 501}}
        assert ask(process, TOP_UPS, other, key="k-1")[0] == 409
        _, group = ask(process, "/v1/budgets/users?group=user=ann", token=READ)
        tokens = group["resources"]["tokens"]
        assert (tokens["base"], tokens["top_up"], tokens["limit"]) == (1000, 500, 1500)
        assert [one["key"] for one in group["top_ups"]] == ["k-1"]
        status, _ = ask(process, TOP_UPS, BODY, key="k-2")
        assert status == 201
        _, group = ask(process, "/v1/budgets/users?group=user=ann", token=READ)
        assert group["resources"]["tokens"]["limit"] == 2000


def test_budgets_are_looked_at_and_raised_from_the_command_line(
    tmp_path: Path, shown: Exposition
) -> None:
    with budgeted(tmp_path, shown) as process:
        until(lambda: actions(process) == ["stop", "stop", "continue"])
        listed = command(process, tmp_path, "budget", "list")
        assert (listed.returncode, listed.stderr) == (0, "")
        assert "tokens 1,100 of 1,000" in listed.stdout
        assert "exhausted, shadow" in listed.stdout
        ann = ("--group", "user=ann")
        details = command(process, tmp_path, "budget", "show", "users", *ann).stdout
        assert "binds       2 runs: one, two" in details
        run = command(process, tmp_path, "session", "show", "one").stdout
        assert "exceeded    budget users of user=ann: tokens at 110.0% (1,100 of 1,000)" in run
        assert "+05:45; it decided" in run
        runs = command(process, tmp_path, "session", "list").stdout
        assert "budget users of user=ann: tokens at 110.0%" in runs
        why = ("--reason", "late", "--by", "bo")
        more = ("budget", "raise", "users", *ann, "--max-tokens", "500", *why, "--key", "k-1")
        for _ in range(2):
            raised = command(process, tmp_path, *more)
            assert (raised.returncode, raised.stderr) == (0, "")
            assert "1,100 of 1,500: 1,000 configured + 500 topped up" in raised.stdout
        assert actions(process) == ["continue", "continue", "continue"]
        refused = command(process, tmp_path, *more[:-3], "other", *more[-2:])
        assert refused.returncode in (1, 2)
        owners = command(process, tmp_path, "session", "list", "--by", "user").stdout.splitlines()
        assert [row.split()[:4] for row in owners[1:]] == [
            ["ann", "2", "0", "0"], ["bob", "1", "0", "0"],
        ]  # fmt: skip
        past = command(process, tmp_path, "budget", "history", "users", *ann)
        assert (past.returncode, past.stdout) == (0, "no window of users is over yet\n")


def test_a_window_that_ended_is_history_and_the_next_begins_at_nothing(
    tmp_path: Path, shown: Exposition
) -> None:
    """Of the first use, two seconds long; its runs go on when it is over."""
    with budgeted(tmp_path, shown, {"every": "2s", "from": "first_use"}) as process:
        until(lambda: actions(process) == ["continue"] * 3)
        windows = "/v1/budgets/users/windows?group=user=ann"
        until(lambda: ask(process, windows, token=READ)[1]["windows"])
        found = ask(process, windows, token=READ)[1]["windows"]
        assert len(found) == 1, json.dumps(found)
        (closed,) = found
        assert (closed["used"], closed["limits"]) == ({"tokens": 1100}, {"tokens": 1000})
        ann = ("--group", "user=ann")
        past = command(process, tmp_path, "budget", "history", "users", *ann).stdout
        assert "110.0%  tokens 1,100 of 1,000" in past
        show(shown, one=650, two=500, three=100)
        until(lambda: len(ask(process, windows, token=READ)[1]["windows"]) == 2)
        newest, _ = ask(process, windows, token=READ)[1]["windows"]
        assert newest["used"] == {"tokens": 50}


def test_a_stop_is_explained_with_the_top_up_that_was_in_force(
    tmp_path: Path, shown: Exposition
) -> None:
    """And with what more it would have taken; other budgets' settings are not listed."""
    with budgeted(tmp_path, shown) as process:
        until(lambda: actions(process) == ["stop", "stop", "continue"])
        assert ask(process, TOP_UPS, BODY, key="k-1")[0] == 201
        show(shown, one=600, two=1000, three=100)
        until(lambda: actions(process) == ["stop", "stop", "continue"])
        explained = command(process, tmp_path, "explain", "one")
        assert (explained.returncode, explained.stderr) == (0, "")
        said = explained.stdout
        assert f"{ANN}, enforce: tokens 106.6% (1,600 of 1,500, with 500 topped up)" in said
        (top_up,) = (row for row in said.splitlines() if row.startswith("  top-up"))
        assert "late release" in top_up
        assert f"more tokens in {ANN} (1,600 of 1,500 used): a top-up" in said
        assert 'budget users: {"groups_max"' in said


def test_who_may_only_read_adds_nothing(tmp_path: Path, shown: Exposition) -> None:
    with budgeted(tmp_path, shown) as process:
        assert ask(process, TOP_UPS, BODY, token=READ, key="k")[0] == 403
        assert ask(process, TOP_UPS, BODY, token="x" * 32, key="k")[0] == 401
        assert ask(process, "/v1/budgets", token="x" * 32)[0] == 401
        assert ask(process, TOP_UPS, BODY)[0] == 400
        no_reset = {**BODY, "group": {}}
        status, said = ask(process, "/v1/budgets/all/top-ups", no_reset, key="k")
        assert (status, "until" in said["detail"]) == (400, True)
        for_a_while = {**no_reset, "until": "2h"}
        assert ask(process, "/v1/budgets/all/top-ups", for_a_while, key="k")[0] == 201
        assert ask(process, "/v1/budgets/user/top-ups", BODY, key="k")[0] == 404
        _, group = ask(process, "/v1/budgets/users?group=user=ann", token=READ)
        assert group["resources"]["tokens"]["limit"] == 1000


HOSTILE = (
    "?group=%00", "?group=user=%ff%fe", "?group=user=" + "x" * 8000, "?group=user=ann&group=",
    "?limit=1e9", "?cursor=%25%25", "?windows=-1", "?group=user%3D%F0%9F%98%80",
)  # fmt: skip


def test_a_hostile_query_breaks_nothing(tmp_path: Path, shown: Exposition) -> None:
    with budgeted(tmp_path, shown) as process:
        for query in HOSTILE:
            for path in ("/v1/budgets", "/v1/budgets/users", "/v1/budgets/users/windows"):
                assert ask(process, path + query)[0] in (200, 400, 404)
        assert "Traceback" not in process.said()
