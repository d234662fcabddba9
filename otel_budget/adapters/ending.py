"""How adapters end a run that is stopped: with an exception, or with one last answer.

The last answer is made of what there is: one more call, tools withheld, with an instruction to
answer. It is marked as cut short, so that nobody takes it for a finished one.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, Literal

from otel_budget.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from otel_budget.core.exceeded import BudgetExceeded
    from otel_budget.genai.call import UsageSink

OnStop = Literal["raise", "wrap_up"]
#: What a model is told when its run is stopped in time.
INSTRUCTION: Final = (
    "The budget of this run is nearly used up: this is your last answer. Call no tool. Answer now "
    "with what you have; say what is missing and what you would have done next."
)
#: The key under which a framework's own metadata of an answer say that it was cut short.
MARK: Final = "otel_budget"


@dataclass(frozen=True, slots=True)
class CutShort:
    """Why an answer is not a finished one."""

    session_id: str
    reason: str
    limit_from: str | None
    message: str
    """One line for people."""
    outcome: str = "stopped"

    def to_dict(self) -> dict[str, str | None]:
        """Return it as a framework's metadata take it."""
        return asdict(self)

    @classmethod
    def of(cls, stop: BudgetExceeded) -> CutShort:
        """Return what a stop says."""
        verdict = stop.verdict
        return cls(
            verdict.session_id, str(verdict.reason), verdict.limit_from, verdict.message
        )  # fmt: skip

    @classmethod
    def in_metadata(cls, metadata: Mapping[str, object] | None) -> CutShort | None:
        """Return the mark in an answer's metadata; None: it was not cut short."""
        found = (metadata or {}).get(MARK)
        return cls(**found) if isinstance(found, dict) else None


@dataclass(frozen=True, slots=True)
class Ending:
    """What an adapter does at a stop, and what it tells the model before."""

    on_stop: OnStop = "raise"
    instruction: str = INSTRUCTION
    """What the model is told in its last call."""
    brief: bool = False
    """Have every call say, last of all, what is left of the budget."""

    def __post_init__(self) -> None:
        """Refuse what is none of its values."""
        if self.on_stop not in ("raise", "wrap_up"):
            raise InvalidValueError("on_stop", self.on_stop, "'raise' or 'wrap_up'")
        if not isinstance(self.instruction, str) or not self.instruction.strip():
            raise InvalidValueError("instruction", self.instruction, "a text for the model")

    @contextmanager
    def last_call(self, sink: UsageSink | None, stop: BudgetExceeded) -> Iterator[CutShort]:
        """Allow the last call, if there may be one; else raise the stop again.

        Yields the mark for its answer. One that is refused inside (it is over, too) raises.
        """
        run = None if sink is None else sink.run
        if self.on_stop == "raise" or run is None or stop.verdict.wrap_up is None:
            raise stop
        with run.wrap_up():
            yield CutShort.of(stop)

    def briefing(self, sink: UsageSink | None) -> str:
        """Return what every call is to say of the budget; empty: nothing."""
        run = None if sink is None or not self.brief else sink.run
        return "" if run is None else str(run.briefing())


#: What an adapter does that was not told otherwise.
AS_BEFORE: Final = Ending()
