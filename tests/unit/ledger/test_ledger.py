"""The ledger beyond totals: rates, forgetting, late facts, and the storage format."""

import json
from decimal import Decimal
from typing import Any

import pytest

from otel_budget import semconv
from otel_budget.core.observation import Observation, Problem, RunAttributes, RunObservation
from otel_budget.core.quantities import Number
from otel_budget.core.reasons import Reason
from otel_budget.ledger.admission import KEEP_ENDED
from otel_budget.ledger.ledger import Ledger
from otel_budget.sidecar.storage import codec

FACTS = RunAttributes(started_at=0.0, incarnation_at=0.0, state="running")


def seen(at: float, tokens: int | None, target: str = "a", **attributes: Any) -> RunObservation:
    """Return one sample of a run with some tokens, or of one whose counters are lost."""
    counters: dict[tuple[str, str], Number] = {}
    if tokens is not None:
        counters[semconv.TOKENS, ""] = tokens
    stated = FACTS._replace(**attributes)
    return RunObservation("run", target, at, counters, stated)


def apply(ledger: Ledger, at: float, *sessions: RunObservation, partial: bool = False) -> None:
    """Let the ledger take in one reading."""
    problems = (Problem("", Reason.PARTIAL_DATA, "warned"),) if partial else ()
    ledger.apply(Observation("scrape", at, sessions, problems))


def rate(ledger: Ledger, now: float) -> float | None:
    """Return the tokens per second of the run."""
    return ledger.snapshot(ledger.runs["run"], now).rates.get(semconv.TOKENS)


def test_the_rate_is_what_was_spent_between_two_samples() -> None:
    """What the first sample showed was spent before anybody looked."""
    ledger = Ledger()
    apply(ledger, 10, seen(10, 5000))
    assert rate(ledger, 10) is None
    apply(ledger, 12, seen(12, 5010))
    assert rate(ledger, 12) == 5.0


def test_the_rate_is_that_of_all_processes_of_the_run() -> None:
    """Also of the one that is read second, at the same moment."""
    ledger = Ledger()
    for at, tokens in ((10, 0), (12, 10)):
        apply(ledger, at, seen(at, tokens), seen(at, tokens, "b", incarnation_at=1.0))
    apply(ledger, 14, seen(14, 20), seen(14, 20, "b", incarnation_at=1.0))
    assert rate(ledger, 14) == pytest.approx((10 + 20) / 4, rel=0.05)


def test_the_rate_has_what_a_partial_reading_showed_in_between() -> None:
    """The time it took is in it as well."""
    ledger = Ledger()
    apply(ledger, 10, seen(10, 0))
    apply(ledger, 12, seen(12, 10), partial=True)
    apply(ledger, 14, seen(14, 20))
    assert rate(ledger, 14) == 5.0


def test_a_run_that_counts_calls_has_a_pace_and_no_rate() -> None:
    """Calls say more than time does; until the second one its rate is all that there is."""
    ledger = Ledger()
    for at, calls in ((10, 0), (12, 0), (14, 1), (16, 3)):
        shown = seen(at, 100 * at)
        counters = {**shown.counters, (semconv.API_CALLS, ""): calls}
        apply(ledger, at, shown._replace(counters=counters))
        assert (rate(ledger, at) is not None) is (at in {12, 14})
    assert ledger.runs["run"].pace.calls == 3


def test_a_run_that_ended_is_kept_for_ten_minutes() -> None:
    """Whoever asks gets its last verdict."""
    ledger = Ledger()
    apply(ledger, 10, seen(10, 0, state="completed"))
    assert ledger.forget(10 + KEEP_ENDED, forget_after=1.0) == []
    (gone,) = ledger.forget(10 + KEEP_ENDED + 1, forget_after=9999.0)
    assert (gone.session_id, ledger.runs) == ("run", {})


def test_a_silent_run_is_forgotten_as_abandoned() -> None:
    """Not before, and by the time somebody listened."""
    ledger = Ledger()
    apply(ledger, 10, seen(10, 0))
    assert ledger.forget(110, forget_after=100.0) == []
    assert len(ledger.forget(110.5, forget_after=100.0)) == 1
    fresh = Ledger()
    apply(fresh, 10, seen(10, 0))
    fresh.adopt(fresh.runs["run"], 5000.0)
    assert fresh.forget(5100.0, forget_after=100.0) == []
    assert len(fresh.forget(5101.0, forget_after=100.0)) == 1


def test_a_late_sample_of_a_second_target_takes_no_fact_back() -> None:
    """A lagging server still shows yesterday's limit."""
    ledger = Ledger()
    apply(ledger, 10, seen(10, 0, limits={semconv.TOKENS: 5}))
    apply(ledger, 11, seen(9, 0, "b", limits={semconv.TOKENS: 900}, state="completed"))
    run = ledger.runs["run"]
    assert run.attributes.limits == {semconv.TOKENS: 5}
    assert run.ended_at is None


def test_losing_the_counters_does_not_make_implausible_values_plausible() -> None:
    """Only a sound sample does."""
    ledger = Ledger()
    spoilt = seen(10, None)._replace(implausible=("otel_budget_tokens_total",))
    apply(ledger, 10, spoilt)
    apply(ledger, 11, seen(11, None))
    assert ledger.snapshot(ledger.runs["run"], 12).implausible_for == 2.0


def test_a_reading_without_counters_does_not_make_a_run_fresh() -> None:
    """Its gauges are no use."""
    ledger = Ledger()
    apply(ledger, 10, seen(10, 5))
    apply(ledger, 20, seen(20, None))
    assert ledger.snapshot(ledger.runs["run"], 20).silent_for == 10.0


def test_refused_samples_and_resets_are_counted_by_reason() -> None:
    """For the sidecar's own metrics."""
    ledger = Ledger()
    ledger.apply(Observation("scrape", 0.0, dropped={"session_id": 3, "type": 1}))
    apply(ledger, 10, seen(10, 50, started_at=5.0))
    apply(ledger, 11, seen(11, 5, started_at=5.0))
    apply(ledger, 12, seen(12, 1, "b", started_at=5.0, incarnation_at=9.0))
    apply(ledger, 13, seen(13, 1, started_at=1.0))
    assert ledger.dropped == {"session_id": 3, "type": 1, "old_run": 1}
    assert ledger.resets == {"counter": 1, "incarnation": 1}


def test_a_change_worth_storing_moves_the_revision_and_nothing_else_does() -> None:
    """Or every tick would write every run."""
    ledger = Ledger()
    apply(ledger, 10, seen(10, 5, duration=10.0))
    run = ledger.runs["run"]
    known = run.revision
    apply(ledger, 11, seen(11, 5, duration=11.0))
    assert run.revision == known
    changes: list[RunObservation] = [
        seen(12, 6, duration=12.0),
        seen(13, 6, duration=13.0, limits={semconv.TOKENS: 9}),
        seen(14, 6, duration=14.0, limits={semconv.TOKENS: 9}, progress=0.5),
        seen(15, 6, duration=20.0, limits={semconv.TOKENS: 9}, progress=0.5),
        seen(16, 6, duration=20.0, limits={semconv.TOKENS: 9}, progress=0.5, state="completed"),
    ]
    for change in changes:
        known = run.revision
        apply(ledger, change.sampled_at, change)
        assert run.revision > known


def test_an_account_of_another_format_is_refused() -> None:
    """It is not read as if it were this one's."""
    ledger = Ledger()
    apply(ledger, 10, seen(10, 5))
    data = json.loads(codec.to_json(ledger.runs["run"]))
    for other in (0, 5, "1", None):
        with pytest.raises(ValueError, match="this version reads 1 to 4"):
            codec.from_json(json.dumps({**data, "format": other}))


def test_money_in_the_storage_keeps_every_digit() -> None:
    """It is a string there, never a float."""
    ledger = Ledger()
    cost = Decimal("0.1000000000000000000000001")
    counters: dict[tuple[str, str], Number] = {(semconv.COST, ""): cost}
    apply(ledger, 10, RunObservation("run", "a", 10.0, counters, FACTS))
    text = codec.to_json(ledger.runs["run"])
    assert f'"{cost}"' in text
    assert str(codec.from_json(text).totals()[semconv.COST]) == str(cost)


def test_series_that_are_long_gone_are_kept_as_a_sum() -> None:
    """An agent that labels its series by request does not make its account grow for ever."""
    ledger = Ledger()
    for step in range(1000):
        at = 10.0 * step
        counters: dict[tuple[str, str], Number] = {
            (semconv.TOKENS, f"request={step}"): 5,
            (semconv.COST, f"request={step}"): Decimal("0.01"),
        }
        apply(ledger, at, RunObservation("run", "a", at, counters))
        if step % 300 == 0:
            run = codec.from_json(codec.to_json(ledger.runs["run"]))
            ledger.adopt(run, at)
    run = ledger.runs["run"]
    assert run.totals() == {semconv.TOKENS: 5000, semconv.COST: Decimal("10.00")}
    (series,) = run.processes["t:a"].target_series.values()
    assert series.shown_at.keys() < series.counters.keys()
    assert len(series.counters) < 400
    assert run.resets == 0


def test_a_series_that_pauses_for_less_is_still_the_same() -> None:
    """However many others are gone."""
    ledger = Ledger()
    for step in range(300):
        counters: dict[tuple[str, str], Number] = {(semconv.TOKENS, f"request={step}"): 5}
        if step % 100 == 99:
            counters[semconv.TOKENS, "steady"] = step
        apply(ledger, 5.0 * step, RunObservation("run", "a", 5.0 * step, counters))
    assert ledger.runs["run"].totals() == {semconv.TOKENS: 300 * 5 + 299}


def test_a_silent_run_is_not_forgotten_before_it_was_decided_what_follows() -> None:
    """However short the time is after which runs are to be forgotten."""
    ledger = Ledger()
    apply(ledger, 10, seen(10, 0))
    assert ledger.forget(10 + 5 + 33, forget_after=4.0, hold=30.0, decided=33.0) == []
    assert len(ledger.forget(10 + 5 + 33.1, forget_after=4.0, hold=30.0, decided=33.0)) == 1
