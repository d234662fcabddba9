"""What the log tells of runs that something is wrong with for a while: once, and not at once."""

from __future__ import annotations

import logging
import math
import sys
import traceback
from collections import Counter
from typing import TYPE_CHECKING, Final

from otel_budget import semconv
from otel_budget.logs.once import Lines, Once
from otel_budget.logs.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from otel_budget.core.verdict import Verdict
    from otel_budget.ledger.findings import RunFailure
    from otel_budget.sources.base import Clock

logger = logging.getLogger("otel_budget.sidecar.event_log")

#: Seconds for which a limit may be one that nothing can be held against.
UNJUDGED_AFTER: Final = 60.0
#: Tracebacks that are logged at most, each of another place.
MOST_TRACEBACKS: Final = 20
#: Times a run may vanish and come back before that is what is wrong.
MOST_RETURNS: Final = 3


class Flickering:
    """Tells which runs vanished; once for a run, that it does so again and again."""

    def __init__(self, clock: Clock, seen_at: Callable[[str], str]) -> None:
        """Know of none. seen_at: as in Journal."""
        self._times: Counter[str] = Counter()
        self._seen_at = seen_at
        many = "sessions vanish and come back again and again"
        self._lines = Lines(logger, many, clock=clock)

    def note(self, vanished: Iterable[str], forgotten: Iterable[str]) -> Mapping[str, str]:
        """Take the runs that vanished now, and those that have no verdict any more.

        Returns a line for each of the former that has not vanished too often.
        """
        lines, told = {}, {}
        for name in vanished:
            self._times[name] += 1
            if self._times[name] <= MOST_RETURNS:
                lines[name] = (
                    f"session {name}: vanished: it never reported its end, and its target was "
                    "removed or no longer shows it"
                )
            elif self._times[name] == MOST_RETURNS + 1:
                told[name] = (
                    f"session {name}: it has vanished and come back {MOST_RETURNS} times: do "
                    "several processes answer at one address by turns? Give each a page of its "
                    "own (docs/web-servers-and-workers.md)"
                )
        for name in forgotten:
            self._times.pop(name, None)
        self._lines.say(logging.WARNING, told, self._seen_at)
        return lines


class Failed:
    """Tells, once for a run, at what of it this program failed; with a traceback, once for each."""

    def __init__(self, clock: Clock, seen_at: Callable[[str], str]) -> None:
        """Know of none. seen_at: as in Journal."""
        self._seen_at = seen_at
        self._lines = Lines(logger, "sessions are ones this sidecar fails at", clock=clock)
        self._told = Once(most=sys.maxsize)  # bounded by the runs there are
        """Session id and what could not be done."""
        self._traced = Once(MOST_TRACEBACKS)
        """Where something failed, of which the traceback was logged."""

    def note(self, failures: Iterable[RunFailure], forgotten: Iterable[str]) -> None:
        """Take what failed now, and the session ids that have no verdict any more."""
        told = {}
        for session_id, place, error in failures:
            if not self._told.first((session_id, place)):
                continue
            told[session_id] = (
                f"session {session_id}: it could not be {place} ({one_line(repr(error))}): a "
                "mistake of this program. Its verdict is held, then on_no_data applies; all other "
                "runs are judged. Please report it, with the traceback"
            )
            where = (place, type(error), *_frames(error))
            if self._traced.first(where):
                logger.error("a run could not be %s", place, exc_info=error)
        gone = set(forgotten)
        if gone:
            self._told.forget(lambda key: key[0] in gone)
        self._lines.say(logging.ERROR, told, self._seen_at)


def _frames(error: Exception) -> tuple[tuple[str, int], ...]:
    """Return where an exception was raised, as files and lines."""
    return tuple((f.filename, f.lineno or 0) for f in traceback.extract_tb(error.__traceback__))


class Unjudged:
    """Tells, once for a run, which of its limits cannot be judged: nothing exports the resource.

    Not at once: many programs export a resource with its first use only.
    """

    def __init__(self, clock: Clock, seen_at: Callable[[str], str]) -> None:
        """Know of none. seen_at: as in Journal."""
        self._seen_at = seen_at
        self._lines = Lines(logger, "sessions have limits that are not judged", clock=clock)
        self._since: dict[str, float] = {}
        """Session id to when it was first so; infinite once that is told."""

    def note(self, verdicts: Iterable[Verdict], forgotten: Iterable[str]) -> None:
        """Take new verdicts, and the session ids that have none any more."""
        told = {}
        for verdict in verdicts:
            if not verdict.unjudged:
                continue
            name, now = verdict.session_id, verdict.evaluated_at
            if verdict.run_state in semconv.OVER_STATES:
                continue
            if now - self._since.setdefault(name, now) >= UNJUDGED_AFTER:
                self._since[name] = math.inf
                told[name] = (
                    f"session {name}: {' and '.join(verdict.unjudged)} limited, and nothing "
                    f"exports it within {UNJUDGED_AFTER:.0f} s of watching: that limit does not "
                    "hold. Limit what the program exports (`otel-budget read` shows it), or have "
                    "it export more"
                )
        for name in forgotten:
            self._since.pop(name, None)
        self._lines.say(logging.WARNING, told, self._seen_at)
