"""How many log lines each speaker may write, and all speakers together.

One target must neither fill the disk nor drown what is said about another: each has an allowance, a
burst and then one line at intervals. When the shared allowance is used up, a speaker that has been
quiet still gets a line. Lines that are held back are counted, and the next one says how many.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Rate:
    """A burst of lines, then one in so many seconds."""

    burst: int
    every: float


#: One subject, such as a run; one speaker, such as the target that shows it; all of one kind.
ABOUT: Final = Rate(5, 60.0)
SPEAKER: Final = Rate(30, 10.0)
ALL: Final = Rate(300, 1.0)
#: Seconds after which a speaker has a line again even if all together have none left; and how many
#: such lines there are, as speakers may be made up.
HEARD: Final = 600.0
RESERVE: Final = Rate(1000, 10.0)
#: Subjects and speakers that are remembered, those that spoke last.
MOST_KNOWN: Final = 10_000


@dataclass(slots=True)
class _Purse:
    left: float
    at: float
    spoke: float = float("-inf")
    held: int = 0
    """Lines held back since the last one."""

    def fill(self, rate: Rate, now: float) -> bool:
        """Take what time has brought; return whether there is enough for a line."""
        self.left = min(float(rate.burst), self.left + (now - self.at) / rate.every)
        self.at = now
        return self.left >= 1


class LineLimit:
    """Decides for each line whether it may be written."""

    def __init__(self, clock: Clock = time.monotonic, about: Rate = ABOUT) -> None:
        """about: the allowance of one subject."""
        self._clock, self._rate = clock, about
        self._about: OrderedDict[str, _Purse] = OrderedDict()
        self._speakers: OrderedDict[str, _Purse] = OrderedDict()
        self._all, self._reserve = _Purse(ALL.burst, clock()), _Purse(RESERVE.burst, clock())

    def spend(self, speaker: str, about: str) -> int | None:
        """Return how many lines of a speaker were held back since its last; None to hold this back.

        about: the subject, of which a speaker may have many; the same as the speaker if it has one.
        """
        now = self._clock()
        own = _known(self._speakers, speaker, SPEAKER, now)
        subject = None if about == speaker else _known(self._about, about, self._rate, now)
        shared = self._shared(own, now)
        if (
            not own.fill(SPEAKER, now)
            or shared is None
            or not (subject is None or subject.fill(self._rate, now))
        ):
            own.held += 1
            return None
        for purse in (own, shared, subject):
            if purse is not None:
                purse.left -= 1
        own.spoke, held, own.held = now, own.held, 0
        return held

    def is_spent(self, speaker: str, about: str) -> bool:
        """Tell whether a speaker that just had a line, or its subject, has none left for now."""
        subject = self._about.get(about)
        return self._speakers[speaker].left < 1 or (subject is not None and subject.left < 1)

    def _shared(self, own: _Purse, now: float) -> _Purse | None:
        """Return what a line of a speaker is taken from beside its own; None if it has to wait."""
        if self._all.fill(ALL, now):
            return self._all
        heard_of_late = now - own.spoke < HEARD
        return None if heard_of_late or not self._reserve.fill(RESERVE, now) else self._reserve

    def give_back(self, lines: int) -> None:
        """Take back what was let through and then made part of one line."""
        self._all.left = min(float(ALL.burst), self._all.left + lines)


class LineFilter(logging.Filter):
    """Hold back lines that are repeated about one subject, for a logger or a handler.

    The subject of a line is its first argument, such as a session id. Lines of ``Lines`` have been
    counted there and pass: their text is their only argument. There is no lock, because a fork or a
    signal handler may come at any point; two threads at once cost an extra line at worst.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        super().__init__()
        self._clock, self._budget = clock, LineLimit(clock)

    def forget(self) -> None:
        """Fill every allowance again."""
        self._budget = LineLimit(self._clock)

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether a line may be written; one that is held back becomes a DEBUG line."""
        if record.levelno <= logging.DEBUG or record.msg == "%s":
            return True
        first = record.args[0] if isinstance(record.args, tuple) and record.args else ""
        what = f"{record.msg}\0{first}"
        held = self._budget.spend(what, what)
        if held is None:
            record.levelno, record.levelname = logging.DEBUG, "DEBUG"
            return logging.getLogger(record.name).isEnabledFor(logging.DEBUG)
        if held:
            record.msg = f"{record.msg} ({held:,} more like it not shown)"
        return True


def _known(purses: OrderedDict[str, _Purse], name: str, rate: Rate, now: float) -> _Purse:
    purse = purses.pop(name, None) or _Purse(rate.burst, now)
    purses[name] = purse
    if len(purses) > MOST_KNOWN:
        purses.popitem(last=False)
    return purse
