"""What docs/ending-well.md says to write is run, as it stands there."""

from __future__ import annotations

import asyncio
import inspect
import re
import textwrap
from typing import Any

import pytest

from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "ending-well.md").read_text(encoding="utf-8")
#: Blocks that are run here, by their marks; those with frameworks are run where these are.
BLOCKS = dict(re.findall(r"<!-- run: (\w+) -->\n```python\n(.*?)```", PAGE, re.DOTALL))


def run(name: str, **given: Any) -> dict[str, Any]:
    """Run a block, at the top level of a coroutine; return its names."""
    body = textwrap.indent(BLOCKS[name], "    ")
    names: dict[str, Any] = {}
    source = f"async def block(names):\n{body}\n    names.update(locals())\n"
    scope = dict(given)
    exec(compile(source, f"ending-well.md: {name}", "exec"), scope)  # noqa: S102 - our own page
    asyncio.run(scope["block"](names))
    return names


def test_a_loop_of_ones_own_ends_with_an_answer_within_its_limit() -> None:
    asked: list[tuple[str, bool]] = []

    def ask_model(prompt: str, *, tools: bool) -> str:
        asked.append((prompt, tools))
        return f"said {len(asked)}"

    names = run("loop", ask_model=ask_model)
    assert [tools for _, tools in asked] == [True] * 4 + [False]
    assert names["answer"] == "said 5"
    assert names["monitor"].get_usage_report().api_calls == 5


def test_an_orchestrator_wraps_up_with_what_it_has() -> None:
    result = run("orchestrator")["result"]
    assert (result.outcome, len(result.results)) == ("stopped", 9)
    assert result.wrapped_up == "so far 9 chapters"
    assert result.summary["tokens"]["used"] == 8_600
    assert result.verdict.reason == "approaching_limit"


def test_a_coroutine_is_cancelled_with_what_it_kept(capsys: pytest.CaptureFixture[str]) -> None:
    async def crawl(monitor: Any) -> None:
        for page in range(100):
            monitor.keep_state({"pages": page})
            monitor.record_operation(tokens=1_000, api_call=True)
            await asyncio.sleep(0)

    assert inspect.iscoroutinefunction(crawl)
    run("coroutine", crawl=crawl)
    assert re.match(r"stopped \{'pages': \d+\}", capsys.readouterr().out)


def test_a_run_that_asks_and_is_not_answered_ends() -> None:
    done: list[int] = []

    def migrate(table: int) -> int:
        done.append(table)
        return 9_000

    names = run("ask", tables=range(4), hour=0.0, migrate=migrate)
    assert (done, names["monitor"].verdict.reason) == ([0, 1], "limit_exceeded")


def test_what_is_reserved_is_held_until_it_is_counted() -> None:
    names = run("reserve")
    assert (names["still_held"], names["reason"]) == (4_000, "budget_busy")
    assert names["monitor"].get_usage_report().tokens == 7_000
