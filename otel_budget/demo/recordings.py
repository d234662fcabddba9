"""The recorded runs: what each model call used, and when.

A recording's ``input_tokens_total`` includes the cached part (``prefix_tokens``), and its output
the reasoning tokens: they are not added again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from importlib import resources

FILE = "coding_agent_rounds.jsonl"


@dataclass(frozen=True, slots=True)
class Call:
    """One recorded model call. Times are seconds since the run's first event."""

    model: str
    began: float
    ended: float
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    tools: tuple[str, ...]
    """Names of the tools it called."""


def load(provider: str) -> list[Call]:
    """Return the calls of one recorded run, in order. provider: ``claude`` or ``codex``."""
    text = (resources.files(__package__) / FILE).read_text(encoding="utf-8")
    rounds = [r for r in map(json.loads, text.splitlines()) if r["provider"] == provider]
    if not rounds:
        raise ValueError(f"{FILE} holds no run of provider {provider!r}")
    start = _seconds(rounds[0]["timing_events"][0])
    return [
        Call(
            model=r["model"],
            began=_seconds(r["timing_events"][0]) - start,
            ended=_seconds(r["timing_events"][-1]) - start,
            input_tokens=r["input_tokens_total"],
            output_tokens=r["output_tokens"],
            cache_read_tokens=r["prefix_tokens"],
            cache_write_tokens=r.get("claude_cache_creation_input_tokens") or 0,
            reasoning_tokens=r["reasoning_output_tokens"] or 0,
            tools=tuple(tool["tool_name"] for tool in r["tools"]),
        )
        for r in rounds
    ]


def _seconds(event: dict[str, str]) -> float:
    return datetime.fromisoformat(event["timestamp"]).timestamp()
