"""When a program that is to stop is sent which signal. Pure: time is an argument.

Its hooks come first: they let it give a last answer. A program on the terminal that hooks hold is
never sent a signal, unless it goes on using what it has not got. What no hook holds has the grace
to stop by itself; then SIGINT, SIGTERM and SIGKILL follow, each for what the one before did not
end.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Final, NamedTuple

#: Signals, each after the seconds for which the one before it is waited for.
SIGNALS: Final = ((signal.SIGINT, 5.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 0.0))
#: Seconds to stop in, if nothing else is said: with hooks, which let it give a last answer; of an
#: agent without; of any other program, which may ask for its verdict itself.
GRACE_WITH_HOOKS, GRACE_OF_AGENT, GRACE_OF_PROGRAM = 30.0, 0.0, 10.0
#: Increases of the use after which it has had its last answer: of hooks that end it, a call that
#: was under way may be one of them; on the terminal, some that were under way at once.
_HELD, _HELD_ON_TERMINAL = 2, 4
#: Seconds that a program has to end after its last answer, if it uses no more.
_LEAVES: Final = 1.0


class Hold(NamedTuple):
    """What holds a program that is to stop."""

    grace: float
    """Seconds to stop in by itself."""
    hooks: bool = False
    """Hooks deny it its tools."""
    hooks_end: bool = False
    """They also end it before its next call."""
    interactive: bool = False
    """It is on the terminal, and stays there when it has stopped."""
    lag: float = 1.0
    """Seconds after which what was used before is all known."""


@dataclass(slots=True)
class Ending:
    """The end of one program."""

    hold: Hold
    since: float | None = None
    """When it was told to stop; None while it may go on."""
    sent: list[signal.Signals] | None = None
    """Signals it was sent; None before the first."""
    _used: object = None
    _increases: int = 0
    _increased_at: float = 0.0
    _next_at: float = 0.0
    _forced: bool = False

    def stop(self, now: float, used: object) -> None:
        """Take note that it is to stop, or still is. used: compared for equality alone."""
        if self.since is None:
            self.since, self._used, self._increases = now, used, 0
        elif used != self._used:
            self._used = used
            if now - self.since >= self.hold.lag:
                self._increases += 1
                self._increased_at = now

    def release(self) -> None:
        """Take note that it may go on after all; once it was sent a signal it may not."""
        if self.sent is None and not self._forced:
            self.since = None

    def force(self, now: float) -> None:
        """Have it end without waiting for anything."""
        self._forced = True
        self.since = now if self.since is None else self.since

    def due(self, now: float) -> signal.Signals | None:
        """Return the signal that is to be sent now, which counts as sent."""
        if self.since is None:
            return None
        if self.sent is None:
            if not (self._forced or self._first_is_due(now, self.since)):
                return None
            self.sent = []
        elif now < self._next_at or len(self.sent) == len(SIGNALS):
            return None
        number, patience = SIGNALS[len(self.sent)]
        self.sent.append(number)
        self._next_at = now + patience
        return number

    def _first_is_due(self, now: float, since: float) -> bool:
        hold, is_late = self.hold, now - since >= self.hold.grace
        if not hold.hooks:
            return is_late
        if hold.interactive:
            is_late = is_late or not hold.hooks_end
            return is_late and self._increases >= _HELD_ON_TERMINAL
        allowed = _HELD if hold.hooks_end else 1
        has_answered = self._increases >= allowed and now - self._increased_at >= _LEAVES
        return is_late or has_answered or self._increases > allowed
