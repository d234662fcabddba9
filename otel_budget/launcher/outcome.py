"""How a run of a program ended, and what that is as an exit status. Pure."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from otel_budget.core.verdict import Verdict

#: A budget ended the program.
EXIT_BUDGET: Final = 3
#: ``--strict`` refused it: nothing guarded it.
EXIT_UNGUARDED: Final = 2
#: As a shell says which signal ended a program.
_SIGNALLED: Final = 128


class EndedBy(StrEnum):
    """What ended a program."""

    ITSELF = "itself"
    HOOKS = "hooks"
    """Its hooks, which were told to stop it."""
    OWN_GUARD = "own_guard"
    """It asked for its verdict, and stopped by it."""
    SIGNAL = "signal"
    """A signal of otel-budget's, as it was to stop."""
    STRICT = "strict"
    """``--strict``: it could not be guarded."""
    USER = "user"
    """A signal that was passed on to it."""
    NOT_STARTED = "not_started"
    """It was not even started: the run had used what it may before."""


_BY_BUDGET: Final = (EndedBy.HOOKS, EndedBy.OWN_GUARD, EndedBy.SIGNAL, EndedBy.NOT_STARTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a program."""

    run: str
    program: str
    returncode: int
    """The program's own; below 0 for the signal that ended it."""
    ended_by: EndedBy
    seconds: float
    """From its start to its end."""
    verdict: Verdict | None = None
    """The last on its run; None if nothing is known of it."""
    counted: bool = False
    """Whether it was seen to use anything."""
    others: tuple[Verdict, ...] = ()
    """On runs that the program named itself."""
    stopped_after: float | None = None
    """Seconds from the verdict that stopped it to its end."""
    signals: tuple[signal.Signals, ...] = ()
    """What it was sent to end it."""
    problem: str = ""
    """Why it was not guarded, for people."""
    overdue: str = ""
    """That its time was up by the launcher's clock, for people; empty if it was not."""
    resume: str = ""
    """Command line that takes it up again; empty if none is known."""
    strict: bool = False
    """Whether it had to be guarded."""
    shows_reason: bool = True
    """Whether the program has said itself why it stopped."""

    @property
    def guarded(self) -> bool:
        """Tell whether it was counted, and each of its limits could be judged."""
        return self.counted and (self.verdict is None or not self.verdict.unjudged)

    @property
    def by_budget(self) -> bool:
        """Tell whether a budget ended it."""
        return self.ended_by in _BY_BUDGET

    @property
    def exit_status(self) -> int:
        """The exit status of ``otel-budget run``."""
        if self.ended_by is EndedBy.STRICT:
            return EXIT_UNGUARDED
        if self.by_budget:
            return EXIT_BUDGET
        if self.strict and not self.guarded:
            return EXIT_UNGUARDED
        return self.program_status

    @property
    def program_status(self) -> int:
        """The program's own, as a shell says it."""
        return self.returncode if self.returncode >= 0 else _SIGNALLED - self.returncode
