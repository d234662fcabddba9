"""How much the calls of a run use, and whether to wait for the count of the one just made.

A program that pushes tells of a call up to an interval after its hook. Where a call as large as the
largest so far would cross a limit, a moment's wait decides whether the next one is made; elsewhere
nothing is waited for. The very first call is: nobody knows yet how large a call is.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from otel_budget.agents.base import EventKind
from otel_budget.core.resources import COUNTED, ZERO

if TYPE_CHECKING:
    from otel_budget.agents.base import HookEvent
    from otel_budget.core.quantities import Number
    from otel_budget.core.verdict import Verdict

#: Kinds of events that follow a call of the model.
_AFTER_CALL: Final = (EventKind.BEFORE_TOOL, EventKind.AFTER_TOOL, EventKind.AFTER_TOOLS)
#: The next call follows on these.
_BEFORE_CALL: Final = (EventKind.PROMPT, EventKind.AFTER_TOOLS, EventKind.BEFORE_CALL)
#: Here much may have gone by since, or nothing more comes.
_ALWAYS: Final = (EventKind.PROMPT, EventKind.TURN_END, EventKind.SESSION_END)
#: Agents of one run that are remembered: the one that was silent longest is forgotten.
MAX_AGENTS: Final = 64


class CallSizes:
    """What the calls of one run used."""

    def __init__(self) -> None:
        """Begin with none."""
        self._used: dict[str, Number] | None = None
        """What was used as of the last event; None if nothing was known then."""
        self._largest: dict[str, Number] = {}
        """The most by which the use of each resource grew from one event to the next."""
        self._looked_at: OrderedDict[tuple[str, str], bool] = OrderedDict()
        """By session and agent: whether the call that ended last was looked for, or told."""
        self._is_first = True
        self._was_unknown = False

    def is_looked_for(self, event: HookEvent) -> bool:
        """Tell whether the run is to be read: nobody has since the last call of this agent."""
        return event.kind in _ALWAYS or not self._was_looked_at(event)

    def is_waited_for(self, event: HookEvent, verdict: Verdict | None, arrived: float) -> bool:
        """Tell whether the call just made may not be counted, and may have crossed a limit.

        arrived: Unix time of the event; what was measured since then has the call in it.
        """
        if event.kind not in _AFTER_CALL or self._was_looked_at(event):
            return False
        if verdict is None:
            return self._is_first
        is_newer = verdict.data_at is not None and verdict.data_at >= arrived
        if is_newer or self._used is None or not verdict.should_continue:
            return False
        states = {name: state for name, state in verdict.resources.items() if name in COUNTED}
        if any(state.used > self._used.get(name, ZERO[name]) for name, state in states.items()):
            return False
        return any(
            state.limit is not None
            and state.used + self._largest.get(name, ZERO[name]) >= state.limit  # type: ignore[operator] # of one resource
            for name, state in states.items()
        )

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
        used = {name: s.used for name, s in verdict.resources.items() if name in COUNTED}
        before = self._used
        if before is None and self._was_unknown:
            before = {}  # all of it was used since
        if before is not None:
            for name, value in used.items():
                grown = value - before.get(name, ZERO[name])  # type: ignore[operator] # as above
                if grown > self._largest.get(name, ZERO[name]):
                    self._largest[name] = grown
        self._used = used

    def _was_looked_at(self, event: HookEvent) -> bool:
        return self._looked_at.get((event.session_id, event.agent_id), False)

    def _look_at(self, event: HookEvent, *, looked: bool) -> None:
        key = event.session_id, event.agent_id
        self._looked_at[key] = looked
        self._looked_at.move_to_end(key)
        if len(self._looked_at) > MAX_AGENTS:
            self._looked_at.popitem(last=False)
