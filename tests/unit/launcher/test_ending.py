"""When a program that is to stop is sent which signal."""

import signal

import pytest

from otel_budget.launcher.ending import Ending, Hold

INT, TERM, KILL = signal.SIGINT, signal.SIGTERM, signal.SIGKILL


def due_at(ending: Ending, *times: float) -> list[tuple[float, signal.Signals]]:
    """Look at these times; return what was due at which."""
    return [(now, found) for now in times if (found := ending.due(now)) is not None]


def test_a_program_that_may_go_on_is_sent_nothing() -> None:
    assert due_at(Ending(Hold(0.0)), 0, 1000) == []


def test_without_hooks_it_is_sent_signals_after_its_grace_each_later_than_the_one_before() -> None:
    ending = Ending(Hold(10.0))
    ending.stop(100, 1)
    seconds = [100 + tenth / 10 for tenth in range(300)]
    assert due_at(ending, *seconds) == [(110, INT), (115, TERM), (120, KILL)]


def test_a_verdict_that_lets_it_go_on_takes_the_stop_back_unless_it_was_sent_a_signal() -> None:
    ending = Ending(Hold(10.0))
    ending.stop(0, 1)
    ending.release()
    assert due_at(ending, 20) == []
    ending.stop(30, 1)
    assert due_at(ending, 39, 40) == [(40, INT)], "the grace begins again"
    ending.release()
    assert due_at(ending, 45) == [(45, TERM)]


def test_hooks_hold_a_program_on_the_terminal_for_as_long_as_it_uses_nothing() -> None:
    ending = Ending(Hold(30.0, hooks=True, hooks_end=True, interactive=True))
    for now in range(0, 3600, 10):
        ending.stop(now, 100)
        assert ending.due(now) is None


def test_calls_that_were_under_way_end_no_program_on_the_terminal_and_those_that_go_on_do() -> None:
    ending = Ending(Hold(30.0, hooks=True, hooks_end=True, interactive=True))
    for now, used in ((0, 100), (5, 110), (10, 120), (40, 130)):
        ending.stop(now, used)
        assert ending.due(now) is None
    ending.stop(50, 140)
    assert ending.due(50) is INT


def test_hooks_that_can_only_deny_tools_do_not_hold_a_program_that_goes_on_asking_for_them() -> (
    None
):
    ending = Ending(Hold(30.0, hooks=True, interactive=True))
    for now, used in ((0, 100), (2, 110), (4, 120), (6, 130)):
        ending.stop(now, used)
        assert ending.due(now) is None
    ending.stop(8, 140)
    assert ending.due(8) is INT


def test_hooks_let_a_headless_program_give_a_last_answer() -> None:
    ending = Ending(Hold(30.0, hooks=True, hooks_end=True))
    ending.stop(0, 100)
    ending.stop(8, 110)  # the last answer
    assert due_at(ending, 8, 12, 29) == []
    assert due_at(ending, 30) == [(30, INT)], "it has answered, and does not end"


def test_a_headless_program_that_hooks_do_not_hold_is_ended_before_its_grace_is_over() -> None:
    ending = Ending(Hold(30.0, hooks=True, hooks_end=True))
    for now, used in ((0, 100), (3, 110), (6, 120)):
        ending.stop(now, used)
    assert due_at(ending, 6.5, 7) == [(7, INT)]


def test_hooks_that_can_only_deny_tools_leave_one_call() -> None:
    ending = Ending(Hold(30.0, hooks=True))
    ending.stop(0, 100)
    ending.stop(3, 110)
    assert due_at(ending, 3.5, 4) == [(4, INT)]


@pytest.mark.parametrize("hooks_end", [True, False])
def test_a_program_that_goes_on_using_is_not_waited_for_however_often_it_does(
    *, hooks_end: bool
) -> None:
    ending = Ending(Hold(30.0, hooks=True, hooks_end=hooks_end))
    ending.stop(0, 100)
    calls = [(2 + tenths / 10, 100 + tenths) for tenths in range(0, 50, 5)]
    sent = []
    for now, used in calls:
        ending.stop(now, used)
        sent += due_at(ending, now)
    assert sent[:1] == [(3.5 if hooks_end else 3, INT)]


def test_what_was_used_before_and_comes_late_is_no_further_use() -> None:
    ending = Ending(Hold(30.0, hooks=True, lag=11.0))
    ending.stop(0, 100)
    ending.stop(10, 110)
    assert due_at(ending, 15) == []


@pytest.mark.parametrize("hooks", [True, False])
def test_one_that_cannot_be_guarded_is_ended_at_once(*, hooks: bool) -> None:
    ending = Ending(Hold(30.0, hooks=hooks, hooks_end=hooks, interactive=hooks))
    ending.force(0)
    ending.release()
    assert due_at(ending, 0, 5, 10, 100) == [(0, INT), (5, TERM), (10, KILL)]
