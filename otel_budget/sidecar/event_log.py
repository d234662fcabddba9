"""What the sidecar tells in its log: each thing once, when it becomes so, and never as a flood.

A sidecar that sees nothing must not look like one that works, and one that works is quiet.
"""

from __future__ import annotations

import logging
import math
import re
import time
from typing import TYPE_CHECKING, Final

from otel_budget import semconv
from otel_budget.core import verdict_json
from otel_budget.core.verdict import Action
from otel_budget.ledger.findings import FindingKind
from otel_budget.logs.once import MOST_LINES, Lines, OncePerSubject
from otel_budget.logs.text import one_line, some
from otel_budget.policy.format import amount
from otel_budget.sidecar.lasting_events import Failed, Flickering, Unjudged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from otel_budget.core.observation import Observation, Problem
    from otel_budget.core.override import Override
    from otel_budget.core.verdict import Verdict
    from otel_budget.policy.override_effect import Effect
    from otel_budget.sidecar.tick_result import Change, TickResult
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


_FLAGGED: Final = {
    FindingKind.CONCURRENT: (
        (
            "several processes are alive under this id at once (seen at {at}). They are counted "
            "together, and each obeys the verdict on the sum. Give each run an id of its own, or "
            "keep a job from starting while the one before it still runs"
        ),
        "sessions are carried by several processes at once",
    ),
    FindingKind.SECOND_TARGET: (
        (
            "more than one target shows this process: {at}. They are taken for ways to it: the "
            "larger count and the stricter limit hold, and it has ended when none shows it going on"
        ),
        "sessions are shown by more than one target",
    ),
    FindingKind.NAMELESS: (
        (
            "another target shows this run and does not say which process it is: {at}. Its use "
            "is added, its limits can only tighten. Is the id meant to be the same? Bind ids to "
            "targets by a target label where that matters (docs/security.md)"
        ),
        "sessions are shown by another target that does not say which process it is",
    ),
    FindingKind.START_AHEAD: (
        (
            "a start time more than a day ahead of this host's clock is not believed, shown at "
            "{at}: the use counts, and the run is judged by its id alone. Set the clock there, or "
            "here"
        ),
        "sessions have a start time that lies far ahead",
    ),
    FindingKind.GOES_ON: (
        (
            "it says that it is over and goes on to use more, or to last longer (seen at {at}). "
            "It is judged as running, until it stands still. Close a run only when nothing of it "
            "is left to do"
        ),
        "sessions say that they are over and go on",
    ),
    FindingKind.RESTARTS: (
        (
            "it begins again and again: {said} took each other's place and none of them "
            "was seen to complete (seen at {at}). Each begins at 0, so a limit holds for each and "
            "not for all of them. Is it restarted by a supervisor? Have that stop, or resume the "
            "run, which goes on with its use, or have the use add up (on_restart: add)"
        ),
        "sessions begin again and again",
    ),
    FindingKind.BOUND_ELSEWHERE: (
        (
            "{at} shows this run, which is bound to {said}: nothing of it counts, nor of other "
            "runs that are bound so. If it is to be the run's own target, bind it "
            "(docs/security.md); else find out why it shows this id"
        ),
        "sessions are shown by targets that they are not bound to",
    ),
    FindingKind.CARRIED_ELSEWHERE: (
        (
            "{at} shows this run as well, which {said} carries: it is refused as long as that goes "
            "on (on_second_target: refuse). Give each run an id of its own"
        ),
        "sessions are shown by targets that do not carry them",
    ),
    FindingKind.ALTERNATING: (
        (
            "the use of {what} shown at {at} goes back and forth between counts: several processes "
            "write one series. Each of them is counted by what it grows from now on, and the use "
            "is about right only. Give each process a session id, or a label, of its own"
        ),
        "sessions have a series that several processes write",
    ),
}


_SEEN: Final = "sessions are seen for the first time"
_ACTION: Final = "sessions have a new action"
_ENDED: Final = "sessions ended"
_VANISHED: Final = "sessions vanished"
_FORGOTTEN: Final = "sessions are forgotten, after a long silence"
_OF_RUNS: Final = (_SEEN, _ACTION, _ENDED, _VANISHED, _FORGOTTEN)


class Problems:
    """Tells each problem when it begins and when it is over, by its target and its kind."""

    def __init__(self, clock: Clock) -> None:
        """Know of none."""
        self._known: dict[tuple[str, ...], tuple[str, int]] = {}
        """What it was about to its words, and to the readings since it was last seen."""
        self._begun = Lines(logger, "problems", clock=clock)
        self._over = Lines(logger, "problems are over", clock=clock)

    def note(self, problems: Iterable[Problem], *, said: bool, back: bool) -> None:
        """Take the problems of one reading.

        said: another line has said, or will, what is new. back: and what is over.
        """
        now = {_kind(problem): one_line(problem.detail) for problem in problems}
        begun = {key: words for key, words in now.items() if key not in self._known}
        gone = {k: (w, n + 1) for k, (w, n) in self._known.items() if k not in now}
        over = {key: words for key, (words, n) in gone.items() if n >= OVER_AFTER or said or back}
        lasting = {key: known for key, known in gone.items() if key not in over}
        self._known = {**lasting, **{key: (words, 0) for key, words in now.items()}}
        if said:
            return
        who = {words: key[0] for key, words in (*begun.items(), *over.items())}
        told = {words: f"problem: {words}" for words in begun.values()}
        self._begun.say(logging.WARNING, told, who.__getitem__)
        if back:
            return
        told = {words: f"no problem any more: {words}" for words in over.values()}
        self._over.say(logging.INFO, told, who.__getitem__)


def _kind(problem: Problem) -> tuple[str, ...]:
    """Return what makes a problem another one: not the numbers in it, nor what a target wrote."""
    words = problem.detail.removeprefix(f"{problem.target}: ").partition(": ")[0]
    return (problem.target, str(problem.reason), re.sub(r"[0-9]+", "0", one_line(words)))


class EventLog:
    """Writes down what became of the source and of the runs."""

    def __init__(
        self, clock: Clock = time.monotonic, seen_at: Callable[[str], str] = lambda _: ""
    ) -> None:
        """Have told nothing yet. seen_at: returns the target at which a run is seen, empty if none.

        What it says of a target's runs counts as what that target says: it has its share of lines.
        """
        self._seen_at = seen_at
        self._lines = {many: Lines(logger, many, clock=clock) for many in _OF_RUNS}
        self._flags = {
            kind: Lines(logger, many, clock=clock) for kind, (_, many) in _FLAGGED.items()
        }
        self._failing = Lines(logger, "sources changed", clock=clock)
        self._source_was_ok: bool | None = None
        self._without_run = 0
        self._verdicts: tuple[Verdict, ...] = ()
        """Those of the last step."""
        self._absence_said_at = -math.inf
        self._problems = Problems(clock)
        self._unjudged = Unjudged(clock, seen_at)
        self._flickering = Flickering(clock, seen_at)
        self._failed = Failed(clock, seen_at)
        self._not_stored = ""
        """Why the last step could not be stored, if it could not."""
        self._lag = 0.0
        """Seconds by which samples arrive late, as it was said last."""
        self._flagged: set[tuple[str, str]] = set()
        """What was told of which session."""
        self._crowded = OncePerSubject(logger, "targets show more runs than they may")
        self._waits = False
        """Whether new runs waited for the next reading."""

    def exchanged(self) -> None:
        """Take note that from now on another configuration is read from."""
        self._without_run = 0

    def read(self, observation: Observation) -> None:
        """Tell whether the source answers, and whether it shows anything."""
        changed = observation.ok != self._source_was_ok
        if changed:
            self._tell_whether_it_answers(observation)
        # A source that gives nothing is told with all it says, and so is its return.
        back = changed and self._source_was_ok is False
        self._problems.note(observation.problems, said=not observation.ok, back=back)
        self._source_was_ok = observation.ok
        if observation.sessions:
            self._without_run = NO_RUN_AFTER  # from now on it may be a fleet at rest
        elif observation.ok:
            self._without_run += 1
            if self._without_run == NO_RUN_AFTER and not observation.unmatched:  # that was said
                logger.info(
                    "the source %s answers, but has shown no run in %d readings: is it the right "
                    "address, and has a run begun?", observation.source, NO_RUN_AFTER,
                )  # fmt: skip

    def not_stored(self, problem: Exception) -> None:
        """Tell why a step could not be stored: once, until it is something else or over."""
        words = one_line(str(problem))
        if words != self._not_stored:
            self._not_stored = words
            logger.error(
                "this tick failed; no verdict was published: it could not be stored (%s). Each "
                "tick tries again; until then leases run out, and orders are refused", words,
            )  # fmt: skip

    def stepped(self, step: TickResult) -> None:
        """Tell which runs came, which have a new action, and which went."""
        events = step.events
        self._verdicts = step.verdicts
        if self._not_stored:
            self._not_stored = ""
            logger.info("the storage can be written again; verdicts are published")
        self._failed.note(step.failures, step.forgotten)
        self._tell_delay(step.lag)
        crowded = {
            target: f"target {one_line(target)} shows more runs than session_limit allows at once, "
            "or to begin in ten minutes: the others are not judged; does it make up a session id, "
            "or a start time, for each request?"
            for target in step.crowded
        }
        self._tell_flags(step)
        self._crowded.note(crowded, logging.ERROR)
        self._unjudged.note(step.evaluated, step.forgotten)
        for many, lines in (
            (_SEEN, {s: f"session {s}: seen at {place}" for s, place in events.begun.items()}),
            (_ACTION, _changes(step.changes)),
            (_ENDED, {s: f"session {s}: ended: {state}" for s, state in events.ended.items()}),
            (_VANISHED, self._flickering.note(events.vanished, step.forgotten)),
            (_FORGOTTEN,
             {s: f"session {s}: forgotten, after a long silence" for s in events.abandoned}),
        ):  # fmt: skip
            self._lines[many].say(logging.INFO, lines, self._seen_at)

    def waiting(self, rest: Observation | None) -> None:
        """Tell that new runs were not judged before the next reading: once, until none wait."""
        if rest is not None and not self._waits:
            targets = {one_line(session.target) for session in rest.sessions}
            logger.warning(
                "more new runs are shown than can begin between two readings: some of %s are not "
                "judged yet; runs that are known, and those of other targets, do not wait for them",
                some(sorted(targets), ", "),
            )  # fmt: skip
        self._waits = rest is not None

    def absent(self, seconds: float, now: float) -> None:
        """Tell that this process did not run for so long."""
        lately = now - self._absence_said_at < _ABSENT_EVERY
        if seconds < _ABSENT or (lately and seconds < _LONG_ABSENT):
            return
        self._absence_said_at = now
        logger.warning(
            "this process did not run for %.1f s: it was stopped, its machine slept, or it had no "
            "processor time; none of that counts as silence of a run", seconds,
        )  # fmt: skip

    def _tell_delay(self, lag: float) -> None:
        """Tell that samples arrive late, steadily: once, and again when it is much more."""
        if lag < max(_WORTH_SAYING, self._lag * _MUCH_MORE):
            return
        self._lag = lag
        logger.warning(
            "samples arrive steadily late, by up to %.0f s: the source hides the newest ones (as "
            "VictoriaMetrics does where a proxy drops nocache=1 from the query) or gets them late. "
            "Limits act that much later; stale_after: auto allows for it", lag,
        )  # fmt: skip

    def _tell_flags(self, step: TickResult) -> None:
        """Tell what is strange about a run: once, for as long as it is known."""
        new = {(f"{f.kind} {f.what}", f.session_id): f for f in step.flags}
        new = {key: flag for key, flag in new.items() if key not in self._flagged}
        forgotten = set(step.forgotten)
        self._flagged = {key for key in (*self._flagged, *new) if key[1] not in forgotten}
        for kind, (words, _) in _FLAGGED.items():
            told = {
                f"{flag.session_id} {flag.what}".rstrip(): f"session {flag.session_id}: "
                + words.format(
                    at=some([one_line(t) for t in flag.targets], ", "),
                    what=flag.what,
                    said=flag.said,
                )
                for flag in new.values()
                if flag.kind is kind
            }
            level = logging.INFO if kind is FindingKind.SECOND_TARGET else logging.WARNING
            self._flags[kind].say(level, told, lambda about: self._seen_at(about.split()[0]))

    def ordered(self, session_id: str, order: Override, client: str, effect: Effect) -> None:
        """Tell what an operator ordered, for how long, and if that changes nothing."""
        until = "" if order.until is None else f", until {verdict_json.timestamp(order.until)}"
        limits = "".join(
            f", {resource}: {'no ceiling' if limit is None else amount(resource, limit)}"
            for resource, limit in order.limits.items()
        )
        by = one_line(order.by) or "an operator"
        logger.warning(
            "session %s: %s ordered by %s (from %s)%s%s: %s%s",
            session_id, order.kind, by, client, limits, until, one_line(order.reason),
            "" if effect.changes else f"; nothing changes: {one_line('; '.join(effect.notes))}",
        )  # fmt: skip

    def _tell_whether_it_answers(self, observation: Observation) -> None:
        if not observation.ok:
            details = some([problem.detail for problem in observation.problems], "; ", MOST_LINES)
            at_rest = self._is_at_rest(observation)
            level, now = (logging.INFO, " now") if at_rest else (logging.WARNING, "")
            said = f"the source {observation.source} gives nothing{now}: {details}"
            self._failing.say(level, {observation.source: said})
        elif self._source_was_ok is False:
            said = f"the source {observation.source} answers again"
            self._failing.say(logging.INFO, {observation.source: said})

    def _is_at_rest(self, observation: Observation) -> bool:
        """Tell whether only targets are gone on which every run is over, as after a batch job."""
        if not (self._source_was_ok and observation.read and self._verdicts):
            return False
        return all(verdict.run_state in semconv.OVER_STATES for verdict in self._verdicts)


def _changes(changes: tuple[Change, ...]) -> dict[str, str]:
    """Return a line for each run with a new action."""
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
