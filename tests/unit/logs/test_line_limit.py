"""One that has much to say fills no log, and drowns no other."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest

from otel_budget import Prices, ResourceMonitor
from otel_budget.core.observation import Observation, Problem
from otel_budget.core.reasons import Action, Reason
from otel_budget.genai.call import Call
from otel_budget.genai.notices import Notices as CallNotices
from otel_budget.ledger.findings import Finding, FindingKind
from otel_budget.logs.line_limit import ABOUT, ALL, HEARD, RESERVE, SPEAKER, LineFilter, LineLimit
from otel_budget.logs.once import MOST_LINES, MOST_SAID, Lines, OncePerSubject
from otel_budget.sdk.pricing.unpriced import UnpricedNotices
from otel_budget.sdk.usage_arguments import OperationUsage
from otel_budget.sidecar.event_log import EventLog
from otel_budget.sidecar.http_server import QUIET, Refusals
from otel_budget.sidecar.metrics import SidecarMetrics
from otel_budget.sidecar.tick_result import Change, RunEvents, TickResult
from tests.support.sidecar_fixtures import SteadyClock, verdict

logger = logging.getLogger("otel_budget.test")
TIMES = 1_000
"""Steps, of a second each, in which a target has something new to say, twenty times over."""
EACH = 20
MOST = SPEAKER.burst + TIMES / SPEAKER.every + 1
"""Lines of one kind from one target in that time."""

Said = Callable[[str], list[str]]


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Said:
    """Return the lines of the log that hold some words."""
    caplog.set_level(logging.INFO)
    return lambda words: [text for text in caplog.messages if words in text]


@pytest.fixture
def steady() -> SteadyClock:
    """A clock of the test's own."""
    return SteadyClock(1000.0)


def seen_at(session_id: str) -> str:
    """All runs but one are at one target."""
    return "http://honest" if session_id.startswith("honest") else "http://hostile"


def changed(session_id: str, sequence: int, action: Action) -> Change:
    """A run with a new action."""
    now = verdict(session_id, sequence, action=action)
    other = Action.STOP if action is Action.CONTINUE else Action.CONTINUE
    return Change(verdict(session_id, sequence - 1, action=other), now)


def test_a_target_with_ever_new_runs_leaves_room_for_anothers_stop(
    steady: SteadyClock, said: Said
) -> None:
    """It makes up ids, ends them, lets them vanish and has them flagged, 20,000 times each."""
    event_log = EventLog(steady, seen_at)
    for step in range(TIMES):
        ids = tuple(f"made-up-{step}-{n}" for n in range(EACH))
        events = RunEvents(
            dict.fromkeys(ids, "http://hostile"), dict.fromkeys(ids, "completed"), ids, ids
        )
        flags = tuple(Finding(FindingKind.CONCURRENT, one, ("http://hostile",), "") for one in ids)
        changes = [changed(one, step * 100 + 2, Action.STOP) for one in ids]
        if step == TIMES // 2:
            changes.append(changed("honest", step * 100 + 99, Action.STOP))
        event_log.log_result(
            TickResult(changes=tuple(changes), events=events, flags=flags, forgotten=ids)
        )
        steady.advance(1)
    for words in (": seen at", ": ended", "vanished", "forgotten", "alive under", "made-up"):
        assert 1 < len(said(words)) <= 6 * MOST, words
    assert len(said(": seen at")) <= MOST
    assert len(said("honest")) == 1
    assert "more like it will not be shown" in said(": seen at")[SPEAKER.burst - 1]
    assert any("more like it not shown" in line for line in said(": seen at")[SPEAKER.burst :])


def test_a_run_that_goes_to_and_fro_leaves_room_for_another_at_its_target(
    steady: SteadyClock, said: Said
) -> None:
    """It shows another limit at each scrape."""
    event_log = EventLog(steady, lambda _: "http://shared")
    for step in range(20_000):
        action = Action.STOP if step % 2 else Action.CONTINUE
        changes = [changed("to-and-fro", step + 2, action)]
        if step == 10_000:
            changes.append(changed("quiet", 7, Action.STOP))
        event_log.log_result(TickResult(changes=tuple(changes)))
        steady.advance(0.05)
    assert len(said("to-and-fro")) <= ABOUT.burst + 1000 / ABOUT.every + 1
    assert "more like it will not be shown" in said("to-and-fro")[ABOUT.burst - 1]
    assert len(said("run 'quiet': stop")) == 1


def test_errors_with_ever_other_words_are_a_bounded_number_of_lines(
    steady: SteadyClock, said: Said
) -> None:
    """Each is another problem by its words; so is that the one before is over."""
    event_log = EventLog(steady, seen_at)
    for step in range(20_000):
        words = "".join(chr(97 + int(digit)) for digit in str(step))
        found = [Problem("http://hostile", Reason.SOURCE_ERROR, f"http://hostile: {words}")]
        if step == 10_000:
            found.append(Problem("http://honest", Reason.SOURCE_ERROR, "http://honest: refused"))
        event_log.log_observation(Observation("scrape", steady(), problems=tuple(found)))
        steady.advance(0.05)
    assert 1 < len(said("problem: http://hostile")) <= MOST
    assert 1 < len(said("problem resolved: http://hostile")) <= MOST
    assert len(said("problem: http://honest")) == 1


def test_ever_new_files_of_targets_that_are_bad_are_a_bounded_number_of_lines(
    steady: SteadyClock, said: Said
) -> None:
    """Whoever may write into a folder of file_sd can name as many as they like."""
    event_log = EventLog(steady, seen_at)
    for step in range(20_000):
        bad = Problem(f"t/{step}.json", Reason.SOURCE_ERROR, f"t/{step}.json: is not JSON")
        event_log.log_observation(Observation("scrape", steady(), problems=(bad,)))
        steady.advance(0.05)
    in_all = ALL.burst + 1000 / ALL.every + RESERVE.burst + 1000 / RESERVE.every
    assert 1 < len(said("problem: t/")) <= in_all + 1
    assert 1 < len(said("problem resolved: t/")) <= in_all + 1


def test_ever_new_models_without_a_price_or_usage_are_a_bounded_number_of_lines(
    make: Callable[..., ResourceMonitor],
) -> None:
    """Names of models come from outside as well. Of either kind as many as are remembered."""
    said: list[object] = []
    unknown = CallNotices(lambda *told: said.append(told))
    record, prices = make(max_cost_usd=5)._record, Prices()
    for n in range(20_000):
        unknown.unknown(Call("x", f"made-up-{n}", None))
    assert len(said) == MOST_SAID
    del said[:]
    unpriced = UnpricedNotices(lambda *told: said.append(told))
    for n in range(2 * MOST_SAID):
        unpriced.tell(record, prices, f"made-up-{n}", None, OperationUsage(tokens=1))
    assert len(said) == MOST_SAID


def test_a_source_that_comes_and_goes_is_a_bounded_number_of_lines(
    steady: SteadyClock, said: Said
) -> None:
    """It fails every other time."""
    event_log = EventLog(steady, seen_at)
    for step in range(20_000):
        refused = (Problem("t", Reason.SOURCE_ERROR, f"t: refused {step}"),)
        failed = Observation("scrape", steady(), problems=refused, answered=False)
        event_log.log_observation(failed if step % 2 else Observation("scrape", steady()))
        steady.advance(0.05)
    assert 1 < len(said("the source scrape")) <= MOST


def test_a_notice_that_changes_at_each_scrape_drowns_no_other(
    steady: SteadyClock, said: Said
) -> None:
    """As of a page whose odd timestamps are odd in another way each time."""
    notices = OncePerSubject(logger, "targets are odd", clock=steady)
    for step in range(100_000):
        wrong = {"http://hostile": f"hostile is odd: {step}"}
        if step >= 50_000:
            wrong["http://honest"] = "honest is odd"
        notices.note(wrong, logging.WARNING)
        steady.advance(0.01)
    assert 1 < len(said("hostile is odd")) <= MOST
    assert len(said("honest is odd")) == 1


def test_a_hostile_fleet_has_a_bound_in_all_and_each_is_heard_now_and_then(
    steady: SteadyClock, said: Said
) -> None:
    """Fewer at a time than what becomes one line."""
    lines = Lines(logger, "things happen", clock=steady)
    for step in range(TIMES):
        told = {f"t{(step * EACH + n) % 1000}": f"line {step}-{n}" for n in range(EACH)}
        lines.say(logging.WARNING, told)
        steady.advance(1)
    reserve = RESERVE.burst + TIMES / RESERVE.every
    assert len(said("line")) <= ALL.burst + TIMES / ALL.every + min(
        reserve, 1000 * (TIMES / HEARD + 1)
    )
    lines.say(logging.WARNING, {"quiet": "a quiet one"})
    assert len(said("a quiet one")) == 1


def test_what_is_held_back_is_at_debug(
    steady: SteadyClock, caplog: pytest.LogCaptureFixture
) -> None:
    """For who wants all of it."""
    caplog.set_level(logging.DEBUG)
    lines = Lines(logger, "things happen", clock=steady)
    for n in range(100):
        lines.say(logging.INFO, {"t": f"line {n}"})
    assert len(caplog.messages) == 100
    shown = [record for record in caplog.records if record.levelno == logging.INFO]
    assert len(shown) == SPEAKER.burst
    steady.advance(SPEAKER.every)
    lines.say(logging.INFO, {"t": "the next"})
    assert caplog.messages[-1] == "the next (70 more like it not shown)"


def test_one_client_that_is_refused_again_and_again_hides_no_other(
    steady: SteadyClock, said: Said
) -> None:
    """And thousands of addresses are a bounded number of lines; all are counted."""
    counted: list[str] = []
    metrics = SimpleNamespace(note_refusal=counted.append)
    refusals = Refusals(cast("SidecarMetrics", metrics), steady)
    for n in range(100_000):
        refusals("token", "192.0.2.66")
        if n == 50_000:
            refusals("token", "192.0.2.1")
        steady.advance(0.01)
    assert len(said("refused 192.0.2.66")) <= 1 + 1000 / QUIET.every + 1
    assert len(said("refused 192.0.2.1:")) == 1
    for n in range(10_000):
        refusals("token", f"2001:db8::{n:x}")
    assert len(said("refused 2001:db8")) <= SPEAKER.burst
    assert len(counted) == 110_001


def test_many_at_once_from_one_target_are_one_line_beside_anothers(
    steady: SteadyClock, said: Said
) -> None:
    """They are not mixed: the other one keeps its words."""
    lines = Lines(logger, "sessions stop", clock=steady)
    told = {f"many-{n}": f"session many-{n} stops" for n in range(MOST_LINES + 1)}
    lines.say(logging.INFO, {**told, "honest": "session honest stops"}, seen_at)
    assert said("") == [
        "21 sessions stop: many-0; many-1; many-2; and 18 more", "session honest stops"
    ]  # fmt: skip


def test_a_call_that_is_refused_again_and_again_is_a_bounded_number_of_lines(
    make: Callable[..., ResourceMonitor], said: Said
) -> None:
    """As is what is recorded after the end: of each run, and another run is heard."""
    done = make(session_id="done")
    done.close()
    for _ in range(10_000):
        done.record_operation(tokens=1)
    assert len(said("after close()")) <= SPEAKER.burst
    other = make(session_id="other")
    other.close()
    other.record_operation(tokens=1)
    assert len(said("run 'other': an operation was recorded after close()")) == 1


def test_whatever_is_logged_again_and_again_is_held_back_and_counted(
    steady: SteadyClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Tracebacks of a tick that fails as well; each subject for itself; at DEBUG all of it."""
    own, passed = logging.getLogger("otel_budget.test.own"), LineFilter(steady)
    own.addFilter(passed)
    for n in range(1000):
        try:
            1 / 0  # noqa: B018 - to fail
        except ZeroDivisionError:
            own.exception("this tick failed")
        own.error("target %s: %d is odd", "http://hostile", n)
    own.error("target %s: %d is odd", "http://honest", 5)
    shown = [record for record in caplog.records if record.levelno > logging.DEBUG]
    assert len(shown) == 2 * SPEAKER.burst + 1
    steady.advance(SPEAKER.every)
    own.error("target %s: %d is odd", "http://hostile", 7)
    assert caplog.messages[-1] == "target http://hostile: 7 is odd (970 more like it not shown)"
    passed.forget()
    own.error("target %s: %d is odd", "http://hostile", 8)
    own.removeFilter(passed)
    assert caplog.messages[-1] == "target http://hostile: 8 is odd"


def test_what_one_target_says_is_one_line_where_there_are_many_and_anothers_stays(
    steady: SteadyClock, said: Said
) -> None:
    """Each says few, all of them many."""
    lines = Lines(logger, "sessions stop", clock=steady)
    told = {f"many-{n}": f"session many-{n} stops" for n in range(MOST_LINES)}
    lines.say(logging.INFO, {**told, "honest": "session honest stops"}, seen_at)
    assert said("") == [
        "20 sessions stop: many-0; many-1; many-2; and 17 more", "session honest stops"
    ]  # fmt: skip


def test_what_is_remembered_of_speakers_is_bounded(steady: SteadyClock) -> None:
    """However many ids are made up."""
    budget = LineLimit(steady)
    for n in range(20_000):
        budget.spend("http://hostile", f"made-up-{n}")
        budget.spend(f"t{n}", f"t{n}")
    assert len(budget._about) <= 10_000
    assert len(budget._speakers) <= 10_000
