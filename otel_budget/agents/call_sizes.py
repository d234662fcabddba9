"""How much the calls of a run use, and whether to wait for the count of the one just made.

A program that pushes tells of a call up to an interval after its hook. Where a call as large as the
largest so far would cross a limit, a moment's wait decides whether the next one is made; elsewhere
nothing is waited for. The very first call is: nobody knows yet how large a call is.
"""

from __future__ import annotations

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


class CallSizes:
    """What the calls of one run used."""

    def __init__(self) -> None:
        """Begin with none."""
        self._used: dict[str, Number] | None = None
        """What was used as of the last event; None if nothing was known then."""
        self._largest: dict[str, Number] = {}
        """The most by which the use of each resource grew from one event to the next."""
        self._is_looked_at = False
        """True if the call that ended last was waited for, or told."""
        self._is_first = True
        self._was_unknown = False

    def is_waited_for(self, event: HookEvent, verdict: Verdict | None, arrived: float) -> bool:
        """Tell whether the call just made may not be counted, and may have crossed a limit.

        arrived: Unix time of the event; what was measured since then has the call in it.
        """
        if event.kind not in _AFTER_CALL or self._is_looked_at:
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
            self._is_looked_at = False
        elif event.kind is EventKind.BEFORE_TOOL or event.tokens is not None:
            self._is_looked_at = True
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
