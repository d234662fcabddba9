"""A run in its own process, a sidecar in its own process, and what happens between them."""

import json
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.processes import SidecarProcess, agent, sidecar, until
from tests.support.prometheus_process import prometheus


def judged(side: SidecarProcess, session_id: str) -> dict[str, Any]:
    """Wait until the sidecar has judged a run."""
    return until(lambda: side.verdict(session_id), side.process)


def test_a_run_is_stopped_by_a_ceiling_that_only_the_sidecar_knows(tmp_path: Path) -> None:
    """Scraped directly; registered by file_sd, so that neither knows the other's port before."""
    found = ("--file-sd", str(tmp_path / "targets" / "*.json"), "--interval", "0.1s")
    (tmp_path / "targets").mkdir()
    with (
        sidecar(tmp_path, *found, "--max-tokens", "5000") as side,
        agent("e2e", sidecar=side.url, register=str(tmp_path / "targets"), progress=0.1) as run,
    ):
        result = run.result()
        assert result["action"] == "stop"
        assert result["reason"] in ("approaching_limit", "limit_exceeded")
        assert result["from_sidecar"] is True
        # 4,000 is the warning line: it was stopped soon after, long before its own 1,000,000.
        assert 4000 <= result["tokens"] < 8000
        last = until(
            lambda: (v := side.verdict("e2e")) and (v if tokens(v) == result["tokens"] else None)
        )
        assert last["action"] == "stop"


def test_a_ceiling_on_calls_of_tools_stops_a_run_that_counts_them_and_says_so_of_others(
    tmp_path: Path,
) -> None:
    """Unknown is not 0: of a run that exports none the ceiling is not judged."""
    (tmp_path / "targets").mkdir()
    flags = ("--file-sd", str(tmp_path / "targets" / "*.json"), "--interval", "0.1s")
    options = {"register": str(tmp_path / "targets"), "progress": 0.1}
    with (
        sidecar(tmp_path, *flags, "--max-tool-calls", "50") as side,
        agent("none", sidecar=side.url, steps=100_000, **options),
        agent("tools", sidecar=side.url, tool_calls=2, **options) as run,
    ):
        result = run.result()
        assert (result["action"], result["from_sidecar"]) == ("stop", True)
        last = judged(side, "tools")["resources"]["tool_calls"]
        assert (last["limit"], last["limit_from"]) == (50, "sidecar")
        assert last["used"] >= 40
        other = judged(side, "none")
        assert (other["action"], other["unjudged"]) == ("continue", ["tool_calls"])
        assert "not judged, as nothing exports them: tool_calls" in other["message"]


def tokens(verdict: dict[str, Any]) -> int:
    """Return the tokens a verdict speaks of."""
    used: int = verdict["resources"]["tokens"]["used"]
    return used


def test_without_a_sidecar_a_run_goes_on_under_its_own_limits(tmp_path: Path) -> None:
    """Nothing listens there; the run says so and stops at its own limit."""
    limits = {"max_tokens": 1000}
    with agent("alone", sidecar="http://127.0.0.1:9", limits=limits, pause=0.001) as run:
        result = run.result()
    assert (result["reason"], result["from_sidecar"]) == ("limit_exceeded", False)
    assert result["tokens"] == 1000


def test_a_killed_sidecar_comes_back_and_catches_up(tmp_path: Path) -> None:
    """SIGKILL in the middle: the run goes on, then the restarted sidecar stops it, with one sum."""
    with agent("survivor", steps=100_000, progress=0.1, sidecar="") as probe:
        flags = ("--target", probe.metrics, "--interval", "0.1s", "--max-tokens", "100000000")
        with sidecar(tmp_path, *flags) as side:
            before = judged(side, "survivor")
            side.kill()
        probed = until(lambda: exposed(probe.metrics, "survivor") > tokens(before) + 500)
        assert probed
        with sidecar(tmp_path, *flags, listen=side.url.removeprefix("http://")) as again:
            after = judged(again, "survivor")
            shown = exposed(probe.metrics, "survivor")
        assert tokens(before) <= tokens(after) <= shown
        assert after["sequence"] >= before["sequence"]


def test_a_run_follows_a_sidecar_through_its_restart(tmp_path: Path) -> None:
    """The run hears the first sidecar, goes on without it, and obeys the second one's ceiling."""
    targets = tmp_path / "targets"
    targets.mkdir()
    flags = ("--file-sd", str(targets / "*.json"), "--interval", "0.1s", "--lease", "1s")
    with sidecar(tmp_path, *flags) as side:
        options = {"sidecar": side.url, "register": str(targets), "limits": {"max_api_calls": None}}
        with agent("follower", steps=100_000, **options) as run:
            judged(side, "follower")
            until(lambda: reachable(run.metrics, "follower") == 1.0)
            side.kill()
            until(lambda: reachable(run.metrics, "follower") == 0.0)
            assert run.process.poll() is None, "the run ended with its sidecar"
            at = side.url.removeprefix("http://")
            with sidecar(tmp_path, *flags, "--max-tokens", "10", listen=at):
                result = run.result()
    assert (result["action"], result["from_sidecar"]) == ("stop", True)
    assert ["stop", "limit_exceeded"] in result["heard"]


@pytest.mark.real("prometheus")
def test_a_run_is_stopped_by_a_sidecar_that_sees_it_through_prometheus(tmp_path: Path) -> None:
    """The same stop, with a real Prometheus in between."""
    with agent("through", steps=100_000, progress=0.1, sidecar="") as run:
        host = urlsplit(run.metrics).netloc
        with prometheus(tmp_path, [host]) as url:
            flags = ("--prometheus", url, "--interval", "0.2s", "--max-tokens", "10")
            with sidecar(tmp_path, *flags) as side:
                verdict = judged(side, "through")
                assert (verdict["action"], verdict["status"]) == ("stop", "exceeded")
                shown = exposed(run.metrics, "through")
                assert 10 < tokens(verdict) <= shown
                assert verdict["resources"]["tokens"]["limit_from"] == "sidecar"


def exposed(url: str, session_id: str) -> int:
    """Return the tokens a run shows on its ``/metrics``."""
    return int(sample(url, f'otel_budget_tokens_total{{session_id="{session_id}"}}') or 0)


def reachable(url: str, session_id: str) -> float | None:
    """Return what a run says of its sidecar; None while it says nothing."""
    return sample(url, f'otel_budget_sidecar_reachable{{session_id="{session_id}"}}')


def sample(url: str, series: str) -> float | None:
    """Return the value of one series of an exposition."""
    with urllib.request.urlopen(url, timeout=5) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith(series):
                return float(line.rpartition(" ")[2])
    return None


def test_a_verdict_on_the_wire_is_what_the_description_says(tmp_path: Path) -> None:
    """The published OpenAPI schema, held against a verdict from a running sidecar."""
    import jsonschema

    with agent("described", steps=100_000, progress=0.5, sidecar="") as run:
        flags = ("--target", run.metrics, "--interval", "0.1s")
        with sidecar(tmp_path, *flags) as side:
            verdict = judged(side, "described")
            with urllib.request.urlopen(f"{side.url}/openapi.json", timeout=5) as answer:
                document = json.load(answer)
    schema = {"$ref": "#/components/schemas/Verdict", "components": document["components"]}
    jsonschema.validate(verdict, schema)
    broken = {**verdict, "action": "maybe"}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, schema)
