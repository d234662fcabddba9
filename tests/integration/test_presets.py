"""Other programs' metrics, end to end: a sidecar process stops a session of Claude Code."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.support.exposition import Exposition, serve
from tests.support.processes import SidecarProcess, sidecar, until
from tests.support.prometheus_process import JOB, prometheus

SESSION, OTHER = "ba8b11a9-0b6c-472a-8133-48db5b9683ff", "2028f2c1-194e-48a6-9b9b-ab580fe1be89"
CEILING = 2000


def claude_page(tokens: int, session: str = SESSION) -> str:
    """Return the page of Claude Code after so many tokens: 3 of 10 in, 6 cached, 1 out."""
    shares = {"input": 3, "cacheRead": 6, "cacheCreation": 0, "output": 1}
    return "".join(
        f'claude_code_token_usage_total{{session_id="{session}",type="{kind}"}} '
        f"{tokens * share // 10}\n"
        for kind, share in shares.items()
    )


def configuration(folder: Path, source: dict[str, Any]) -> Path:
    """Write a configuration with a ceiling."""
    config = {
        "source": source,
        "presets": {"mine": {"extends": "claude_code", "title": "our coding agents"}},
        "resource_limits": {"max_tokens": CEILING},
        "listen": {"address": "127.0.0.1:0"},
        "storage": {"path": "ledger.db"},
    }
    file = folder / "sidecar.yaml"
    file.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    return file


def test_limits_that_its_program_does_not_export_are_named_wherever_one_looks(
    tmp_path: Path,
) -> None:
    """A ceiling that holds for nothing is no ceiling; one on time holds for all programs."""
    admin = tmp_path / "admin"
    admin.write_text("dummy-token-of-sixteen\n")
    admin.chmod(0o600)
    limits = ("--max-api-calls", "3", "--max-tool-calls", "1", "--max-active-seconds", "2")
    flags = (*limits, "--interval", "100ms", "--admin-token-file", str(admin))
    with serve() as endpoint:
        endpoint.show(claude_page(1000))
        with sidecar(tmp_path, "--target", endpoint.url, *flags) as process:
            until(lambda: used(process) == 1000)
            verdict = process.verdict(SESSION) or {}
            assert verdict["unjudged"] == ["api_calls", "tool_calls"]
            assert (
                "not judged, as nothing exports them: api_calls, tool_calls" in verdict["message"]
            )
            assert "no limit is judged on api_calls (it has no counter of API" in process.said()
            assert 'limit_unjudged{resource="api_calls"' in process.metrics().replace(
                f'session_id="{SESSION}",', ""
            )
            until(lambda: (process.verdict(SESSION) or {})["action"] == "stop")
            assert "active_duration" in (process.verdict(SESSION) or {})["message"]
            answer = order(process, {"max_api_calls": 2, "reason": "r", "for_seconds": 60})
    assert answer["changes"] is False
    assert "the ceiling on api_calls is not judged, as nothing exports that" in answer["notes"]


def order(process: SidecarProcess, body: dict[str, Any]) -> dict[str, Any]:
    """Give a session other ceilings, and return the answer."""
    request = urllib.request.Request(
        f"{process.url}/v1/sessions/{SESSION}/limits",
        data=json.dumps(body).encode(),
        headers={
            "Authorization": "Bearer dummy-token-of-sixteen", "Content-Type": "application/json",
        },
        method="POST",
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def used(process: SidecarProcess, session: str = SESSION) -> int:
    """Return the tokens the sidecar knows of; -1 while it knows none."""
    verdict = process.verdict(session) or {}
    tokens: int = verdict.get("resources", {}).get("tokens", {}).get("used", -1)
    return tokens


def grows_until_it_stops(process: SidecarProcess, endpoint: Exposition) -> None:
    """Let a session grow past the ceiling, and see what becomes of it."""
    for tokens in (1000, 1500):
        endpoint.show(claude_page(tokens) + claude_page(100, OTHER))
        until(lambda tokens=tokens: used(process) == tokens)  # type: ignore[misc] # a default of its own
    verdict = process.verdict(SESSION)
    assert verdict is not None
    assert (verdict["action"], verdict["status"]) == ("continue", "ok")
    assert verdict["resources"].keys() == {"duration", "tokens"}, "calls and cost are unknown"
    endpoint.show(claude_page(CEILING) + claude_page(100, OTHER))
    until(lambda: used(process) == CEILING)
    verdict, other = process.verdict(SESSION), process.verdict(OTHER)
    assert verdict is not None
    assert other is not None
    assert (verdict["action"], verdict["reason"]) == ("stop", "limit_exceeded")
    assert other["action"] == "continue"


def test_a_session_of_claude_code_is_stopped_at_the_ceiling(tmp_path: Path) -> None:
    """Scraped directly; a process that restarts under the same session goes on from there."""
    with serve() as endpoint:
        scrape = {"targets": [{"url": endpoint.url, "preset": "mine"}], "interval": "100ms"}
        file = configuration(tmp_path, {"scrape": scrape})
        with sidecar(tmp_path, config=file) as process:
            grows_until_it_stops(process, endpoint)
            endpoint.show(claude_page(100))
            until(lambda: used(process) == CEILING + 100)
        with sidecar(tmp_path, config=file) as process:
            endpoint.show(claude_page(200))
            until(lambda: used(process) == CEILING + 200)


@pytest.mark.real("prometheus")
def test_a_session_of_claude_code_is_stopped_through_a_prometheus(
    tmp_path: Path, scraped: tuple[Exposition, ...], prometheus_url: str
) -> None:
    """The same, with what Prometheus stored."""
    source = {
        "url": prometheus_url, "interval": "200ms", "preset": "mine",
        "matchers": [f'job="{JOB}"'],
    }  # fmt: skip
    file = configuration(tmp_path, {"prometheus": source})
    for endpoint in scraped:
        endpoint.show("")
    with sidecar(tmp_path, config=file) as process:
        grows_until_it_stops(process, scraped[0])
    scraped[0].show("")


@pytest.mark.real("prometheus")
def test_a_process_that_a_prometheus_sees_along_four_ways_counts_once(tmp_path: Path) -> None:
    """Two jobs, by two addresses, and as two replicas; another process of the session adds up."""
    with serve() as endpoint, serve() as other:
        endpoint.show(claude_page(700))
        other.show(claude_page(300))
        here = endpoint.address
        jobs = [
            {"job_name": "again",
             "static_configs": [{"targets": [here.replace("127.0.0.1", "localhost")]}]},
            *(
                {"job_name": f"of-{name}",
                 "static_configs": [{"targets": [here], "labels": {"prometheus_replica": name}}]}
                for name in "ab"
            ),
            {"job_name": "other", "static_configs": [{"targets": [other.address]}]},
        ]  # fmt: skip
        with prometheus(tmp_path, [here], jobs) as url:
            source = {"url": url, "interval": "200ms", "preset": "mine"}
            file = configuration(tmp_path, {"prometheus": source})
            with sidecar(tmp_path, config=file) as process:
                until(lambda: used(process) == 1000)
                endpoint.show(claude_page(1500))
                until(lambda: used(process) == 1800)
                verdict = process.verdict(SESSION)
                assert verdict is not None
                assert verdict["action"] == "continue"


def test_a_page_that_is_scraped_by_two_addresses_counts_once(tmp_path: Path) -> None:
    """Directly, with a preset: the process does not say when it started."""
    with serve() as endpoint:
        endpoint.show(claude_page(1500))
        urls = [endpoint.url, endpoint.url.replace("127.0.0.1", "localhost")]
        targets = [{"url": url, "preset": "mine"} for url in urls]
        file = configuration(tmp_path, {"scrape": {"targets": targets, "interval": "100ms"}})
        with sidecar(tmp_path, config=file) as process:
            until(lambda: used(process) == 1500)
            endpoint.wait_until_asked(6)
            assert used(process) == 1500
