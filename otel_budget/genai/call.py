"""What is counted of a model call, and where: the seam between spans and runs."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from otel_budget.genai.costs import NO_COSTS, Costs
from otel_budget.genai.span_reader import NO_USAGE, Usage

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from otel_budget.core.extras import Extras
    from otel_budget.core.wrap_up import WrapUp
    from otel_budget.genai.expected import Expected


NOTHING_FURTHER: Final[Mapping[str, int]] = MappingProxyType({})


class Call(NamedTuple):
    """What is to be counted of one model call."""

    scope: str
    """Who reported it."""
    model: str | None
    provider: str | None
    usage: Usage = NO_USAGE
    failed: bool = False
    unknown: bool = False
    """It succeeded, and did not say what it used, or not all of it."""
    is_call: bool = True
    """False: the rest of a call that was counted before."""
    costs: Costs = NO_COSTS
    """What is said of its cost."""
    extras: Extras | None = None
    """What is billed beside its plain tokens; None: nothing that is said."""
    further: Mapping[str, int] = NOTHING_FURTHER
    """Further resources that it used, by name: of a call of a tool that is all."""


class GovernedRun(Protocol):
    """A monitor, as an adapter needs it to end a run well."""

    @property
    def session_id(self) -> str:
        """Names the run."""

    def should_continue(self, progress_estimate: float | None = None) -> bool:
        """Tell whether it may go on, and take in how far it is: 0 to 1."""

    def wrap_up(self) -> AbstractContextManager[WrapUp | None]:
        """Return a context in which a run that is stopped in time may make its last calls.

        It raises BudgetExceeded where nothing is left for them.
        """

    def briefing(self) -> object:
        """Return what a model is to know of its budget; as text, a sentence or two."""


class Hold(Protocol):
    """What one call under way may use, taken off the room of its run until it is over."""

    def phase(self, phase: object) -> object:
        """Return what ``UsageSink.add`` is to be given for a call that it was taken for, in place
        of what ``current_phase`` gave: it holds so much less then.
        """

    def end(self) -> None:
        """Give back what is left of it. Never raises; twice is fine."""


class UsageSink(Protocol):
    """Where the calls of one run are counted. One object per run, compared by identity."""

    @property
    def session_id(self) -> str:
        """Names the run."""

    @property
    def run(self) -> GovernedRun | None:
        """The run's monitor; None: there is none, or none any more."""

    def current_phase(self) -> object:
        """Return what ``add`` needs to know of the moment at which a call begins."""

    def add(self, call: Call, phase: object) -> None:
        """Count a call. Never raises. place: as ``current_phase`` gave it when the call began."""

    def check(self) -> None:
        """Raise BudgetExceeded, with the verdict, if the run must stop."""

    def hold(self, expected: Expected | None, said: Mapping[str, Any]) -> Hold | None:
        """Take off the room of the run what the next call may use; do all that ``check`` does.

        expected: used while the size of the run's calls is unknown. said: of the call, as in
        ``report_of``. Waits for a while where calls under way hold the room, but in an event loop.
        Returns None where nothing is held: no limit is on what calls use. Raises BudgetExceeded
        where it does not fit.
        """

    async def hold_async(self, expected: Expected | None, said: Mapping[str, Any]) -> Hold | None:
        """Do the same, and wait without blocking the event loop."""


class CountedCall(NamedTuple):
    """One call, and where it goes."""

    sink: UsageSink
    phase: object
    call: Call
