"""The sidecar's log: what it sees and what it does not, once, and never as a flood."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_budget.core.observation import Observation, Problem
from otel_budget.core.reasons import Reason
from otel_budget.ledger.admission import BEGIN_AT_ONCE
from otel_budget.logs.once import MOST_LINES
from otel_budget.logs.text import one_line
from otel_budget.sidecar.event_log import NO_RUN_AFTER, EventLog
from otel_budget.sidecar.run_log import VanishedRuns
from otel_budget.sidecar.tick_result import TickResult
from tests.support.sidecar_fixtures import (
    START,
    TARGET,
    Sidecar,
    SteadyClock,
    outage,
    reading,
    session,
    sidecar,
)


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """All of the log."""
    caplog.set_level(logging.INFO)
    return caplog


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Any]:
    """Build sidecars on one store, one after the other."""
    made: list[Sidecar] = []

    def build(*steps: Observation | Exception | None, **options: Any) -> Sidecar:
        if made:
            made[-1].storage.close()
        made.append(sidecar(tmp_path, *steps, **options))
        return made[-1]

    yield build
    made[-1].storage.close()


def ticks(parts: Sidecar, times: int = 1, *, every: float = 1.0) -> None:
    """Tick so often, and let time pass after each."""

    async def several() -> None:
        for _ in range(times):
            await parts.loop.tick()
            parts.clock.advance(every)

    asyncio.run(several())


def test_a_run_is_told_when_it_comes_and_when_it_ends_and_not_in_between(
    make: Any, log: pytest.LogCaptureFixture
) -> None:
    working, done = session(tokens=5), session(tokens=6, state="completed")
    parts = make(*[reading(working)] * 3, reading(done), reading(done), reading())
    ticks(parts, 6)
    told = [f"run 'run-1': seen at {TARGET}", "run 'run-1': ended: completed"]
    assert log.messages == told
    ticks(parts, 2, every=700)
    assert parts.broadcaster.get("run-1") is None
    assert log.messages == told, "that an ended one is put away is no news"


def test_a_run_that_fell_silent_is_told_when_it_is_forgotten(
    make: Any, log: pytest.LogCaptureFixture
) -> None:
    parts = make(reading(session()), reading())
    ticks(parts, 1, every=3601)
    ticks(parts, 2)
    assert log.messages[-1] == "run 'run-1': forgotten after a long silence"
    assert [m for m in log.messages if "forgotten" in m] == log.messages[-1:]


def test_a_new_run_under_an_old_id_is_told(make: Any, log: pytest.LogCaptureFixture) -> None:
    rerun = session(tokens=7, started_at=START + 100)
    ticks(make(reading(session()), reading(rerun)), 3)
    assert log.messages == [f"run 'run-1': seen at {TARGET}"] * 2


def test_after_a_restart_what_is_known_is_no_news(make: Any, log: pytest.LogCaptureFixture) -> None:
    runs = reading(session("a"), session("b", state="failed"))
    ticks(make(runs))
    log.clear()
    ticks(make(runs, clock=SteadyClock(START + 60)), 2)
    assert log.messages == []


def test_a_step_that_could_not_be_stored_is_told_by_the_next(
    make: Any, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    parts = make(reading(session(state="stopped")))
    monkeypatch.setattr(parts.storage, "commit", lambda _changes: 1 / 0)
    ticks(parts)
    monkeypatch.undo()
    log.set_level(logging.INFO)
    log.clear()
    ticks(parts)
    assert log.messages == [f"run 'run-1': seen at {TARGET}", "run 'run-1': ended: stopped"]


@pytest.mark.parametrize("number", [MOST_LINES, BEGIN_AT_ONCE])
def test_many_runs_are_no_flood(make: Any, log: pytest.LogCaptureFixture, number: int) -> None:
    def all_of_them(tokens: int, state: str = "running") -> Observation:
        return reading(*(session(f"run-{n}", tokens, state=state) for n in range(number)))

    parts = make(all_of_them(5), all_of_them(5000), all_of_them(5000, "stopped"), reading())
    ticks(parts, 4)
    if number <= MOST_LINES:
        assert len(log.messages) == 3 * number
        return
    assert log.messages == [
        "1,000 runs were seen for the first time: run-0; run-1; run-2; and 997 more",
        "1,000 runs have a new action: run-0; run-1; run-2; and 997 more",
        "1,000 runs ended: run-0; run-1; run-10; and 997 more",
    ]


def test_a_source_that_answers_and_has_shown_no_run_yet_is_told_once(
    make: Any, log: pytest.LogCaptureFixture
) -> None:
    parts = make(*[reading()] * (NO_RUN_AFTER + 20), reading(session()), reading())
    ticks(parts, NO_RUN_AFTER - 1)
    assert log.messages == []
    ticks(parts, 21)
    (told,) = log.records
    assert told.levelno == logging.INFO  # what is wrong with a source has warnings of its own
    assert "has shown no run in 10 readings" in told.getMessage()
    ticks(parts, 1 + NO_RUN_AFTER + 5)
    assert [m for m in log.messages[1:] if "has shown no run" in m] == []  # a fleet at rest


def test_an_outage_is_not_told_as_a_source_without_runs(
    make: Any, log: pytest.LogCaptureFixture
) -> None:
    ticks(make(outage()), NO_RUN_AFTER * 2)
    assert [r.getMessage() for r in log.records] == [
        "the source scrape gives nothing: connection refused"
    ]


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("completed", ("INFO", "the source scrape gives nothing now: t: refused")),
        ("running", ("WARNING", "the source scrape gives nothing: t: refused")),
    ],
)
def test_a_target_that_goes_with_the_end_of_its_last_run_is_no_outage(
    state: str, told: tuple[str, str], make: Any, log: pytest.LogCaptureFixture
) -> None:
    """A batch job on a fixed port, say."""
    gone = Problem("t", Reason.SOURCE_ERROR, "t: refused")
    ticks(
        make(
            reading(session(state=state)),
            Observation("scrape", START + 1, problems=(gone,), answered=False),
        ),
        3,
    )
    said = [(r.levelname, r.message) for r in log.records if "gives nothing" in r.message]
    assert said == [told]


def test_an_outage_of_very_many_targets_is_one_line_of_bounded_length(
    make: Any, log: pytest.LogCaptureFixture
) -> None:
    problems = tuple(Problem(f"t{n}", Reason.SOURCE_ERROR, f"t{n}: refused") for n in range(5000))
    ticks(make(Observation("scrape", START, problems=problems, answered=False)))
    assert log.messages[0].endswith("t19: refused; and 4,980 more")


def test_a_problem_beside_runs_is_told_when_it_begins_and_when_it_is_over(
    make: Any, log: pytest.LogCaptureFixture
) -> None:
    def bad(detail: str) -> Observation:
        return reading(session(), problems=(Problem("t", Reason.SOURCE_ERROR, f"t: {detail}"),))

    well = reading(session())
    slow, refused = bad("HTTP 503 Slow: id a1"), bad("cannot be read: \x1b[31m" + "x" * 500)
    ticks(make(well, slow, bad("HTTP 503 Slow: id b2"), well, well, slow, refused, *[well] * 9), 15)
    begun, other, first_over, second_over = log.messages[1:]
    assert begun == "problem: t: HTTP 503 Slow: id a1"
    assert other.startswith("problem: t: cannot be read: ?[31mxxx")
    assert first_over == "problem resolved: t: HTTP 503 Slow: id a1"
    assert second_over.startswith("problem resolved: t: cannot be read")
    assert max(map(len, log.messages)) < 250


def test_very_many_problems_at_once_are_one_line(make: Any, log: pytest.LogCaptureFixture) -> None:
    problems = tuple(Problem(f"t{n}", Reason.SOURCE_ERROR, f"t{n}: refused") for n in range(5000))
    ticks(make(reading(session(), problems=problems)), 3)
    assert [m for m in log.messages if "refused" in m] == [
        "5,000 problems: t0: refused; t1: refused; t2: refused; and 4,997 more"
    ]


def test_what_others_wrote_becomes_one_short_printable_line() -> None:
    assert one_line("<html>\n\t<b>no\x1b[31m \u202e") == "<html> <b>no?[31m ?"
    assert one_line("x" * 200) == "x" * 200
    assert one_line("x" * 201) == "x" * 199 + "…"
    assert len(one_line("y " * 10_000)) == 200


def test_a_limit_on_what_a_run_does_not_export_is_told_once(
    make: Any, log: pytest.LogCaptureFixture
) -> None:
    """Not at once: many programs export a resource with its first use only."""
    steps = [reading(session(limits={"cost": 5}, tokens=n, at=START + n)) for n in range(200)]
    parts = make(*steps)
    ticks(parts, 50)
    assert not [text for text in log.messages if "does not hold" in text]
    ticks(parts, 140)
    (told,) = [text for text in log.messages if "does not hold" in text]
    assert told.startswith("run 'run-1': nothing has exported cost in 60 s of watching")


def test_a_limit_that_can_be_judged_after_all_is_not_told(
    make: Any, log: pytest.LogCaptureFixture
) -> None:
    """The resource came with its first use."""
    limits = {"api_calls": 5}
    early = session(limits=limits)
    early = early._replace(counters={("tokens", ""): 0})
    ticks(make(reading(early), *(reading(session(limits=limits, tokens=n, at=START + n))
                                 for n in range(1, 100))), 100)  # fmt: skip
    assert not [text for text in log.messages if "does not hold" in text]


def test_samples_that_are_steadily_late_are_told_once_with_the_figure(
    log: pytest.LogCaptureFixture,
) -> None:
    """And again when they are much later."""
    event_log = EventLog()
    for lag in (0.0, 1.2, 34.2, 36.0, 0.0, 34.0, 90.0, 91.0):
        event_log.log_result(TickResult(lag=lag))
    first, second = log.messages
    assert first.startswith("samples arrive steadily late, by up to 34 s: the source hides")
    assert "stale_after: auto allows for it" in first
    assert "by up to 90 s" in second


def test_what_a_source_said_of_its_empty_answers_is_not_said_again(
    make: Any, log: pytest.LogCaptureFixture
) -> None:
    """It knows more than that no run was shown."""
    nothing = [reading(unmatched={"http://a": "a shows nothing"})] * (NO_RUN_AFTER + 2)
    parts = make(*nothing)
    ticks(parts, NO_RUN_AFTER + 2)
    assert log.messages == []
    assert parts.loop.unmatched == 1
    assert 'otel_budget_sidecar_unmatched_targets{source="scrape"} 1.0' in parts.metrics_page()


def test_a_run_that_vanishes_and_comes_back_again_and_again_is_told_once(
    log: pytest.LogCaptureFixture,
) -> None:
    """Several workers behind one port answer by turns: each scrape shows another one's runs."""
    told = VanishedRuns(lambda: 0.0, lambda _: "")
    lines = [told.log(["by-turns"], []) for _ in range(20)]
    assert [len(each) for each in lines] == [1, 1, 1] + [0] * 17
    (said,) = [text for text in log.messages if "by turns?" in text]
    assert said.startswith("run 'by-turns': it has vanished and come back 3 times")
    told.log([], ["by-turns"])
    assert told.log(["by-turns"], [])


def test_a_source_that_comes_back_with_part_of_its_answer_says_so(
    make: Any, log: pytest.LogCaptureFixture
) -> None:
    partial = Problem("", Reason.PARTIAL_DATA, "http://a: its answer is partial")
    parts = make(outage(), reading(problems=(partial,)), reading(problems=(partial,)))
    ticks(parts, 3)
    assert sorted(log.messages[1:]) == [
        "problem: http://a: its answer is partial",
        "the source scrape answers again",
    ]
