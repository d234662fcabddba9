"""What an operator sees of runs that ask for more, and gives them by the command line."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from otel_budget import InvalidValueError, LimitStatus, Verdict
from otel_budget.cli.commands.session import _ceiling
from otel_budget.cli.render.verdict import in_words
from otel_budget.cli.render.verdict_list import table
from otel_budget.core.resources import RESOURCES
from otel_budget.core.verdict import ResourceState
from otel_budget.sidecar.run_log import _new_actions
from otel_budget.sidecar.tick_result import Change
from otel_budget.testing import stop_verdict


def waiting(**fields: Any) -> Verdict:
    """Return the verdict on a run that has waited for three minutes."""
    states = {
        "tokens": ResourceState(1000, 1000, 0, 1.0, LimitStatus.EXCEEDED, "session", None),
        "cost": ResourceState(
            Decimal(1), Decimal("2.50"), Decimal("1.50"), 0.4, LimitStatus.OK, "session", None
        ),
        "api_calls": ResourceState(7, None, None, None, LimitStatus.OK, None, None),
    }
    return stop_verdict(
        "r1",
        **{
            "resources": states, "run_state": "waiting", "waiting_since": 1000.0,
            "evaluated_at": 1185.0, **fields,
        },
    )  # fmt: skip


@pytest.mark.parametrize(
    ("resource", "given", "read_as"),
    [
        ("tokens", "+500", 1500),
        ("tokens", "500", 500),
        ("tokens", "+0", 1000),
        ("cost", "+0.25", "2.75"),
        ("cost", "3", "3"),
    ],
)
def test_what_is_given_with_a_plus_is_added_to_the_limit_in_force(
    resource: str, given: str, read_as: object
) -> None:
    """Exactly; the run is not asked about where a whole amount is given."""
    asked: list[bool] = []

    def in_force() -> Verdict:
        asked.append(True)
        return waiting()

    assert _ceiling(RESOURCES[resource], given, in_force) == read_as
    assert bool(asked) == given.startswith("+")


@pytest.mark.parametrize(
    ("resource", "given", "said"),
    [
        ("tokens", "+", "--max-tokens"),
        ("tokens", "+many", "a number"),
        ("tokens", "+1.5", "--max-tokens"),
        ("tokens", "+-5", "--max-tokens"),
        ("cost", "+1e5", "--max-cost-usd"),
        ("api_calls", "+5", "no limit on api_calls is in force"),
        ("tool_calls", "+5", "no limit on tool_calls is in force"),
    ],
)
def test_what_cannot_be_added_is_refused_by_name(resource: str, given: str, said: str) -> None:
    """Nothing is made of a limit that is not there."""
    with pytest.raises(InvalidValueError, match=said):
        _ceiling(RESOURCES[resource], given, waiting)


def test_a_list_of_runs_says_for_how_long_each_has_waited_and_why_it_was_told_to_stop() -> None:
    """In the column of its state."""
    said = table([waiting()], [])
    assert said.splitlines()[1].split()[:6] == [
        "r1",
        "waiting",
        "3",
        "min",
        "stop",
        "limit_exceeded",
    ]
    assert "waiting" not in table([waiting(waiting_since=None, run_state="paused")], [])


def test_a_run_is_shown_with_what_it_waits_for_and_whose_limits_hold() -> None:
    """Each on a line of its own; neither for a run without."""
    said = in_words(waiting(own_limits_replaced=("tokens", "cost")))
    assert "waiting     since 1970-01-01T00:16:40.000Z: it waits until it may go on" in said
    assert "outside     an operator's limits hold in place of its own: tokens, cost" in said
    assert "outside" not in in_words(waiting(waiting_since=None))


def test_that_a_run_begins_to_wait_is_logged_once() -> None:
    """Not that it waits on, nor where its action is news anyway."""
    before, now = waiting(waiting_since=None, run_state="running"), waiting()
    line = "run 'r1': waits until it may go on (limit_exceeded): stopped by a test"
    assert _new_actions([Change(before, now)]) == {"r1": line}
    assert _new_actions([Change(now, now)]) == {}
    assert _new_actions([Change(None, now)])["r1"].startswith("run 'r1': stop (limit_exceeded)")
