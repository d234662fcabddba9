"""A page whose series two processes write in turn, in front of a real sidecar process."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.support.exposition import serve
from tests.support.figures import note
from tests.support.processes import sidecar, until

if TYPE_CHECKING:
    from pathlib import Path

SESSION = "25554c44-0000-4000-8000-000000000001"


def page(turn: int) -> str:
    """Return what a Collector shows of a session and of its twin, whichever wrote last."""
    tokens = (1_000_000 if turn % 2 else 1_200_000) + 100 * turn
    labels = f'session_id="{SESSION}",model="claude"'
    return (
        f'claude_code_token_usage_tokens_total{{{labels},type="input"}} {tokens}\n'
        f"claude_code_cost_usage_USD_total{{{labels}}} {tokens * 5 / 1e6}\n"
    )


def test_it_is_counted_once_for_each_and_said(tmp_path: Path) -> None:
    """Across a restart of the sidecar; the use is about right, and the log says why."""
    with serve() as endpoint:
        config = {
            "source": {
                "scrape": {
                    "targets": [{"url": endpoint.url, "preset": "claude_code"}],
                    "interval": "100ms",
                }
            },
            "resource_limits": {"max_tokens": 20_000_000, "max_cost_usd": 100},
            "listen": {"address": "127.0.0.1:0"},
            "storage": {"path": "ledger.db"},
        }
        file = tmp_path / "sidecar.yaml"
        file.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
        turn = 0
        endpoint.show(page(turn))
        for _ in range(2):
            with sidecar(tmp_path, config=file) as process:
                until(lambda: process.verdict(SESSION))
                for _ in range(9):
                    turn += 1
                    endpoint.show(page(turn))
                    endpoint.wait_until_asked(2)
                verdict = process.verdict(SESSION)
                assert verdict is not None
                tokens, cost = (verdict["resources"][name] for name in ("tokens", "cost"))
                assert 2_200_000 <= tokens["used"] <= 2_450_000
                assert 11 <= float(cost["used"]) <= 12.25
                assert tokens["estimated"] is cost["estimated"] is True
                assert verdict["action"] == "continue"
                if turn == 9:
                    assert process.said().count("goes back and forth between counts") == 2
        note(
            "Resets and identity",
            f"one series shows by turns the counts of two processes, 1.0 and 1.2 million, {turn} "
            "times; the sidecar restarted in between",
            f"{tokens['used']:,} tokens, about; said in the log and in the verdict",
        )
