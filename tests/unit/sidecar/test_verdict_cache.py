"""A verdict stands while nothing of its run changes, and not a tick longer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from otel_budget import semconv
from otel_budget.core.observation import Observation, RunObservation
from otel_budget.core.reasons import Reason
from otel_budget.core.verdict import Verdict
from otel_budget.policy.verdicts import Rules
from otel_budget.sidecar.evaluator import Evaluator
from otel_budget.sidecar.storage.sqlite.storage import open_sqlite
from otel_budget.sidecar.tick_result import TickResult
from tests.support.sidecar_fixtures import START, ceilings, session

LEASE = 15.0
RULES = Rules(lease=LEASE)

Tick = Callable[..., TickResult]


@pytest.fixture
def tick(tmp_path: Path) -> Iterator[Tick]:
    """Step the book: at so many seconds, with these sessions, sampled then."""
    storage, restored = open_sqlite(str(tmp_path / "test.db"))
    evaluator = Evaluator(storage, restored, START)

    def step(after: float, *shown: RunObservation, rules: Rules = RULES) -> TickResult:
        at = START + after
        sessions = tuple(
            one._replace(
                sampled_at=at,
                attributes=one.attributes._replace(
                    duration=at - float(one.attributes.started_at or at)
                ),
            )
            for one in shown
        )
        return evaluator.tick(Observation("scrape", at, sessions), rules, 900.0, at)

    yield step
    storage.close()


def judged(step: TickResult) -> list[str]:
    """Return whose verdicts are of this step."""
    return [verdict.session_id for verdict in step.evaluated]


def only(step: TickResult) -> Verdict:
    """Return the one verdict there is."""
    (verdict,) = step.verdicts
    return verdict


def test_only_the_run_that_changed_is_judged(tick: Tick) -> None:
    """The others keep what was said of them, and are still there."""
    long = replace(RULES, lease=600.0)
    tick(0, session("a", 5), session("b", 5), rules=long)
    step = tick(1, session("a", 5), session("b", 6), rules=long)
    assert judged(step) == ["b"]
    assert {v.session_id: v.evaluated_at - START for v in step.verdicts} == {"a": 0, "b": 1}


def test_it_is_judged_again_before_its_lease_needs_it(tick: Tick) -> None:
    """At least every third of the lease, to the tick."""
    moments = [
        after for after in range(60) if judged(tick(float(after), session("a", 5)))
    ]  # fmt: skip
    assert max(later - earlier for earlier, later in pairwise(moments)) <= LEASE / 3
    assert len(moments) < 20


def test_a_change_does_not_put_off_the_renewal(tick: Tick) -> None:
    """It goes out again when it was due, although it was judged in between."""
    tick(0, session("a", 5))
    due = next(t for t in range(1, 7) if judged(tick(float(t), session("a", 5))))
    tick(due + 1.0, session("a", 6))
    assert judged(tick(due + LEASE / 3, session("a", 6))) == ["a"]


def test_a_duration_crosses_its_line_at_the_first_tick_past_it(tick: Tick) -> None:
    """Nothing else changes, and no lease is due."""
    rules = replace(RULES, lease=600.0, ceilings=ceilings(duration=100).ceilings)
    shown = session("a", 5, started_at=START)
    reasons = [only(tick(float(t), shown, rules=rules)).reason for t in (0, 79, 80, 99, 100)]
    near = Reason.APPROACHING_LIMIT_PROGRESS_UNKNOWN
    within = Reason.WITHIN_LIMITS
    assert reasons == [within, within, near, near, Reason.LIMIT_EXCEEDED]


def test_silence_other_rules_and_the_end_are_seen_at_once(tick: Tick) -> None:
    """Whatever stood until then."""
    long = replace(RULES, lease=600.0)
    tick(0, session("a", 5), rules=long)
    tick(1, session("a", 5), rules=long)
    assert only(tick(5.0, rules=long)).reason == Reason.STALE_DATA
    assert only(tick(6.0, session("a", 5), rules=long)).reason == Reason.WITHIN_LIMITS
    stricter = replace(long, ceilings=ceilings(tokens=5).ceilings)
    assert only(tick(7.0, session("a", 5), rules=stricter)).reason == Reason.LIMIT_EXCEEDED
    ended = tick(8.0, session("a", 5, state="completed"), rules=stricter)
    assert only(ended).run_state == "completed"
    assert only(ended).resources[semconv.TOKENS].used == 5
