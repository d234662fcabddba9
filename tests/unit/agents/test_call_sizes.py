"""When the count of the calls just made is worth a moment's wait."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from otel_budget.agents.base import EventKind, HookEvent
from otel_budget.agents.call_sizes import MAX_AGENTS, CallSizes
from otel_budget.core.verdict import LimitStatus, ResourceState, Verdict
from tests.unit.agents.hooked import NOW, verdict

PROMPT, TOOL, TOOLS, CALL, TURN_END = (
    HookEvent(kind, kind, "s")
    for kind in (
        EventKind.PROMPT, EventKind.BEFORE_TOOL, EventKind.AFTER_TOOLS, EventKind.BEFORE_CALL,
        EventKind.TURN_END,
    )
)  # fmt: skip


class Run:
    """A run whose calls end a second apart, each counted before its hook is answered."""

    def __init__(self, *used: int) -> None:
        """Have made calls. used: by all of them as of each."""
        self.sizes, self.now = CallSizes(), NOW
        for each in used:
            self.call()
            self.see(verdict(each, at=self.now))

    def call(self, event: HookEvent = TOOL) -> None:
        """Have a call end, as a hook tells."""
        self.now += 1
        self.sizes.hear(event, self.now)

    def see(self, judged: Verdict | None, *events: HookEvent) -> None:
        """Answer the hooks of a call by what is known."""
        for event in events or (TOOL, TOOLS):
            self.sizes.note(event, judged)

    def waits(self, judged: Verdict | None, event: HookEvent = TOOL) -> bool:
        """Tell whether a hook that comes now would wait."""
        return self.sizes.is_waited_for(event, judged, self.now)


@pytest.mark.parametrize(
    ("used", "waits"), [(599, False), (600, True), (799, True), (800, True), (801, True)]
)
def test_it_is_if_another_call_as_large_as_the_largest_would_cross_the_next_line(
    used: int,
    waits: bool,  # noqa: FBT001
) -> None:
    """The warning line before it is crossed, then the limit; and not otherwise."""
    run = Run(100, 300, 400, used)
    before = verdict(used, at=run.now)
    run.call()
    assert run.waits(before) is waits


def test_past_the_warning_line_it_is_only_near_the_limit() -> None:
    """The next line is far."""
    run = Run(100, 150, 820)
    before = verdict(820, 1000, at=run.now)
    run.sizes._largest["tokens"] = 50
    run.call()
    assert not run.waits(before)
    assert run.waits(verdict(950, 1000, at=run.now - 1))


def test_it_is_for_all_calls_together_that_are_not_counted_yet() -> None:
    """A fast one makes several in the time between two exports."""
    run = Run(100, 200)
    before = verdict(200, at=run.now)
    for calls in range(1, 7):
        run.call()
        assert run.waits(before) is (calls == 6)
        run.see(before)


def test_calls_that_are_counted_together_share_what_was_used() -> None:
    """Else each of them would seem as large as all."""
    run = Run(100)
    for _ in range(3):
        before = verdict(100, at=NOW + 1)
        run.call()
        run.see(before)
    run.see(verdict(400, at=run.now))
    before = verdict(699, at=run.now)
    run.call()
    assert not run.waits(before)
    assert run.waits(verdict(700, at=run.now - 1))


def test_it_is_not_once_the_call_is_counted() -> None:
    """Something was measured after it; or the limit is known to be crossed."""
    run = Run(100, 400, 700)
    run.call()
    assert run.waits(verdict(900, at=run.now - 0.1))
    assert not run.waits(verdict(900, at=run.now))
    assert not run.waits(verdict(1000, at=run.now - 0.1))
    assert not run.waits(replace(verdict(900), data_at=None))


def test_it_is_once_for_each_call() -> None:
    """However many tools it wants."""
    run = Run(100, 400, 700)
    before = verdict(700, at=run.now)
    run.call()
    assert run.waits(before)
    run.see(before, TOOL)
    assert not run.waits(before)
    assert not run.waits(before, TOOLS)
    for event in (TOOLS, CALL, PROMPT):
        run.see(before, event)
        assert run.waits(before)
        assert run.waits(before, event) is (event is TOOLS)
        run.see(before, TOOL)


def test_it_is_not_where_the_hook_says_what_the_call_used() -> None:
    """It was told, and judged."""
    run = Run(100, 400, 700)
    before = verdict(700, at=run.now)
    run.call()
    run.see(before, HookEvent(EventKind.AFTER_CALL, "AfterModel", "s", tokens=50))
    assert not run.waits(before)


def test_the_first_call_is_waited_for_once() -> None:
    """Nobody knows how large it is, and it may be all there is."""
    run = Run()
    assert not run.waits(None, PROMPT)
    run.see(None, PROMPT)
    run.call()
    assert run.waits(None)
    run.see(None)
    assert not run.waits(None)


def test_the_first_that_is_known_of_a_run_that_was_not_is_its_first_call() -> None:
    """Of one that was used before its hooks were heard, it is not."""
    for unknown in (True, False):
        run = Run()
        if unknown:
            run.see(None, PROMPT)
        run.call()
        run.see(verdict(500, at=run.now))
        before = verdict(500, at=run.now)
        run.call()
        assert run.waits(before) is unknown


def test_a_run_is_read_once_for_each_call_of_each_of_its_agents() -> None:
    """And whenever somebody talks to it, or its turn or session ends."""
    run, sub = Run(100, 400), TOOL._replace(agent_id="sub")
    assert run.sizes.is_looked_for(TOOL)
    run.see(verdict(400), TOOL)
    assert not run.sizes.is_looked_for(TOOL)
    assert not run.sizes.is_looked_for(TOOLS)
    assert run.sizes.is_looked_for(sub)
    for kind in (EventKind.PROMPT, EventKind.TURN_END, EventKind.SESSION_END):
        assert run.sizes.is_looked_for(HookEvent(kind, kind, "s"))
    for number in range(MAX_AGENTS):
        run.see(None, TOOL._replace(agent_id=f"sub-{number}"))
    assert run.sizes.is_looked_for(TOOL)  # it was silent longest


def test_without_a_limit_nothing_is_waited_for() -> None:
    """Nor for time, which passes by itself."""
    run = Run(100, 400, 700)
    judged = verdict(700, at=run.now)
    run.call()
    ((name, state),) = judged.resources.items()
    unlimited = replace(judged, resources={name: state._replace(limit=None, warning_at=None)})
    timed = replace(judged, resources={"duration": state})
    for one in (unlimited, timed):
        assert not run.waits(one)


def test_money_is_held_against_its_limit_too() -> None:
    """Exactly."""
    run = Run()
    for used in ("0.4", "0.7"):
        run.call()
        run.see(_cost(used, run.now))
    before = _cost("0.7", run.now)
    run.call()
    assert run.waits(before)
    assert not run.waits(_cost("0.5999", run.now - 1))


def _cost(used: str, at: float) -> Verdict:
    state = ResourceState(
        Decimal(used), Decimal(1), Decimal(1), 0.5, LimitStatus.OK, warning_at=Decimal("0.9")
    )
    return replace(verdict(at=at), resources={"cost": state})
