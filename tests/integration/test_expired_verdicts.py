"""A sidecar that cannot judge any more: what it said before is given to nobody past its lease."""

from __future__ import annotations

import json
import resource
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_budget import semconv
from otel_budget.cli.main import main
from tests.support.exposition import line, page, serve
from tests.support.figures import note
from tests.support.processes import SidecarProcess, sidecar, until

LEASE = 1.0
RUN = "run"


@pytest.fixture
def stuck(tmp_path: Path) -> Iterator[SidecarProcess]:
    """A sidecar whose writes fail, for longer than its lease."""
    with serve() as endpoint:
        endpoint.show(page(line(semconv.SESSION_TOKENS, 5, RUN)))
        config = tmp_path / "sidecar.yaml"
        settings = {
            "source": {"scrape": {"targets": [endpoint.url], "interval": "100ms"}},
            "verdicts": {"lease": f"{LEASE}s"},
            "listen": {"address": "127.0.0.1:0"},
            "storage": {"path": str(tmp_path / "ledger.db")},
        }
        config.write_text(json.dumps(settings))
        with sidecar(tmp_path, config=config) as process:
            until(lambda: process.verdict(RUN))
            until(lambda: ask(process, "/-/ready")[0] == 200)
            limit_files(process, 1024)
            endpoint.show(page(line(semconv.SESSION_TOKENS, 50_000, RUN)))
            until(lambda: ask(process, f"/v1/verdicts/{RUN}")[0] == 503)
            yield process


def limit_files(process: SidecarProcess, most: int) -> None:
    """Let a process write files up to so many bytes alone."""
    _, hard = resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(process.process.pid, resource.RLIMIT_FSIZE, (most, hard))


def ask(process: SidecarProcess, path: str) -> tuple[int, Any]:
    """Return the status of an answer and what is in it, JSON or text."""
    try:
        with urllib.request.urlopen(process.url + path, timeout=5) as got:
            status, body, kind = got.status, got.read(), got.headers.get_content_type()
    except urllib.error.HTTPError as exc:
        status, body, kind = exc.code, exc.read(), exc.headers.get_content_type()
    return status, json.loads(body) if kind.endswith("json") else body.decode()


def streamed(process: SidecarProcess, seconds: float, *headers: tuple[str, str]) -> bytes:
    """Return what a new stream gives within some seconds."""
    asked = urllib.request.Request(
        f"{process.url}/v1/stream?session_id={RUN}", headers=dict(headers)
    )
    got, until_then = b"", time.monotonic() + seconds
    with urllib.request.urlopen(asked, timeout=5) as stream:
        while time.monotonic() < until_then:
            got += stream.readline()
    return got


def test_it_is_given_out_in_no_way_and_holds_again_once_it_is_judged(
    stuck: SidecarProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    status, problem = ask(stuck, f"/v1/verdicts/{RUN}")
    assert (status, problem["last_action"], problem["last_reason"]) == (
        503, "continue", "within_limits",
    )  # fmt: skip
    listed = ask(stuck, "/v1/verdicts")[1]
    assert listed["verdicts"] == []
    assert [run["session_id"] for run in listed["expired"]] == [RUN]
    assert ask(stuck, f"/v1/sessions/{RUN}")[1]["verdict"] is None
    for headers in ((), (("Last-Event-ID", "0"),)):
        assert b"data:" not in streamed(stuck, 2 * LEASE / 3, *headers)
    metrics = stuck.metrics()
    assert "otel_budget_verdict{" not in metrics
    assert f"{semconv.EXPIRED_VERDICTS.name} 1.0" in metrics
    ready, healthy = ask(stuck, "/-/ready"), ask(stuck, "/-/healthy")
    assert (ready[0], healthy[0]) == (503, 200)
    assert main(["check", RUN, "--sidecar", stuck.url]) == 4
    assert f"{RUN}: unknown: the last verdict on the run" in capsys.readouterr().out
    assert main(["session", "list", "--sidecar", stuck.url]) == 0
    assert "no verdict since" in capsys.readouterr().out
    assert main(["session", "show", RUN, "--sidecar", stuck.url]) == 0
    assert capsys.readouterr().out.startswith(f"{RUN}: unknown: no verdict since")
    limit_files(stuck, resource.RLIM_INFINITY)
    until(lambda: stuck.verdict(RUN))
    until(lambda: ask(stuck, "/-/ready")[0] == 200)
    note(
        "Never silently open",
        f"a sidecar whose writes fail for longer than its lease of {LEASE:g} s",
        "no verdict by GET, list, stream, metric or command; not ready; all back once it can write",
    )
