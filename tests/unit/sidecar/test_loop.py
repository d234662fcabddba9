"""The loop and its book: what gets a new sequence, what is kept, what a failure does."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from otel_budget import semconv
from otel_budget.core.observation import Observation, Problem
from otel_budget.core.override import Override, OverrideKind, OverrideRefusedError
from otel_budget.core.reasons import Action, Reason
from otel_budget.core.verdict import LimitStatus, Verdict
from otel_budget.policy.verdicts import Rules
from otel_budget.sidecar import loop as loop_module
from otel_budget.sidecar.loop import LAST_READ
from otel_budget.sidecar.settings import Settings
from otel_budget.sidecar.storage.base import StorageError
from otel_budget.sources.replay import ReplaySource
from tests.support.sidecar_fixtures import (
    START,
    TARGET,
    Script,
    Sidecar,
    SteadyClock,
    ceilings,
    outage,
    reading,
    session,
    sidecar,
)


@pytest.fixture
def make(tmp_path: Path) -> Any:
    """Build sidecars on one store, one after the other; each closes the one before."""
    made: list[Sidecar] = []

    def build(*steps: Observation | Exception | None, **options: Any) -> Sidecar:
        if made:
            made[-1].storage.close()
        made.append(sidecar(tmp_path, *steps, **options))
        return made[-1]

    yield build
    made[-1].storage.close()


Make = Callable[..., Sidecar]


def ticks(parts: Sidecar, times: int = 1, *, every: float = 1.0) -> None:
    """Tick so often, and let time pass after each."""

    async def several() -> None:
        for _ in range(times):
            await parts.loop.tick()
            parts.clock.advance(every)

    asyncio.run(several())


def now(parts: Sidecar, session_id: str = "run-1") -> Verdict:
    """Return the published verdict of a run."""
    published = parts.broadcaster.get(session_id)
    assert published is not None
    return published.verdict


def used(parts: Sidecar, resource: str = semconv.TOKENS) -> Any:
    """Return what the published verdict says was used."""
    return now(parts).resources[resource].used


def test_a_reading_becomes_a_published_verdict(make: Make) -> None:
    parts = make(reading(session(tokens=500)))
    ticks(parts)
    assert (now(parts).action, now(parts).status, now(parts).sequence) == ("continue", "ok", 1)
    assert used(parts) == 500


def test_the_same_verdict_keeps_its_sequence_and_gets_new_numbers(make: Make) -> None:
    parts = make(reading(session(tokens=500)), reading(session(tokens=510)))
    ticks(parts, 2)
    assert (now(parts).sequence, used(parts)) == (1, 510)


@pytest.mark.parametrize(
    ("later", "why"),
    [
        (session(tokens=850), "another status"),
        (session(tokens=1000), "another action"),
        (session(tokens=500, limits={semconv.TOKENS: 900}), "another effective limit"),
        (session(tokens=500, limits={semconv.TOKENS: 1000}), "the same limit, from the run"),
        (session(tokens=500, limits={semconv.API_CALLS: 50}), "one more limited resource"),
        (session(tokens=500, started_at=START), "another run under the same id"),
    ],
)
def test_what_says_something_new_gets_a_new_sequence(make: Make, later: Any, why: str) -> None:
    parts = make(reading(session(tokens=500)), reading(later))
    ticks(parts, 2)
    assert now(parts).sequence == 2, why


def test_sequences_are_global(make: Make) -> None:
    parts = make(reading(session("a"), session("b")), reading(session("a", 2000), session("b")))
    ticks(parts, 2)
    assert (now(parts, "a").sequence, now(parts, "b").sequence) == (3, 2)


def test_a_restarted_sidecar_goes_on_where_it_was(make: Make) -> None:
    first = make(reading(session(tokens=500)), reading(session(tokens=900)))
    ticks(first, 2)
    second = make(reading(session(tokens=910)), clock=SteadyClock(START + 60))
    ticks(second)
    assert (used(second), now(second).sequence) == (910, 2)


def test_a_counter_that_began_anew_while_the_sidecar_was_away_is_added(make: Make) -> None:
    ticks(make(reading(session(tokens=500))))
    second = make(reading(session(tokens=20)), clock=SteadyClock(START + 60))
    ticks(second)
    assert used(second) == 520


def test_after_a_restart_what_is_known_to_be_exceeded_stays_stopped_without_a_source(
    make: Make,
) -> None:
    ticks(make(reading(session(tokens=5000))))
    blind = make(outage(), clock=SteadyClock(START + 60))
    ticks(blind)
    assert not blind.loop.ready
    assert (now(blind).action, now(blind).reason) == (Action.STOP, Reason.LIMIT_EXCEEDED)


def test_after_a_restart_what_is_known_is_told_before_the_source_answers(make: Make) -> None:
    ticks(make(reading(session("over", 5000), session("well", 5))))
    hanging = make(None, clock=SteadyClock(START + 60))
    asyncio.run(hanging.loop.publish_restored())
    over, well = now(hanging, "over"), now(hanging, "well")
    assert (over.action, over.reason, over.sequence) == (Action.STOP, Reason.LIMIT_EXCEEDED, 1)
    assert (well.action, well.status) == (Action.CONTINUE, LimitStatus.INCONCLUSIVE)
    assert (well.reason, well.sequence) == (Reason.STALE_DATA, 3)  # old data, their action held
    assert over.evaluated_at == START + 60
    assert not hanging.loop.ready
    assert 'inconclusive_total{reason="stale_data"} 0.0' in hanging.metrics_page(), (
        "no sidecar looked"
    )


def test_it_is_ready_and_its_source_up_although_no_target_is_there(make: Make) -> None:
    """On a quiet night, or before the first run, there is none; and nothing depends on it."""
    dead = Problem("http://gone/metrics", Reason.SOURCE_ERROR, "connection refused")
    parts = make(reading(problems=(dead,), answered=False), reading(problems=(dead,)))
    ready = []
    for _ in range(2):
        ticks(parts)
        ready.append(parts.loop.ready)
        assert 'source_up{source="scrape"} 1.0' in parts.metrics_page()
    assert ready == [True, True]


def test_it_is_not_ready_while_it_cannot_know_its_targets(make: Make) -> None:
    bad = Problem("targets.json", Reason.SOURCE_ERROR, "targets.json: is not JSON")
    parts = make(reading(problems=(bad,), answered=False, listed=False), reading())
    ticks(parts)
    assert not parts.loop.ready
    assert 'source_up{source="scrape"} 0.0' in parts.metrics_page()
    ticks(parts)
    assert parts.loop.ready


@pytest.mark.parametrize(("state", "up"), [("running", 0), (None, 0), ("completed", 1)])
def test_a_source_is_down_if_a_live_run_depends_on_targets_that_fail(
    make: Make, state: Any, up: int
) -> None:
    dead = Problem("http://gone/metrics", Reason.SOURCE_ERROR, "connection refused")
    parts = make(reading(session(state=state)), reading(problems=(dead,), answered=False))
    ticks(parts, 2)
    assert f'source_up{{source="scrape"}} {up}.0' in parts.metrics_page()


def test_it_is_ready_after_the_first_good_reading_and_not_before(make: Make) -> None:
    parts = make(outage(), reading(), outage())
    ready = []
    for _ in range(3):
        ticks(parts)
        ready.append(parts.loop.ready)
    assert ready == [False, True, True]


def test_a_source_that_raises_is_a_source_error_and_the_runs_age(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    parts = make(reading(session(tokens=500)), RuntimeError("boom"))
    ticks(parts, 2)
    assert now(parts).status is LimitStatus.OK  # one missed reading changes nothing
    ticks(parts, 8)
    assert (now(parts).status, now(parts).reason) == ("inconclusive", Reason.SOURCE_ERROR)
    assert "Traceback" in caplog.text
    assert 'source_up{source="scrape"} 0.0' in parts.metrics_page()


def test_silence_ages_a_run_holds_its_action_and_then_stops_it(make: Make) -> None:
    parts = make(reading(session(tokens=500)), reading())
    ticks(parts, 2)
    assert now(parts).status is LimitStatus.OK
    ticks(parts, 5)
    assert (now(parts).status, now(parts).action) == ("inconclusive", "continue")
    ticks(parts, 1, every=400)
    ticks(parts)
    assert (now(parts).reason, now(parts).action) == (Reason.STALE_DATA, "stop")


def test_a_run_that_ended_is_forgotten_after_ten_minutes(make: Make) -> None:
    parts = make(reading(session(tokens=500, state="completed")), reading())
    ticks(parts)
    ticks(parts, 1, every=590)
    assert parts.broadcaster.get("run-1") is not None
    ticks(parts, 2, every=10)
    assert parts.broadcaster.get("run-1") is None
    assert parts.evaluator.run_count == 0


def test_a_run_that_fell_silent_is_forgotten_after_forget_after(make: Make) -> None:
    parts = make(reading(session(tokens=500)), reading())
    ticks(parts, 1, every=3601)
    ticks(parts)
    assert parts.broadcaster.get("run-1") is None


def test_a_forgotten_run_that_turns_up_again_has_used_what_it_had_used(make: Make) -> None:
    parts = make(reading(session(tokens=500)), reading(), reading(session(tokens=30)))
    ticks(parts, 1, every=3601)
    ticks(parts)
    ticks(parts)
    assert used(parts) == 530
    assert now(parts).sequence == 2
    again = make(reading(session(tokens=40)), clock=parts.clock)
    ticks(again)
    assert used(again) == 540


def test_a_forgotten_run_that_still_shows_its_end_is_not_written_again_and_again(
    make: Make,
) -> None:
    parts = make(reading(session(tokens=500, state="completed")))
    ticks(parts, 1, every=601)
    ticks(parts)
    before = parts.storage._db.total_changes
    ticks(parts, 3)
    assert parts.broadcaster.get("run-1") is None
    assert parts.storage._db.total_changes == before


def test_an_unchanged_run_costs_no_write(make: Make) -> None:
    parts = make(reading(session(tokens=500)))
    ticks(parts, 3)
    before = parts.storage._db.total_changes
    ticks(parts, 3)
    assert parts.storage._db.total_changes == before


def test_a_new_run_under_an_old_id_supersedes_it(make: Make) -> None:
    rerun = session(tokens=7, started_at=START + 100)
    parts = make(reading(session(tokens=5000)), reading(rerun))
    ticks(parts, 2)
    assert (now(parts).started_at, used(parts), now(parts).action) == (START + 100, 7, "continue")
    again = make(reading(session(tokens=8, started_at=START + 100)), clock=parts.clock)
    ticks(again)
    assert used(again) == 8


def test_what_is_still_shown_of_a_run_that_ended_does_not_take_turns_with_the_next(
    make: Make,
) -> None:
    """The next one runs on a host whose clock is behind; the storage knows both."""
    ended = session(tokens=5000, state="completed")
    behind = session(tokens=7, started_at=START - 500)._replace(target="b")
    parts = make(reading(ended), reading(ended, behind))
    ticks(parts)
    assert (now(parts).started_at, used(parts)) == (START - 10, 5000)
    for _ in range(4):
        ticks(parts)
        assert (now(parts).started_at, used(parts)) == (START - 500, 7)
    again = make(reading(ended, behind), clock=parts.clock)
    ticks(again, 3)
    assert (now(again).started_at, used(again), now(again).sequence) == (START - 500, 7, 2)


def test_a_verdict_is_on_disk_before_it_is_published(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    parts = make(reading(session(tokens=500)), reading(session(tokens=5000)))
    ticks(parts)

    def full(_changes: object) -> None:
        raise StorageError("database or disk is full")

    monkeypatch.setattr(parts.storage, "commit", full)
    ticks(parts, 2)
    assert (used(parts), now(parts).sequence) == (500, 1)
    assert "disk is full" in caplog.text
    assert "tick_failures_total 2.0" in parts.metrics_page()
    assert parts.loop.unjudged_for == 3
    monkeypatch.undo()
    ticks(parts)
    assert (used(parts), now(parts).sequence) == (5000, 2)
    assert parts.loop.unjudged_for == 1


def test_what_could_not_be_stored_is_stored_by_the_next_tick(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    rerun = session(tokens=7, started_at=START + 100)
    parts = make(reading(session(tokens=500)), reading(rerun))
    ticks(parts)
    monkeypatch.setattr(parts.storage, "commit", lambda _changes: 1 / 0)
    ticks(parts)
    monkeypatch.undo()
    ticks(parts)
    old = parts.storage.archived("run-1", START - 10)
    assert old is not None
    assert old.totals()[semconv.TOKENS] == 500


def test_a_replayed_recording_is_judged_like_a_live_one(make: Make) -> None:
    parts = make()
    recorded = [reading(session(tokens=n, at=START + n), at=START + n) for n in (1, 2, 3)]
    source = ReplaySource(recorded)
    parts.loop.change_settings(Settings("scrape", source, 1.0, ceilings(tokens=3), 3600.0))

    async def run() -> None:
        for _ in recorded:
            await parts.loop.tick()
            parts.clock.advance(1)

    asyncio.run(run())
    assert now(parts).action is Action.STOP


# --- in time --------------------------------------------------------------------------------------
def test_it_reads_once_per_interval_and_once_more_at_the_end(make: Make) -> None:
    parts = make(reading(session()), waits=9)
    asyncio.run(parts.loop.run())
    assert parts.clock.now - START == 4.0
    assert parts.source.reads == 6
    assert parts.source.closed


def test_a_source_that_hangs_does_not_stop_the_judging(make: Make) -> None:
    """Without new data its age is the news: the lease is renewed, and the run grows stale."""
    parts = make(reading(session(tokens=500)), None, waits=12)
    asyncio.run(parts.loop.run())
    assert now(parts).status is LimitStatus.INCONCLUSIVE
    assert now(parts).evaluated_at == parts.clock.now
    assert parts.source.reads == 2


def test_the_end_does_not_wait_for_a_source_that_hangs(make: Make) -> None:
    parts = make(None, waits=1)
    asyncio.run(parts.loop.run())
    assert parts.waits[-1] == LAST_READ


@pytest.mark.parametrize("begun", ["before the end", "at the end"])
def test_the_end_does_not_wait_for_a_step_that_does_not_end_and_what_was_published_is_stored(
    make: Make, monkeypatch: pytest.MonkeyPatch, begun: str
) -> None:
    monkeypatch.setattr(loop_module, "LAST_STEP", 0.0)
    parts = make(reading(session(tokens=500)), reading(session(tokens=900)))
    released, hangs = threading.Event(), threading.Event()

    def step(*arguments: Any) -> Any:
        hangs.set()
        assert released.wait(60)
        raise StorageError("nobody hears of it any more")

    async def run() -> None:
        await parts.loop.tick()
        monkeypatch.setattr(parts.evaluator, "tick", step)
        if begun == "before the end":
            ticking = asyncio.create_task(parts.loop.tick())
            await asyncio.to_thread(hangs.wait)
            parts.loop.stop()
            await ticking
        parts.loop.stop()
        await parts.loop.run()
        with pytest.raises(OverrideRefusedError, match="is ending"):
            await parts.loop.apply_override(
                "run-1", Override(OverrideKind.STOP, "enough"), "somebody"
            )

    asyncio.run(run())
    released.set()
    assert parts.loop.gave_up
    assert used(parts) == 500
    again = make(None, clock=SteadyClock(START + 60))
    asyncio.run(again.loop.publish_restored())
    assert used(again) == 500


def test_a_tick_that_outlasts_its_interval_delays_the_next_and_is_counted(
    make: Make,
) -> None:
    clock = SteadyClock()

    class Slow(Script):
        async def read(self) -> Observation:
            clock.advance(2.5)
            return await super().read()

    parts = make(clock=clock, waits=4)
    parts.loop.settings = Settings(
        "scrape", Slow(clock, reading()), 1.0, ceilings(tokens=1), 3600.0
    )
    asyncio.run(parts.loop.run())
    assert clock.now - START == 2.5 * 5
    assert "tick_overruns_total 5.0" in parts.metrics_page()


def test_new_settings_are_taken_up_between_two_ticks(make: Make) -> None:
    parts = make(reading(session(tokens=500)), waits=5)
    old = parts.source
    new = Script(parts.clock, reading(session(tokens=500)))
    rules = Rules(ceilings=ceilings(tokens=100).ceilings, lease=3.0, revision="r2")

    async def run() -> None:
        await parts.loop.tick()
        assert now(parts).action is Action.CONTINUE
        parts.loop.change_settings(Settings("scrape", new, 1.0, rules, 3600.0))
        await parts.loop.run()

    asyncio.run(run())
    assert (now(parts).action, now(parts).policy_revision) == (Action.STOP, "r2")
    assert (now(parts).lease_seconds, parts.broadcaster.lease) == (3.0, 3.0)
    assert (old.closed, new.closed) == (True, True)
    assert old.reads == 1


def test_a_change_of_action_is_a_line_in_the_log_and_a_repeat_is_not(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    parts = make(reading(session(tokens=500)), reading(session(tokens=5000)))
    ticks(parts, 5)
    assert [r.message for r in caplog.records] == [
        f"run 'run-1': seen at {TARGET}",
        "run 'run-1': stop (limit_exceeded): tokens at 500.0% (5,000 of 1,000): stop",
    ]


def test_a_source_that_fails_is_said_once_and_so_is_its_return(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    parts = make(reading(), outage(), outage(), outage(), reading())
    ticks(parts, 6)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "connection refused" in caplog.text
