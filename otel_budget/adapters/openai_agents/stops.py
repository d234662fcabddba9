"""The error of a run that must stop, as the SDK takes it for one of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agents.exceptions import AgentsException

from otel_budget.core.exceeded import BudgetExceeded
from otel_budget.genai.values import field

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_budget.core.verdict import Verdict

_CALL: Final = "function_call"
_OUTPUT: Final = "function_call_output"
_NOT_FINISHED: Final = "Not finished: the run was stopped, because its budget is used up."
#: Of what an agent in a tool had found when it was stopped its caller is told so many characters,
#: the last ones: what the last call may use was worked out without them.
_MOST_TOLD: Final = 2000


class StoppedByBudget(BudgetExceeded, AgentsException):
    """Says that a run must stop. ``run_data``, by the SDK: what the agents have by then."""

    def __init__(self, verdict: Verdict) -> None:
        """Keep the verdict; the SDK fills ``run_data``, at last with that of the first run."""
        super().__init__(verdict)
        self.run_data: Any = None
        self._finished: Any = None

    @property
    def finished(self) -> Any:
        """The messages by then, as input of a further run; None: the SDK has told none."""
        return self._finished if self.run_data is None else list(_items(self.run_data))

    @finished.setter
    def finished(self, items: Any) -> None:
        self._finished = items

    def came_through_a_tool(self) -> None:
        """Keep what the agent in the tool had finished: ``finished`` will be that of the caller."""
        if self.finished is not None:
            self.finished_inside = (*self.finished_inside, self.finished)
            self.run_data = self._finished = None


def stop_in(error: BaseException | None) -> StoppedByBudget | None:
    """Return the stop that an error is or was made of; None: it is none."""
    for _ in range(10):
        if error is None or isinstance(error, StoppedByBudget):
            return error
        if isinstance(error, BudgetExceeded):
            stop = StoppedByBudget(error.verdict)
            stop.finished, stop.finished_inside = error.finished, error.finished_inside
            return stop
        error = error.__cause__
    return None


def unfinished(stop: StoppedByBudget) -> str:
    """Return what a tool says whose agent was stopped: why, and what there was by then."""
    found = "\n".join(_texts(stop.finished))[-_MOST_TOLD:]
    why = f"Not finished: {stop.verdict.message}"
    return f"{why} What there was by then:\n{found}" if found else why


def _items(run_data: Any) -> Iterator[Any]:
    """Yield what was said, with every call of a tool answered: a model is refused without."""
    given = run_data.input
    items = [{"role": "user", "content": given}] if isinstance(given, str) else list(given)
    items += [each.to_input_item() for each in run_data.new_items]
    answered = {each.get("call_id") for each in items if _kind(each) == _OUTPUT}
    for each in items:
        yield each
        if _kind(each) == _CALL and each.get("call_id") not in answered:
            yield {"type": _OUTPUT, "call_id": each.get("call_id"), "output": _NOT_FINISHED}


def _kind(item: Any) -> object:
    return item.get("type") if isinstance(item, dict) else None


def _texts(items: Any) -> Iterator[str]:
    """Yield what tools and the model said, of the messages of a run."""
    for each in items if isinstance(items, list) else []:
        if _kind(each) == _OUTPUT and each.get("output") != _NOT_FINISHED:
            yield str(each.get("output"))
        elif isinstance(each, dict) and each.get("role") == "assistant":
            content = each.get("content")
            parts = content if isinstance(content, list) else []
            yield from (str(part["text"]) for part in parts if field(part, "text"))
