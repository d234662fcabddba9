"""A run and two below it, in three processes: one sum, and one stop for all, by a real sidecar."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from tests.support.ports import free_port
from tests.support.processes import SidecarProcess, agent, sidecar, until
from tests.support.prometheus_process import prometheus

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = 3000


def used(side: SidecarProcess, session_id: str) -> int:
    """Return the tokens that a run was judged by; 0 while there is no verdict."""
    verdict = side.verdict(session_id)
    return 0 if verdict is None else int(verdict["resources"]["tokens"]["used"])


@pytest.mark.parametrize("source", [
    "scrape", pytest.param("prometheus", marks=pytest.mark.real("prometheus")),
])  # fmt: skip
def test_three_processes_are_held_to_the_limit_of_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    at = f"127.0.0.1:{free_port()}"
    options: dict[str, Any] = {"sidecar": f"http://{at}", "steps": 100_000, "progress": 0.1}
    with ExitStack() as stack:
        limits = {"max_tokens": LIMIT, "max_api_calls": None}
        start = stack.enter_context
        lead = start(agent("lead", **{**options, "tokens": 1, "pause": 0.1}, limits=limits))
        monkeypatch.setenv("OTEL_BUDGET_PARENT_SESSION_ID", "lead")
        free = {"max_tokens": None, "max_api_calls": None}
        children = [start(agent(name, **options, limits=free)) for name in ("one", "two")]
        pages = [each.metrics for each in (lead, *children)]
        if source == "scrape":
            flags = [part for each in pages for part in ("--target", each)]
        else:
            url = start(prometheus(tmp_path, [urlsplit(each).netloc for each in pages]))
            flags = ["--prometheus", url]
        side = start(sidecar(tmp_path, *flags, "--interval", "0.2s", listen=at))
        results = [each.result() for each in (lead, *children)]
        assert [result["reason"] for result in results] == [
            "limit_exceeded", "parent_stopped", "parent_stopped",
        ]  # fmt: skip
        said = until(lambda: side.verdict("one"))
        assert (said["reason"], said["limit_from"]) == ("parent_stopped", "parent:lead")
        assert "run lead is stopped" in said["message"]
        whole = sum(result["tokens"] for result in results)
        until(lambda: used(side, "lead") == whole)
        assert used(side, "one") + used(side, "two") < whole


def test_a_family_is_the_same_after_a_sidecar_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a child whose process was killed by then, too."""
    free = {"max_tokens": None, "max_api_calls": None}
    options: dict[str, Any] = {"sidecar": "", "limits": free, "steps": 100_000}
    with ExitStack() as stack:
        start = stack.enter_context
        lead = start(agent("lead", **{**options, "tokens": 1}))
        monkeypatch.setenv("OTEL_BUDGET_PARENT_SESSION_ID", "lead")
        child = start(agent("one", **options))
        flags = ("--target", lead.metrics, "--target", child.metrics, "--interval", "0.1s")
        with sidecar(tmp_path, *flags) as side:
            before = until(lambda: n if (n := used(side, "lead")) > 2000 else None)
            side.kill()
            child.process.kill()
        with sidecar(tmp_path, *flags, listen=side.url.removeprefix("http://")) as again:
            verdict = until(lambda: again.verdict("lead"))
            assert verdict["resources"]["tokens"]["used"] >= before
            assert "with the use of 1 descendant" in verdict["message"]


def test_a_process_that_is_given_the_environment_of_a_run_is_below_it(tmp_path: Path) -> None:
    """Without a word in the child's code."""
    code = (
        "import json, subprocess, sys\n"
        "from otel_budget import ResourceMonitor\n"
        "lead = ResourceMonitor(session_id='lead')\n"
        "child = 'from otel_budget import ResourceMonitor; "
        "print(ResourceMonitor()._record.parent)'\n"
        "print(subprocess.check_output([sys.executable, '-c', child], text=True,\n"
        "      env=lead.child_environment()).strip())\n"
    )
    names = {"OTEL_BUDGET_SESSION_ID": "issue-42"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, **names},
    )  # fmt: skip
    assert done.stdout.strip() == "lead", json.dumps(done.stderr)
