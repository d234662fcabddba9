"""What the sidecar tells in its log: each thing once, when it becomes so, and never as a flood.

A sidecar that sees nothing must not look like one that works, and one that works is quiet.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from otel_budget.model.verdict import Action
from otel_budget.sources.notices import MOST_LINES, log_lines, some

if TYPE_CHECKING:
    from otel_budget.model.reading import Reading
    from otel_budget.sidecar.book import Change, Step

logger = logging.getLogger(__name__)

#: Good readings in a row without a run after which that is worth a line.
NO_RUN_AFTER: Final = 10


class Journal:
    """Writes down what became of the source and of the runs."""

    def __init__(self) -> None:
        """Have told nothing yet."""
        self._source_was_ok: bool | None = None
        self._without_run = 0

    def exchanged(self) -> None:
        """Take note that from now on another configuration is read from."""
        self._without_run = 0

    def read(self, reading: Reading) -> None:
        """Tell whether the source answers, and whether it shows anything."""
        if reading.ok != self._source_was_ok:
            self._tell_whether_it_answers(reading)
        self._source_was_ok = reading.ok
        if reading.sessions:
            self._without_run = 0
        elif reading.ok:
            self._without_run += 1
            if self._without_run == NO_RUN_AFTER:
                logger.warning(
                    "the source %s answers, but has shown no run in %d readings: is it the right "
                    "address, and has a run begun?", reading.source, NO_RUN_AFTER,
                )  # fmt: skip

    def stepped(self, step: Step) -> None:
        """Tell which runs came, which are to do something else now, and which went."""
        news = step.news
        for lines, many in (
            ({s: f"session {s}: seen at {place}" for s, place in news.begun.items()},
             "sessions are seen for the first time"),
            (_changes(step.changes), "sessions are to do something else than before"),
            ({s: f"session {s}: ended: {state}" for s, state in news.ended.items()},
             "sessions ended"),
            ({s: f"session {s}: forgotten, after a long silence" for s in news.abandoned},
             "sessions are forgotten, after a long silence"),
        ):  # fmt: skip
            log_lines(logger, logging.INFO, lines, many)

    def _tell_whether_it_answers(self, reading: Reading) -> None:
        if not reading.ok:
            details = [problem.detail for problem in reading.problems]
            logger.warning(
                "the source %s gives nothing: %s", reading.source, some(details, "; ", MOST_LINES)
            )
        elif self._source_was_ok is False:
            logger.info("the source %s answers again", reading.source)


def _changes(changes: tuple[Change, ...]) -> dict[str, str]:
    """Return a line for each run that is to do something else than before."""
    lines = {}
    for change in changes:
        verdict, before = change.verdict, change.before
        action = Action.CONTINUE if before is None else before.action
        if verdict.action is not action:
            lines[verdict.session_id] = (
                f"session {verdict.session_id}: {verdict.action} ({verdict.reason}): "
                f"{verdict.message}"
            )
    return lines
