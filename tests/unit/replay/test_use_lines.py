"""What a picture of use shows of each run."""

from __future__ import annotations

from otel_budget.policy.bounds import bounds_from
from otel_budget.policy.verdicts import Rules
from otel_budget.replay.engine import Replay
from otel_budget.replay.plot import Panel
from otel_budget.replay.use_lines import MOST_POINTS, MOST_RUNS, UseLines
from tests.unit.replay.traces import Line, lines_of, run

RULES = Rules(bounds_from({"tokens": 1000, "api_calls": 100_000}, {}, "sidecar"))


def drawn(*runs: list[Line]) -> Panel:
    """Return what is drawn of runs under a limit of 1000 tokens and 100,000 calls."""
    replay, lines = Replay(RULES), UseLines()
    for line in lines_of(*runs):
        replay.take(line)
        lines.take(line, replay)
    return lines.panel("a.yaml", replay.finish())


def test_each_line_of_a_run_is_a_point_of_the_limit_that_is_nearest() -> None:
    """Although most lines change no verdict."""
    (one,) = drawn(list(run("a", [100, 100, 100]))).lines
    assert one.shares == (0.0, 0.1, 0.2, 0.3)
    assert one.minutes == (0.0, 10 / 60, 20 / 60, 30 / 60)
    assert not one.stopped


def test_a_run_that_is_told_to_stop_ends_there() -> None:
    """What it used later did not happen."""
    panel = drawn(list(run("a", [600, 600, 600])), list(run("b", [5])))
    assert [(one.shares[-1], one.stopped) for one in panel.lines] == [(1.2, True), (0.005, False)]
    assert (panel.runs, panel.stopped) == (2, 1)


def test_a_long_run_has_fewer_points_and_its_last_part_all_the_same() -> None:
    """Every other one is left out, again and again."""
    (one,) = drawn(list(run("a", [0] * (5 * MOST_POINTS)))).lines
    assert len(one.shares) <= MOST_POINTS + 1
    assert one.minutes[-1] > 0.9 * 5 * MOST_POINTS * 10 / 60


def test_of_many_runs_the_first_are_drawn_and_all_are_counted() -> None:
    """A picture of thousands shows none of them."""
    panel = drawn(*(list(run(f"r{i}", [1], start=1000 + i)) for i in range(MOST_RUNS + 5)))
    assert (len(panel.lines), panel.runs) == (MOST_RUNS, MOST_RUNS + 5)
