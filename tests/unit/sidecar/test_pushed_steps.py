"""What is pushed is judged by itself, at once; all else by the tick."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from otel_budget import semconv
from otel_budget.core.observation import Observation, RunAttributes, RunObservation
from otel_budget.core.override import Override, OverrideKind, OverrideRefusedError
from otel_budget.core.reasons import Action
from otel_budget.core.verdict import Verdict
from otel_budget.sidecar.evaluator import Evaluator
from otel_budget.sidecar.nudging import NudgeOutcome
from otel_budget.sidecar.storage.base import StorageError
from otel_budget.sidecar.storage.sqlite.storage import open_sqlite
from otel_budget.sources.otlp.source import OtlpSettings, OtlpSource
from tests.support.sidecar_fixtures import START, Sidecar, ceilings, reading, sidecar

RULES = ceilings(tokens=1000)
TARGET = 'otlp://127.0.0.1{signal="metrics"}'


def pushed(session_id: str, tokens: int, at: float) -> RunObservation:
    """Return what a push shows of a run."""
    return RunObservation(
        session_id, TARGET, at, {(semconv.TOKENS, ""): tokens}, RunAttributes(idle_after=60.0),
        process="otlp://127.0.0.1",
    )  # fmt: skip


def push(*runs: RunObservation, at: float, **told: str) -> Observation:
    """Return what was pushed, or told."""
    return Observation("otlp", at, sessions=runs, asked=frozenset({TARGET}), told=told)


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Sidecar]:
    """A sidecar that nothing was pushed to."""
    made = sidecar(tmp_path, reading())
    yield made
    made.storage.close()


def step(parts: Sidecar, observation: Observation | None, at: float) -> dict[str, Verdict]:
    """Do a step; return the verdicts that are new."""
    done = parts.evaluator.tick(observation, RULES, 3600.0, at)
    return {verdict.session_id: verdict for verdict in done.evaluated}


def test_a_push_is_judged_alone_and_a_tick_judges_all(parts: Sidecar) -> None:
    """A push of one run says nothing of another one, whose time goes on meanwhile."""
    step(parts, push(pushed("a", 10, START), pushed("b", 10, START), at=START), START)
    step(parts, None, START)
    at = START + 61
    assert step(parts, push(pushed("a", 2000, at), at=at), at)["a"].action is Action.STOP
    assert parts.evaluator._ledger.runs["b"].vanished_at is None
    assert step(parts, None, at)["b"].run_state == semconv.VANISHED


def test_what_a_failed_step_left_is_stored_by_the_next_push(
    parts: Sidecar, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Also of runs that are not in that one."""
    step(parts, push(pushed("a", 10, START), pushed("b", 10, START), at=START), START)
    commit = parts.storage.commit

    def full(_changes: object) -> None:
        raise StorageError("the disk is full")

    monkeypatch.setattr(parts.storage, "commit", full)
    with pytest.raises(StorageError):
        step(parts, push(pushed("a", 20, START + 1), at=START + 1), START + 1)
    monkeypatch.setattr(parts.storage, "commit", commit)
    step(parts, push(pushed("b", 30, START + 2), at=START + 2), START + 2)
    parts.storage.close()
    storage, restored = open_sqlite(str(tmp_path / "otel-budget.db"))
    found = {run.session_id: run.totals()[semconv.TOKENS] for run in restored.runs}
    storage.close()
    assert found == {"a": 20, "b": 30}


def test_an_end_that_is_told_is_an_event_of_its_step(parts: Sidecar) -> None:
    """And the ends of others stay known."""
    step(parts, push(pushed("a", 10, START), pushed("b", 10, START), at=START), START)
    for name, at in (("a", START + 1), ("b", START + 2)):
        told = push(at=at, **{name: semconv.COMPLETED})
        done = parts.evaluator.tick(told, RULES, 3600.0, at)
        assert done.events.ended == {name: semconv.COMPLETED}
    assert not parts.evaluator.tick(None, RULES, 3600.0, START + 3).events.ended


def test_a_forgotten_run_that_is_told_to_begin_is_known_again_with_its_use(
    parts: Sidecar,
) -> None:
    """So it is judged before it makes its first call."""
    step(parts, push(pushed("a", 2000, START), at=START), START)
    step(parts, push(at=START + 1, a=semconv.COMPLETED), START + 1)
    at = START + 10_000
    assert parts.evaluator.tick(None, RULES, 3600.0, at).forgotten == ("a",)
    assert not step(parts, push(at=at, stranger=semconv.RUNNING), at)
    assert step(parts, push(at=at + 1, a=semconv.RUNNING), at + 1)["a"].action is Action.STOP


def test_a_run_that_its_agent_may_resume_can_be_limited_after_its_end(parts: Sidecar) -> None:
    """A run that ended for good can not."""
    step(parts, push(pushed("a", 2000, START), at=START), START)
    step(parts, push(at=START + 1, a=semconv.COMPLETED), START + 1)
    more = Override(OverrideKind.LIMITS, "go on", at=START, limits={semconv.TOKENS: 5000})
    done = parts.evaluator.apply_override("a", more, RULES, 3600.0, START + 2)
    assert {verdict.action for verdict in done.evaluated} == {Action.CONTINUE}
    final = replace(push(pushed("b", 10, START), at=START), sessions=(
        pushed("b", 10, START)._replace(attributes=RunAttributes(state=semconv.COMPLETED)),
    ))  # fmt: skip
    step(parts, final, START + 3)
    with pytest.raises(OverrideRefusedError, match="has ended"):
        parts.evaluator.apply_override("b", more, RULES, 3600.0, START + 4)


class TestOfTheLoop:
    """The same through the loop, with a real source."""

    @pytest.fixture
    def pushes(self, parts: Sidecar) -> OtlpSource:
        """What programs push to."""
        source = OtlpSource(OtlpSettings(presets=()), parts.clock)
        parts.loop.settings = replace(parts.loop.settings, pushes=source)
        return source

    def test_nothing_pushed_is_judged_and_stored(self, parts: Sidecar, pushes: OtlpSource) -> None:
        """As an empty push is, too."""
        assert asyncio.run(parts.loop.judge_pushed())

    def test_what_cannot_be_stored_is_not(
        self, parts: Sidecar, pushes: OtlpSource, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its pusher is to send it again."""

        def full(*_: object, **__: object) -> None:
            raise StorageError("the disk is full")

        monkeypatch.setattr(Evaluator, "tick", full)
        assert not asyncio.run(parts.loop.judge_pushed())

    def test_without_a_receiver_nothing_is_pushed(self, parts: Sidecar) -> None:
        """Not judged, then."""
        assert not asyncio.run(parts.loop.judge_pushed())

    def test_more_new_runs_than_one_step_begins_are_all_judged_before_the_answer(
        self, parts: Sidecar, pushes: OtlpSource, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nobody shows them a second time."""
        many = [pushed(f"run-{number}", 10, START) for number in range(2500)]

        async def drain() -> Observation:
            return push(*many, at=START)

        monkeypatch.setattr(pushes, "drain", drain)
        assert asyncio.run(parts.loop.judge_pushed())
        assert parts.evaluator.run_count == 2500

    def test_what_follows_a_step_that_was_not_stored_is_judged_all_the_same(
        self, parts: Sidecar, pushes: OtlpSource, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is sent again then counts as taken before: it is in the ledger, or nowhere."""
        many = [pushed(f"run-{number}", 10, START) for number in range(2500)]
        shown, store = [push(*many, at=START), push(at=START)], Evaluator._store

        async def drain() -> Observation:
            return shown.pop(0)

        def full(*_: object, **__: object) -> None:
            monkeypatch.setattr(Evaluator, "_store", store)
            raise StorageError("the disk is full")

        monkeypatch.setattr(pushes, "drain", drain)
        monkeypatch.setattr(Evaluator, "_store", full)
        assert not asyncio.run(parts.loop.judge_pushed())
        assert asyncio.run(parts.loop.judge_pushed())
        assert parts.evaluator.run_count == 2500

    def test_a_nudge_of_a_pushed_run_is_done(self, parts: Sidecar, pushes: OtlpSource) -> None:
        """Also after a restart, when the source has not heard of it yet."""
        step(parts, push(pushed("a", 10, START), at=START), START)
        parts.loop.settings = replace(parts.loop.settings, source=pushes)
        assert asyncio.run(parts.loop.nudge("a")) is NudgeOutcome.DONE
        assert asyncio.run(parts.loop.nudge("b")) is NudgeOutcome.UNKNOWN
        parts.loop.settings = replace(parts.loop.settings, source=parts.source)
        assert asyncio.run(parts.loop.nudge("a")) is NudgeOutcome.DONE
        assert asyncio.run(parts.loop.nudge("b")) is NudgeOutcome.IMPOSSIBLE

    def test_a_hook_tells_starts_and_ends(self, parts: Sidecar, pushes: OtlpSource) -> None:
        """Judged before it returns."""
        step(parts, push(pushed("a", 10, START), at=START), START)

        async def tell(state: str) -> None:
            await parts.loop.hook_seen(
                "a", state=state, tokens=None, preset="claude_code", peer="127.0.0.1"
            )

        for state in (semconv.COMPLETED, semconv.RUNNING):
            asyncio.run(tell(state))
            published = parts.broadcaster.get("a")
            assert published is not None
            assert published.verdict.run_state == state
