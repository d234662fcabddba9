"""A replay over random traces: what does not matter, and that it decides as a sidecar does."""

import dataclasses
import json
import math
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given
from hypothesis import strategies as st

from otel_budget.core.limits import ResourceLimits
from otel_budget.core.observation import Observation
from otel_budget.policy.bounds import bounds_from
from otel_budget.policy.unknown_usage import OnUnknown
from otel_budget.policy.verdicts import Rules
from otel_budget.replay.changes import VerdictChange, said
from otel_budget.replay.engine import Replay
from otel_budget.replay.judged_run import TracedRun
from otel_budget.replay.kept_runs import KeptRuns
from otel_budget.replay.output import found_line
from otel_budget.replay.trace import TraceLine, Use
from otel_budget.replay.trace_files import read_traces
from otel_budget.replay.trace_json import write_line
from otel_budget.sdk.pricing.prices import Prices
from otel_budget.sidecar.evaluator import Evaluator
from otel_budget.sidecar.storage.base import Restored

PRICES = Prices()
BEGIN = 1_700_000_000.0
Change = tuple[float, str, tuple[object, ...], dict[str, object]]

USES = st.builds(
    Use,
    st.fixed_dictionaries(
        {},
        optional={
            "tokens": st.integers(1, 60),
            "api_calls": st.integers(1, 3),
            "cost": st.integers(0, 60).map(lambda cents: Decimal(cents) / 100),
            "tool_calls": st.integers(1, 3),
        },
    ),
    st.sampled_from([0, 0, 0, 1]),
    st.sampled_from([0, 0, 0, 1]),
)
STEPS = st.tuples(
    st.integers(1, 40),
    st.none() | USES,
    st.none() | st.sampled_from([0.1, 0.5, 0.79, 0.8, 1.0]),
    st.sampled_from([False, False, False, True]),
)
LIMITS = st.none() | st.builds(
    lambda keys: ResourceLimits.only(**keys),
    st.fixed_dictionaries(
        {},
        optional={
            "max_tokens": st.sampled_from([0, 100, 150]),
            "max_api_calls": st.sampled_from([5, 9]),
            "max_cost_usd": st.sampled_from([Decimal("0.5"), Decimal("1.25")]),
            "max_duration_seconds": st.sampled_from([5, 20]),
            "max_active_seconds": st.just(12),
            "max_tool_calls": st.just(4),
            "token_warning_threshold": st.sampled_from([0.5, 1.0]),
            "completion_threshold": st.just(0.5),
            "wrap_up_calls": st.sampled_from([1, 3]),
            "on_unpriced": st.just("stop"),
            "on_unknown_usage": st.just("stop"),
        },
    ),
)
RULES = st.builds(
    lambda ceilings, threshold, unknown: Rules(
        ceilings=bounds_from(ceilings, {}, "sidecar"),
        completion_threshold=threshold,
        on_unknown=unknown,
    ),
    st.fixed_dictionaries(
        {},
        optional={
            "tokens": st.just(120),
            "cost": st.just(Decimal(1)),
            "duration": st.just(15.0),
            "tool_calls": st.just(3),
        },
    ),
    st.sampled_from([None, 0.9]),
    st.sampled_from([OnUnknown(), OnUnknown("stop", "ignore"), OnUnknown("ignore", "stop")]),
)


@st.composite
def one_run(draw: st.DrawFn, session_id: str) -> list[TraceLine]:
    """Draw the lines of one run: quarters of seconds, no two at once."""
    at = draw(st.integers(0, 40))
    lines = [TraceLine(BEGIN + at / 4, session_id, "", start=True, limits=draw(LIMITS))]
    for gap, use, progress, unknown in draw(st.lists(STEPS, max_size=10)):
        at += gap
        forgets = unknown and progress is None
        lines.append(
            TraceLine(
                BEGIN + at / 4, session_id, "", use=use, progress=progress, progress_unknown=forgets
            )
        )
    if draw(st.booleans()):
        at += draw(st.integers(0, 40))
        lines.append(TraceLine(BEGIN + at / 4, session_id, "", end="completed", resolved=True))
    return lines


@st.composite
def traces(draw: st.DrawFn) -> list[TraceLine]:
    """Draw the lines of a few runs, in the order of time."""
    runs = [draw(one_run(f"r{number}")) for number in range(draw(st.integers(1, 3)))]
    return sorted((line for run in runs for line in run), key=lambda line: line.at)


def changes(replay: Replay, lines: Iterable[TraceLine]) -> list[Change]:
    """Return what a replay finds, without where it stands in the trace."""
    found = [one for line in lines for one in replay.take(line)]
    return [
        (c.at, c.verdict.session_id, said(c.verdict),
         {name: state.used for name, state in c.verdict.resources.items()})
        for c in found if isinstance(c, VerdictChange)
    ]  # fmt: skip


@given(lines=traces(), rules=RULES, later_ends=st.booleans())
def test_a_replay_decides_what_the_evaluator_of_a_sidecar_does(
    *, lines: list[TraceLine], rules: Rules, later_ends: bool
) -> None:
    """Which judges all runs at each line, by itself, and of which nothing is skipped.

    It has one set of rules for all, so no run stops itself for what is unknown.
    """
    kept = [
        line._replace(
            limits=line.limits
            and dataclasses.replace(line.limits, on_unpriced="ignore", on_unknown_usage="ignore")
        )
        for line in lines
        if later_ends or line.end is None
    ]
    assert changes(Replay(rules, keep_going=True), kept) == live(kept, rules)


def live(lines: Iterable[TraceLine], rules: Rules) -> list[Change]:
    """Return the changes that a sidecar publishes which reads each line as a sample."""
    rules = dataclasses.replace(rules, lease=1e18, stale_after=math.inf)
    evaluator = Evaluator(KeptRuns(lambda _runs: None), Restored(), BEGIN)
    runs: dict[str, TracedRun] = {}
    over: set[str] = set()
    last: dict[str, tuple[object, ...]] = {}
    found: list[Change] = []
    for line in lines:
        if line.start:
            runs[line.session_id] = TracedRun(line, len(runs), rules.ceilings)
        runs[line.session_id].book(line)
        shown = runs[line.session_id].shown()
        reading = Observation("trace", line.at, (shown,), asked=frozenset({"trace"}))
        for verdict in evaluator.tick(reading, rules, math.inf, line.at).evaluated:
            what = said(verdict)
            if verdict.session_id not in over and last.get(verdict.session_id) != what:
                last[verdict.session_id] = what
                used: dict[str, object] = {n: s.used for n, s in verdict.resources.items()}
                found.append((line.at, verdict.session_id, what, used))
        if line.end is not None:
            over.add(line.session_id)
    return found


@given(lines=traces(), rules=RULES, keep_going=st.booleans(), data=st.data())
def test_lines_of_a_second_may_stand_in_any_order_and_in_any_file(
    *, lines: list[TraceLine], rules: Rules, keep_going: bool, data: st.DataObject
) -> None:
    """What a trace says is the same. Lines of one time stay as they stand, and in one file."""
    times = sorted({line.at for line in lines})
    offsets = data.draw(st.lists(st.integers(0, 3), min_size=len(times), max_size=len(times)))
    late = dict(zip(times, offsets, strict=True))
    shuffled = sorted(lines, key=lambda line: line.at + late[line.at] / 4)
    where = data.draw(st.lists(st.integers(0, 2), min_size=len(times), max_size=len(times)))
    place = dict(zip(times, where, strict=True))
    with TemporaryDirectory() as folder:
        files = [
            write(Path(folder, f"{number}"), [one for one in shuffled if place[one.at] == number])
            for number in range(3)
        ]
        read = list(read_traces(files, PRICES))
    assert [line._replace(where="") for line in read] == lines
    found = changes(Replay(rules, keep_going=keep_going), read)
    assert found == changes(Replay(rules, keep_going=keep_going), lines)


@given(traces(), RULES, st.lists(st.integers(0, 200), max_size=6))
def test_further_ticks_notice_time_sooner_and_change_nothing_else(
    lines: list[TraceLine], rules: Rules, ticks: list[int]
) -> None:
    """At each line the verdicts in force are the same. A line that says nothing is a tick."""
    clock = [TraceLine(BEGIN - 1, "clock", "", start=True)]
    clock += [TraceLine(BEGIN + at / 4, "clock", "") for at in ticks]
    ticked = sorted([*clock, *lines], key=lambda line: (line.at, line.session_id != "clock"))
    assert in_force(ticked, rules) == in_force(lines, rules)


def in_force(lines: Iterable[TraceLine], rules: Rules) -> list[dict[str, tuple[object, ...]]]:
    """Return what holds for each run after each line of a run that is no clock."""
    replay, last, found = Replay(rules, keep_going=True), dict[str, tuple[object, ...]](), []
    for line in lines:
        for change in replay.take(line):
            assert isinstance(change, VerdictChange)
            if change.verdict.session_id != "clock":
                last[change.verdict.session_id] = said(change.verdict)
        if line.session_id != "clock":
            found.append(dict(last))
    return found


@given(traces(), RULES)
def test_use_after_a_stop_is_saved_or_overshoot(lines: list[TraceLine], rules: Rules) -> None:
    """What a trace recorded is what was used and what was saved, in either way."""
    obeyed, kept = Replay(rules), Replay(rules, keep_going=True)
    changes(obeyed, lines)
    changes(kept, lines)
    one, other = obeyed.finish(), kept.finish()
    assert one.point.recorded == other.point.recorded == other.point.used
    for name, amount in one.point.recorded.items():
        assert one.point.used[name] <= amount
        assert other.overshoot.get(name, 0) <= amount
    assert one.point.runs == other.point.runs


class JudgingAll(Replay):
    """Judges a run at each of its lines, whatever its verdict says, also where they say nothing."""

    def _is_new(self, run: TracedRun, line: TraceLine) -> bool:
        super()._is_new(run, line)
        return True


@given(traces(), RULES, st.lists(st.sampled_from([0.1, 0.5, 0.8, 1.0]), unique=True, min_size=1))
def test_a_verdict_that_stands_hides_no_change_and_no_forecast(
    lines: list[TraceLine], rules: Rules, shares: list[float]
) -> None:
    """Forecasts and verdicts are those of a replay that judges at each line."""
    some = Replay(rules, keep_going=True, forecast_at=shares)
    all_of_them = JudgingAll(rules, keep_going=True, forecast_at=shares)
    for line in lines:
        assert list(map(found_line, some.take(line))) == list(
            map(found_line, all_of_them.take(line))
        )


def write(path: Path, lines: Iterable[TraceLine]) -> str:
    """Write a file of a trace."""
    path.write_text("".join(write_line(line) + "\n" for line in lines))
    return str(path)


def test_json_is_one_line() -> None:
    """So that it is a file of lines."""
    line = write_line(TraceLine(1.0, "r1", "", start=True, labels={"a": "x y"}))
    assert "\n" not in line
    assert json.loads(line)["labels"] == {"a": "x y"}
