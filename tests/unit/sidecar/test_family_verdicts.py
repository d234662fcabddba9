"""Verdicts on runs that belong together: one sum, and one stop, in one step."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from otel_budget import semconv
from otel_budget.core import verdict_json
from otel_budget.core.observation import Observation, RunObservation, shared_labels
from otel_budget.core.override import Override, OverrideKind
from otel_budget.core.reasons import Reason
from otel_budget.policy.verdicts import Rules
from tests.support.sidecar_fixtures import (
    LEASE,
    START,
    Sidecar,
    ceilings,
    reading,
    session,
    sidecar,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from otel_budget.core.verdict import Verdict
    from otel_budget.sidecar.tick_result import TickResult

FREE = Rules(lease=LEASE)


def run(
    session_id: str, tokens: int, parent: str | None = None, limit: int | None = None, **more: Any
) -> RunObservation:
    limits = {} if limit is None else {semconv.TOKENS: limit}
    shown = session(session_id, tokens, limits=limits, **more)
    attributes = shown.attributes._replace(labels=shared_labels({}), parent=parent)
    return shown._replace(attributes=attributes)


def step(parts: Sidecar, *runs: RunObservation, rules: Rules = FREE) -> TickResult:
    """Read these runs a second later; return what came of it."""
    parts.clock.advance(1.0)
    at = parts.clock.now
    seen = reading(*(each._replace(sampled_at=at) for each in runs), at=at)
    return parts.evaluator.tick(seen, rules, 3600.0, at)


def verdicts(result: TickResult) -> dict[str, Verdict]:
    return {each.session_id: each for each in result.verdicts}


def told(result: TickResult) -> dict[str, tuple[str, str, str | None]]:
    return {i: (v.action, v.reason, v.limit_from) for i, v in verdicts(result).items()}


def changed(result: TickResult) -> set[str]:
    return {change.verdict.session_id for change in result.changes}


WITHIN = ("continue", "within_limits", None)
OWN = ("stop", "limit_exceeded", "session")


def below(name: str) -> tuple[str, str, str]:
    return ("stop", "parent_stopped", f"parent:{name}")


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Sidecar]:
    made = sidecar(tmp_path)
    yield made
    made.storage.close()


def test_the_limits_of_a_run_hold_for_all_below_it_and_stop_them_in_the_same_step(
    parts: Sidecar,
) -> None:
    """Also where the numbers of the parent, and of the others below it, did not move."""
    family = run("c1", 10, "lead"), run("c2", 20, "c1")
    first = step(parts, run("lead", 5, limit=100), *family)
    assert set(told(first).values()) == {WITHIN}
    assert verdicts(first)["lead"].resources[semconv.TOKENS].used == 35
    assert verdicts(first)["lead"].message.endswith("; with the use of 2 descendants")
    over = step(parts, run("lead", 5, limit=100), run("c1", 10, "lead"), run("c2", 90, "c1"))
    assert told(over) == {"lead": OWN, "c1": below("lead"), "c2": below("lead")}
    assert changed(over) == {"lead", "c1", "c2"}
    stop = verdicts(over)["c2"]
    assert "run lead is stopped" in stop.message
    assert stop.resources[semconv.TOKENS].used == 90, "its own resources stay its own"


def test_a_stop_that_is_lifted_is_lifted_for_all_below(parts: Sidecar) -> None:
    step(parts, run("lead", 5, limit=10), run("c1", 10, "lead"))
    raised = step(parts, run("lead", 5, limit=100), run("c1", 10, "lead"))
    assert told(raised) == {"lead": WITHIN, "c1": WITHIN}


def test_the_nearest_run_above_that_is_stopped_for_its_own_reason_is_named(parts: Sidecar) -> None:
    found = told(
        step(
            parts, run("a", 0, limit=10), run("b", 0, "a", limit=10), run("c", 0, "b"),
            run("d", 50, "c", limit=5),
        )
    )  # fmt: skip
    assert found == {"a": OWN, "b": OWN, "c": below("b"), "d": OWN}


def test_no_progress_takes_the_stop_of_a_parent_back(parts: Sidecar) -> None:
    late = run("c1", 95, "lead", limit=100)
    late = late._replace(attributes=late.attributes._replace(progress=0.99))
    assert told(step(parts, run("lead", 5, limit=10), late))["c1"] == below("lead")


def test_an_operators_stop_of_a_parent_stops_its_family_and_a_release_lets_it_go_on(
    parts: Sidecar,
) -> None:
    step(parts, run("lead", 5), run("c1", 10, "lead"), run("c2", 10, "c1"), run("other", 1))
    stop = Override(OverrideKind.STOP, "too dear", at=parts.clock.now)
    result = parts.evaluator.apply_override("lead", stop, FREE, 3600.0, parts.clock.now)
    assert told(result) == {
        "lead": ("stop", "operator_stop", "operator"), "c1": below("lead"), "c2": below("lead"),
        "other": WITHIN,
    }  # fmt: skip
    release = Override(OverrideKind.RELEASE, "fine", at=parts.clock.now)
    result = parts.evaluator.apply_override("lead", release, FREE, 3600.0, parts.clock.now)
    assert set(told(result).values()) == {WITHIN}


def test_a_restarted_sidecar_says_the_same_of_a_family(tmp_path: Path, parts: Sidecar) -> None:
    runs = run("lead", 5, limit=100), run("c1", 10, "lead"), run("c2", 90, "c1")
    before = told(step(parts, *runs))
    parts.storage.close()
    again = sidecar(tmp_path, clock=parts.clock)
    assert told(again.evaluator.tick(None, FREE, 3600.0, parts.clock.now)) == before
    assert told(step(again, *runs)) == before
    again.storage.close()


def test_a_parent_that_ended_goes_on_to_hold_for_those_that_it_started(parts: Sidecar) -> None:
    step(parts, run("lead", 5, limit=100), run("c1", 10, "lead"))
    over = run("lead", 5, limit=100, state="completed")
    assert told(step(parts, over, run("c1", 10, "lead")))["c1"] == WITHIN
    assert told(step(parts, over, run("c1", 99, "lead")))["c1"] == below("lead")
    parts.clock.advance(100_000.0)
    assert told(step(parts, run("c1", 99, "lead")))["c1"] == below("lead")


def test_what_a_run_may_use_before_it_matters_is_the_least_of_its_family(parts: Sidecar) -> None:
    found = verdicts(step(parts, run("lead", 5, limit=100), run("c1", 10, "lead", limit=1000)))
    assert found["lead"].headroom[semconv.TOKENS] == 65
    assert found["c1"].headroom[semconv.TOKENS] == 65
    assert semconv.DURATION not in found["c1"].headroom


def test_below_a_run_that_has_used_up_a_limit_no_room_is_left_of_that(parts: Sidecar) -> None:
    found = verdicts(step(parts, run("lead", 95, limit=100), run("c1", 10, "lead", limit=1000)))
    assert not found["c1"].should_continue
    assert semconv.TOKENS not in found["lead"].headroom
    assert semconv.TOKENS not in found["c1"].headroom


def test_a_ceiling_holds_for_each_run_and_for_what_is_below_it(parts: Sidecar) -> None:
    found = told(step(parts, run("lead", 60), run("c1", 50, "lead"), rules=ceilings(tokens=100)))
    assert found == {"lead": ("stop", "limit_exceeded", "sidecar"), "c1": below("lead")}


def test_a_reading_of_one_pushed_run_is_held_against_its_whole_family(parts: Sidecar) -> None:
    step(parts, run("lead", 5, limit=100), run("c1", 10, "lead"), run("c2", 10, "lead"))
    at = parts.clock.now + 1.0
    pushed = run("c1", 96, "lead")._replace(sampled_at=at, target="otlp://127.0.0.1")
    only = Observation("otlp", at, (pushed,), asked=frozenset({"otlp://127.0.0.1"}))
    result = parts.evaluator.tick(only, FREE, 3600.0, at)
    assert told(result) == {"lead": OWN, "c1": below("lead"), "c2": below("lead")}


def test_a_parent_stop_is_read_back_as_it_was_written(parts: Sidecar) -> None:
    stop = verdicts(step(parts, run("lead", 50, limit=10), run("c1", 10, "lead")))["c1"]
    read = verdict_json.from_json(verdict_json.to_json(stop))
    assert (read.reason, read.stopped_by) == (Reason.PARENT_STOPPED, "lead")
    assert read.limit_from == "parent:lead"


def test_parents_that_do_not_hold_are_counted_by_what_is_wrong(parts: Sidecar) -> None:
    parts.clock.now = START
    asyncio.run(parts.loop.evaluate(reading(run("a", 1, "b"), run("b", 1, "a"))))
    page = parts.metrics_page()
    assert f'{semconv.IGNORED_PARENTS.name}{{reason="own_descendant"}} 1.0' in page
    assert f'{semconv.IGNORED_PARENTS.name}{{reason="parent_unknown"}} 0.0' in page
