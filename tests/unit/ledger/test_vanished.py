"""Runs that are not there any more, and never said that they end."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from otel_budget import semconv
from otel_budget.core.observation import Observation, Problem, RunObservation
from otel_budget.core.reasons import Action, Reason
from otel_budget.core.verdict import LimitStatus, Verdict
from otel_budget.ledger.admission import KEEP_ENDED
from otel_budget.sidecar.storage.sqlite.storage import open_sqlite
from otel_budget.sources.prometheus import PrometheusSettings, PrometheusSource
from otel_budget.sources.prometheus_vector import ANSWERS, SAMPLED
from tests.support.sidecar_fixtures import START, TARGET, Sidecar, ceilings, session, sidecar

OTHER = "http://127.0.0.1:9500/metrics"
RULES = replace(ceilings(tokens=1000), hold=60.0)


def shown(*sessions: RunObservation, at: float, targets: Iterable[str] = (TARGET,)) -> Observation:
    """Return a whole reading of a scrape source, with all the targets there were."""
    return Observation("scrape", at, sessions=sessions, spacing=15.0, targets=frozenset(targets))


def refused(at: float, targets: Iterable[str] = (TARGET,)) -> Observation:
    """Return a reading in which the run's target gave nothing."""
    problem = Problem(TARGET, Reason.SOURCE_ERROR, f"{TARGET}: refused")
    return replace(shown(at=at, targets=targets), problems=(problem,))


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Sidecar]:
    """A sidecar that saw a run of 400 tokens three times, 15 s apart."""
    made = sidecar(tmp_path)
    for number in range(3):
        at = START + 15 * number
        step(made, shown(session(tokens=400, at=at), at=at))
    yield made
    made.storage.close()


def step(parts: Sidecar, reading: Observation | None, at: float = 0.0) -> Verdict | None:
    """Take in a reading, judge, and return the verdict on the run."""
    now = at if reading is None else reading.read_at
    done = parts.evaluator.tick(reading, RULES, 3600.0, now)
    parts.metrics.note_result(done)
    parts.loop._event_log.log_result(done)
    return next(iter(done.verdicts), None)


def later(parts: Sidecar, at: float, reading: Observation) -> Verdict:
    """Take in the same reading every 15 s until a time, and return the last verdict."""
    verdict = None
    now = reading.read_at
    while now <= at:
        verdict = step(parts, replace(reading, read_at=now))
        now += 15
    assert verdict is not None
    return verdict


def test_a_run_whose_target_is_taken_away_in_order_has_vanished(
    parts: Sidecar, caplog: pytest.LogCaptureFixture
) -> None:
    """Its numbers and the policy are as of any run without data; nobody is to be told of it."""
    caplog.set_level(logging.INFO)
    verdict = later(parts, START + 90, shown(at=START + 45, targets=[OTHER]))
    assert verdict.run_state == semconv.VANISHED
    assert verdict.resources[semconv.TOKENS].used == 400
    assert (verdict.status, verdict.action) == (LimitStatus.INCONCLUSIVE, Action.CONTINUE)
    assert caplog.text.count("run 'run-1': vanished: it never reported its end") == 1
    assert 'inconclusive_total{reason="stale_data"} 0.0' in parts.metrics_page()
    verdict = later(parts, START + 150, shown(at=START + 105, targets=[OTHER]))
    assert verdict.action is Action.STOP, "held, then on_no_data: it may live on unseen"


def test_a_run_that_its_target_does_not_show_any_more_has_vanished(parts: Sidecar) -> None:
    """Another process answers at its address: the one that carried it is over."""
    verdict = later(parts, START + 60, shown(at=START + 45))
    assert verdict.run_state == semconv.VANISHED
    verdict = later(parts, START + 90, refused(START + 75))
    assert verdict.run_state == semconv.VANISHED, "the other one's trouble is not its own"


def test_a_run_whose_target_gives_nothing_has_not_vanished(parts: Sidecar) -> None:
    """Nor if that is taken away after: then its process died, and people want to know."""
    assert later(parts, START + 105, refused(START + 45)).run_state == "running"
    assert 'inconclusive_total{reason="source_error"} 1.0' in parts.metrics_page()
    verdict = later(parts, START + 135, shown(at=START + 120, targets=[OTHER]))
    assert verdict.run_state == "running"


def test_a_run_that_ends_in_order_may_be_refused_once_before_its_target_goes(
    parts: Sidecar,
) -> None:
    """A Prometheus takes some seconds to hear that it was taken away."""
    step(parts, refused(START + 45))
    verdict = later(parts, START + 105, shown(at=START + 60, targets=[OTHER]))
    assert verdict.run_state == semconv.VANISHED


def test_a_run_that_is_missing_is_looked_at_at_once(parts: Sidecar) -> None:
    """Its target may give nothing a moment later, when another process has come and gone."""
    for at, reading in ((45.0, shown(at=START + 45)), (46.0, refused(START + 46))):
        verdict = step(parts, reading)
        assert verdict is not None
        assert verdict.run_state == semconv.VANISHED, at


def test_a_source_that_gives_nothing_makes_no_run_vanish(parts: Sidecar) -> None:
    """What targets there are is not known then, nor where they are not told."""
    down = Observation("scrape", START + 45, problems=(Problem("", Reason.SOURCE_ERROR, "down"),))
    assert later(parts, START + 60, down).run_state == "running"
    assert later(parts, START + 90, Observation("prometheus", START + 75)).run_state == "running"


def test_a_run_that_vanished_is_there_again_with_its_next_sample(parts: Sidecar) -> None:
    """At another address, say; nothing of what it used is lost."""
    later(parts, START + 60, shown(at=START + 45, targets=[OTHER]))
    again = session(tokens=450, at=START + 75)._replace(target=OTHER)
    verdict = step(parts, shown(again, at=START + 75, targets=[OTHER]))
    assert verdict is not None
    assert verdict.run_state == "running"
    assert verdict.resources[semconv.TOKENS].used == 450
    assert verdict.status is LimitStatus.OK


def test_what_is_known_to_be_exceeded_stays_exceeded_and_stopped(parts: Sidecar) -> None:
    """Whether it is seen or not."""
    step(parts, shown(session(tokens=1200, at=START + 45), at=START + 45))
    verdict = later(parts, START + 90, shown(at=START + 60, targets=[OTHER]))
    assert (verdict.run_state, verdict.action) == (semconv.VANISHED, Action.STOP)
    assert verdict.reason == Reason.LIMIT_EXCEEDED


def test_a_run_that_vanished_is_forgotten_once_what_follows_the_hold_was_long_published(
    parts: Sidecar,
) -> None:
    """Ten minutes after, and taken up again from the archive should it come back."""
    verdict = later(parts, START + 45 + 60 + KEEP_ENDED, shown(at=START + 45, targets=[OTHER]))
    assert verdict.action is Action.STOP
    at = START + 45 + 60 + KEEP_ENDED + 1
    assert step(parts, shown(at=at, targets=[OTHER])) is None
    again = step(parts, shown(session(tokens=500, at=at + 1), at=at + 1))
    assert again is not None
    assert again.resources[semconv.TOKENS].used == 500


def test_a_run_that_vanished_is_judged_again_when_time_changes_its_verdict_and_not_at_each_tick(
    parts: Sidecar,
) -> None:
    """A target may have shown thousands: they cost the others nothing."""
    rules = replace(RULES, lease=6000.0)
    judged = []
    for at in range(31, 160):
        gone = shown(at=START + at, targets=[OTHER])
        done = parts.evaluator.tick(gone, rules, 3600.0, START + at)
        judged += [(at, one.status, one.action) for one in done.evaluated]
    assert judged == [
        (31, LimitStatus.OK, Action.CONTINUE),  # the rules are others
        (35, LimitStatus.OK, Action.CONTINUE),  # by the shorter lease of the ones before
        (76, LimitStatus.INCONCLUSIVE, Action.CONTINUE),  # 45 s after the last sample
        (136, LimitStatus.INCONCLUSIVE, Action.STOP),  # 60 s of hold after that
    ]


def test_a_sidecar_that_was_away_finds_what_vanished_meanwhile(
    parts: Sidecar, tmp_path: Path
) -> None:
    """By the first reading; until then it is as it was."""
    parts.storage.close()
    storage, restored = open_sqlite(str(tmp_path / "otel-budget.db"))
    parts.evaluator = type(parts.evaluator)(storage, restored, START + 600)
    verdict = step(parts, None, START + 600)
    assert verdict is not None
    assert verdict.run_state == "running"
    assert later(parts, START + 615, shown(at=START + 601)).run_state == semconv.VANISHED
    storage.close()


def test_a_sidecar_that_is_restarted_still_knows_what_had_vanished(
    parts: Sidecar, tmp_path: Path
) -> None:
    """Though its target gives nothing by then, as a port that another process had meanwhile."""
    later(parts, START + 60, shown(at=START + 45))
    parts.storage.close()
    storage, restored = open_sqlite(str(tmp_path / "otel-budget.db"))
    parts.evaluator = type(parts.evaluator)(storage, restored, START + 65)
    verdict = step(parts, None, START + 65)
    assert verdict is not None
    assert verdict.run_state == semconv.VANISHED
    assert later(parts, START + 90, refused(START + 66)).run_state == semconv.VANISHED
    storage.close()


def test_a_run_that_follows_its_verdict_lives_and_is_told_of(parts: Sidecar) -> None:
    """Somebody took its target away by mistake: it is going to be stopped for want of data."""
    following = {"run-1"}
    parts.evaluator.set_follower_check(following.__contains__)
    verdict = later(parts, START + 90, shown(at=START + 45, targets=[OTHER]))
    assert (verdict.run_state, verdict.status) == ("running", LimitStatus.INCONCLUSIVE)
    assert 'inconclusive_total{reason="stale_data"} 1.0' in parts.metrics_page()
    following.clear()
    gone = shown(at=START + 105, targets=[OTHER])
    assert later(parts, START + 105, gone).run_state == semconv.VANISHED
    following.add("run-1")  # it was only about to connect again
    gone = shown(at=START + 120, targets=[OTHER])
    assert later(parts, START + 120, gone).run_state == "running"


def test_through_a_prometheus_a_target_that_is_down_is_the_reason(parts: Sidecar) -> None:
    """Not just old data: its target gives nothing."""
    down = replace(shown(at=START + 45), down=frozenset({TARGET}))
    verdict = later(parts, START + 105, down)
    assert (verdict.run_state, verdict.reason) == ("running", Reason.SOURCE_ERROR)


# --- a Prometheus that was away itself ------------------------------------------------------------
def targets_in(source: PrometheusSource, at: float, *instances: str) -> frozenset[str] | None:
    """Have a server answer, with a run and its ``up`` for each instance; return all there are."""
    result: list[dict[str, object]] = []
    for instance in instances:
        labels = {"job": "agents", "instance": instance}
        run = {**labels, semconv.SESSION_ID: instance}
        for metric, value in (
            ({"__name__": semconv.SESSION_TOKENS.name, **run}, 5.0),
            ({SAMPLED: "1", **run}, at),
            ({ANSWERS: "1", **labels}, 1.0),
        ):
            result.append({"metric": metric, "value": [at, str(value)]})
    data = {"resultType": "vector", "result": result}
    source.read_answer(json.dumps({"status": "success", "data": data}).encode(), at)
    return source._reading.targets


@pytest.mark.parametrize("first", [(), ("a",)])
def test_a_prometheus_that_was_away_has_to_scrape_its_targets_before_one_is_gone(
    first: tuple[str, ...],
) -> None:
    """It was down, or its machine slept: those scraped first are not all there are."""
    source = PrometheusSource(PrometheusSettings("http://nowhere"), lambda: START)
    one, both = frozenset({"agents/a"}), frozenset({"agents/a", "agents/b"})
    assert targets_in(source, START, "a", "b") == both
    assert targets_in(source, START + 5, "a") == one
    back = START + 605
    assert targets_in(source, back - 1, *first) is None
    assert targets_in(source, back, "a") is None
    assert targets_in(source, back + 5, "a") is None
    assert targets_in(source, back + 15, "a", "b") is None
    assert targets_in(source, back + 60, "a", "b") == both
    assert targets_in(source, back + 65, "a") == one


@pytest.mark.parametrize("seen", ["failure", "nothing"])
def test_a_prometheus_that_restarts_without_its_data_has_to_scrape_them_as_well(seen: str) -> None:
    """All that shows it may be a single read that fails, or an answer with no target in it."""
    source = PrometheusSource(PrometheusSettings("http://127.0.0.1:1"), lambda: START)
    both = frozenset({"agents/a", "agents/b"})
    assert targets_in(source, START, "a", "b") == both
    if seen == "failure":
        assert asyncio.run(source.read()).problems
    else:
        assert targets_in(source, START + 5) is None
    assert targets_in(source, START + 10, "a") is None
    assert targets_in(source, START + 25, "a", "b") is None
    assert targets_in(source, START + 70, "a", "b") == both
    assert targets_in(source, START + 75, "a") == frozenset({"agents/a"})
