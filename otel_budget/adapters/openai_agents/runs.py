"""The runs of the SDK's Runner: which one a call belongs to, and how it ended."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from otel_budget.adapters.ending import MARK, CutShort

if TYPE_CHECKING:
    from otel_budget.genai.call import UsageSink


class AgentRun:
    """One run of the Runner. Of one inside another, as an agent in a tool, ``outer`` is that."""

    def __init__(
        self, outer: AgentRun | None, max_turns: int | None = None, context: object = None
    ) -> None:
        """Begin one. max_turns, context: as the application gave them to the Runner."""
        self.outer, self.max_turns, self.context = outer, max_turns, context
        self.turns = 0
        """Calls of models that were answered."""
        self.sink: UsageSink | None = None
        """Counts its calls; None: it has made none."""
        self._result: Any = None
        self._cut: CutShort | None = None

    def is_inside(self, sink: UsageSink | None) -> bool:
        """Tell whether a run around this one has its calls counted there, too."""
        around = self.outer
        while around is not None and sink is not None:
            if around.sink is sink:
                return True
            around = around.outer
        return False

    def cut_short(self, cut: CutShort | None) -> None:
        """Take in that its last answer is not a finished one; None: it is."""
        self._cut = cut
        self._mark()

    def returns(self, result: Any) -> Any:
        """Return the result that the Runner gives for it, marked if it was cut short."""
        self._result = result
        self._mark()
        return result

    def _mark(self) -> None:
        if self._result is not None and self._cut is not None:
            vars(self._result)[MARK] = self._cut.to_dict()


#: The run of the Runner around this context; None: there is none.
RUN: Final[ContextVar[AgentRun | None]] = ContextVar("otel_budget_agents_run", default=None)


def turns(run: AgentRun) -> float | None:
    """Return how far a run is: turns of the ``max_turns`` that the application gave it.

    None where it gave none: the SDK's own maximum says nothing of this run.
    """
    return min(run.turns / run.max_turns, 1.0) if run.max_turns else None


def cut_short(result: Any) -> CutShort | None:
    """Tell whether a result's ``final_output`` is not a finished answer, and why.

    result: as the Runner returned it; of a stream once it has ended. None: it is finished.
    """
    return CutShort.in_metadata(getattr(result, "__dict__", None))
