"""How much the calls of a run use, and whether to wait for the count of those just made.

A program that pushes tells of a call up to an interval after its hook. Where the calls that are not
counted yet, each as large as the largest so far, would cross a limit or its warning line, a
moment's wait decides what the next one is told, or whether it is made; elsewhere nothing is waited
for. The very first call is: nobody knows
yet how large a call is.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Final

from otel_budget.agents.base import EventKind
from otel_budget.core.resources import COUNTED, ZERO
from otel_budget.core.verdict import LimitStatus

if TYPE_CHECKING:
    from otel_budget.agents.base import HookEvent
    from otel_budget.core.quantities import Number
    from otel_budget.core.verdict import ResourceState, Verdict

#: Kinds of events that follow a call of the model, and those of them that can be waited at.
_WAITED_AT: Final = (EventKind.BEFORE_TOOL, EventKind.AFTER_TOOL, EventKind.AFTER_TOOLS)
_AFTER_CALL: Final = (*_WAITED_AT, EventKind.TURN_END)
#: The next call follows on these.
_BEFORE_CALL: Final = (EventKind.PROMPT, EventKind.AFTER_TOOLS, EventKind.BEFORE_CALL)
#: Here much may have gone by since, or nothing more comes.
_ALWAYS: Final = (EventKind.PROMPT, EventKind.TURN_END, EventKind.SESSION_END)
#: Agents of one run that are remembered: the one that was silent longest is forgotten. And calls.
MAX_AGENTS: Final = 64
_MAX_CALLS: Final = 64


def _next_line(state: ResourceState) -> Number | None:
    """Return the line that use comes to next; None without a limit."""
    is_past = state.status is LimitStatus.APPROACHING
    return state.limit if is_past or state.warning_at is None else state.warning_at


class CallSizes:
    """What the calls of one run used."""

    def __init__(self) -> None:
        """Begin with none."""
        self._used: dict[str, Number] | None = None
        """What was used as of the last event; None if nothing was known then."""
        self._largest: dict[str, Number] = {}
        """The most that one call used of each resource; of calls counted together, their mean."""
        self._looked_at: OrderedDict[tuple[str, str], bool] = OrderedDict()
        """By session and agent: whether the call that ended last was looked for, or told."""
        self._ended: deque[float] = deque(maxlen=_MAX_CALLS)
        """Unix times of the ends of calls that are not counted yet, as far as is known."""
        self._is_first = True
        self._was_unknown = False

    def hear(self, event: HookEvent, now: float) -> None:
        """Take note of an event, before the run is read. now: Unix time."""
        if event.kind in _AFTER_CALL and not self._was_looked_at(event):
            self._ended.append(now)

    def is_looked_for(self, event: HookEvent) -> bool:
        """Tell whether the run is to be read: nobody has since the last call of this agent."""
        return event.kind in _ALWAYS or not self._was_looked_at(event)

    def is_waited_for(self, event: HookEvent, verdict: Verdict | None, arrived: float) -> bool:
        """Tell whether calls just made may not be counted, and may have crossed a line.

        arrived: Unix time of the event; what was measured since then has the last call in it.
        """
        if event.kind not in _WAITED_AT or self._was_looked_at(event):
            return False
        if verdict is None:
            return self._is_first
        counted_at = verdict.data_at
        if counted_at is None or counted_at >= arrived or not verdict.should_continue:
            return False
        calls = sum(ended > counted_at for ended in self._ended)
        for name, state in verdict.resources.items():
            line = _next_line(state)
            if name not in COUNTED or line is None:
                continue
            if state.used + calls * self._largest.get(name, ZERO[name]) >= line:  # type: ignore[operator] # of one resource
                return True
        return False

    def note(self, event: HookEvent, verdict: Verdict | None) -> None:
        """Keep what was used as of an event that is being answered."""
        if event.kind in _AFTER_CALL:
            self._is_first = False
        if event.kind in _BEFORE_CALL:
            self._look_at(event, looked=False)
        elif event.kind is EventKind.BEFORE_TOOL or event.tokens is not None:
            self._look_at(event, looked=True)
        if verdict is None:
            self._used, self._was_unknown = None, True
            return
        calls = 0
        while self._ended and verdict.data_at is not None and self._ended[0] <= verdict.data_at:
            self._ended.popleft()
            calls += 1
        self._measure(verdict, max(1, calls))

    def _measure(self, verdict: Verdict, calls: int) -> None:
        """Take what was used since the last event for that of so many calls."""
        used = {name: s.used for name, s in verdict.resources.items() if name in COUNTED}
        before = self._used
        if before is None and self._was_unknown:
            before = {}  # all of it was used since
        for name, value in used.items() if before is not None else ():
            each = (value - before.get(name, ZERO[name])) / calls  # type: ignore[operator, union-attr] # as above
            if each > self._largest.get(name, ZERO[name]):
                self._largest[name] = each
        self._used = used

    def _was_looked_at(self, event: HookEvent) -> bool:
        return self._looked_at.get((event.session_id, event.agent_id), False)

    def _look_at(self, event: HookEvent, *, looked: bool) -> None:
        key = event.session_id, event.agent_id
        self._looked_at[key] = looked
        self._looked_at.move_to_end(key)
        if len(self._looked_at) > MAX_AGENTS:
            self._looked_at.popitem(last=False)
