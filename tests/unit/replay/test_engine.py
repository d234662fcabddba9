"""Verdicts on what a trace says, as a sidecar would have given them."""

import gc
from collections.abc import Iterable
from typing import Any

import pytest

from otel_budget.core.limits import ResourceLimits
from otel_budget.errors import InvalidValueError
from otel_budget.policy.bounds import bounds_from
from otel_budget.policy.verdicts import Rules
from otel_budget.replay.changes import ForecastAt, VerdictChange
from otel_budget.replay.engine import Replay
from otel_budget.replay.judged_run import TracedRun
from otel_budget.replay.trace import TraceLine, Use

ANY = Rules()


def start(at: float, session_id: str = "r1", **limits: Any) -> TraceLine:
    """Return the line on which a run begins."""
    own = ResourceLimits.only(**limits) if limits else None
    return TraceLine(at, session_id, f"t:{at}", start=True, limits=own)


def use(
    at: float, tokens: int, session_id: str = "r1", *, progress: float | None = None
) -> TraceLine:
    """Return a line on which one call is made."""
    used = Use({"tokens": tokens, "api_calls": 1})
    return TraceLine(at, session_id, f"t:{at}", use=used, progress=progress)


def end(at: float, session_id: str = "r1", *, resolved: bool | None = None) -> TraceLine:
    """Return the line on which a run ends."""
    return TraceLine(at, session_id, f"t:{at}", end="completed", resolved=resolved)


def told(
    replay: Replay, lines: Iterable[TraceLine]
) -> list[tuple[float, str, str, str, str | None]]:
    """Return the changes as (time, run, action, reason, limit_from)."""
    found = [one for line in lines for one in replay.take(line) if isinstance(one, VerdictChange)]
    return [
        (c.at, c.verdict.session_id, str(c.verdict.action), str(c.verdict.reason),
         c.verdict.limit_from)
        for c in found
    ]  # fmt: skip


def test_the_first_verdict_on_a_run_is_a_change_at_its_start() -> None:
    """At 0 used."""
    assert told(Replay(ANY), [start(0.0), use(1.0, 5)]) == [
        (0.0, "r1", "continue", "within_limits", None)
    ]


def test_a_limit_of_nothing_stops_a_run_at_its_start() -> None:
    """The trace's own limit, or the sidecar's: the stricter."""
    rules = Rules(ceilings=bounds_from({"tokens": 0}, {}, "sidecar"))
    assert told(Replay(rules), [start(0.0, max_tokens=100)]) == [
        (0.0, "r1", "stop", "limit_exceeded", "sidecar")
    ]


def test_a_run_goes_over_its_warning_line_and_then_its_limit() -> None:
    """Without a progress it goes on until the limit."""
    lines = [start(0.0, max_tokens=100), use(1.0, 79), use(2.0, 1), use(3.0, 20), end(4.0)]
    assert told(Replay(ANY), lines)[1:] == [
        (2.0, "r1", "continue", "approaching_limit_progress_unknown", "session"),
        (3.0, "r1", "stop", "limit_exceeded", "session"),
    ]


def test_what_a_stopped_run_used_later_is_not_counted() -> None:
    """It is what the stop saved."""
    replay = Replay(ANY)
    told(replay, [start(0.0, max_tokens=100), use(1.0, 120), use(2.0, 50), end(3.0)])
    point = replay.finish().point
    assert (point.used["tokens"], point.recorded["tokens"], point.cut) == (120, 170, 1)


def test_what_a_run_used_that_was_kept_going_is_its_overshoot() -> None:
    """It is booked all the same."""
    replay = Replay(ANY, keep_going=True)
    lines = [start(0.0, max_tokens=100), use(1.0, 120), use(2.0, 50), end(3.0)]
    assert len(told(replay, lines)) == 2, "what is exceeded stays exceeded"
    summary = replay.finish()
    assert (summary.point.used["tokens"], summary.overshoot["tokens"]) == (170, 50)


def test_a_duration_is_noticed_at_the_next_line_of_any_run() -> None:
    """The clock is the trace's, and ticks fall on its lines."""
    lines = [start(0.0, max_duration_seconds=10), start(1.0, "r2"), use(8.0, 5, "r2"),
             use(9.5, 5, "r2"), use(12.0, 5, "r2"), end(20.0)]  # fmt: skip
    assert told(Replay(ANY), lines)[2:] == [
        (8.0, "r1", "continue", "approaching_limit_progress_unknown", "session"),
        (12.0, "r1", "stop", "limit_exceeded", "session"),
    ]


def test_a_graceful_stop_gives_way_to_a_later_progress() -> None:
    """But not one that comes with calls which the run did not make."""
    begin = [start(0.0, max_tokens=100), use(1.0, 85, progress=0.5)]
    later = TraceLine(2.0, "r1", "t:3", progress=0.9)
    stop, goes_on = (1.0, "r1", "stop", "approaching_limit", "session"), "finishing"
    assert told(Replay(ANY), [*begin, later])[1:] == [
        stop, (2.0, "r1", "continue", goes_on, "session"),
    ]  # fmt: skip
    assert told(Replay(ANY), [*begin, use(2.0, 5, progress=0.9)])[1:] == [stop]
    kept = Replay(ANY, keep_going=True)
    assert told(kept, [*begin, use(2.0, 5, progress=0.9)])[1:] == [
        stop, (2.0, "r1", "continue", goes_on, "session"),
    ]  # fmt: skip


def test_a_progress_from_before_a_line_was_crossed_is_unknown_after_it() -> None:
    """As live."""
    lines = [start(0.0, max_tokens=100), use(1.0, 50, progress=0.5), use(2.0, 35)]
    assert told(Replay(ANY), lines)[1:] == [
        (2.0, "r1", "continue", "approaching_limit_progress_unknown", "session")
    ]


def test_a_trace_is_complete_so_silence_is_none() -> None:
    """However long it lasts."""
    lines = [start(0.0, max_tokens=100), start(1.0, "r2"), use(90_000.0, 5, "r2"), end(99_000.0)]
    assert len(told(Replay(ANY), lines)) == 2


@pytest.mark.parametrize(
    "lines",
    [
        [use(1.0, 5)],
        [start(1.0), start(2.0)],
        [start(1.0), end(2.0), use(3.0, 5)],
        [end(1.0)],
    ],
)
def test_a_run_begins_once_and_before_it_uses_anything(lines: list[TraceLine]) -> None:
    """Anything else is refused with its line."""
    with pytest.raises(InvalidValueError) as caught:
        told(Replay(ANY), lines)
    assert caught.value.where == lines[-1].where


def test_a_run_without_an_end_is_open() -> None:
    """It counts, and is said."""
    replay = Replay(ANY)
    told(replay, [start(0.0), start(0.0, "r2"), end(1.0, "r2", resolved=True)])
    assert replay.open_runs == ("r1",)
    summary = replay.finish()
    assert (summary.point.runs, summary.open_runs, summary.point.resolved_kept) == (2, 1, 1)


@pytest.mark.parametrize("begin", [0.0, -5.0, 1_700_000_000.0])
def test_what_runs_used_that_did_not_complete_adds_up_where_the_policy_says_so(
    begin: float,
) -> None:
    """Not their time; and one that completed begins at 0. Whenever the trace begins."""
    rules = Rules(ceilings=bounds_from({"tokens": 100}, {}, "sidecar"), adds_restarts=True)
    failed = TraceLine(begin + 2, "r1", "t", end="failed")
    again = [start(begin + 3), use(begin + 4, 50)]
    begun = [start(begin), use(begin + 1, 60)]
    replay = Replay(rules)
    told(replay, [*begun, failed])
    first, second = (one for line in again for one in replay.take(line))
    assert isinstance(first, VerdictChange)
    assert isinstance(second, VerdictChange)
    assert first.verdict.resources["duration"].used == 0
    assert first.verdict.resources["tokens"].used == 60
    assert second.verdict.resources["tokens"].used == 110
    assert second.verdict.limit_from == "sidecar"
    assert len(told(Replay(rules), [*begun, end(begin + 2), *again])) == 2


def test_calls_of_unknown_usage_stop_a_run_that_says_so_itself() -> None:
    """Under a limit on tokens, be it the sidecar's."""
    rules = Rules(ceilings=bounds_from({"tokens": 100}, {}, "sidecar"))
    unknown = TraceLine(1.0, "r1", "t", use=Use({"api_calls": 1}, unknown_usage_calls=1))
    stop = (1.0, "r1", "stop", "unknown_usage", "sidecar")
    assert told(Replay(rules), [start(0.0, on_unknown_usage="stop"), unknown])[1:] == [stop]
    assert told(Replay(rules), [start(0.0), unknown])[1:] == []


def test_a_stopped_run_is_stopped_once_and_its_time_stands_still() -> None:
    """As it is over then; kept going it runs into its other limit, too."""
    lines = [start(0.0, max_tokens=100, max_duration_seconds=50), use(1.0, 85, progress=0.1),
             start(60.0, "r2"), end(61.0)]  # fmt: skip
    reasons = [change[3] for change in told(Replay(ANY), lines) if change[1] == "r1"]
    assert reasons == ["within_limits", "approaching_limit"]
    kept = [c[3] for c in told(Replay(ANY, keep_going=True), lines) if c[1] == "r1"]
    assert kept == ["within_limits", "approaching_limit", "limit_exceeded"]


def test_a_forecast_is_given_at_the_first_line_that_reaches_a_share() -> None:
    """Of a limit on time that may be another run's line."""
    replay = Replay(ANY, forecast_at=(0.5,))
    lines = [start(0.0, max_tokens=1000, max_duration_seconds=100), use(10.0, 400), use(20.0, 150),
             start(51.0, "r2"), use(52.0, 10), use(60.0, 10)]  # fmt: skip
    found = [one for line in lines for one in replay.take(line)]
    given = [one for one in found if isinstance(one, ForecastAt)]
    assert [(one.at, one.resource) for one in given] == [(20.0, "tokens"), (51.0, "duration")]
    assert given[1].forecast.seconds_left is not None
    assert given[1].forecast.seconds_left.value == 49.0


def test_more_than_can_be_counted_is_refused_with_its_line() -> None:
    """2^53 in all."""
    replay = Replay(ANY)
    with pytest.raises(InvalidValueError, match=r"t:2\.0.*add up to more than 2\^53"):
        told(replay, [start(0.0), use(1.0, 2**53), use(2.0, 1)])


def test_a_run_that_is_over_is_forgotten_though_its_time_was_limited() -> None:
    """Long before its limit: what is kept until then would be most of a long trace."""
    replay = Replay(Rules(ceilings=bounds_from({"duration": 1e6}, {}, "sidecar")))
    for number in range(3000):
        replay.take(start(number, "r1"))
        replay.take(end(number, "r1"))
    gc.collect()
    assert sum(isinstance(thing, TracedRun) for thing in gc.get_objects()) < 10
    assert len(replay._due) < 2000


def test_the_limit_of_a_run_does_not_hold_for_the_next_one_of_its_id() -> None:
    """The first one was over before its time was."""
    lines = [start(0.0, max_duration_seconds=10), end(1.0), start(2.0, max_duration_seconds=100)]
    changes = told(Replay(ANY), [*lines, start(50.0, "r2"), start(90.0, "r3")])
    assert [change[:3] for change in changes if change[1] == "r1"] == [
        (0.0, "r1", "continue"),
        (2.0, "r1", "continue"),
        (90.0, "r1", "continue"),
    ]
