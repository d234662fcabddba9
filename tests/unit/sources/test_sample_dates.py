"""Timestamps on a page: a sample is as old as it says, however fresh the page is that shows it."""

from __future__ import annotations

import asyncio
import json
from email.utils import formatdate
from typing import Any

import pytest

from otel_budget import semconv
from otel_budget.core.observation import Observation, RunObservation
from otel_budget.presets.loader import shipped
from otel_budget.presets.model import Preset
from otel_budget.sources.exposition import PageLimits
from otel_budget.sources.http import Fetched, age_of, time_there
from otel_budget.sources.incremental.scrape_page import ScrapePage
from otel_budget.sources.prometheus import PrometheusSettings, PrometheusSource
from otel_budget.sources.prometheus_vector import SAMPLED
from otel_budget.sources.sample_dates import MOST, DatedPage, PageDates, unit_of
from otel_budget.sources.scrape import ScrapeSettings, ScrapeSource
from otel_budget.sources.scrape_target import ScrapeTarget
from tests.support.exposition import line
from tests.support.sidecar_fixtures import START, SteadyClock

URL = "http://a/metrics"
TEXT, OPENMETRICS = "text/plain; version=0.0.4", "application/openmetrics-text; version=1.0.0"
#: Our clock is the system's of the start; it may be off from what the wall shows.
WALL = START + 3.0


class Target:
    """A target whose pages are written by hand, under clocks that are moved by hand."""

    def __init__(self) -> None:
        """Begin at the start."""
        self.now, self.theirs = START, 0.0
        """Our time, and by how much the target's ``Date`` differs from it."""
        self.pages = ScrapePage(URL, PageLimits(), 60.0)
        self.dates = PageDates()

    def show(self, *samples: tuple[str, float | None], kind: str = TEXT) -> DatedPage:
        """Have it show sessions, each with the time of its sample, and read that a second later."""
        self.now += 1
        scale = 1000 if kind == TEXT else 1
        lines = [
            line(semconv.SESSION_TOKENS, 5, name) + ("" if at is None else f" {at * scale:.0f}")
            for name, at in samples
        ]
        end = [] if kind == TEXT else ["# EOF"]
        body = "".join(f"{each}\n" for each in [*lines, *end]).encode()
        wall = self.now + WALL - START
        fetched = Fetched(body, kind, self.now, time_there=wall + self.theirs)
        return self.dates.date(self.pages.read(body, kind, self.now), fetched)

    def ages(self, *samples: tuple[str, float | None], kind: str = TEXT) -> dict[str, float]:
        """Return how old the sessions are that it shows."""
        found = self.show(*samples, kind=kind).found
        return {s.session_id: round(self.now - s.sampled_at, 3) for s in found.sessions}

    @property
    def wall(self) -> float:
        """What the wall will show at the next page."""
        return self.now + 1 + WALL - START


@pytest.fixture
def target() -> Target:
    return Target()


@pytest.mark.parametrize("kind", [TEXT, OPENMETRICS])
def test_a_sample_is_as_old_as_its_timestamp_says(target: Target, kind: str) -> None:
    """By the clock on the wall: ours may have been wrong when this process began."""
    at = target.wall - 60
    assert target.ages(("a", at), kind=kind) == {"a": 60.0}
    assert target.ages(("a", at), kind=kind) == {"a": 61.0}
    assert target.ages(("a", at), kind=kind) == {"a": 62.0}


def test_openmetrics_has_fractions_of_seconds() -> None:
    body = b'otel_budget_tokens_total{session_id="a"} 1 1700000000.25\n# EOF\n'
    pages = ScrapePage(URL, PageLimits(), 60.0)
    assert pages.read(body, OPENMETRICS, START).times == {"a": 1700000000.25}


def test_a_sample_without_a_timestamp_is_of_now(target: Target) -> None:
    assert target.ages(("a", None), ("b", target.wall - 10)) == {"a": 0.0, "b": 10.0}


def test_what_writes_the_present_time_on_each_line_is_fresh(target: Target) -> None:
    for _ in range(5):
        assert target.ages(("a", target.wall), ("b", target.wall)) == {"a": 0.0, "b": 0.0}


def test_of_two_processes_of_one_session_the_live_one_counts(target: Target) -> None:
    """Their counters add up; one that lives is enough for the run to be alive."""
    first, second = target.wall - 1800, target.wall
    text = 'otel_budget_tokens_total{{session_id="a",pid="{}"}} 5{}\n'
    dead, live = (text.format(pid, f" {at * 1000:.0f}") for pid, at in ((1, first), (2, second)))
    for page, times in ((dead + live, {"a": second}), (dead + text.format(2, ""), {})):
        assert target.pages.read(page.encode(), TEXT, START).times == times


def test_a_dead_one_beside_a_live_one_is_old(target: Target) -> None:
    at = target.wall
    assert target.ages(("dead", at - 1800), ("live", at)) == {"dead": 1800.0, "live": 0.0}


def test_a_time_in_the_future_is_of_when_it_was_seen_first(target: Target) -> None:
    """A clock that is ahead, and stops with its agent, does not hide that for as long."""
    at = target.wall + 3600
    assert [target.ages(("a", at))["a"] for _ in range(4)] == [0.0, 1.0, 2.0, 3.0]
    assert target.ages(("a", at + 4)) == {"a": 0.0}


def test_a_time_that_goes_back_is_the_time_that_it_was(target: Target) -> None:
    """A cache with several backends; the ledger leaves what is older than what it has."""
    at = target.wall
    assert target.ages(("a", at)) == {"a": 0.0}
    assert target.ages(("a", at - 20)) == {"a": 21.0}
    assert target.ages(("a", at)) == {"a": 2.0}


def test_a_first_page_that_is_very_old_waits_for_the_second(target: Target) -> None:
    """Which tells an old page from a clock that is behind."""
    at = target.wall - 1800
    first = target.show(("a", at))
    assert (first.found.sessions, "1,800 s old" in first.waits) == ((), True)
    assert target.ages(("a", at)) == {"a": 1801.0}
    assert target.ages(("a", at)) == {"a": 1802.0}


def test_a_clock_that_is_behind_and_goes_on_with_ours_is_known(target: Target) -> None:
    """Until it stops; its dead neighbours are as old as they are by that clock."""
    behind = 3600.0
    target.show(("a", target.wall - behind))
    for _ in range(4):
        at = target.wall - behind
        seen = target.show(("a", at), ("dead", at - 120))
        ages = {s.session_id: target.now - s.sampled_at for s in seen.found.sessions}
        assert ages == {"a": pytest.approx(0), "dead": pytest.approx(120, abs=5)}
        assert any("behind" in odd for odd in seen.odd)
    assert target.ages(("a", at)) == {"a": 1.0}
    assert target.ages(("a", at)) == {"a": 2.0}


def test_samples_that_come_seldom_and_late_are_no_clock_that_is_behind(target: Target) -> None:
    """A pipeline with a backlog: its samples are as old as they are."""
    at = target.wall - 2 * MOST
    target.show(("a", at))
    for number in range(30):
        if number % 10 == 0:
            at += 10
        assert target.ages(("a", at))["a"] > 2 * MOST - 12


def test_the_clock_of_the_target_counts_where_it_is_clearly_another(target: Target) -> None:
    """As its Date says."""
    target.theirs = -7200.0
    assert target.ages(("a", target.wall - 7200)) == {"a": 0.0}


def test_seconds_in_the_place_of_milliseconds_are_taken_for_seconds(target: Target) -> None:
    """The year 1970 is no time of a sample."""
    seen = target.show(("a", round(target.wall - 40) / 1000))
    assert target.now - seen.found.sessions[0].sampled_at == pytest.approx(40, abs=1)
    assert "multiplied by 1000" in " ".join(seen.odd)


@pytest.mark.parametrize(
    ("written", "factor"),
    [(1.7e9, 1), (1.7e6, 1e3), (1.7e12, 1e-3), (1.7e15, 1e-6), (1.7e18, 1e-9),
     (0.0, None), (-1.0, None), (86_400.0, None)],
)  # fmt: skip
def test_the_unit_of_a_timestamp(written: float, factor: float | None) -> None:
    assert unit_of(written) == factor


def test_a_timestamp_that_can_be_none_leaves_the_run_in_doubt(target: Target) -> None:
    """It is neither fresh nor half a century old."""
    seen = target.show(("a", 0.0), ("b", None))
    a, b = seen.found.sessions
    assert (a.implausible, a.sampled_at) == (("timestamp",), target.now)
    assert b.implausible == ()
    assert seen.found.dropped == {semconv.NO_TIMESTAMP: 1}
    assert "are impossible" in " ".join(seen.odd)


@pytest.mark.parametrize(
    ("ages", "seconds"),
    [([], 0), (["30"], 30), (["30, 90"], 90), (["5", "600"], 600), (["x"], 0), (["-5"], 0),
     (["9" * 30], 1e9)],
)  # fmt: skip
def test_the_age_of_an_answer_is_what_a_cache_says(ages: list[str], seconds: float) -> None:
    assert age_of(ages) == seconds


def test_the_time_there_is_that_of_its_date() -> None:
    """Unless it is ours, to within what whole seconds allow; with an age it was then."""
    assert time_there(formatdate(START - 1, usegmt=True), 0.0, START) == START
    assert time_there(formatdate(START - 100, usegmt=True), 0.0, START) == START - 100
    assert time_there(formatdate(START - 100, usegmt=True), 100.0, START) == START
    for nothing in ("", "yesterday", "Thu, 99 Jan 2026 00:00:00 GMT"):
        assert time_there(nothing, 0.0, START) == START


# --- on the way through the source ---------------------------------------------------------------
PRESET_PAGE = (
    'claude_code_token_usage_tokens_total{{session_id="s",type="input"}} 500 {old}\n'
    'claude_code_token_usage_tokens_total{{session_id="s",type="output"}} 5 {new}\n'
)


class Scripted:
    """A fetcher that answers by a script."""

    def __init__(self, clock: SteadyClock) -> None:
        """Answer nothing yet."""
        self._clock = clock
        self.body, self.age = "", 0.0

    async def fetch(self, *_: Any, **__: Any) -> Fetched:
        """Answer."""
        now = self._clock()
        return Fetched(self.body.encode(), TEXT, now - self.age, (), self.age, now - self.age)

    async def close(self) -> None:
        """Do nothing."""


def source(clock: SteadyClock, **options: Any) -> tuple[ScrapeSource, Scripted]:
    """Return a source of one target, and what answers for it."""
    made = ScrapeSource(ScrapeSettings([ScrapeTarget(URL, **options)]), clock, clock)
    fetcher = Scripted(clock)
    made._fetcher = fetcher  # type: ignore[assignment] # as much of it as is used
    return made, fetcher


def only(reading: Observation) -> RunObservation:
    """Return the one session of a reading."""
    (session,) = reading.sessions
    return session


@pytest.fixture
def claude_code() -> Preset:
    return shipped()["claude_code"]


def test_sessions_of_a_preset_are_as_old_as_their_newest_sample(claude_code: Preset) -> None:
    clock = SteadyClock()
    scraped, page = source(clock, preset=claude_code)
    old, new = round((START - 200) * 1000), round((START - 50) * 1000)
    page.body = PRESET_PAGE.format(old=old, new=new)
    assert only(asyncio.run(scraped.read())).sampled_at == START - 50


def test_timestamps_that_are_not_to_be_honored_are_not() -> None:
    clock = SteadyClock()
    scraped, page = source(clock, honor_timestamps=False)
    page.body = line(semconv.SESSION_TOKENS, 5, "a") + f" {round((START - 50) * 1000)}\n"
    assert only(asyncio.run(scraped.read())).sampled_at == START


def test_a_copy_from_a_cache_is_as_old_as_that_says() -> None:
    """Without a timestamp, too."""
    clock = SteadyClock()
    scraped, page = source(clock)
    page.body, page.age = line(semconv.SESSION_TOKENS, 5, "a") + "\n", 90.0
    assert only(asyncio.run(scraped.read())).sampled_at == START - 90


def test_what_is_odd_about_timestamps_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    clock = SteadyClock()
    scraped, page = source(clock)
    page.body = line(semconv.SESSION_TOKENS, 5, "a") + f" {round((START - 100) * 1000)}\n"
    for _ in range(5):
        asyncio.run(scraped.read())
        clock.advance(1)
    said = [r.getMessage() for r in caplog.records]
    assert len(said) == 1
    assert "more than a minute old" in said[0]


def test_a_first_page_that_waits_is_a_partial_one() -> None:
    """The run is not shown, which is not to say that it is gone."""
    clock = SteadyClock()
    scraped, page = source(clock)
    page.body = line(semconv.SESSION_TOKENS, 5, "a") + f" {round((START - 1800) * 1000)}\n"
    first = asyncio.run(scraped.read())
    assert (first.sessions, [p.reason for p in first.problems]) == ((), ["partial_data"])
    clock.advance(1)
    second = asyncio.run(scraped.read())
    assert (only(second).sampled_at, second.problems) == (START - 1800, ())


def test_a_page_of_present_times_costs_no_reading_of_its_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each line is another one at every scrape; none of them has another value."""
    pages = ScrapePage(URL, PageLimits(), 60.0)
    lines = [line(semconv.SESSION_TOKENS, n, f"run-{n}") for n in range(50)]
    first, second = (
        "".join(f"{each} {at}\n" for each in lines).encode()
        for at in (1_700_000_000_000, 1_700_000_001_000)
    )
    pages.read(first, TEXT, START)
    monkeypatch.setattr(pages._reader, "exactly", lambda *_: pytest.fail("a line was parsed"))
    monkeypatch.setattr(pages, "_read_whole", lambda *_: pytest.fail("it was read as a whole"))
    found = pages.read(second, TEXT, START)
    assert set(found.times.values()) == {1_700_000_001.0}
    assert len(found.sessions) == 50


def test_an_answer_of_prometheus_from_a_cache_is_as_old_as_that_says() -> None:
    """Its samples were of then: evaluated a minute ago, and taken two seconds before."""
    clock = SteadyClock()
    queried = PrometheusSource(PrometheusSettings("http://p"), clock)
    answering = Scripted(clock)
    queried._fetcher = answering  # type: ignore[assignment] # as much of it as is used
    labels = {"job": "j", "instance": "i", semconv.SESSION_ID: "a"}
    tokens = {**labels, "__name__": semconv.SESSION_TOKENS.name}
    rows = ((tokens, 5), ({**labels, SAMPLED: "1"}, START - 62))
    result = [{"metric": metric, "value": [START - 60, str(v)]} for metric, v in rows]
    data = {"resultType": "vector", "result": result}
    answering.body, answering.age = json.dumps({"status": "success", "data": data}), 60.0
    assert only(asyncio.run(queried.read())).sampled_at == START - 62
