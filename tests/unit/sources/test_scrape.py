"""A scrape of targets, as far as it takes no process of its own."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from pathlib import Path

import pytest

from otel_budget import semconv
from otel_budget.cli.page_report import page_of, report_on
from otel_budget.core.observation import Observation
from otel_budget.presets.loader import shipped
from otel_budget.sources.scrape import ScrapeSettings, ScrapeSource
from otel_budget.sources.scrape_target import ScrapeTarget
from tests.support.exposition import Exposition, line, page, serve

FOREIGN = Path(__file__).parents[2] / "foreign"

CLAUDE = 'claude_code_token_usage_total{session_id="claude",type="input"} 10\n'
OURS = page(line(semconv.SESSION_TOKENS, 5, "ours"))
KONG = 'kong_ai_llm_tokens_total{ai_provider="p",consumer="kong",token_type="prompt_tokens"} 7\n'


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
        own.show(OURS)
        listing = tmp_path / "targets.json"
        listing.write_text(json.dumps([{"targets": [own.address]}]))
        targets = [ScrapeTarget(other.url, preset=shipped()["claude_code"])]
        settings = ScrapeSettings(targets, file_sd=[str(listing)], timeout=5)
        assert asyncio.run(nudged(settings, "nowhere")) is None
        assert (own.times_asked, other.times_asked) == (1, 2)


async def readings(
    target: ScrapeTarget, shown: Exposition, *pages: str | None
) -> list[Observation]:
    """Return what a target gives with each of these pages. None: it hangs up."""
    source = ScrapeSource(ScrapeSettings([target], timeout=5), time.time)
    found = []
    try:
        for text in pages:
            shown.show(text)
            found.append(await source.read())
    finally:
        await source.close()
    return found


def read_pages(*pages: str | None, preset: str | None = None) -> list[Observation]:
    """Return what a target gives with each of these pages. preset: None recognises it."""
    with serve() as shown:
        chosen = None if preset is None else shipped()[preset]
        return asyncio.run(readings(ScrapeTarget(shown.url, preset=chosen), shown, *pages))


@pytest.mark.parametrize("path", sorted(FOREIGN.glob("*.prom")), ids=lambda path: path.stem)
def test_a_program_is_recognised_as_the_one_that_read_says(path: Path) -> None:
    """So what was seen with the one is what the other counts."""
    expected = report_on(page_of(str(path)), None)
    shown = path.read_text(encoding="utf-8")
    with serve() as place:
        found, by_name = (
            asyncio.run(readings(ScrapeTarget(place.url, preset=preset), place, shown))[0]
            for preset in (None, expected.preset)
        )
    bare = [[one._replace(sampled_at=0.0) for one in each.sessions] for each in (found, by_name)]
    assert bare[0] == bare[1]
    assert len(found.sessions) == len(expected.sessions)


def test_a_program_is_recognised_once_it_shows_something_and_that_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Claude Code shows nothing before its first call."""
    caplog.set_level(logging.INFO, logger="otel_budget")
    started = 'claude_code_session_count_total{session_id="claude"} 1\n'
    before, *after = read_pages("", CLAUDE, CLAUDE, started, CLAUDE, None, CLAUDE)
    here, away = {"claude"}, set[str]()
    assert [seen(one) for one in after] == [here, here, away, here, away, here]
    assert before.unmatched
    assert not any(one.unmatched for one in after)
    said = [r.message for r in caplog.records if "is read by preset claude_code" in r.message]
    assert len(said) == 1
    assert "claude_code_token_usage_total is on its page" in said[0]


def test_what_only_a_nudge_saw_is_said_as_well(caplog: pytest.LogCaptureFixture) -> None:
    """A session may be over before the next reading."""
    caplog.set_level(logging.INFO, logger="otel_budget")

    async def read() -> None:
        with serve() as shown:
            source = ScrapeSource(ScrapeSettings([ScrapeTarget(shown.url)], timeout=5), time.time)
            await source.read()
            shown.show(CLAUDE)
            assert seen(await source.read_run("claude")) == {"claude"}
            shown.show(None)
            await source.read()
            await source.close()

    asyncio.run(read())
    assert [r.levelname for r in caplog.records if "is read by preset" in r.message] == ["INFO"]


def test_another_program_at_an_address_is_recognised_anew() -> None:
    """One takes over a port that another one had."""
    first, second, third = read_pages(CLAUDE, KONG, OURS)
    assert seen(first) == {"claude"}
    assert [name.partition("@")[0] for name in seen(second)] == ["kong_ai"]
    assert seen(third) == {"ours"}


def test_what_is_on_a_page_of_ours_is_no_other_programs() -> None:
    """An agent of ours may well export what its libraries do; it is the same use."""
    gen_ai = (FOREIGN / "gen_ai_two_scopes.prom").read_text(encoding="utf-8")
    idle = f'{semconv.BUILD_INFO.name}{{version="1"}} 1\n'
    for shown, expected in ((OURS + gen_ai, {"ours"}), (idle + gen_ai, set())):
        (found,) = read_pages(shown)
        assert seen(found) == expected
        assert not found.unmatched


def test_an_agent_of_ours_is_no_other_program_between_two_runs() -> None:
    """It may show nothing of ours then, and still what its libraries export."""
    gen_ai = (FOREIGN / "gen_ai_two_scopes.prom").read_text(encoding="utf-8")
    with serve() as shown:
        target = ScrapeTarget(shown.url)
        found = asyncio.run(readings(target, shown, OURS + gen_ai, gen_ai, OURS, None, gen_ai))
    assert [len(one.sessions) for one in found] == [1, 0, 1, 0, 1]
    assert seen(found[-1]) == {f"gen_ai@{shown.address}"}, "another process took its place"


def test_nothing_is_recognised_where_otel_budget_was_named() -> None:
    """That is how to turn it off."""
    with serve() as shown:
        target = ScrapeTarget(shown.url, recognises=False)
        (found,) = asyncio.run(readings(target, shown, CLAUDE))
    assert not found.sessions
    assert "is this the address of an agent's /metrics?" in found.unmatched[shown.url]


def test_a_page_that_is_listed_with_a_preset_is_not_recognised_as_that_once_more() -> None:
    """Its other entry is for what it shows of otel-budget."""
    with serve() as shown:
        shown.show(CLAUDE)
        targets = [
            ScrapeTarget(shown.url),
            ScrapeTarget(shown.url, preset=shipped()["claude_code"]),
        ]

        async def read() -> Observation:
            source = ScrapeSource(ScrapeSettings(targets, timeout=5), time.time)
            try:
                return await source.read()
            finally:
                await source.close()

        assert len(asyncio.run(read()).sessions) == 1


def test_a_page_that_is_not_recognised_says_what_was_seen_and_what_there_is() -> None:
    """Whoever reads it knows which preset to name, or to write."""
    (found,) = read_pages("acme_tokens 5\nup 1\n")
    (why,) = found.unmatched.values()
    assert "it shows acme_tokens, up, by which no program is recognised" in why
    assert "presets: claude_code, codex, " in why


def test_codex_is_recognised_before_a_turn_is_complete() -> None:
    """It counts its calls as it makes them."""
    (found,) = read_pages('codex_api_request_total{success="true"} 2\n')
    (run,) = found.sessions
    assert {resource: value for (resource, _), value in run.counters.items()} == {"api_calls": 2}


def listed(folder: Path, place: Exposition, **labels: str) -> str:
    """Write a list of one target; return its path."""
    path = folder / "targets.json"
    path.write_text(json.dumps([{"targets": [place.address], "labels": labels}]))
    return str(path)


def test_a_list_of_targets_names_a_preset_or_has_the_program_recognised(tmp_path: Path) -> None:
    """Each session of Claude Code has a port of its own, which is in no configuration."""
    chosen = {"mine": shipped()["claude_code"], "otel_budget": None}
    for labels, expected in (
        ({}, {"claude"}),
        ({"__otel_budget_preset__": "mine"}, {"claude"}),
        ({"__otel_budget_preset__": "otel_budget"}, set()),
    ):
        with serve() as shown:
            shown.show(CLAUDE)
            files = [listed(tmp_path, shown, **labels)]
            settings = ScrapeSettings(file_sd=files, presets=chosen, timeout=5)
            found = asyncio.run(nudged(settings, "claude"))
            assert seen(found) == expected, labels


def test_a_preset_that_there_is_not_keeps_the_last_good_targets(tmp_path: Path) -> None:
    """And the file is what is wrong."""
    with serve() as shown:
        files = [listed(tmp_path, shown, __otel_budget_preset__="cloude_code")]

        async def read() -> Observation:
            source = ScrapeSource(ScrapeSettings(file_sd=files, presets=shipped()), time.time)
            try:
                return await source.read()
            finally:
                await source.close()

        (problem,) = asyncio.run(read()).problems
    assert "__otel_budget_preset__ is 'cloude_code'; there are claude_code, codex" in problem.detail


def test_a_session_named_by_its_program_is_nothing_that_its_target_is_bound_to(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What belongs to a target by its address nobody wrote, and nobody can have it wrong."""
    moment = [1000.0]
    with serve() as shown:
        shown.show(CLAUDE)

        async def read() -> None:
            targets = [ScrapeTarget(shown.url, preset=shipped()["claude_code"])]
            source = ScrapeSource(ScrapeSettings(targets, timeout=5), lambda: moment[0])
            for _ in range(3):
                await source.read()
                moment[0] += 400
            await source.close()

        asyncio.run(read())
    assert not caplog.messages
