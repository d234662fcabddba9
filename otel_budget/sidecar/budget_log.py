"""What the log says of budgets that runs share: when one begins to hold, or ceases to.

A budget that guards nobody says so, and does not look like one that does: in shadow, or without a
run that matches it.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import TYPE_CHECKING, Final

from otel_budget.core.budget import Budget, Mode
from otel_budget.logs.once import Lines
from otel_budget.logs.text import one_line
from otel_budget.sidecar.config_summary import describe_budget

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_budget.sidecar.budget_report import BudgetReport
    from otel_budget.sources.base import Clock

logger = logging.getLogger(__name__)

#: Seconds for which no run may match while others run, before that is worth a line.
UNMATCHED_AFTER: Final = 300.0


class BudgetLog:
    """Logs which budgets hold."""

    def __init__(self, clock: Clock) -> None:
        """Begin with nothing said. clock: of this process, in seconds."""
        self._clock = clock
        self._news = Lines(logger, "budgets changed", clock=clock)
        self._idle = Lines(logger, "budgets match no run", clock=clock)
        self._known: dict[str, Budget] = {}
        self._unmatched_since: dict[str, float] = {}
        """Of budgets that no run has matched yet, since when others ran."""

    def log(self, reports: Mapping[str, BudgetReport], runs: int) -> None:
        """Log what is new, given how the budgets stand after a step. runs: how many are known."""
        if reports or self._known:
            self._log_news(reports)
            self._log_unmatched(reports, runs)

    def _log_news(self, reports: Mapping[str, BudgetReport]) -> None:
        new = {name: one for name, one in reports.items() if self._known.get(name) != one.budget}
        anew = {
            name
            for name, one in new.items()
            if name in self._known and self._known[name].books_key != one.budget.books_key
        }
        engaged = {
            name: _engaged(one, name in self._known)
            for name, one in new.items()
            if one.budget.mode is Mode.ENFORCE and name not in anew
        }
        self._news.say(logging.INFO, engaged)
        # Those that it stopped may go on: that must not look like another limit.
        self._news.say(logging.WARNING, {name: _anew(new[name]) for name in anew})
        self._news.say(
            logging.WARNING,
            {
                name: f"a budget in shadow stops nobody: {_words(one)}"
                for name, one in new.items()
                if one.budget.mode is Mode.SHADOW and name not in anew
            },
        )
        gone = self._known.keys() - reports.keys()
        self._news.say(
            logging.WARNING,
            {
                name: f"budget {name} is not in the configuration any more and holds nobody back; "
                "what was counted is kept"
                for name in sorted(gone)
            },
        )
        self._known = {name: one.budget for name, one in reports.items()}
        for name in gone:
            self._unmatched_since.pop(name, None)
        for name in new:
            self._unmatched_since[name] = self._clock()

    def _log_unmatched(self, reports: Mapping[str, BudgetReport], runs: int) -> None:
        for name in [n for n in self._unmatched_since if reports[n].sessions]:
            del self._unmatched_since[name]
        if not runs:  # on a quiet night nothing can match
            for name in self._unmatched_since:
                self._unmatched_since[name] = self._clock()
            return
        overdue = [
            name
            for name, since in self._unmatched_since.items()
            if self._clock() - since >= UNMATCHED_AFTER
        ]
        self._idle.say(logging.WARNING, {name: _unmatched(reports[name]) for name in overdue})
        for name in overdue:
            del self._unmatched_since[name]


def _engaged(report: BudgetReport, was_known: bool) -> str:  # noqa: FBT001 - there are no others
    changed = " now" if was_known else ""
    return f"a budget holds{changed}: {_words(report)}"


def _anew(report: BudgetReport) -> str:
    return (
        "a budget has another match, per, window or weights and counts anew, from 0; what was "
        f"counted before is kept in its history: {_words(report)}"
    )


def _words(report: BudgetReport) -> str:
    """Say what it is, and since when it counts: that old use is not in it must be known."""
    said = one_line(describe_budget(report.budget))
    if report.counted_from is None:
        return said
    since = datetime.fromtimestamp(report.counted_from, report.budget.window.tz)
    return f"{said}; counted since {since.isoformat(timespec='seconds')}"


def _unmatched(report: BudgetReport) -> str:
    budget = report.budget
    of = " and ".join(f"{label}={' or '.join(v)}" for label, v in budget.match.items())
    return (
        f"budget {budget.name} has matched no run for {UNMATCHED_AFTER / 60:g} min while others "
        f"run, so it guards nobody: no run has {one_line(of) or 'been counted'}. "
        "`otel-budget session list --by LABEL` shows which values there are"
    )
