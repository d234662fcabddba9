"""A loop whose source has targets that are late, and what is read for nudges."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from otel_budget import semconv
from otel_budget.core.observation import Observation, Problem
from otel_budget.core.reasons import Action, Reason
from otel_budget.ledger.ledger import Ledger
from otel_budget.sidecar.metrics import MetricsPage
from otel_budget.sidecar.nudging import Nudging, merged
from otel_budget.sources.file_sd import FileSdListing
from otel_budget.sources.http import Fetched
from otel_budget.sources.prometheus import PrometheusSettings, PrometheusSource
from tests.support.sidecar_fixtures import (
    START,
    TARGET,
    Sidecar,
    SteadyClock,
    reading,
    session,
    sidecar,
)

SLOW = "http://slow/metrics"
EVERY = frozenset({TARGET, SLOW})


def slow(tokens: int, at: float = START) -> Any:
    """Return a run of the target that is late."""
    return session("slow", tokens, at=at)._replace(target=SLOW)


def late(*sessions: Any) -> Observation:
    """Return what that target gives."""
    return reading(*sessions, asked=frozenset({SLOW}))


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Sidecar]:
    """A sidecar whose source first shows both runs, then the slow one's target is late."""
    pending = reading(session("fast", 5000), targets=EVERY, pending=frozenset({SLOW}))
    made = sidecar(tmp_path, reading(session("fast"), slow(1), targets=EVERY), pending, waits=4)
    yield made
    made.storage.close()


def action(parts: Sidecar, session_id: str) -> Action:
    """Return what the published verdict on a run says."""
    published = parts.broadcaster.get(session_id)
    assert published is not None
    return published.verdict.action


def test_who_answered_is_judged_while_others_have_not(parts: Sidecar) -> None:
    """Their runs are as they were: neither missing nor vanished."""
    asyncio.run(parts.loop.run())
    assert (action(parts, "fast"), action(parts, "slow")) == (Action.STOP, Action.CONTINUE)
    published = parts.broadcaster.get("slow")
    assert published is not None
    assert published.verdict.run_state == "running"
    assert published.verdict.resources[semconv.TOKENS].used == 1
    assert parts.source.late_reads >= 1


def test_what_comes_late_is_judged_when_it_comes(parts: Sidecar) -> None:
    parts.source.late.append(late(slow(5000, START + 1)))
    asyncio.run(parts.loop.run())
    assert action(parts, "slow") is Action.STOP


def test_a_source_that_fails_to_read_late_costs_nothing(
    parts: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail() -> Observation | None:
        raise ZeroDivisionError

    monkeypatch.setattr(parts.source, "read_late", fail)
    asyncio.run(parts.loop.run())
    assert action(parts, "fast") is Action.STOP


def test_a_run_that_its_target_shows_no_more_has_vanished_only_once_that_has_answered() -> None:
    ledger = Ledger()
    ledger.apply(reading(slow(1), targets=EVERY))
    account = ledger.runs["slow"]
    states = []
    for pending in ({SLOW}, set()):
        ledger.apply(reading(targets=EVERY, pending=frozenset(pending)))
        states.append(ledger.snapshot(account, START + 1).attributes.state)
    assert states == ["running", semconv.VANISHED]


def test_what_is_said_of_a_crowded_target_stays_while_it_has_not_answered() -> None:
    ledger = Ledger()
    many = [slow(1)._replace(session_id=f"slow-{n}") for n in range(3)]
    ledger.apply(reading(*many, targets=EVERY, session_limit=2))
    ledger.apply(reading(targets=EVERY, pending=frozenset({SLOW}), session_limit=2))
    ledger.apply(reading(asked=frozenset({TARGET}), session_limit=2))
    assert ledger.crowded == {SLOW: 1}
    ledger.apply(reading(targets=EVERY, session_limit=2))
    assert ledger.crowded == {}


def test_readings_for_nudges_are_judged_together_each_target_by_its_newest() -> None:
    down = Problem(TARGET, Reason.SOURCE_ERROR, "refused")
    first = reading(session("fast", 1), asked=frozenset({TARGET}), dropped={"type": 1})
    again = reading(problems=(down,), asked=frozenset({TARGET}), dropped={"type": 2})
    together = merged([first, late(slow(2)), again])
    assert (together.asked, together.problems) == (EVERY, (down,))
    assert [s.session_id for s in together.sessions] == ["slow"]
    assert together.dropped == {"type": 3}
    assert merged([first]) is first


def test_nudges_that_come_during_a_step_are_one_step() -> None:
    steps: list[frozenset[str] | None] = []

    async def trial() -> None:
        go = asyncio.Event()

        async def judge(one: Observation) -> None:
            steps.append(one.asked)
            await go.wait()

        nudging = Nudging(judge)
        tasks = [asyncio.create_task(nudging.judge(late(slow(1))))]
        await asyncio.sleep(0.01)
        tasks += [asyncio.create_task(nudging.judge(late(slow(2)))) for _ in range(64)]
        await asyncio.sleep(0)
        go.set()
        await asyncio.gather(*tasks)

    asyncio.run(trial())
    assert steps == [frozenset({SLOW})] * 2


def test_a_disk_that_hangs_leaves_the_targets_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And says so; at first nothing is known, and that is said at once."""
    hang = threading.Event()
    (tmp_path / "a.json").write_text('[{"targets": ["a:1"]}]')

    async def trial() -> list[list[Problem]]:
        listing = FileSdListing([str(tmp_path / "*.json")], 0.1)
        read = listing._files.read
        until = asyncio.get_running_loop().time() + 10
        found = [await listing.read(until)]
        monkeypatch.setattr(listing._files, "read", lambda: (hang.wait(10), read())[1])
        found.append(await listing.read(until))
        monkeypatch.setattr("otel_budget.sources.file_sd._HANGS", 0.0)
        found.append(await listing.read(until))
        assert listing.urls == ["http://a:1/metrics"]
        await listing.close()
        return found

    good, patient, said = asyncio.run(trial())
    hang.set()
    assert (good, patient) == ([], [])
    assert "could not be read within" in said[0].detail


def test_the_sidecars_own_metrics_are_made_once_for_all_who_ask_at_once(parts: Sidecar) -> None:
    made: list[str] = []
    exposition = parts.metrics.exposition

    def counted(accept: str) -> tuple[bytes, str]:
        made.append(accept)
        return exposition(accept)

    parts.metrics.exposition = counted  # type: ignore[method-assign] # counts
    metrics = MetricsPage(parts.metrics)

    async def trial() -> list[Any]:
        asked = (f"text/plain;q=0.{n % 9 + 1}" for n in range(30))
        return await asyncio.gather(*(metrics.page(accept) for accept in asked))

    pages = asyncio.run(trial())
    assert len(made) <= 2
    assert all(b"otel_budget_sidecar_sessions" in body for body, _ in pages)


def test_notes_are_taken_while_the_metrics_are_written(parts: Sidecar) -> None:
    """Of very many runs that takes seconds, and the event loop is not to wait for it."""
    families = parts.metrics.collect()
    next(families)
    noted = threading.Thread(target=parts.metrics.note_failed_tick, daemon=True)
    noted.start()
    noted.join(10)
    assert not noted.is_alive()


def test_a_reading_says_of_which_targets_it_is() -> None:
    whole = reading(targets=EVERY, pending=frozenset({SLOW}))
    assert (whole.is_of(TARGET), whole.is_of(SLOW)) == (True, False)
    some = replace(whole, pending=frozenset(), asked=frozenset({SLOW}))
    assert (some.is_of(TARGET), some.is_of(SLOW)) == (False, True)


def test_a_server_that_hangs_when_asked_why_nothing_matches_delays_no_reading(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it says is only said; a run that begins meanwhile is seen."""
    monkeypatch.setattr("otel_budget.sources.prometheus._LOOK_SECONDS", 0.01)
    empty = b'{"status": "success", "data": {"resultType": "vector", "result": []}}'

    class Hanging:
        async def fetch(self, *_: Any, form: Mapping[str, str], **__: Any) -> Fetched:
            if "count by" in form["query"]:
                await asyncio.Event().wait()
            return Fetched(empty, "application/json", START)

        async def close(self) -> None:
            """Do nothing."""

    async def trial() -> list[Observation]:
        source = PrometheusSource(PrometheusSettings("http://p"), SteadyClock())
        source._fetcher = Hanging()  # type: ignore[assignment] # as much of it as is used
        try:
            return [await asyncio.wait_for(source.read(), 10) for _ in range(5)]
        finally:
            await source.close()

    readings = asyncio.run(trial())
    assert [reading.ok for reading in readings] == [True] * 5
