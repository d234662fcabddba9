"""Limits that a sidecar suggests by the runs it saw: applied, said, stored, and never loosened."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import pytest

from otel_budget import semconv
from otel_budget.core.observation import RunObservation, shared_labels
from otel_budget.core.override import Override, OverrideKind
from otel_budget.policy.bounds import bounds_from
from otel_budget.policy.suggestion import Suggesting
from otel_budget.policy.verdicts import Rules
from otel_budget.sidecar.settings import Settings
from otel_budget.sidecar.storage.base import StorageError
from tests.support.sidecar_fixtures import (
    LEASE,
    START,
    Script,
    Sidecar,
    SteadyClock,
    reading,
    session,
    sidecar,
)

if TYPE_CHECKING:
    from pathlib import Path

    from otel_budget.core.verdict import Verdict

MOST = 100_000
LIMIT = semconv.SUGGESTED_LIMIT.name
BOUNDS = bounds_from({semconv.TOKENS: MOST}, {}, "sidecar")
ON = Rules(ceilings=BOUNDS, lease=LEASE, suggesting=Suggesting({semconv.TOKENS: MOST}))
OFF = Rules(ceilings=BOUNDS, lease=LEASE)


def run(
    session_id: str, tokens: int, state: str = semconv.RUNNING, workflow: str = "nightly"
) -> RunObservation:
    shown = session(session_id, tokens, state=state)
    labels = shared_labels({"workflow": workflow})
    return shown._replace(attributes=shown.attributes._replace(labels=labels))


def step(parts: Sidecar, *runs: RunObservation) -> None:
    """Read these runs, and judge them again with what follows from their ends."""
    for _ in range(2):
        parts.clock.advance(0.5)
        at = parts.clock.now
        asyncio.run(parts.loop.evaluate(reading(*(r._replace(sampled_at=at) for r in runs), at=at)))


def completed(number: int = 10, tokens: int = 1000) -> list[RunObservation]:
    return [run(f"done-{n}", tokens, semconv.COMPLETED) for n in range(number)]


def verdict(parts: Sidecar, name: str) -> Verdict:
    published = parts.broadcaster.get(name)
    assert published is not None
    return published.verdict


def decided(parts: Sidecar, name: str) -> tuple[str, str, str | None, object]:
    found = verdict(parts, name)
    state = found.resources[semconv.TOKENS]
    return found.action, found.reason, found.limit_from, state.limit


def test_ten_runs_of_a_workflow_limit_the_eleventh_and_a_restart_keeps_that(tmp_path: Path) -> None:
    parts = sidecar(tmp_path, rules=ON)
    step(parts, *completed(9), run("next", 1400), run("other", 1400, workflow="b"))
    assert decided(parts, "next") == ("continue", "within_limits", None, MOST)
    step(parts, *completed(10), run("next", 1400), run("other", 1400, workflow="b"))
    stopped = ("stop", "limit_exceeded", "suggested", 1300)
    assert decided(parts, "next") == stopped
    assert decided(parts, "other") == ("continue", "within_limits", None, MOST)
    parts.storage.close()
    again = sidecar(tmp_path, rules=ON, clock=SteadyClock(parts.clock.now))
    step(again, run("later", 1400))
    assert decided(again, "later") == stopped
    assert decided(again, "next") == stopped
    again.storage.close()


def test_a_run_that_ended_well_is_not_held_against_what_follows_from_it(tmp_path: Path) -> None:
    parts = sidecar(tmp_path, rules=ON)
    runs = [*completed(39), run("largest", 9000, semconv.COMPLETED)]
    step(parts, *runs)
    step(parts, *runs, run("next", 1400))
    assert decided(parts, "next")[2:] == ("suggested", 1300)
    parts.clock.advance(LEASE)
    step(parts, *runs, run("next", 1400))
    assert decided(parts, "largest")[:3] == ("continue", "within_limits", None)
    parts.storage.close()


def test_runs_that_a_suggestion_stops_do_not_ratchet_it_down(tmp_path: Path) -> None:
    parts = sidecar(tmp_path, rules=ON)
    runs = completed(10)
    step(parts, *runs)
    for number in range(30):
        runs.append(run(f"cut-{number}", 1350))
        step(parts, *runs)
        assert decided(parts, f"cut-{number}") == ("stop", "limit_exceeded", "suggested", 1300)
        runs[-1] = run(f"cut-{number}", 1350, semconv.STOPPED)
        step(parts, *runs)
    parts.storage.close()


def test_it_is_switched_on_and_off_while_it_runs(tmp_path: Path) -> None:
    parts = sidecar(tmp_path, rules=OFF)
    runs = [*completed(10), run("next", 1400)]
    step(parts, *runs)
    source: Script = parts.source
    for rules, origin in ((ON, "suggested"), (OFF, None), (ON, "suggested")):
        parts.loop.settings = Settings("scrape", source, 1.0, rules, 3600.0)
        step(parts, *runs)
        assert decided(parts, "next")[2] == origin
    parts.storage.close()


def test_what_could_not_be_stored_is_stored_with_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = sidecar(tmp_path, rules=ON)
    commit = parts.storage.commit

    def fails(_: object) -> None:
        raise StorageError("no room")

    monkeypatch.setattr(parts.storage, "commit", fails)
    step(parts, *completed(10))
    monkeypatch.setattr(parts.storage, "commit", commit)
    step(parts, *completed(10), run("next", 1400))
    assert decided(parts, "next")[2] == "suggested"
    parts.storage.close()
    again = sidecar(tmp_path, rules=ON, clock=SteadyClock(parts.clock.now))
    step(again, run("later", 1400))
    assert decided(again, "later")[2] == "suggested"
    again.storage.close()


def test_it_is_said_when_none_is_suggested_yet_when_one_begins_and_when_it_changes_much(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    parts = sidecar(tmp_path, rules=ON)

    def said() -> list[str]:
        lines = [line.message for line in caplog.records if "suggest" in line.message]
        caplog.clear()
        return lines

    step(parts, *completed(1))
    (lacking,) = said()
    assert lacking == (
        "workflow nightly: no limit is suggested below 10 runs that ended well, and there is 1: "
        "until then at_most alone holds"
    )
    step(parts, *completed(2))
    assert said() == []
    step(parts, *completed(10))
    (begun,) = said()
    assert begun == (
        "workflow nightly: the suggested limit on tokens is 1,300 from now on: 95% of 10 runs that "
        "ended well used no more than 1,000: the warning line, at 80% of it, is above that"
    )
    more = [run(f"more-{n}", 1100, semconv.COMPLETED) for n in range(10)]
    step(parts, *completed(10), *more)
    assert said() == []  # 1,400 is not much more
    much = [run(f"much-{n}", 1350, semconv.COMPLETED) for n in range(10)]
    step(parts, *completed(10), *more, *much)
    (changed,) = said()
    assert "is 1,700 from now on, 1,300 before" in changed
    values = dict(line.rsplit(" ", 1) for line in parts.metrics_page().splitlines())
    assert values['otel_budget_sidecar_suggestion_runs{workflow="nightly"}'] == "30.0"
    limits = [value for name, value in values.items() if name.startswith(f"{LIMIT}{{")]
    assert limits == ["1700.0"]
    assert values["otel_budget_sidecar_suggestion_changes_total"] == "3.0"
    parts.storage.close()


def test_an_operators_ceiling_replaces_a_suggestion(tmp_path: Path) -> None:
    parts = sidecar(tmp_path, rules=ON)
    runs = [*completed(10), run("next", 1400)]
    step(parts, *runs)
    assert decided(parts, "next")[0] == "stop"
    raised = Override(
        OverrideKind.LIMITS, "once", "ann", START, START + 1000, {semconv.TOKENS: 5000}
    )
    asyncio.run(parts.loop.apply_override("next", raised, "127.0.0.1"))
    state = verdict(parts, "next").resources[semconv.TOKENS]
    assert (state.limit, state.limit_from) == (5000, "operator")
    parts.storage.close()


def test_ended_runs_that_are_shown_for_long_do_not_take_the_place_of_newer_ones(
    tmp_path: Path,
) -> None:
    parts = sidecar(tmp_path, rules=ON)
    old = [run(f"old-{n}", 50_000, semconv.COMPLETED) for n in range(120)]
    step(parts, *old)
    new = [run(f"new-{n}", 1000, semconv.COMPLETED) for n in range(100)]
    for _ in range(3):
        step(parts, *old, *new, run("next", 1400))
        assert decided(parts, "next")[2:] == ("suggested", 1300)
        assert {decided(parts, r.session_id)[0] for r in (*old, *new)} == {"continue"}
        parts.clock.advance(LEASE)
    known = parts.storage.load().past_runs
    assert {r.session_id for r in known} == {r.session_id for r in new}
    parts.storage.close()


def test_after_a_clock_was_ahead_runs_are_learnt_from_as_they_end(tmp_path: Path) -> None:
    parts = sidecar(tmp_path, rules=ON, clock=SteadyClock(START + 1e6))
    step(parts, *(run(f"ahead-{n}", 50_000, semconv.COMPLETED) for n in range(100)))
    parts.storage.close()
    again = sidecar(tmp_path, rules=ON)
    step(again, *(run(f"new-{n}", 1000, semconv.COMPLETED) for n in range(100)))
    step(again, run("next", 1400))
    assert decided(again, "next")[2:] == ("suggested", 1300)
    again.storage.close()
