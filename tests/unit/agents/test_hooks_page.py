"""docs/hooks.md says how to wire what the tables need."""

import json
import re

import pytest

from otel_budget.agents.claude_code.hooks import COMMANDS_ONLY
from otel_budget.agents.known import hooks_of, names
from tests.support.paths import ROOT

PAGE = (ROOT / "docs/hooks.md").read_text(encoding="utf-8")
BLOCKS = [json.loads(each) for each in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)]


@pytest.mark.parametrize("agent", names())
def test_every_event_that_is_needed_is_on_the_page(agent: str) -> None:
    """One that is not wired is a run that is not held there."""
    found = hooks_of(agent)
    assert found is not None
    part = PAGE.split(f"\n**{found.title}**", 1)[1].split("\n**", 1)[0]
    for event in found.events:
        assert f'"{event}"' in part or f"`{event}`" in part
    assert f"/v1/hooks/{agent}" in part


def test_the_settings_for_claude_code_are_complete() -> None:
    """They are there to be copied."""
    claude = hooks_of("claude-code")
    assert claude is not None
    (settings,) = (block for block in BLOCKS if "env" in block)
    assert list(settings["hooks"]) == [one for one in claude.events if one not in COMMANDS_ONLY]
