"""What a hook is answered: the two steps in which a run comes to its end, and what leads up to it.

1. Near a limit, the model is briefed, once for each line: finish, and begin nothing new.
2. At the limit, and at a stop before it, the tools that its last call wants are denied, and it may
   be called once more, to say what it has: this is how it wraps up. After that, or where it could
   not be told, the run ends at the next tool or call. A sub-agent ends at once: the one call is its
   parent's. A prompt is not taken.

A stop that allows no last calls ends the run at once: an operator's ``now``, that of a run above
it, or one for want of what is known.

A process that has just begun has told nothing yet, and never would if it were stopped for that: a
run that nobody knows, and one that fell silent before its process began, go on. If nothing is
counted although the model was called, that is said. In the middle of a run, silence is what the
verdict makes of it.

What an answer can do at an event is the agent's table's: what would be ignored is not tried.
"""

from __future__ import annotations

from collections import OrderedDict
from enum import Enum
from typing import TYPE_CHECKING, Final

from otel_budget.agents.base import GO_ON, Answer, EventKind, Step
from otel_budget.agents.call_sizes import MAX_AGENTS, CallSizes
from otel_budget.agents.words import brief_text, end_text, final_text, lines_of, not_counted_text
from otel_budget.core.reasons import Action, Reason, reasons_for
from otel_budget.core.reasons import Basis as On
from otel_budget.core.resources import COUNTED
from otel_budget.core.verdict import LimitStatus

if TYPE_CHECKING:
    from otel_budget.agents.base import Effects, HookEvent
    from otel_budget.core.verdict import Verdict

#: Runs whose hooks are remembered. Past them the one that was silent longest is forgotten: at worst
#: it is briefed once more.
MAX_RUNS: Final = 10_000
#: Seconds after a call of the model by which it is counted: exporters push every minute by default.
COUNTED_WITHIN: Final = 75.0
#: Why a run whose process has just begun may seem to be silent.
_SILENCE: Final = (Reason.STALE_DATA, Reason.SOURCE_ERROR, Reason.PARTIAL_DATA)
_LIMITS: Final = reasons_for(On.NUMBERS)
_FINAL: Final = tuple(reason for reason in Reason if reason.is_final)
_NOT_COUNTED, _OVER = "not counted", "over"
#: Kinds of events that show that the model was called.
_CALLED: Final = (
    EventKind.AFTER_CALL, EventKind.BEFORE_TOOL, EventKind.AFTER_TOOL, EventKind.AFTER_TOOLS,
    EventKind.TURN_END,
)  # fmt: skip


class _Phase(Enum):
    """How far the end of a run is."""

    OPEN = "open"
    TOLD = "told"
    """The model is told that its next answer is the last; what it wants until then is denied."""
    LAST = "last"
    """It was called for that answer."""


class HookedRun:
    """What the hooks of one run have told and heard."""

    def __init__(self) -> None:
        """Begin with none."""
        self.sizes = CallSizes()
        self._phase = _Phase.OPEN
        self._stop: Verdict | None = None
        """The verdict that its end follows; None while it may go on."""
        self._is_new = True
        """True until something is heard of its process."""
        self._fresh_at: float | None = None
        """Unix time at which its process began; None if that was not told."""
        self._called_at: float | None = None
        """Unix time of the first sign that this process called the model."""
        self._noticed: set[str] = set()
        """What the user was told already."""
        self._briefed: OrderedDict[tuple[str, str], set[tuple[str, str]]] = OrderedDict()
        """By session and agent: the lines it has heard of."""

    @property
    def is_stopped(self) -> bool:
        """True if it is over by what its hooks said: not if its last answer alone came too far."""
        return self._stop is not None and self._phase is not _Phase.OPEN

    def note(self, event: HookEvent, now: float) -> None:
        """Take note of an event, before it is judged. now: Unix time."""
        kind = event.kind
        self.sizes.hear(event, now)
        if kind is EventKind.SESSION_START or (kind is EventKind.PROMPT and self._is_new):
            self._fresh_at, self._called_at, self._stop = now, None, None
            self._noticed.clear()
        elif kind in _CALLED and self._called_at is None:
            self._called_at = now
        self._is_new = kind is EventKind.SESSION_END

    def answer(self, event: HookEvent, can: Effects, verdict: Verdict | None, now: float) -> Answer:
        """Return what to answer. can: what has an effect at the event. now: Unix time."""
        self.sizes.note(event, verdict)
        if verdict is None:
            self._phase, self._stop = _Phase.OPEN, None
        if verdict is None or self._has_yet_to_tell(verdict):
            return Answer(notice=self._not_counted(can, now))
        if verdict.action is Action.CONTINUE:
            self._phase, self._stop = _Phase.OPEN, None
            self._noticed.discard(_OVER)
            return self._going_on(event, can, verdict, now)
        self._stop = verdict
        if event.kind is EventKind.PROMPT:
            return self._end(event, can, verdict)
        if event.kind is EventKind.TURN_END:
            return Answer(notice=self._once(_OVER, can, end_text(verdict)))
        if not _may_answer(verdict) or event.agent_id:
            return self._end(event, can, verdict)
        return self._two_steps(event, can, verdict)

    def _has_yet_to_tell(self, verdict: Verdict) -> bool:
        """Tell whether a run is only silent because its process has just begun."""
        if self._fresh_at is None or verdict.status is not LimitStatus.INCONCLUSIVE:
            return False
        if verdict.data_at is not None and verdict.data_at > self._fresh_at:
            return False
        # A stop that no lack of data changes, and that is gone, was taken back.
        held = self._stop is not None and self._stop.reason not in _FINAL
        return verdict.reason in _SILENCE and not held

    def _going_on(self, event: HookEvent, can: Effects, verdict: Verdict, now: float) -> Answer:
        """Return a briefing, or that nothing of what is used now is counted."""
        briefing = self._briefing(event, can, verdict)
        if briefing.notice or not self._tells_nothing(verdict):
            return briefing
        return briefing._replace(notice=self._not_counted(can, now))

    def _tells_nothing(self, verdict: Verdict) -> bool:
        """Tell whether a run is known, and nothing that its process has used."""
        if self._fresh_at is None:
            return False
        if verdict.data_at is not None and verdict.data_at <= self._fresh_at:
            return True
        used = verdict.resources.items()
        return not any(state.used for name, state in used if name in COUNTED)

    def _not_counted(self, can: Effects, now: float) -> str:
        if self._called_at is None or now - self._called_at < COUNTED_WITHIN:
            return ""
        return self._once(_NOT_COUNTED, can, not_counted_text())

    def _once(self, what: str, can: Effects, text: str) -> str:
        if what in self._noticed or not can.shows_notices:
            return ""
        self._noticed.add(what)
        return text

    def _briefing(self, event: HookEvent, can: Effects, verdict: Verdict) -> Answer:
        """Return a briefing on the lines that were crossed since the last one."""
        lines = lines_of(verdict)
        if not lines or Step.BRIEF not in can.steps:
            return GO_ON
        briefed = self._briefed_of(event)
        if lines <= briefed:
            return GO_ON
        briefed |= lines
        text = brief_text(verdict)
        return Answer(Step.BRIEF, text, "" if event.agent_id else text)

    def _two_steps(self, event: HookEvent, can: Effects, verdict: Verdict) -> Answer:
        """Return the answer to the agent itself at a limit."""
        kind, phase = event.kind, self._phase
        if kind is EventKind.BEFORE_CALL:
            if phase is not _Phase.TOLD:
                return self._end(event, can, verdict)
            self._phase = _Phase.LAST
            return GO_ON
        if phase is _Phase.LAST and Step.END in can.steps:
            return self._end(event, can, verdict)
        if kind is EventKind.AFTER_TOOLS:
            self._phase = _Phase.LAST
        elif phase is _Phase.OPEN and kind in (EventKind.BEFORE_TOOL, EventKind.AFTER_TOOL):
            self._phase = _Phase.TOLD
        if Step.DENY in can.steps:
            return Answer(Step.DENY, final_text(verdict))
        if Step.BRIEF in can.steps and phase is _Phase.OPEN:
            return Answer(Step.BRIEF, final_text(verdict))
        return GO_ON

    def _end(self, event: HookEvent, can: Effects, verdict: Verdict) -> Answer:
        """Return the hardest answer that has an effect."""
        if not event.agent_id and event.kind is not EventKind.AFTER_CALL:
            self._phase = _Phase.LAST
        if Step.END in can.steps:
            return Answer(Step.END, end_text(verdict))
        for step in (Step.DENY, Step.BRIEF):
            if step in can.steps:
                return Answer(step, final_text(verdict))
        return GO_ON

    def _briefed_of(self, event: HookEvent) -> set[tuple[str, str]]:
        key = event.session_id, event.agent_id
        briefed = self._briefed.setdefault(key, set())
        self._briefed.move_to_end(key)
        if len(self._briefed) > MAX_AGENTS:
            self._briefed.popitem(last=False)
        return briefed


def _may_answer(verdict: Verdict) -> bool:
    """Tell whether a stop leaves room for a last answer: a limit's does, though it is past it."""
    return verdict.reason in _LIMITS or verdict.wrap_up is not None


class HookedRuns:
    """The runs that hooks tell of, by session id; the longest silent one makes room."""

    def __init__(self, most: int = MAX_RUNS) -> None:
        """Begin with none. most: runs to remember."""
        self._most = most
        self._runs: OrderedDict[str, HookedRun] = OrderedDict()

    def __len__(self) -> int:
        """Return how many are remembered."""
        return len(self._runs)

    def of(self, session_id: str) -> HookedRun:
        """Return what is known of a run; of a new one, nothing."""
        run = self._runs.get(session_id)
        if run is None:
            run = self._runs[session_id] = HookedRun()
            if len(self._runs) > self._most:
                self._runs.popitem(last=False)
        self._runs.move_to_end(session_id)
        return run
