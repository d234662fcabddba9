"""Targets and files that answer and show no run: named in the log, once, with the reason."""

import asyncio
import logging
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from otel_budget import semconv
from otel_budget.presets.loader import shipped
from otel_budget.sdk.metrics.collector import RunCollector
from otel_budget.sidecar.metrics import SidecarMetrics
from otel_budget.sources.scrape import ScrapeSettings, ScrapeSource
from otel_budget.sources.scrape_target import ScrapeTarget
from tests.support.exposition import Exposition, line, page, serve

RUN = page(line(semconv.SESSION_TOKENS, 5, "run-1"))


@pytest.fixture
def endpoint() -> Iterator[Exposition]:
    """An endpoint that shows an empty page."""
    with serve() as exposition:
        yield exposition


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What the sources say."""
    caplog.set_level(logging.INFO, logger="otel_budget")
    return caplog


def look(*urls: str, file_sd: tuple[str, ...] = ()) -> ScrapeSource:
    """Return a source of these targets."""
    targets = tuple(ScrapeTarget(url) for url in urls)
    return ScrapeSource(ScrapeSettings(targets, file_sd, timeout=5), time.time)


def read(source: ScrapeSource, times: int = 1) -> None:
    """Read so often."""

    async def reading() -> None:
        for _ in range(times):
            await source.read()
        await source.close()

    asyncio.run(reading())


def test_a_page_of_something_else_is_named_once_and_again_after_it_was_an_agents(
    endpoint: Exposition, log: pytest.LogCaptureFixture
) -> None:
    source = look(endpoint.url)
    endpoint.show("# TYPE go_goroutines gauge\ngo_goroutines 7\n")
    read(source, 3)
    (record,) = log.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith(
        f"target {endpoint.url} answers, but shows no series of otel-budget: is this the address"
    )
    endpoint.show(f'{RUN}{semconv.BUILD_INFO.name}{{version="1"}} 1\n')
    read(source)
    endpoint.show("up 1\n")
    read(source, 2)
    assert len(log.records) == 2


def test_a_foreign_agent_between_two_runs_is_in_order(
    endpoint: Exposition, log: pytest.LogCaptureFixture
) -> None:
    """It exports one counter with a session id, and nothing while no run is on."""
    source = look(endpoint.url)
    for shown in (RUN, "go_goroutines 7\n", RUN, "go_goroutines 7\n"):
        endpoint.show(shown)
        read(source, 2)
    assert not log.records
    endpoint.show(page(line(semconv.SESSION_TOKENS, 5, "no id")))
    read(source)
    (record,) = log.records
    assert "its series have no valid session_id" in record.getMessage()


def test_the_page_of_another_sidecar_is_named_as_that(
    endpoint: Exposition, log: pytest.LogCaptureFixture
) -> None:
    endpoint.show(SidecarMetrics("1.2.3", time.time, lambda: 0).exposition("")[0].decode())
    read(look(endpoint.url), 2)
    assert "a sidecar's own /metrics" in log.messages[0]
    assert len(log.messages) == 1


def test_series_without_a_session_id_are_named(
    endpoint: Exposition, log: pytest.LogCaptureFixture
) -> None:
    endpoint.show(f"{semconv.SESSION_TOKENS.name} 5\n")
    read(look(endpoint.url))
    assert "no valid session_id" in log.text


def test_an_agent_without_a_run_is_not_named(
    endpoint: Exposition, log: pytest.LogCaptureFixture
) -> None:
    registry = CollectorRegistry()
    registry.register(RunCollector())
    endpoint.show(generate_latest(registry).decode())
    read(look(endpoint.url), 3)
    assert log.messages == []


def test_very_many_strange_targets_are_one_line(log: pytest.LogCaptureFixture) -> None:
    with serve() as endpoint:
        endpoint.show("up 1\n")
        read(look(*(f"{endpoint.url}?{n}" for n in range(25))), 2)
    (told,) = log.messages
    assert told.startswith("25 targets answer, but show no series of otel-budget: http://")
    assert told.endswith("and 22 more")


def test_a_pattern_without_a_file_is_warned_of_and_a_folder_at_rest_is_not(
    tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "targets"
    pattern = str(folder / "*.json")
    source = look(file_sd=(pattern,))
    with log.at_level(logging.INFO):
        read(source, 3)
        folder.mkdir()
        for _ in range(2):
            (folder / "a.json").write_text("[]", encoding="utf-8")
            read(source, 2)
            (folder / "a.json").unlink()
            read(source, 2)
        folder.rmdir()
        read(source, 2)
    named = [(r.levelname, r.message) for r in log.records if r.message.startswith("file_sd: ")]
    gone = ("WARNING", f"file_sd: {pattern} matches no file")
    at_rest = ("INFO", f"file_sd: {pattern} matches no file any more: no process is registered")
    assert named == [gone, at_rest, at_rest, gone]


def test_files_that_never_listed_a_target_are_named_once(
    tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "agents.json"
    file.write_text("[]", encoding="utf-8")
    source = look(file_sd=(str(file),))
    read(source, 3)
    (said,) = log.messages
    assert said.startswith(f"nothing to scrape: no file of file_sd ({file}) lists a target")


def test_a_list_of_targets_that_got_empty_is_a_fleet_at_rest(
    endpoint: Exposition, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    endpoint.show(RUN)
    file = tmp_path / "agents.json"
    place = endpoint.url.removeprefix("http://").removesuffix("/metrics")
    file.write_text(f'[{{"targets": ["{place}"]}}]', encoding="utf-8")
    source = look(file_sd=(str(file),))
    read(source)
    file.write_text("[]", encoding="utf-8")
    read(source, 3)
    assert log.messages == []


def test_a_reading_says_which_targets_show_nothing_that_can_be_counted(
    endpoint: Exposition, tmp_path: Path
) -> None:
    endpoint.show("go_goroutines 7\n")

    async def reading(source: ScrapeSource) -> dict[str, str]:
        found = await source.read()
        await source.close()
        return dict(found.unmatched)

    assert list(asyncio.run(reading(look(endpoint.url)))) == [endpoint.url]
    (why,) = asyncio.run(reading(look(file_sd=(str(tmp_path / "*.json"),)))).values()
    assert "nothing to scrape" in why
    endpoint.show(RUN)
    assert asyncio.run(reading(look(endpoint.url))) == {}


def test_a_program_that_began_anew_and_was_not_used_since_is_in_order(endpoint: Exposition) -> None:
    """One that never showed anything is not; both are named in the log."""
    target = ScrapeTarget(endpoint.url, preset=shipped()["vllm"])

    async def readings(*pages: str) -> list[int]:
        source = ScrapeSource(ScrapeSettings((target,), timeout=5), time.time)
        found = []
        for text in pages:
            endpoint.show(text)
            found.append(len((await source.read()).unmatched))
        await source.close()
        return found

    used = 'vllm:prompt_tokens_total{model_name="m"} 5\n'
    assert asyncio.run(readings("up 1\n", used, "up 1\n")) == [1, 0, 0]


@pytest.mark.parametrize(
    ("shown", "preset"),
    [
        ('acme_otel_budget_tokens_total{session_id="a"} 5', None),
        ('otel_budget_api_calls{session_id="a"} 5', None),
        ('acme_gen_ai_client_token_usage_sum{gen_ai_token_type="input"} 5', "gen_ai"),
    ],
)
def test_use_by_another_name_is_named(
    endpoint: Exposition, log: pytest.LogCaptureFixture, shown: str, preset: str | None
) -> None:
    """A Collector in between put its namespace before it, or left a suffix out."""
    endpoint.show(f"{shown}\n")
    target = ScrapeTarget(endpoint.url, preset=shipped()[preset] if preset else None)
    source = ScrapeSource(ScrapeSettings((target,), timeout=5), time.time)
    read(source, 3)
    (record,) = log.records
    said = record.getMessage()
    assert f"has other names than {f'preset {preset}' if preset else 'otel-budget'}" in said
    assert f"({shown.partition('{')[0]}), which are not read" in said
