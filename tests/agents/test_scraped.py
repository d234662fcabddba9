"""Claude Code as it is scraped: on its own port, without a preset named, its hooks asking."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.agents.governed import Counted, Judge, session_of
from tests.agents.home import headless
from tests.support.ports import free_port
from tests.support.processes import sidecar, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.agents.home import Done, Home
    from tests.agents.provider import Provider

pytestmark = pytest.mark.agents

CLAUDE = "claude-code"


@contextmanager
def scraping(folder: Path, home: Home, *flags: str) -> Iterator[Judge]:
    """Run a sidecar that scrapes the home's Claude Code, which asks it after each call."""
    port = free_port()
    target = f"http://127.0.0.1:{port}/metrics"
    with sidecar(folder, "--target", target, "--interval", "1s", *flags) as process:
        hook = {"type": "http", "url": f"{process.url}/v1/hooks/claude-code", "timeout": 5}
        asked = {
            name: [{"hooks": [hook]}] for name in ("PostToolBatch", "Stop", "UserPromptSubmit")
        }
        settings = {
            "env": {
                "CLAUDE_CODE_ENABLE_TELEMETRY": "1", "OTEL_METRICS_EXPORTER": "prometheus",
                "OTEL_EXPORTER_PROMETHEUS_HOST": "127.0.0.1",
                "OTEL_EXPORTER_PROMETHEUS_PORT": str(port),
            },
            "hooks": asked,
        }  # fmt: skip
        (home.folder / ".claude/settings.json").write_text(json.dumps(settings), encoding="utf-8")
        yield Judge(process, "")


def work(home: Home, prompt: str, resume: str | None = None) -> Done:
    """Have it work on a prompt in a process of its own."""
    done = home.run(*headless(CLAUDE, prompt, resume=resume))
    assert done.code == 0, done
    return done


def counted(judge: Judge, session: str, tokens: int) -> Counted:
    """Return what was counted of a session, once it is that much."""
    return judge.settled(session, tokens, 0)


def test_a_session_is_recognised_exact_and_goes_on_when_it_is_resumed(
    tmp_path: Path, home: Home, provider: Provider
) -> None:
    """Three processes of one session: each ends 50 ms after its last call, and counts from 0."""
    provider.think = 20
    with scraping(tmp_path, home) as judge:
        session = session_of(CLAUDE, work(home, "do 3 steps of alpha"))
        for name in ("beta", "gamma"):
            served = provider.served().tokens
            assert counted(judge, session, served).tokens == served
            until(lambda: (judge.process.verdict(session) or {})["run_state"] == "vanished")
            found = judge.process.verdict(session) or {}
            assert found["action"] == "continue"
            work(home, f"do 2 steps of {name}", resume=session)
        served = provider.served().tokens
        assert counted(judge, session, served).tokens == served
        said = judge.process.said()
    assert said.count("is read by preset claude_code") == 1


def test_a_session_stops_at_its_limit_as_its_hooks_ask(
    tmp_path: Path, home: Home, provider: Provider
) -> None:
    """What a hook asks is counted first, so no more is made than the call for its last words."""
    provider.think = 20
    with scraping(tmp_path, home, "--max-tokens", "40000") as judge:
        session = session_of(CLAUDE, work(home, "do 9 steps of alpha"))
        served = provider.served().tokens
        assert len(provider.after(provider.crossing(40_000))) <= 1
        assert counted(judge, session, served).tokens == served
        assert (judge.process.verdict(session) or {})["action"] == "stop"
