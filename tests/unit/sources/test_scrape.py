"""A scrape of targets, as far as it takes no process of its own."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

from otel_budget.core.observation import Observation
from otel_budget.presets.loader import shipped
from otel_budget.sources.scrape import ScrapeSettings, ScrapeSource
from otel_budget.sources.scrape_target import ScrapeTarget
from tests.support.exposition import Exposition, serve

CLAUDE = 'claude_code_token_usage_total{session_id="claude",type="input"} 10\n'
KONG = 'kong_ai_llm_tokens_total{consumer="kong",token_type="prompt_tokens"} 7\n'


async def nudged(settings: ScrapeSettings, session_id: str) -> Observation | None:
    """Return what a nudge finds of a run, after a first reading."""
    source = ScrapeSource(settings, time.time)
    try:
        await source.read()
        return await source.read_run(session_id)
    finally:
        await source.close()


def seen(observation: Observation | None) -> set[str]:
    """Return the runs in it."""
    return set() if observation is None else {one.session_id for one in observation.sessions}


def mixed(shown: Exposition) -> list[ScrapeTarget]:
    """Return a page that two programs share, as a target for each."""
    shown.show(CLAUDE + KONG)
    presets = (shipped()[name] for name in ("claude_code", "kong_ai"))
    return [ScrapeTarget(shown.url, preset=preset) for preset in presets]


def test_a_nudge_reads_one_program_of_a_page_that_several_share() -> None:
    """A Collector's page is a target once for each preset."""
    with serve() as shown:
        settings = ScrapeSettings(mixed(shown), timeout=5)
        assert seen(asyncio.run(nudged(settings, "claude"))) == {"claude"}
        place = f"kong_ai@{shown.address}"
        assert seen(asyncio.run(nudged(settings, place))) == {place}


def test_a_nudge_of_an_unknown_run_asks_other_programs_only(tmp_path: Path) -> None:
    """An agent of ours tells of its run by a nudge, and is new then; others tell of none."""
    with serve() as own, serve() as other:
        listing = tmp_path / "targets.json"
        listing.write_text(json.dumps([{"targets": [own.address]}]))
        targets = [ScrapeTarget(other.url, preset=shipped()["claude_code"])]
        settings = ScrapeSettings(targets, file_sd=[str(listing)], timeout=5)
        assert asyncio.run(nudged(settings, "nowhere")) is None
        assert (own.times_asked, other.times_asked) == (1, 2)
