"""What the sidecar's log says: each thing once, when it becomes so, and never as a flood.

A sidecar that sees nothing must not look like one that works, and one that works is quiet. What is
said of single runs is in run_log.py.
"""

from __future__ import annotations

import logging
import math
import re
import time
from typing import TYPE_CHECKING, Final

from otel_budget import semconv
from otel_budget.core import verdict_json
from otel_budget.core.budget import NONE, OTHER
from otel_budget.core.observation import OTLP
from otel_budget.logs.once import MOST_LINES, Lines, OncePerSubject
from otel_budget.logs.text import one_line, some
from otel_budget.policy.format import amounts
from otel_budget.sidecar.budget_log import BudgetLog
from otel_budget.sidecar.run_log import RunLog
from otel_budget.sidecar.suggestion_log import SuggestionLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from otel_budget.core.budget import TopUp
    from otel_budget.core.observation import Observation, Problem
    from otel_budget.core.override import Override
    from otel_budget.core.verdict import Verdict
    from otel_budget.policy.override_effect import Effect
    from otel_budget.sidecar.tick_result import TickResult
    from otel_budget.sources.base import Clock

logger = logging.getLogger(__name__)

#: Good readings in a row without a run after which that is worth a line.
NO_RUN_AFTER: Final = 10
#: Good readings in a row without a problem after which it is over; one that comes and goes is one.
OVER_AFTER: Final = 3
#: Seconds for which this process did not run that are worth a line; how often, unless it was longer
#: than the third.
_ABSENT, _ABSENT_EVERY, _LONG_ABSENT = 2.0, 60.0, 10.0
#: Seconds by which samples arrive late that are worth a line; and how many times as many are worth
#: another one.
_WORTH_SAYING: Final = 2.0
_MUCH_MORE: Final = 1.5


class EventLog:
    """Logs what became of the source, the storage, the process and the runs."""

    def __init__(
        self, clock: Clock = time.monotonic, seen_at: Callable[[str], str] = lambda _: ""
    ) -> None:
        """seen_at: returns the target at which a run is seen, empty if none."""
        self._runs = RunLog(clock, seen_at)
        self._source_changes = Lines(logger, "sources changed", clock=clock)
        self._source_was_ok: bool | None = None
        self._without_run = 0
        self._verdicts: tuple[Verdict, ...] = ()
        """Those of the last tick."""
        self._absence_logged_at = -math.inf
        self._problems = _Problems(clock)
        self._not_stored = ""
        """Why the last tick could not be stored, if it could not."""
        self._lag = 0.0
        """Seconds by which samples arrive late, as it was logged last."""
        self._crowded = OncePerSubject(logger, "targets show more runs than they may")
        self._suggestions, self._budgets = SuggestionLog(clock), BudgetLog(clock)
        self._some_wait = False
        """Whether new runs waited for the next reading."""

    def note_new_settings(self) -> None:
        """Take note that from now on another configuration is read from."""
        self._without_run = 0

    def log_observation(self, observation: Observation) -> None:
        """Log whether the source answers, and whether it shows anything."""
        changed = observation.ok != self._source_was_ok
        if changed:
            self._log_source_change(observation)
        # A source that gives nothing is logged with all it says, and so is its return.
        back = changed and self._source_was_ok is False
        self._problems.log(observation.problems, quiet=not observation.ok, back=back)
        self._source_was_ok = observation.ok
        if observation.sessions:
            self._without_run = NO_RUN_AFTER  # from now on it may be a fleet at rest
        elif observation.ok:
            self._without_run += 1
            # That there are none at all was logged; and some may be pushed.
            if self._without_run == NO_RUN_AFTER and not (observation.unmatched or self._verdicts):
                logger.info("%s", _nothing_yet(observation.source))

    def log_not_stored(self, problem: Exception) -> None:
        """Log why a tick could not be stored: once, until it is something else or over."""
        words = one_line(str(problem))
        if words != self._not_stored:
            self._not_stored = words
            logger.error(
                "this tick failed; no verdict was published: it could not be stored (%s). Each "
                "tick tries again; until one succeeds, leases run out and overrides are refused",
                words,
            )

    def log_result(self, result: TickResult) -> None:
        """Log what came of a tick: of runs, of targets that show too many, of late samples."""
        self._verdicts = result.verdicts
        if self._not_stored:
            self._not_stored = ""
            logger.info("the storage can be written again; verdicts are published")
        self._log_lag(result.lag)
        crowded = {
            target: f"target {one_line(target)} shows more runs than session_limit allows at once, "
            "or allows to begin within ten minutes: the others are not judged. Does it make up a "
            "session id, or a start time, for each request?"
            for target in result.crowded
        }
        self._crowded.note(crowded, logging.ERROR)
        self._suggestions.log(result.suggestions)
        self._budgets.log(result.budgets, len(result.verdicts))
        self._runs.log_result(result)

    def log_override(
        self, session_id: str, override: Override, client: str, effect: Effect
    ) -> None:
        """Log what an operator ordered. client: its address."""
        self._runs.log_override(session_id, override, client, effect)

    def log_top_up(self, given: TopUp, client: str, *, again: bool) -> None:
        """Log what an operator added to a budget. client: its address. again: it was added before,
        and was asked for once more.
        """
        group = OTHER if given.group is None else ", ".join(each or NONE for each in given.group)
        until = "its reset" if given.until is None else verdict_json.timestamp(given.until)
        logger.warning(
            "budget '%s'%s: %s added%s by %s (from %s), until %s: %s",
            given.budget, f" ({one_line(group)})" if group else "", amounts(given.amounts),
            " before, and asked for again," if again else "", one_line(given.by) or "an operator",
            client, until, one_line(given.reason),
        )  # fmt: skip

    def log_waiting(self, rest: Observation | None) -> None:
        """Log that new runs were not judged before the next reading: once, until none wait."""
        if rest is not None and not self._some_wait:
            targets = {one_line(session.target) for session in rest.sessions}
            logger.warning(
                "more new runs appeared than can be taken in between two readings: some of those "
                "at %s are not judged yet. Known runs, and those of other targets, do not wait for "
                "them", some(sorted(targets), ", "),
            )  # fmt: skip
        self._some_wait = rest is not None

    def log_absence(self, seconds: float, now: float) -> None:
        """Log that this process did not run for so long."""
        lately = now - self._absence_logged_at < _ABSENT_EVERY
        if seconds < _ABSENT or (lately and seconds < _LONG_ABSENT):
            return
        self._absence_logged_at = now
        logger.warning(
            "this process did not run for %.1f s: it was stopped, its machine slept, or it got no "
            "processor time; none of that counts as silence of a run", seconds,
        )  # fmt: skip

    def _log_lag(self, lag: float) -> None:
        """Log that samples arrive late, steadily: once, and again when it is much more."""
        if lag < max(_WORTH_SAYING, self._lag * _MUCH_MORE):
            return
        self._lag = lag
        logger.warning(
            "samples arrive steadily late, by up to %.0f s: the source hides the newest ones (as "
            "VictoriaMetrics does where a proxy drops nocache=1 from the query) or gets them late. "
            "Limits act that much later; stale_after: auto allows for it", lag,
        )  # fmt: skip

    def _log_source_change(self, observation: Observation) -> None:
        name = observation.source
        if not observation.ok:
            details = some([problem.detail for problem in observation.problems], "; ", MOST_LINES)
            at_rest = self._is_at_rest(observation)
            level, now = (logging.INFO, " now") if at_rest else (logging.WARNING, "")
            line = f"the source {name} gives nothing{now}: {details}"
            self._source_changes.say(level, {name: line})
        elif self._source_was_ok is False:
            self._source_changes.say(logging.INFO, {name: f"the source {name} answers again"})

    def _is_at_rest(self, observation: Observation) -> bool:
        """Tell whether only targets are gone on which every run is over, as after a batch job."""
        if not (self._source_was_ok and observation.read and self._verdicts):
            return False
        return all(verdict.run_state in semconv.OVER_STATES for verdict in self._verdicts)


def _nothing_yet(source: str) -> str:
    """Say what it may mean that a source shows no run."""
    if source == OTLP:
        return (
            f"nothing was pushed that can be counted in {NO_RUN_AFTER} s: is the endpoint right, "
            "and has a run begun?"
        )
    return (
        f"the source {source} answers, but has shown no run in {NO_RUN_AFTER} readings: is the "
        "address right, and has a run begun?"
    )


class _Problems:
    """Logs each problem when it begins and when it is over, by its target and its kind."""

    def __init__(self, clock: Clock) -> None:
        self._known: dict[tuple[str, ...], tuple[str, int]] = {}
        """What it was about to its words, and to the readings since it was last seen."""
        self._begun = Lines(logger, "problems", clock=clock)
        self._over = Lines(logger, "problems are over", clock=clock)

    def log(self, problems: Iterable[Problem], *, quiet: bool, back: bool) -> None:
        """Take the problems of one reading.

        quiet: another line has what is new. back: another line has what is over.
        """
        now = {_kind(problem): one_line(problem.detail) for problem in problems}
        begun = {key: words for key, words in now.items() if key not in self._known}
        gone = {k: (w, n + 1) for k, (w, n) in self._known.items() if k not in now}
        over = {key: words for key, (words, n) in gone.items() if n >= OVER_AFTER or quiet or back}
        lasting = {key: known for key, known in gone.items() if key not in over}
        self._known = {**lasting, **{key: (words, 0) for key, words in now.items()}}
        if quiet:
            return
        speakers = {words: key[0] for key, words in (*begun.items(), *over.items())}
        lines = {words: f"problem: {words}" for words in begun.values()}
        self._begun.say(logging.WARNING, lines, speakers.__getitem__)
        if back:
            return
        lines = {words: f"problem resolved: {words}" for words in over.values()}
        self._over.say(logging.INFO, lines, speakers.__getitem__)


def _kind(problem: Problem) -> tuple[str, ...]:
    """Return what makes a problem another one: not the numbers in it, nor what a target wrote."""
    words = problem.detail.removeprefix(f"{problem.target}: ").partition(": ")[0]
    return (problem.target, str(problem.reason), re.sub(r"[0-9]+", "0", one_line(words)))
