"""Budgets and families in a replay: what one run uses concerns the others."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_budget.config.load import load
from otel_budget.core.budget import Budget, Mode, WhenLow, Window, WindowKind
from otel_budget.core.observation import Observation
from otel_budget.core.verdict import Verdict
from otel_budget.policy.verdicts import Rules
from otel_budget.replay import summary as summaries
from otel_budget.replay.changes import VerdictChange, said
from otel_budget.replay.engine import Replay
from otel_budget.replay.judged_run import TRACE, TracedRun
from otel_budget.replay.kept_runs import KeptRuns
from otel_budget.replay.trace import TraceLine, Use
from otel_budget.sidecar.evaluator import Evaluator
from otel_budget.sidecar.factory import rules_of
from otel_budget.sidecar.storage.base import Restored

HOUR = 3600.0
TOTAL = Window(WindowKind.TOTAL)


def pool(tokens: int = 1000, **more: Any) -> Budget:
    """Return a budget of all runs over all time, unless said."""
    return Budget(more.pop("name", "pool"), more.pop("window", TOTAL), {"tokens": tokens}, **more)


def start(at: float, session_id: str, parent: str | None = None, **labels: str) -> TraceLine:
    """Return the line on which a run begins."""
    return TraceLine(at, session_id, f"t:{at}", start=True, labels=labels, parent=parent)


def use(at: float, session_id: str, tokens: int, progress: float | None = None) -> TraceLine:
    """Return a line on which one call is made."""
    used = Use({"tokens": tokens, "api_calls": 1})
    return TraceLine(at, session_id, f"t:{at}", use=used, progress=progress)


def end(at: float, session_id: str) -> TraceLine:
    """Return the line on which a run ends."""
    return TraceLine(at, session_id, f"t:{at}", end="completed")


def told(replay: Replay, *lines: TraceLine) -> list[tuple[float, str, str, str, str | None]]:
    """Return the changes as (time, run, action, reason, limit_from)."""
    found = [one for line in lines for one in replay.take(line)]
    return [
        (c.at, c.verdict.session_id, str(c.verdict.action), str(c.verdict.reason),
         c.verdict.limit_from)
        for c in found if isinstance(c, VerdictChange)
    ]  # fmt: skip


def test_all_runs_that_share_a_budget_hear_of_its_end_on_the_line_that_ends_it() -> None:
    """Also those that used nothing; and one that begins then is told to stop at its start."""
    replay = Replay(Rules(budgets=(pool(),)))
    assert told(replay, start(0, "a"), start(1, "b"), use(2, "a", 1000), start(3, "c"))[2:] == [
        (2, "a", "stop", "limit_exceeded", "budget:pool"),
        (2, "b", "stop", "limit_exceeded", "budget:pool"),
        (3, "c", "stop", "limit_exceeded", "budget:pool"),
    ]


def test_a_run_in_another_group_is_not_concerned() -> None:
    """Each user has a budget of their own."""
    replay = Replay(Rules(budgets=(pool(per=("user",)),)))
    assert told(replay, start(0, "a", user="x"), start(1, "b", user="y"), use(2, "a", 1000))[
        2:
    ] == [(2, "a", "stop", "limit_exceeded", "budget:pool{user=x}")]


def test_a_tick_falls_where_a_window_ends() -> None:
    """Between two lines, at its own time: what was near is not near any more."""
    hourly = Window(WindowKind.CALENDAR, every="hour")
    replay = Replay(Rules(budgets=(pool(window=hourly),)))
    assert told(replay, start(0, "a"), use(10, "a", 900), use(3 * HOUR, "a", 1)) == [
        (0, "a", "continue", "within_limits", None),
        (10, "a", "continue", "approaching_limit_progress_unknown", "budget:pool"),
        (HOUR, "a", "continue", "within_limits", None),
    ]


def test_use_over_a_boundary_counts_in_the_window_of_its_time() -> None:
    """A run is judged by what it used in this window."""
    hourly = Window(WindowKind.CALENDAR, every="hour")
    replay = Replay(Rules(budgets=(pool(window=hourly),)))
    lines = [start(0, "a"), *(use(at * HOUR, "a", 700) for at in (0.1, 1.1, 2.1))]
    assert told(replay, *lines) == [(0, "a", "continue", "within_limits", None)]


def test_what_a_stopped_run_used_later_is_in_no_budget_unless_it_keeps_going() -> None:
    """It did not happen; where it is kept going, it is booked in full."""
    lines = [start(0, "a"), use(1, "a", 1000), use(2, "a", 500), end(3, "a")]
    for keep_going, used in ((False, 1000), (True, 1500)):
        replay = Replay(Rules(budgets=(pool(),)), keep_going=keep_going)
        told(replay, *lines)
        (budget,) = replay.finish().budgets
        assert budget.used == {"tokens": used}


def test_a_budget_in_shadow_stops_nobody_and_the_summary_says_whom_it_would_have() -> None:
    """Each run once."""
    replay = Replay(Rules(budgets=(pool(mode=Mode.SHADOW),)))
    changes = told(
        replay, start(0, "a"), start(1, "b"), use(2, "a", 1000), use(3, "a", 10), end(4, "a"),
        end(5, "b"),
    )  # fmt: skip
    assert {action for _, _, action, _, _ in changes} == {"continue"}
    summary = summaries.as_json(replay.finish(), keep_going=False)
    assert summary["would_stop"] == {
        "reason": {"limit_exceeded": 2},
        "limit_from": {"budget:pool": 2},
    }
    assert summary["budgets"] == [
        {"name": "pool", "mode": "shadow", "groups": 1, "windows": 1, "exhausted": 1,
         "used": {"tokens": 1010}, "stopped": 0, "would_stop": 2},
    ]  # fmt: skip


def test_the_summary_has_each_budget_over_all_its_windows_and_groups() -> None:
    """Those in which something was used, those that were exhausted, and whom it stopped."""
    hourly = Window(WindowKind.CALENDAR, every="hour")
    replay = Replay(Rules(budgets=(pool(window=hourly, per=("user",)),)))
    told(
        replay, start(0, "a", user="x"), use(1, "a", 500), use(HOUR + 1, "a", 1200),
        start(HOUR + 2, "b", user="y"), use(3 * HOUR, "b", 10), end(4 * HOUR, "b"),
        end(4 * HOUR, "a"),
    )  # fmt: skip
    summary = summaries.as_json(replay.finish(), keep_going=False)
    assert summary["budgets"] == [
        {"name": "pool", "mode": "enforce", "groups": 2, "windows": 3, "exhausted": 1,
         "used": {"tokens": 1710}, "stopped": 1, "would_stop": 0},
    ]  # fmt: skip
    assert summary["stopped_by"]["resource"] == {"tokens": 1}


def test_a_summary_without_budgets_says_nothing_of_them() -> None:
    """There is nothing to say."""
    replay = Replay(Rules())
    told(replay, start(0, "a"), end(1, "a"))
    assert (
        not {"budgets", "would_stop"} & summaries.as_json(replay.finish(), keep_going=False).keys()
    )


def test_those_go_on_that_can_still_finish() -> None:
    """The one with the least rest; one that was told to stop takes no room from others."""
    replay = Replay(Rules(budgets=(pool(when_low=WhenLow.FINISH_MOST),)))
    lines = [
        start(0, "a"), start(1, "b"), use(2, "a", 400, 0.8), use(3, "b", 400, 0.4),
    ]  # fmt: skip
    assert told(replay, *lines)[2:] == [
        (3, "a", "continue", "finishing", "budget:pool"),
        (3, "b", "stop", "budget_low", "budget:pool"),
    ]
    assert told(replay, use(4, "a", 100, 1.0), end(5, "a")) == []


def test_what_a_run_below_uses_counts_for_its_parent_and_a_stop_is_for_both() -> None:
    """By the parent's own limit; each budget has it once."""
    parent = start(0, "a")._replace(limits=load_limits(max_tokens=1000))
    replay = Replay(Rules(budgets=(pool(10_000),)))
    lines = [parent, start(1, "b", parent="a"), use(2, "a", 300), use(3, "b", 700)]
    assert told(replay, *lines)[2:] == [
        (3, "a", "stop", "limit_exceeded", "session"),
        (3, "b", "stop", "parent_stopped", "parent:a"),
    ]
    (budget,) = replay.finish().budgets
    assert budget.used == {"tokens": 1000}


def test_a_parent_that_ended_goes_on_to_hold_for_those_below_it() -> None:
    """And is forgotten with the last of them."""
    parent = start(0, "a")._replace(limits=load_limits(max_tokens=1000))
    replay = Replay(Rules())
    lines = [parent, start(1, "b", parent="a"), use(2, "a", 300), end(3, "a")]
    told(replay, *lines)
    assert told(replay, use(4, "b", 700)) == [(4, "b", "stop", "parent_stopped", "parent:a")]
    told(replay, end(5, "b"))
    assert replay.finish().point.runs == 2


def load_limits(**limits: Any) -> Any:
    """Return limits of a run."""
    from otel_budget.core.limits import ResourceLimits

    return ResourceLimits.only(**limits)


def test_tokens_of_a_trace_are_weighed_by_kind(tmp_path: Path) -> None:
    """As live ones are."""
    path = tmp_path / "policy.yaml"
    path.write_text(
        "budgets: [{name: pool, window: total, limits: {max_tokens: 1000}, "
        "weights: {cache_read: 0.1, output: 2}}]"
    )
    replay = Replay(rules_of(load(path, needs_source=False)))
    kinds = {"input": 500, "cache_read": 400, "output": 100}
    used = TraceLine(1, "a", "t:1", use=Use({"tokens": 600, "api_calls": 1}, kinds=kinds))
    told(replay, start(0, "a"), used, end(2, "a"))
    (budget,) = replay.finish().budgets
    assert budget.used == {"tokens": 100 + 40 + 200}


# --- the same verdicts as a sidecar's ---

RUNS = ("a", "b", "c")
BUDGETS = st.lists(
    st.builds(
        pool,
        st.sampled_from((300, 1000, 2500)),
        name=st.sampled_from(("x", "y", "z")),
        window=st.sampled_from(
            (
                TOTAL,
                Window(WindowKind.RUN),
                Window(WindowKind.ROLLING, seconds=100),
                Window(WindowKind.FIRST_USE, seconds=150),
                Window(WindowKind.CALENDAR, every="hour"),
            )
        ),
        per=st.sampled_from(((), ("user",))),
        match=st.sampled_from(({}, {"user": ("u",)}, {"user": ("*",)})),
        when_low=st.sampled_from(tuple(WhenLow)),
        mode=st.sampled_from(tuple(Mode)),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda budget: budget.name,
)


@st.composite
def traces(draw: st.DrawFn) -> list[TraceLine]:
    """Draw runs that are on their way together, some of them below others."""
    at = draw(st.floats(3400, 3700))
    lines = []
    for number, name in enumerate(RUNS):
        parent = draw(st.sampled_from((None, *RUNS[:number])))
        user = draw(st.sampled_from(("u", "v", None)))
        labels = {} if user is None else {"user": user}
        lines.append(start(at, name, parent, **labels))
        at += draw(st.sampled_from((0.5, 20.0)))
    for _ in range(draw(st.integers(1, 12))):
        name = draw(st.sampled_from(RUNS))
        tokens = draw(st.sampled_from((1, 150, 400)))
        progress = draw(st.sampled_from((None, 0.3, 0.6, 0.9)))
        lines.append(use(at, name, tokens, progress))
        at += draw(st.sampled_from((0.5, 20.0, 200.0)))
    return lines


@settings(max_examples=60, deadline=None)
@given(BUDGETS, traces())
def test_a_replay_says_what_a_sidecar_says(budgets: list[Budget], lines: list[TraceLine]) -> None:
    """After each line, of each run, where nobody obeys."""
    rules = Rules(budgets=tuple(sorted(budgets, key=lambda each: each.name)), lease=1e9,
                  stale_after=1e12)  # fmt: skip
    replay = Replay(rules, keep_going=True)
    live = Evaluator(KeptRuns(lambda _: None), Restored(), lines[0].at)
    shown: dict[str, TracedRun] = {}
    replayed: dict[str, object] = {}
    verdicts: tuple[Verdict, ...] = ()
    for line in lines:
        ends = {one.window.resets_at for each in verdicts for one in each.budgets}
        for moment in sorted(each for each in ends if each is not None and each <= line.at):
            live.tick(None, rules, 1e12, moment)
        if line.start:
            shown[line.session_id] = TracedRun(line, len(shown), {"tokens"})
        run = shown[line.session_id]
        run.book(line)
        reading = Observation(TRACE, line.at, (run.shown(),), asked=frozenset({TRACE}))
        verdicts = live.tick(reading, rules, 1e12, line.at).verdicts
        for change in replay.take(line):
            assert isinstance(change, VerdictChange)
            replayed[change.verdict.session_id] = said(change.verdict)
        assert replayed == {each.session_id: said(each) for each in verdicts}


@pytest.mark.parametrize("text", ["budgets: [{name: a, window: total, limits: {max_tokens: 5}}]"])
def test_a_change_in_json_lists_the_budgets_of_a_run(tmp_path: Path, text: str) -> None:
    """As a verdict does, and says what would hold only where something is in shadow."""
    from otel_budget.replay.output import found_line

    path = tmp_path / "policy.yaml"
    path.write_text(text)
    replay = Replay(rules_of(load(path, needs_source=False)))
    (change,) = replay.take(start(0, "a"))
    data = json.loads(found_line(change))
    assert [each["name"] for each in data["budgets"]] == ["a"]
    assert "would" not in data
