"""A history and a trace of the same runs: the same verdicts, however often it was sampled."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from otel_budget.core.observation import Observation, RunObservation
from otel_budget.ledger.run import RunTotals
from otel_budget.policy.verdicts import Rules
from otel_budget.replay.changes import VerdictChange, said
from otel_budget.replay.engine import Replay
from otel_budget.replay.history import Tick
from otel_budget.replay.history_replay import HistoryReplay
from otel_budget.replay.judged_run import TracedRun
from otel_budget.replay.trace import TraceLine
from otel_budget.replay.trace_recorder import TraceRecorder
from otel_budget.sources.prometheus_reading import SOURCE
from tests.properties.test_replay_properties import BEGIN, RULES, Change, changes, traces


def told(lines: Iterable[TraceLine]) -> list[TraceLine]:
    """Return lines without what a run does not export: how it takes what is unknown."""
    return [
        line._replace(
            limits=line.limits
            and dataclasses.replace(line.limits, on_unpriced="ignore", on_unknown_usage="ignore")
        )
        for line in lines
    ]


def sampled(
    lines: Sequence[TraceLine], rules: Rules, when: Iterable[bool] | None = None
) -> list[Tick]:
    """Return what is read after each line. when: after which; None: after all."""
    runs: dict[str, TracedRun] = {}
    shown: dict[str, RunObservation] = {}
    ticks = []
    for line, is_read in zip(lines, when or [True] * len(lines), strict=True):
        if line.start:
            runs[line.session_id] = TracedRun(line, len(runs), rules.ceilings)
        run = runs[line.session_id]
        if line.end is not None:
            run.attributes = run.attributes._replace(state=line.end)
        run.book(line)
        shown[line.session_id] = run.shown()._replace(target=f"agents/{line.session_id}")
        if is_read:
            targets = frozenset(session.target for session in shown.values())
            reading = Observation(SOURCE, line.at, tuple(shown.values()), targets=targets)
            ticks.append(Tick(line.at, reading))
    return ticks


def played(
    ticks: Iterable[Tick], rules: Rules, recorder: TraceRecorder | None = None
) -> tuple[list[Change], list[TraceLine]]:
    """Return the changes of a history that never grows stale, and the trace of it."""
    uses: list[TraceLine] = []

    def on_runs(runs: Sequence[RunTotals]) -> None:
        if recorder is not None:
            uses.extend(recorder.note(runs, {}))

    rules = dataclasses.replace(rules, stale_after=math.inf)
    replay = HistoryReplay(rules, math.inf, BEGIN, keep_going=True, on_runs=on_runs)
    found: list[Change] = [
        (c.at, c.verdict.session_id, said(c.verdict),
         {name: state.used for name, state in c.verdict.resources.items()})
        for tick in ticks for c in replay.take(tick) if isinstance(c, VerdictChange)
    ]  # fmt: skip
    if recorder is None:
        return found, []
    every = [*recorder.starts, *uses, *recorder.ends()]
    return found, sorted(every, key=lambda line: line.at)


def last_of(found: Iterable[Change]) -> dict[str, tuple[object, ...]]:
    """Return the last verdict on each run."""
    return {session_id: what for _, session_id, what, _ in found}


def until(at: float, lines: Sequence[TraceLine]) -> list[TraceLine]:
    """Return lines with a run beside them that says nothing, up to a time."""
    return [TraceLine(BEGIN, "~clock", "", start=True), *lines, TraceLine(at, "~clock", "")]


@given(traces(), RULES)
def test_a_history_that_is_read_after_each_line_gives_the_verdicts_of_the_trace(
    lines: list[TraceLine], rules: Rules
) -> None:
    lines = told(lines)
    found, _ = played(sampled(lines, rules), rules)
    assert found == changes(Replay(rules, keep_going=True), lines)


@given(traces(), RULES, st.data())
def test_however_seldom_it_is_read_the_last_verdicts_are_those_of_the_trace(
    lines: list[TraceLine], rules: Rules, data: st.DataObject
) -> None:
    """Of runs that were seen before they ended, and at the end."""
    lines = told(lines)
    some = st.lists(st.booleans(), min_size=len(lines) - 1, max_size=len(lines) - 1)
    when = [*data.draw(some), True]
    found, _ = played(sampled(lines, rules, when), rules)
    whole = last_of(changes(Replay(rules, keep_going=True), until(lines[-1].at, lines)))
    over = {line.session_id for line in lines if line.end}
    open_at_the_end = {line.session_id for line in lines} - over
    assert {s: w for s, w in last_of(found).items() if s in open_at_the_end} == {
        s: w for s, w in whole.items() if s in open_at_the_end
    }


@given(traces(), RULES)
def test_a_trace_that_was_written_from_a_history_gives_its_verdicts(
    lines: list[TraceLine], rules: Rules
) -> None:
    lines = told(lines)
    found, written = played(sampled(lines, rules), rules, TraceRecorder())
    assert all(one.at <= other.at for one, other in pairwise(written))
    again = Replay(rules, keep_going=True)
    last = last_of(changes(again, until(lines[-1].at, written)))
    assert {s: w for s, w in last.items() if s != "~clock"} == last_of(found)
    first = Replay(rules, keep_going=True)
    changes(first, lines)
    assert again.finish().point.used == first.finish().point.used
