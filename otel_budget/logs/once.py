"""Say a thing once, and never as a flood: for a process, for a subject, for many subjects at once.

- ``Once`` remembers what was said; the caller says it.
- ``OncePerSubject`` logs what is wrong with each of many subjects, and again when that changes.
- ``Lines`` logs many lines at once within what each speaker may say (see line_limit.py).
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from otel_budget.logs.line_limit import LineLimit
from otel_budget.logs.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

#: Things that ``Once`` remembers: names of models and the like come from outside.
MOST_SAID: Final = 1_000
#: More lines of one kind at once become one line.
MOST_LINES: Final = 20
_NAMED: Final = 3


class Once:
    """Remembers what was said, up to a bound beyond which nothing new is said.

    Safe in threads, signal handlers and forked children, because it has no lock.
    """

    def __init__(self, most: int = MOST_SAID) -> None:
        self._most = most
        self._said: dict[Hashable, object] = {}

    def first(self, what: Hashable) -> bool:
        """Return True if this is to be said now: it was not said yet, and there is room for it."""
        if what in self._said or len(self._said) >= self._most:
            return False
        mine = object()
        return self._said.setdefault(what, mine) is mine  # of two threads at once one is first

    def forget(self, whether: Callable[[Any], bool]) -> None:
        """Let those things be said again of which ``whether`` is true."""
        for what in list(self._said):
            if whether(what):
                self._said.pop(what, None)


class Lines:
    """Log what is to be said of many subjects at once, within what each speaker may say."""

    def __init__(
        self, logger: logging.Logger, many: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """many: what happens to all subjects, such as ``runs ended``, to follow their number."""
        self._logger, self._many = logger, many
        self._budget = LineLimit(clock)

    def say(
        self, level: int, lines: Mapping[str, str], speaker: Callable[[str], str] | None = None
    ) -> None:
        """Log a line for each subject, or one for all of a speaker, or of all, if they are many.

        lines: what a line is about, to the line. speaker: returns who brought it about, such as
        the target of a run; by default each subject speaks for itself. What is held back is logged
        at DEBUG.
        """
        if not lines:
            return
        by_speaker: dict[str, list[str]] = defaultdict(list)
        for about in lines:
            by_speaker[about if speaker is None else speaker(about)].append(about)
        shown: dict[str, dict[str, str]] = {}
        for who, subjects in by_speaker.items():
            if len(subjects) > MOST_LINES:
                said = {who: self._all_of(subjects, len(subjects))}
            else:
                said = {about: lines[about] for about in subjects}
            shown[who] = self._within_budget(who, said)
        for line in self._few(shown, by_speaker):
            self._logger.log(level, "%s", line)

    def _within_budget(self, who: str, said: Mapping[str, str]) -> dict[str, str]:
        shown = {}
        for about, line in said.items():
            held = self._budget.spend(who, about)
            if held is None:
                self._logger.debug("%s", line)
            else:
                shown[about] = line + self._held_back(who, about, held)
        return shown

    def _held_back(self, who: str, about: str, held: int) -> str:
        if held:
            return f" ({held:,} more like it not shown)"
        spent = self._budget.is_spent(who, about)
        return " (more like it will not be shown for a while)" if spent else ""

    def _few(
        self, shown: Mapping[str, Mapping[str, str]], by_speaker: Mapping[str, Sequence[str]]
    ) -> list[str]:
        """Return the lines by speaker as they are, or one for each speaker, or one for all."""
        lines = [line for said in shown.values() for line in said.values()]
        if len(lines) <= MOST_LINES:
            return lines
        self._budget.give_back(len(lines) - 1)
        speakers = [who for who, said in shown.items() if said]
        if len(speakers) > MOST_LINES:
            subjects = [about for who in speakers for about in shown[who]]
            return [self._all_of(subjects, sum(map(len, by_speaker.values())))]
        return [
            next(iter(shown[who].values()))
            if len(shown[who]) == 1
            else self._all_of(by_speaker[who], len(by_speaker[who]))
            for who in speakers
        ]

    def _all_of(self, subjects: Sequence[str], number: int) -> str:
        named = [one_line(subject) for subject in subjects[:_NAMED]]
        more = f"; and {number - _NAMED:,} more" if number > _NAMED else ""
        return f"{number:,} {self._many}: {'; '.join(named)}{more}"


class OncePerSubject:
    """Log what is wrong with each subject: once, and again when that changes."""

    def __init__(
        self, logger: logging.Logger, many: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """many: as in ``Lines``."""
        self._lines = Lines(logger, many, clock=clock)
        self._said: dict[str, str] = {}

    def note(self, wrong: Mapping[str, str], level: int) -> None:
        """Log what is new. wrong: all that is wrong now, by subject."""
        old = {key: line for key, line in wrong.items() if self._said.get(key) == line}
        new = {k: line for k, line in wrong.items() if k not in old}
        self._said = {**old, **new}
        self._lines.say(level, new)
