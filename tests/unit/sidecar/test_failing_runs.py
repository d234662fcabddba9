"""A mistake of this program at one run costs that run: it is held, then stopped; others go on."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from otel_budget.core import verdict_json
from otel_budget.core.observation import Observation
from otel_budget.core.override import Override, OverrideKind
from otel_budget.core.verdict import LimitStatus, Verdict
from otel_budget.ledger.admission import KEEP_ENDED
from otel_budget.ledger.ledger import Ledger
from otel_budget.ledger.run import RunTotals
from otel_budget.policy.bounds import bounds_from
from otel_budget.policy.verdicts import Rules
from otel_budget.sidecar import verdict_cache
from otel_budget.sidecar.storage import codec
from otel_budget.sidecar.storage.sqlite.storage import open_sqlite
from tests.support.sidecar_fixtures import LEASE, START, Sidecar, reading, session, sidecar

HOLD = 60.0
RULES = Rules(ceilings=bounds_from({"tokens": 1000}, {}, "sidecar"), lease=LEASE, hold=HOLD)
ALL = ("a", "bad", "z")
Fail = Callable[[], None]


def shown(tokens: int = 100, **others: int) -> Observation:
    """Return a reading with three runs. others: tokens by run."""
    return reading(*(session(name, others.get(name, tokens)) for name in ALL))


def ticks(parts: Sidecar, times: int = 1) -> None:
    """Tick so often, a second apart."""
    for _ in range(times):
        parts.clock.advance(1.0)
        asyncio.run(parts.loop.tick())


def verdict(parts: Sidecar, name: str) -> Verdict:
    """Return the published verdict of a run."""
    published = parts.broadcaster.get(name)
    assert published is not None
    return published.verdict


def decided(parts: Sidecar, name: str) -> tuple[str, str]:
    """Return what is published of a run."""
    found = verdict(parts, name)
    return found.action, found.reason


def failing(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, about: Callable[..., str]
) -> Fail:
    """Return what has a function fail where it is about one run, as a mistake in it would."""
    real = getattr(owner, name)

    def fails(*arguments: Any, **named: Any) -> Any:
        if about(*arguments, **named) == "bad":
            raise ValueError("math domain error")
        return real(*arguments, **named)

    return lambda: monkeypatch.setattr(owner, name, fails)


PLACES: dict[str, tuple[Any, str, Callable[..., str]]] = {
    "take in": (RunTotals, "observe", lambda account, *_, **__: account.session_id),
    "weigh": (Ledger, "snapshot", lambda _, account, *__: account.session_id),
    "judge": (verdict_cache, "verdict_from_snapshot", lambda snapshot, *_: snapshot.session_id),
    "store an account": (codec, "_dump", lambda account: account.session_id),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("known", [1, 0], ids=["a known run", "a new run"])
def test_a_run_that_fails_is_held_then_stopped_and_the_others_are_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, known: int
) -> None:
    parts = sidecar(tmp_path, shown(), shown(200, z=5000), rules=RULES)
    fail = failing(monkeypatch, *PLACES[place])
    ticks(parts, known)
    fail()
    ticks(parts, 2)
    assert decided(parts, "bad") == ("continue", "internal_error")
    assert verdict(parts, "bad").status is LimitStatus.INCONCLUSIVE
    assert decided(parts, "a") == ("continue", "within_limits")
    assert verdict(parts, "a").resources["tokens"].used == 200
    assert decided(parts, "z") == ("stop", "limit_exceeded")
    ticks(parts, int(HOLD) + 2)
    assert decided(parts, "bad") == ("stop", "internal_error")
    assert decided(parts, "a") == ("continue", "within_limits")
    assert "otel_budget_sidecar_tick_failures_total 0.0" in parts.metrics_page()
    assert "otel_budget_sidecar_run_failures_total 6" in parts.metrics_page()
    parts.storage.close()


@pytest.mark.parametrize("place", PLACES)
def test_a_run_that_does_not_fail_any_more_is_as_the_others_and_everything_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    parts = sidecar(tmp_path, shown(), shown(300), rules=RULES)
    ticks(parts)
    with monkeypatch.context() as patch:
        failing(patch, *PLACES[place])()
        ticks(parts, 3)
    ticks(parts, 2)
    assert {decided(parts, name) for name in ALL} == {("continue", "within_limits")}
    parts.storage.close()
    again, restored = open_sqlite(str(tmp_path / "otel-budget.db"))
    assert {a.session_id: a.totals()["tokens"] for a in restored.runs} == dict.fromkeys(ALL, 300)
    again.close()


def test_a_failure_is_logged_once_with_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    parts = sidecar(tmp_path, shown(), rules=RULES)
    failing(monkeypatch, *PLACES["judge"])()
    with caplog.at_level(logging.ERROR):
        ticks(parts, 20)
    said = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert [bool(r.exc_info) for r in said] == [True, False]
    assert "run 'bad': it could not be judged (ValueError('math domain error'))" in caplog.text
    parts.storage.close()


def test_a_run_over_its_limit_or_ordered_to_stop_stays_stopped_while_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = sidecar(tmp_path, shown(bad=5000), rules=RULES)
    ticks(parts)
    failing(monkeypatch, *PLACES["judge"])()
    ticks(parts, 3)
    assert decided(parts, "bad") == ("stop", "limit_exceeded")
    parts.storage.close()
    (tmp_path / "other").mkdir()
    parts = sidecar(tmp_path / "other", shown(), rules=RULES)
    ticks(parts)
    order = Override(OverrideKind.STOP, "enough", at=parts.clock())
    found, _ = asyncio.run(parts.loop.apply_override("bad", order, "test"))
    assert (found.action, found.reason) == ("stop", "operator_stop")
    parts.storage.close()


def test_limits_of_an_operator_end_in_time_while_a_run_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = sidecar(tmp_path, shown(), rules=replace(RULES, limits_from_outside=True))
    ticks(parts)
    limits = {"tokens": 5000}
    order = Override(
        OverrideKind.LIMITS, "more", at=parts.clock(), until=parts.clock() + 5, limits=limits
    )
    asyncio.run(parts.loop.apply_override("bad", order, "test"))
    failing(monkeypatch, *PLACES["judge"])()
    ticks(parts, 3)
    assert verdict(parts, "bad").reason == "internal_error"
    assert verdict(parts, "bad").own_limits_replaced == ("tokens",)
    ticks(parts, 3)
    assert verdict(parts, "bad").own_limits_replaced == ()
    parts.storage.close()


def test_a_run_that_cannot_be_archived_does_not_keep_the_others_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = reading(*(session(name, 100, state="completed") for name in ALL))
    parts = sidecar(tmp_path, ended, reading(), rules=RULES)
    ticks(parts)
    failing(monkeypatch, *PLACES["store an account"])()
    parts.clock.advance(KEEP_ENDED + 1)
    ticks(parts, 2)
    assert [parts.broadcaster.get(name) for name in ALL] == [None, None, None]
    assert parts.storage.archived("a", START - 10) is not None
    assert "otel_budget_sidecar_run_failures_total 1.0" in parts.metrics_page()
    parts.storage.close()


def test_an_archived_run_that_cannot_be_taken_up_begins_at_least(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = sidecar(tmp_path, shown(), rules=RULES)
    real = parts.storage.archived

    def archived(session_id: str, started_at: float | None) -> RunTotals | None:
        if session_id == "bad":
            raise ValueError("math domain error")
        return real(session_id, started_at)

    monkeypatch.setattr(parts.storage, "archived", archived)
    ticks(parts)
    assert verdict(parts, "bad").resources["tokens"].at_least
    assert not verdict(parts, "a").resources["tokens"].at_least
    parts.storage.close()


def test_a_verdict_that_cannot_be_written_takes_no_stream_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = sidecar(tmp_path, shown(), rules=RULES)
    ticks(parts)
    failing(monkeypatch, verdict_json, "around_lease", lambda verdict: verdict.session_id)()

    async def first() -> bytes:
        with parts.broadcaster.subscribe() as subscription:
            return await anext(subscription.frames())

    frames = asyncio.run(first())
    assert b'"a"' in frames
    assert b'"z"' in frames
    assert b'"bad"' not in frames
    published = parts.broadcaster.get("bad")
    assert published is not None
    assert parts.broadcaster.json_of(published) is None
    parts.storage.close()


def test_what_cannot_be_told_does_not_end_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = sidecar(tmp_path, shown(), shown(200), rules=RULES)

    def fails(_: object) -> None:
        raise ValueError("math domain error")

    monkeypatch.setattr(parts.metrics, "note_result", fails)
    ticks(parts, 2)
    assert verdict(parts, "a").resources["tokens"].used == 200
    parts.storage.close()
