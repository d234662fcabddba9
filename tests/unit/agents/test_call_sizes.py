"""When the count of the call just made is worth a moment's wait."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from otel_budget.agents.base import EventKind, HookEvent
from otel_budget.agents.call_sizes import MAX_AGENTS, CallSizes
from tests.unit.agents.hooked import NOW, verdict

if TYPE_CHECKING:
    from otel_budget.core.verdict import Verdict

PROMPT, TOOL, TOOLS, CALL = (
    HookEvent(kind, kind, "s")
    for kind in (
        EventKind.PROMPT, EventKind.BEFORE_TOOL, EventKind.AFTER_TOOLS, EventKind.BEFORE_CALL,
    )
)  # fmt: skip
OLD = NOW - 10


def _after(*used: int | None, then: HookEvent = TOOLS) -> CallSizes:
    """Return a run after as many calls, each with its tools."""
    sizes = CallSizes()
    for each in used:
        judged = None if each is None else verdict(each, at=OLD)
        sizes.note(TOOL, judged)
        sizes.note(then, judged)
    return sizes


def _waits(sizes: CallSizes, judged: Verdict | None, event: HookEvent = TOOL) -> bool:
    return sizes.is_waited_for(event, judged, NOW)


def test_it_is_if_another_call_as_large_as_the_largest_would_cross_a_limit() -> None:
    """And not otherwise."""
    assert _waits(_after(100, 400, 500, 700), verdict(700, at=OLD))
    assert not _waits(_after(100, 399, 500, 700), verdict(700, at=OLD))


def test_it_is_not_once_the_call_is_counted() -> None:
    """More is used than before, or something was measured after it."""
    sizes = _after(100, 400, 700)
    assert not _waits(sizes, verdict(800, at=OLD))
    assert not _waits(sizes, verdict(700, at=NOW))
    assert not _waits(sizes, verdict(1000, at=OLD))


def test_it_is_once_for_each_call() -> None:
    """However many tools it wants."""
    sizes = _after(100, 400, 700)
    assert _waits(sizes, verdict(700, at=OLD))
    sizes.note(TOOL, verdict(700, at=OLD))
    assert not _waits(sizes, verdict(700, at=OLD))
    assert not _waits(sizes, verdict(700, at=OLD), TOOLS)
    for event in (TOOLS, CALL, PROMPT):
        sizes.note(event, verdict(700, at=OLD))
        assert _waits(sizes, verdict(700, at=OLD))
        assert not _waits(sizes, verdict(700, at=OLD), event) or event is TOOLS
        sizes.note(TOOL, verdict(700, at=OLD))


def test_a_run_is_read_once_for_each_call_of_each_of_its_agents() -> None:
    """And whenever somebody talks to it, or its turn or session ends."""
    sizes, sub = _after(100, 400), TOOL._replace(agent_id="sub")
    assert sizes.is_looked_for(TOOL)
    sizes.note(TOOL, verdict(400, at=OLD))
    assert not sizes.is_looked_for(TOOL)
    assert not sizes.is_looked_for(TOOLS)
    assert sizes.is_looked_for(sub)
    for kind in (EventKind.PROMPT, EventKind.TURN_END, EventKind.SESSION_END):
        assert sizes.is_looked_for(HookEvent(kind, kind, "s"))
    for number in range(MAX_AGENTS):
        sizes.note(TOOL._replace(agent_id=f"sub-{number}"), None)
    assert sizes.is_looked_for(TOOL)  # it was silent longest


def test_it_is_not_where_the_hook_says_what_the_call_used() -> None:
    """It was told, and judged."""
    sizes = _after(100, 400, 700, then=CALL)
    told = HookEvent(EventKind.AFTER_CALL, "AfterModel", "s", tokens=50)
    assert _waits(sizes, verdict(700, at=OLD))
    sizes.note(told, verdict(700, at=OLD))
    assert not _waits(sizes, verdict(700, at=OLD))


def test_the_first_call_is_waited_for_once() -> None:
    """Nobody knows how large it is, and it may be all there is."""
    sizes = CallSizes()
    assert not _waits(sizes, None, PROMPT)
    sizes.note(PROMPT, None)
    assert _waits(sizes, None)
    sizes.note(TOOL, None)
    sizes.note(TOOLS, None)
    assert not _waits(sizes, None)


def test_the_first_that_is_known_of_a_run_that_was_not_is_its_first_call() -> None:
    """Of one that was used before its hooks were heard, it is not."""
    assert _waits(_after(None, 500), verdict(500, at=OLD))
    assert not _waits(_after(500), verdict(500, at=OLD))


def test_without_a_limit_nothing_is_waited_for() -> None:
    """Nor for time, which passes by itself."""
    judged = verdict(700, at=OLD)
    ((name, state),) = judged.resources.items()
    unlimited = replace(judged, resources={name: state._replace(limit=None)})
    timed = replace(judged, resources={"duration": state})
    for one in (unlimited, timed):
        assert not _waits(_after(100, 400, 700), one)
