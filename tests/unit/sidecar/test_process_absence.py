"""The guard's own absence is nobody's silence: what was not watched is not held against a run."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from otel_budget import semconv
from otel_budget.core.observation import Observation, Problem, RunAttributes
from otel_budget.core.override import OverrideKind, override_from
from otel_budget.core.reasons import Action, Reason
from otel_budget.core.verdict import LimitStatus, Verdict
from otel_budget.ledger.freshness import SPELLS_KEPT, Absences
from otel_budget.policy.verdicts import Rules
from otel_budget.sidecar.evaluator import Evaluator
from otel_budget.sidecar.nudging import NudgeOutcome
from otel_budget.sidecar.process_absence import BEAT, LATE, Watch
from otel_budget.sidecar.settings import Settings
from otel_budget.sidecar.storage.sqlite.storage import open_sqlite
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

NIGHT = 36_000.0
HOLD = 4.0
RULES = replace(ceilings(tokens=1000), hold=HOLD)
SOURCE_ERROR = Problem(TARGET, Reason.SOURCE_ERROR, "no complete answer within 1 s")

Make = Callable[..., Sidecar]


@pytest.fixture
def make(tmp_path: Path) -> Any:
    """Build sidecars with a hold of 4 s on one store, one after the other."""
    made: list[Sidecar] = []

    def build(
        *steps: Observation | Exception | None, rules: Rules = RULES, **options: Any
    ) -> Sidecar:
        if made:
            made[-1].storage.close()
        made.append(sidecar(tmp_path, *steps, rules=rules, **options))
        return made[-1]

    yield build
    made[-1].storage.close()


def now(parts: Sidecar, session_id: str = "run-1") -> Verdict:
    """Return the published verdict of a run."""
    published = parts.broadcaster.get(session_id)
    assert published is not None
    return published.verdict


def tick(parts: Sidecar, *, every: float = 1.0) -> Verdict:
    """Tick once, let time pass, and return the verdict of the tick."""
    asyncio.run(parts.loop.tick())
    parts.clock.advance(every)
    return now(parts)


def stops(parts: Sidecar) -> float:
    """Return how often a run was told to stop for want of data."""
    return changes(parts, "stop", "stale_data") + changes(parts, "stop", "source_error")


def changes(parts: Sidecar, action: str, reason: str) -> float:
    """Return how often a verdict became this one."""
    name = f'{semconv.VERDICT_CHANGES.name}{{action="{action}",reason="{reason}"}}'
    (line,) = (line for line in parts.metrics_page().splitlines() if line.startswith(name))
    return float(line.rpartition(" ")[2])


@pytest.mark.parametrize("frozen_in", range(2, 10))
def test_a_freeze_longer_than_the_hold_changes_no_verdict(make: Make, frozen_in: int) -> None:
    """In whatever it was doing: waiting for the next reading, or for the present one."""
    parts = make(reading(session(tokens=500)), waits=14, freezes={frozen_in: NIGHT})
    asyncio.run(parts.loop.run())
    assert (now(parts).action, now(parts).status) == (Action.CONTINUE, LimitStatus.OK)
    assert now(parts).sequence == 1, "nothing else was said in between"
    assert now(parts).evaluated_at > START + NIGHT


def test_after_a_freeze_it_reads_before_it_judges(make: Make) -> None:
    """The lease is long over; what is published next is of a sample taken since."""
    parts = make(reading(session(tokens=500)), reading(session(tokens=700)), waits=9,
                 freezes={6: NIGHT})  # fmt: skip
    seen: list[float | None] = []
    publish = parts.broadcaster.publish

    def spy(verdicts: Any, forgotten: Any = ()) -> None:
        seen.extend(v.data_at for v in verdicts)
        publish(verdicts, forgotten)

    parts.broadcaster.publish = spy  # type: ignore[method-assign] # to see it
    asyncio.run(parts.loop.run())
    after = [at for at in seen if at is not None and at > START + 10]
    assert after[0] >= START + NIGHT
    assert f"absent_seconds_total {NIGHT}" in parts.metrics_page()


def test_a_nudge_that_comes_first_after_a_freeze_stops_nobody_else(make: Make) -> None:
    """It judges whoever changed, and whoever is silent."""
    both = reading(session("run-1", 500), session("other", 500))
    parts = make(both, reading(session("other", 510)))
    parts.source.reads_runs = True
    tick(parts)
    parts.freeze(NIGHT)
    assert asyncio.run(parts.loop.nudge("other")) is NudgeOutcome.DONE
    assert (now(parts).action, now(parts).status) == (Action.CONTINUE, LimitStatus.OK)


def test_silence_before_and_after_a_freeze_adds_up(make: Make) -> None:
    """A run that is gone is stopped after a hold of listening, however often it is frozen."""
    parts = make(reading(session(tokens=500)), reading())
    for _ in range(6):  # 3 s until its data are stale, and 2 s of its hold
        verdict = tick(parts)
    assert verdict.status is LimitStatus.INCONCLUSIVE
    parts.freeze(NIGHT)
    assert [tick(parts).action for _ in range(3)] == ["continue", "stop", "stop"]


def test_a_process_that_is_starved_again_and_again_still_finds_a_run_that_is_gone(
    make: Make,
) -> None:
    """The hold takes longer, and ends."""
    parts = make(reading(session(tokens=500)), reading(), waits=60,
                 freezes=dict.fromkeys(range(3, 60), 1.5))  # fmt: skip
    asyncio.run(parts.loop.run())
    assert (now(parts).action, now(parts).reason) == (Action.STOP, Reason.STALE_DATA)


def test_a_reading_that_was_cut_short_is_made_again_before_anything_is_judged(make: Make) -> None:
    """Its time ran out while nobody could listen; the second one counts, whatever it says."""
    good = reading(session(tokens=500))
    cut = reading(problems=(SOURCE_ERROR,), answered=False)
    parts = make(good, cut, good, waits=8, freezes={3: NIGHT})
    asyncio.run(parts.loop.run())
    assert changes(parts, "continue", "source_error") == 0
    assert 'source_up{source="scrape"} 1.0' in parts.metrics_page()


def test_a_process_that_is_frozen_in_every_reading_judges_every_second(make: Make) -> None:
    """Else nobody would be stopped by it any more."""
    over = reading(session(tokens=5000), problems=(replace(SOURCE_ERROR, target="http://b"),))
    parts = make(reading(session(tokens=5)), over, waits=30,
                 freezes=dict.fromkeys(range(3, 31), 2.0))  # fmt: skip
    asyncio.run(parts.loop.run())
    assert (now(parts).action, now(parts).reason) == (Action.STOP, Reason.LIMIT_EXCEEDED)


def test_what_is_known_to_be_exceeded_stays_stopped_over_a_freeze(make: Make) -> None:
    parts = make(reading(session(tokens=5000)), outage(), waits=20, freezes={5: NIGHT})
    asyncio.run(parts.loop.run())
    assert (now(parts).reason, now(parts).sequence) == (Reason.LIMIT_EXCEEDED, 1)


def test_a_run_is_not_forgotten_for_the_time_in_which_nobody_listened(make: Make) -> None:
    """It goes on where it was, with the same number."""
    parts = make(reading(session(tokens=500)), waits=12, freezes={5: NIGHT})
    asyncio.run(parts.loop.run())
    assert now(parts).sequence == 1
    assert parts.storage.archived("run-1", START - 10) is None


def test_implausible_values_are_held_for_the_time_in_which_somebody_saw_them(make: Make) -> None:
    """They may have been plausible meanwhile."""
    parts = make(reading(session(tokens=500)),
                 reading(session(tokens=500, implausible=("tokens",))))  # fmt: skip
    tick(parts)
    tick(parts)
    parts.freeze(NIGHT)
    verdicts = [tick(parts) for _ in range(5)]
    assert [v.reason for v in verdicts] == [Reason.IMPLAUSIBLE_DATA] * 5
    assert [v.action for v in verdicts] == ["continue"] * 3 + ["stop"] * 2


def test_a_freeze_after_a_restart_is_no_silence_either(make: Make) -> None:
    """Its data are old by their real age, and its hold began with the restart."""
    tick(make(reading(session(tokens=500))))
    parts = make(reading(), clock=SteadyClock(START + 3000))
    assert tick(parts).status is LimitStatus.INCONCLUSIVE
    parts.freeze(NIGHT)
    assert [tick(parts).action for _ in range(5)] == ["continue"] * 3 + ["stop"] * 2


def test_a_disk_that_takes_long_is_not_held_against_runs(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a step is stored nothing is read."""
    parts = make(reading(session(tokens=500)), reading(session(tokens=501)), waits=12)
    commit, slow = parts.storage.commit, iter([60.0])

    def stored(changes: Any) -> None:
        commit(changes)
        parts.clock.advance(next(slow, 0.0))

    monkeypatch.setattr(parts.storage, "commit", stored)
    asyncio.run(parts.loop.run())
    assert (now(parts).sequence, stops(parts)) == (1, 0)


def test_another_source_is_read_at_once_and_has_the_whole_hold(make: Make) -> None:
    """It may scrape once a minute where the one before did once a second."""
    parts = make(reading(session(tokens=500)))
    for _ in range(6):
        tick(parts)
    slower = replace(reading(session(tokens=510)), spacing=60.0)
    silent = Script(parts.clock, reading(), slower, reading())
    parts.loop.change_settings(Settings("prometheus", silent, 1.0, RULES, 3600.0))
    parts.clock.advance(2.5)
    seen = [tick(parts) for _ in range(20)]
    assert {v.action for v in seen} == {Action.CONTINUE}
    assert {v.status for v in seen[1:]} == {LimitStatus.OK}
    assert silent.reads == 20


def test_it_is_said_that_the_process_did_not_run_once_and_how_long(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    parts = make(reading(session(tokens=500)))
    for seconds in (0.6, 2.5, 2.5, NIGHT):
        parts.freeze(seconds)
        tick(parts)
    said = [r.getMessage() for r in caplog.records if "did not run" in r.getMessage()]
    assert [line.split(":")[0] for line in said] == [
        "this process did not run for 2.5 s", "this process did not run for 36000.0 s",
    ]  # fmt: skip


# --- the parts -----------------------------------------------------------------------------------
def test_the_watch_tells_a_late_beat_and_no_other() -> None:
    """From the beat before: how much of the time since it ran nobody knows."""
    clock = SteadyClock(0.0)
    watch = Watch(clock)
    clock.advance(BEAT + LATE - 0.01)
    assert watch.take() == []
    clock.advance(9)
    assert watch.take() == [(BEAT + LATE - 0.01, clock.now)]
    assert watch.take() == []


def test_the_watch_notices_a_freeze_that_nobody_asks_about() -> None:
    """By its own beat."""
    clock = SteadyClock(0.0)
    watch = Watch(clock)

    async def frozen() -> None:
        beating = asyncio.create_task(watch.beat())
        await asyncio.sleep(0)
        clock.advance(60)
        await asyncio.sleep(2 * BEAT)
        beating.cancel()

    asyncio.run(frozen())
    assert watch.take() == [(0.0, 60.0)]


@pytest.mark.parametrize(
    ("moment", "seconds"), [(0, 14), (10, 14), (12, 12), (20, 4), (31, 3), (34, 0), (99, 0)]
)
def test_overlapping_spells_count_once(moment: float, seconds: float) -> None:
    absences = Absences()
    for spell in ((10.0, 15.0), (12.0, 20.0), (30.0, 31.0), (29.5, 34.0)):
        absences.add(spell)
    total = absences.since(moment)
    assert total == pytest.approx(seconds + (0.5 if moment <= 20 else 0))


def test_spells_are_kept_within_bounds() -> None:
    absences = Absences()
    for number in range(3 * SPELLS_KEPT):
        absences.add((number + 0.0, number + 0.5))
    assert absences.since(0.0) == SPELLS_KEPT / 2


# --- the system's clock --------------------------------------------------------------------------
def test_what_was_stored_under_a_wrong_clock_is_read_by_the_right_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The machine began a day behind, and was set while the sidecar ran."""
    day, wall = 86_400.0, SteadyClock(START)
    storage, restored = open_sqlite(str(tmp_path / "a.db"), wall)
    evaluator = Evaluator(storage, restored, START, wall)
    rules = ceilings(tokens=1000)
    seen = session(tokens=5, started_at=START + day, at=START)._replace(
        attributes=RunAttributes(
            started_at=START + day, incarnation_at=START + day, state="running"
        )
    )
    evaluator.tick(reading(seen), rules, 3600.0, START)
    order = override_from(OverrideKind.STOP, {"reason": "x", "for_seconds": 3600}, START + 5)
    evaluator.apply_override("run-1", order, rules, 3600.0, START + 5)
    wall.advance(day + 10)
    evaluator.tick(None, rules, 3600.0, START + 10)
    assert "clock was set since this process began, by +86400 s" in caplog.text
    storage.close()
    storage, restored = open_sqlite(str(tmp_path / "a.db"), wall)
    again = Evaluator(storage, restored, START + day + 20, wall)
    step = again.tick(None, rules, 3600.0, START + day + 20)
    (verdict,) = step.verdicts
    assert verdict.reason == Reason.OPERATOR_STOP
    assert verdict.resources[semconv.DURATION].used == 20.0
    storage.close()


def test_a_step_that_takes_long_is_no_clock_that_was_set(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does it have every run stored again, which would take longer still."""
    wall = SteadyClock(START)
    storage, restored = open_sqlite(str(tmp_path / "a.db"), wall)
    evaluator = Evaluator(storage, restored, START, wall)
    apply = evaluator._ledger.apply

    def slow(found: Observation) -> None:
        wall.advance(5)
        apply(found)

    monkeypatch.setattr(evaluator._ledger, "apply", slow)
    evaluator.tick(reading(session(tokens=5)), ceilings(tokens=1000), 3600.0, START)
    assert caplog.messages == []
    storage.close()


def test_a_start_with_a_wrong_clock_deletes_nothing_that_was_kept(tmp_path: Path) -> None:
    """A month ahead, until the time server answers."""
    wall = SteadyClock(START)
    path = str(tmp_path / "a.db")
    storage, restored = open_sqlite(path, wall)
    evaluator = Evaluator(storage, restored, START, wall)
    rules = ceilings(tokens=1000)
    evaluator.tick(reading(session(tokens=500)), rules, 10.0, START)
    wall.advance(600)
    evaluator.tick(None, rules, 10.0, START + 600)
    storage.close()
    wall.advance(31 * 86_400)
    storage, restored = open_sqlite(path, wall)
    Evaluator(storage, restored, wall(), wall).tick(reading(session("other")), rules, 10.0, wall())
    assert storage.archived("run-1", START - 10) is not None
    storage.close()
