"""The audit log of a real sidecar: whole whatever is killed, and enough to explain a verdict."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from otel_budget import semconv
from tests.support.exposition import line, page, serve
from tests.support.figures import length, note
from tests.support.ports import free_port
from tests.support.processes import SidecarProcess, sidecar, until

_SEED = 20_261_130
CONFIG = """
source: {{scrape: {{targets: ["{url}"], interval: 100ms}}}}
resource_limits: {{max_tokens: 1000{more}}}
listen: {{address: "127.0.0.1:{port}"}}
storage: {{path: {folder}/sidecar.db}}
audit: {{file: {folder}/audit.jsonl}}
"""


def cli(url: str, *arguments: str, status: int = 0) -> str:
    """Return what a command of the command line prints."""
    done = subprocess.run(
        [sys.executable, "-m", "otel_budget", *arguments, "--sidecar", url],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    return done.stdout


def configured(folder: Path, url: str, more: str = "") -> Path:
    """Write a configuration; return its path."""
    config = folder / "sidecar.yaml"
    text = CONFIG.format(url=url, more=more, port=free_port(), folder=folder)
    config.write_text(text)
    return config


def logged(process: SidecarProcess, *arguments: str) -> list[dict[str, Any]]:
    """Return the log."""
    text = cli(process.url, "audit", "--json", *arguments)
    return [json.loads(one) for one in text.splitlines()]


def heard(process: SidecarProcess, known: dict[int, tuple[str, ...]]) -> None:
    """Take in all verdicts that are published now, by their sequences."""
    try:
        found = json.loads(process.get("/v1/verdicts?limit=1000"))["verdicts"]
    except (OSError, urllib.error.HTTPError):
        return  # it is starting, or was killed
    for verdict in found:
        said = verdict["session_id"], verdict["action"], verdict["status"], verdict["reason"]
        assert known.setdefault(verdict["sequence"], said) == said


def test_every_published_verdict_is_in_the_log_once_whenever_the_sidecar_is_killed(
    tmp_path: Path,
) -> None:
    """SIGKILL at any moment: what was published has its entry, and none has two."""
    chance = random.Random(_SEED)
    known: dict[int, tuple[str, ...]] = {}
    kills = length(12, 50)
    with serve() as endpoint:
        config = configured(tmp_path, endpoint.url)
        for life in range(kills):
            with sidecar(tmp_path, config=config) as process:
                ends_at = time.monotonic() + chance.uniform(0.05, 0.8)
                tokens = 0
                while time.monotonic() < ends_at:
                    tokens += chance.randint(100, 500)
                    runs = [line(semconv.SESSION_TOKENS, tokens, f"r-{life}-{n}") for n in range(4)]
                    endpoint.show(page(*runs))
                    heard(process, known)
                process.kill()
        with sidecar(tmp_path, config=config) as process:
            heard(process, known)
            entries = logged(process)
            verdicts = [e["body"]["verdict"] for e in entries if e["kind"] == "verdict"]
            wanted = {e["number"] for e in entries}
            in_file = tmp_path / "audit.jsonl"
            until(lambda: wanted <= set(_numbers(in_file)))
    told = {
        v["sequence"]: (v["session_id"], v["action"], v["status"], v["reason"]) for v in verdicts
    }
    assert known.items() <= told.items()
    assert max(Counter(v["sequence"] for v in verdicts).values()) == 1
    numbers = [e["number"] for e in entries]
    assert numbers == list(range(1, len(numbers) + 1)), "no number is missing, or there twice"
    starts = [e for e in entries if e["body"].get("event") == "started"]
    assert starts
    assert _numbers(in_file) == sorted(set(_numbers(in_file))), "no line is in the file twice"
    note(
        "Nothing lost",
        f"the sidecar is killed {kills} times while verdicts change",
        f"{len(known)} published verdicts, each once in the audit log of {len(entries)} entries; "
        f"all of them in audit.file as well",
    )


def _numbers(path: Path) -> list[int]:
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(one)["number"] for one in lines if one.endswith("}")]


def test_a_run_that_is_long_gone_is_explained_from_the_log_alone(tmp_path: Path) -> None:
    """Which numbers, which rule, which configuration, and what would have changed it."""
    with serve() as endpoint:
        config = configured(tmp_path, endpoint.url)
        with sidecar(tmp_path, config=config) as process:
            endpoint.show(page(line(semconv.SESSION_TOKENS, 10, "old")))
            until(lambda: process.verdict("old"))
            time.sleep(0.3)
            between = time.time()
            endpoint.show(page(line(semconv.SESSION_TOKENS, 1200, "old")))
            until(lambda: (process.verdict("old") or {})["action"] == "stop")
    with serve() as endpoint:
        endpoint.show(page(line(semconv.SESSION_TOKENS, 1, "other")))
        with sidecar(tmp_path, config=configured(tmp_path, endpoint.url)) as process:
            until(lambda: process.verdict("other"))
            now = cli(process.url, "explain", "old")
            then = json.loads(cli(process.url, "explain", "old", "--at", str(between), "--json"))
            cli(process.url, "explain", "never", status=1)
    assert "limit_exceeded" in now
    assert "(1,200 of 1,000)" in now
    assert "status exceeded; progress any: stop, limit_exceeded" in now
    assert '"max_tokens": 1000' in now
    assert "a limit on tokens above the 1,200 used" in now
    assert then["rule"]["reason"] == "within_limits"
    assert then["verdict"]["body"]["verdict"]["resources"]["tokens"]["used"] == 10
    assert then["configuration"]["body"]["policy"]
    assert then["next"]["body"]["verdict"]["reason"] == "limit_exceeded"


def test_a_ceiling_in_shadow_shows_what_it_would_stop(tmp_path: Path) -> None:
    """In verdict, metric, command line and log; the run goes on."""
    with serve() as endpoint:
        config = configured(tmp_path, endpoint.url, ", shadow: true")
        with sidecar(tmp_path, config=config) as process:
            endpoint.show(page(line(semconv.SESSION_TOKENS, 1200, "run-1")))
            verdict = until(lambda: process.verdict("run-1"))
            assert (verdict["action"], verdict["status"]) == ("continue", "ok")
            assert verdict["would"]["limit_from"] == "sidecar"
            assert 'otel_budget_verdict_would{limit_from="sidecar"' in process.metrics()
            assert "would be stop (limit_exceeded, by sidecar)" in cli(
                process.url, "check", "run-1"
            )
            assert "in shadow: stop (limit_exceeded)" in cli(process.url, "audit")


def test_the_log_needs_the_token_that_verdicts_need(tmp_path: Path) -> None:
    """Who may not read verdicts may not read what they were."""
    token = tmp_path / "token"
    token.write_text("secret-to-read-it\n")
    token.chmod(0o600)
    with serve() as endpoint:
        flags = ("--target", endpoint.url, "--read-token-file", str(token))
        with sidecar(tmp_path, *flags) as process:
            with pytest.raises(urllib.error.HTTPError) as refused:
                process.get("/v1/audit")
            assert refused.value.code == 401
            refused.value.close()
            asked = urllib.request.Request(
                f"{process.url}/v1/audit",
                headers={"Authorization": "Bearer secret-to-read-it"},
            )
            with urllib.request.urlopen(asked, timeout=10) as answer:
                assert json.load(answer)["begins"] == 1


def test_a_file_that_cannot_be_written_is_said_and_stops_no_verdict(tmp_path: Path) -> None:
    """/dev/full is a disk that is full, for real."""
    if not os.path.exists("/dev/full"):  # noqa: PTH110 - a device
        pytest.skip("NOT TESTED FOR REAL: there is no /dev/full here")
    with serve() as endpoint:
        config = configured(tmp_path, endpoint.url)
        config.write_text(config.read_text().replace(f"{tmp_path}/audit.jsonl", "/dev/full"))
        with sidecar(tmp_path, config=config) as process:
            endpoint.show(page(line(semconv.SESSION_TOKENS, 1200, "run-1")))
            until(lambda: (process.verdict("run-1") or {}).get("action") == "stop")
            until(lambda: f"{semconv.AUDIT_FILE_UP.name} 0.0" in process.metrics())
            assert "No space left on device" in process.said()
            assert [e["kind"] for e in logged(process, "--session", "run-1")] == ["verdict"]
