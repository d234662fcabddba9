"""Signals to this process, taken one by one instead of by handlers.

Blocked, they wait to be taken; and what is taken says whether the terminal sent it. A program in
this process's group was sent that as well, and must not be sent it a second time.
"""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

#: Those that are the program's business.
PASSED_ON: Final = (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2,
    signal.SIGCONT, signal.SIGTSTP,
)  # fmt: skip
#: Those that a key of the terminal, or its end, sends.
_OF_TERMINAL: Final = (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTSTP)
#: ``si_code`` of what another process sent, by whatever call, is not above this.
_BY_PROCESS: Final = 0
_STEP: Final = 0.01


class Taken(NamedTuple):
    """A signal."""

    number: int
    from_terminal: bool


class SignalInbox:
    """Holds signals back while it is open. Ignored ones stay ignored."""

    def __init__(self, *, job_control: bool) -> None:
        """Take none yet. job_control: also take what a terminal stops and continues jobs with."""
        jobs = () if job_control else (signal.SIGTSTP, signal.SIGCONT)
        wanted = (*PASSED_ON, signal.SIGCHLD)
        self._signals = {
            number
            for number in wanted
            if number not in jobs and signal.getsignal(number) is not signal.SIG_IGN
        }
        self._before: set[int] | None = None

    def __enter__(self) -> Self:
        """Hold them back."""
        self._before = set(signal.pthread_sigmask(signal.SIG_BLOCK, self._signals))
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _exc: object, _trace: TracebackType | None
    ) -> None:
        """Drop those that nobody took, and ignore those that a key sends: the process has only to
        tidy up and to end, and who presses Ctrl-C once more means the program.
        """
        for number in self._signals.intersection(_OF_TERMINAL):
            signal.signal(number, signal.SIG_IGN)
        while self.take(0.0) is not None:
            pass
        if self._before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._before)

    def take(self, timeout: float) -> Taken | None:
        """Return the next signal, None if there is none within some seconds.

        Looked for, not waited for: of a wait that a stop of this process has cut short (Ctrl-Z and
        ``fg``), Python returns a signal that nobody sent.
        """
        deadline = time.monotonic() + timeout
        while True:
            pending = signal.sigpending() & self._signals
            if pending:
                return _taken(min(pending))
            if time.monotonic() >= deadline:
                return None
            time.sleep(_STEP)


def _taken(number: int) -> Taken | None:
    """Take a signal that is there."""
    if hasattr(signal, "sigtimedwait"):
        found = signal.sigtimedwait({number}, 0)
        if found is None:
            return None
        terminal = number in _OF_TERMINAL and found.si_code > _BY_PROCESS
        return Taken(number, terminal)
    # Where the system has no such call, who sent it is guessed.
    signal.sigwait({number})
    return Taken(number, number in _OF_TERMINAL)
