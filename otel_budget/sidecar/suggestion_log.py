"""What the log says of suggested limits: when one begins to hold, changes much, or ends.

That a workflow has no suggestion yet is said, too: what is no guard must not look like one.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from otel_budget.core.quantities import Number
from otel_budget.core.resources import RESOURCES
from otel_budget.logs.once import Lines, Once
from otel_budget.logs.text import one_line
from otel_budget.policy.format import amount
from otel_budget.policy.suggestion import LEAST_RUNS

if TYPE_CHECKING:
    from otel_budget.policy.suggester import SuggestedChange
    from otel_budget.sidecar.tick_result import SuggestionReport
    from otel_budget.sources.base import Clock

logger = logging.getLogger(__name__)

#: Share by which a limit becomes another one that is worth a line.
_MUCH: Final = 0.1
#: Limits that are remembered as they were said; of more, one may be said again.
_SAID_MOST: Final = 10_000


class SuggestionLog:
    """Logs what became of suggestions."""

    def __init__(self, clock: Clock) -> None:
        """Begin with nothing said."""
        self._changed = Lines(logger, "suggested limits changed", clock=clock)
        self._lacking = Lines(logger, "workflows have no suggestions yet", clock=clock)
        self._lacks = Once()
        self._said: dict[tuple[str, str], Number] = {}
        """Workflow and resource to the limit that was said last."""

    def log(self, report: SuggestionReport) -> None:
        """Log what is new, given what is suggested after a step."""
        lines = {
            f"{change.workflow} {change.resource}": line
            for change in report.changes
            if (line := self._line(change))
        }
        self._changed.say(logging.INFO, lines)
        self._lacking.say(logging.INFO, {
            name: f"{_named(name)}: no limit is suggested below {LEAST_RUNS} runs that ended "
            f"well, and there {'is' if runs == 1 else 'are'} {runs}: until then at_most alone holds"
            for name, runs in report.runs.items()
            if runs < LEAST_RUNS and self._lacks.first(name)
        })  # fmt: skip

    def _line(self, change: SuggestedChange) -> str:
        """Return what is to be said of a change; empty if it is small."""
        key, limit = (change.workflow, change.resource), change.limit
        said = self._said.get(key)
        if limit is None:
            self._said.pop(key, None)
            why = change.suggestion.reason
            return f"{_of(change)}: none is suggested any more, at_most alone holds ({why})"
        if said is not None and abs(float(limit) - float(said)) <= _MUCH * float(said):
            return ""
        if len(self._said) >= _SAID_MOST:
            self._said.clear()
        self._said[key] = limit
        was = "" if said is None else f", {amount(change.resource, said)} before"
        holds = amount(change.resource, limit)
        return f"{_of(change)} is {holds} from now on{was}: {change.suggestion.reason}"


def _of(change: SuggestedChange) -> str:
    return f"{_named(change.workflow)}: the suggested limit on {_title(change.resource)}"


def _title(resource: str) -> str:
    return RESOURCES[resource].noun


def _named(workflow: str) -> str:
    return f"workflow {one_line(workflow)}" if workflow else "runs that name no workflow"
