"""What the sidecar's log says about runs: each thing once, and what may pass not at once.

What a run's target shows counts as what that target says: it has its share of lines.
"""

from __future__ import annotations

import logging
import math
import sys
import traceback
from collections import Counter
from typing import TYPE_CHECKING, Final

from otel_budget import semconv
from otel_budget.core import verdict_json
from otel_budget.core.reasons import Action
from otel_budget.ledger.findings import FindingKind
from otel_budget.logs.once import Lines, Once
from otel_budget.logs.text import one_line, some
from otel_budget.policy.format import amount

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from otel_budget.core.override import Override
    from otel_budget.core.verdict import Verdict
    from otel_budget.ledger.findings import Finding, RunFailure
    from otel_budget.policy.override_effect import Effect
    from otel_budget.sidecar.tick_result import Change, TickResult
    from otel_budget.sources.base import Clock

#: One log for all that happens; this module has the words about runs.
logger = logging.getLogger("otel_budget.sidecar.event_log")

#: Seconds for which nothing may export a limited resource before that is worth a line: many
#: programs export a resource with its first use only.
UNJUDGED_AFTER: Final = 60.0
#: Tracebacks that are logged at most, each of another place.
MOST_TRACEBACKS: Final = 20
#: Times a run may vanish and come back before that is what is wrong.
MOST_RETURNS: Final = 3

#: What is strange about a run: the words about one, and about many at once.
_FINDINGS: Final = {
    FindingKind.CONCURRENT: (
        (
            "several processes are alive under this id at once (seen at {at}). Their use is added "
            "up, and each obeys the verdict on the sum. Give each run an id of its own, or keep a "
            "job from starting while its predecessor is still running"
        ),
        "runs are carried by several processes at once",
    ),
    FindingKind.SECOND_TARGET: (
        (
            "more than one target shows this process: {at}. They are treated as different ways to "
            "it: the larger count and the stricter limit hold, and it has ended once no target "
            "shows it going on"
        ),
        "runs are shown by more than one target",
    ),
    FindingKind.NAMELESS: (
        (
            "another target shows this run and does not say which process it is: {at}. Its use is "
            "added, and its limits can only tighten. If they should not share an id, bind ids to "
            "targets by a target label (docs/security.md)"
        ),
        "runs are shown by another target that does not say which process it is",
    ),
    FindingKind.PUSHED_TOO: (
        (
            "it is pushed, and scraped as well: {at}. Nothing tells these from two processes of "
            "it, so their use is added up: have it pushed, or scraped, not both"
        ),
        "runs are pushed and scraped as well",
    ),
    FindingKind.START_AHEAD: (
        (
            "its start time, shown at {at}, is more than a day ahead of this host's clock and is "
            "ignored: its use counts, and it is judged by its id alone. Set the clock there, or "
            "here"
        ),
        "runs have a start time that lies far ahead",
    ),
    FindingKind.GOES_ON: (
        (
            "it says that it is over and goes on to use more, or to last longer (seen at {at}). "
            "It is judged as running until it stops changing. Close a run only when nothing of it "
            "is left to do"
        ),
        "runs say that they are over and go on",
    ),
    FindingKind.RESTARTS: (
        (
            "it begins again and again: {said} replaced each other, and none of them was seen to "
            "complete (seen at {at}). Each begins at 0, so a limit holds for each of them and not "
            "for all together. If a supervisor restarts it, stop that, or resume the run, which "
            "then keeps its use, or have the use add up (on_restart: add)"
        ),
        "runs begin again and again",
    ),
    FindingKind.BOUND_ELSEWHERE: (
        (
            "{at} shows this run, which is bound to {said}: it is not counted there, and neither "
            "is any other run that is bound elsewhere. If this is the run's own target, bind the "
            "run to it (docs/security.md); if not, find out why it shows this id"
        ),
        "runs are shown by targets that they are not bound to",
    ),
    FindingKind.CARRIED_ELSEWHERE: (
        (
            "{at} also shows this run, which {said} carries: it is refused there for as long as "
            "that lasts (on_second_target: refuse; or another process handed over an end of it). "
            "Give each run an id of its own"
        ),
        "runs are shown by targets that do not carry them",
    ),
    FindingKind.ALTERNATING: (
        (
            "the use of {what} shown at {at} goes back and forth between counts: several "
            "processes write one series. From now on each is counted by its growth, and the use "
            "is only approximately right. Give each process its own session id, or a label of its "
            "own"
        ),
        "runs have a series that several processes write",
    ),
    FindingKind.LABELS_CHANGED: (
        (
            "its labels {what} are others than before (seen at {at}), so it counts in another "
            "group of a budget. What it used up to now stays where it was counted. If this is no "
            "move, give a run the labels of its owner once, when it begins"
        ),
        "runs count in another group of a budget than before",
    ),
    FindingKind.GROUPS_FULL: (
        (
            "the budget {what} has no place for its group: {said} groups. It counts in the group "
            "other, together with all for which there is none. Do runs make up a label of per? "
            "If not, raise groups_max"
        ),
        "runs find no place for their group in a budget",
    ),
    FindingKind.OWN_DESCENDANT: (
        (
            "it names {said} as its parent, which is the run itself or one of its own descendants: "
            "that is ignored. Name the run that started it"
        ),
        "runs name a parent that is their own descendant",
    ),
    FindingKind.PARENT_UNKNOWN: (
        (
            "it names {said} as its parent, and no target shows such a run: until one does, no "
            "limit of a parent holds for it. See that the parent is read by this sidecar, too"
        ),
        "runs name a parent that is not known",
    ),
    FindingKind.PARENT_OVER: (
        (
            "it names {said} as its parent, which was over before it began: that is ignored. "
            "Start descendants before the parent is closed"
        ),
        "runs name a parent that is over",
    ),
    FindingKind.FAMILY_DEEP: (
        (
            "it names {said} as its parent, and too many runs would be one below the other: that "
            "is ignored, and no limit of those above holds for it"
        ),
        "runs are too deep below others",
    ),
}
_SEEN: Final = "runs were seen for the first time"
_ACTION: Final = "runs have a new action"
_ENDED: Final = "runs ended"
_VANISHED: Final = "runs vanished"
_FORGOTTEN: Final = "runs were forgotten after a long silence"


class RunLog:
    """Logs what became of runs."""

    def __init__(self, clock: Clock, seen_at: Callable[[str], str]) -> None:
        """seen_at: returns the target at which a run is seen, empty if none."""
        self._seen_at = seen_at
        self._lines = {
            many: Lines(logger, many, clock=clock)
            for many in (_SEEN, _ACTION, _ENDED, _VANISHED, _FORGOTTEN)
        }
        self._findings = _Findings(clock, seen_at)
        self._failures = _Failures(clock, seen_at)
        self._unjudged = _UnjudgedLimits(clock, seen_at)
        self._vanished = VanishedRuns(clock, seen_at)

    def log_result(self, result: TickResult) -> None:
        """Log which runs came and went, which have a new action, and what is wrong with which."""
        events, forgotten = result.events, result.forgotten
        self._failures.log(result.failures, forgotten)
        self._findings.log(result.flags, forgotten)
        self._unjudged.log(result.evaluated, forgotten)
        for many, lines in (
            (_SEEN, {s: f"{_run(s)}: seen at {place}" for s, place in events.begun.items()}),
            (_ACTION, _new_actions(result.changes)),
            (_ENDED, {s: f"{_run(s)}: ended: {state}" for s, state in events.ended.items()}),
            (_VANISHED, self._vanished.log(events.vanished, forgotten)),
            (_FORGOTTEN,
             {s: f"{_run(s)}: forgotten after a long silence" for s in events.abandoned}),
        ):  # fmt: skip
            self._lines[many].say(logging.INFO, lines, self._seen_at)

    def log_override(
        self, session_id: str, override: Override, client: str, effect: Effect
    ) -> None:
        """Log what an operator ordered, for how long, and if that changes nothing."""
        until = override.until
        lasting = "" if until is None else f", until {verdict_json.timestamp(until)}"
        limits = "".join(
            f", {resource}: {'no ceiling' if limit is None else amount(resource, limit)}"
            for resource, limit in override.limits.items()
        )
        by = one_line(override.by) or "an operator"
        logger.warning(
            "%s: %s ordered by %s (from %s)%s%s: %s%s",
            _run(session_id), f"{override.kind}{' now' if override.now else ''}", by, client,
            limits, lasting,
            one_line(override.reason),
            "" if effect.changes else f"; nothing changes: {one_line('; '.join(effect.notes))}",
        )  # fmt: skip


def _run(session_id: str) -> str:
    return f"run '{session_id}'"


def _new_actions(changes: Iterable[Change]) -> dict[str, str]:
    """Return a line for each run with a new action, or that begins to wait for one."""
    lines = {}
    for change in changes:
        verdict, before = change.verdict, change.before
        action = Action.CONTINUE if before is None else before.action
        if verdict.action is not action:
            lines[verdict.session_id] = (
                f"{_run(verdict.session_id)}: {verdict.action} ({verdict.reason}): "
                f"{verdict.message}"
            )
        elif verdict.waiting_since is not None and getattr(before, "waiting_since", None) is None:
            lines[verdict.session_id] = (
                f"{_run(verdict.session_id)}: waits until it may go on ({verdict.reason}): "
                f"{verdict.message}"
            )
    return lines


class _Findings:
    """Logs what is strange about a run: once, for as long as the run is known."""

    def __init__(self, clock: Clock, seen_at: Callable[[str], str]) -> None:
        self._seen_at = seen_at
        self._lines = {
            kind: Lines(logger, many, clock=clock) for kind, (_, many) in _FINDINGS.items()
        }
        self._logged: set[tuple[str, str]] = set()
        """What was logged of which run."""

    def log(self, findings: Iterable[Finding], forgotten: Iterable[str]) -> None:
        """Log what is new. forgotten: session ids that have no verdict any more."""
        found = {(f"{f.kind} {f.what}", f.session_id): f for f in findings}
        new = {key: finding for key, finding in found.items() if key not in self._logged}
        gone = set(forgotten)
        self._logged = {key for key in (*self._logged, *new) if key[1] not in gone}
        for kind, (words, _) in _FINDINGS.items():
            lines = {
                f"{finding.session_id} {finding.what}".rstrip(): f"{_run(finding.session_id)}: "
                + words.format(
                    at=some([one_line(target) for target in finding.targets], ", "),
                    what=finding.what,
                    said=finding.said,
                )
                for finding in new.values()
                if finding.kind is kind
            }
            level = logging.INFO if kind is FindingKind.SECOND_TARGET else logging.WARNING
            self._lines[kind].say(level, lines, lambda about: self._seen_at(about.split()[0]))


class VanishedRuns:
    """Logs which runs vanished; of one that does so again and again, that, once."""

    def __init__(self, clock: Clock, seen_at: Callable[[str], str]) -> None:
        """seen_at: as in RunLog."""
        self._times: Counter[str] = Counter()
        self._seen_at = seen_at
        many = "runs vanish and come back again and again"
        self._lines = Lines(logger, many, clock=clock)

    def log(self, vanished: Iterable[str], forgotten: Iterable[str]) -> Mapping[str, str]:
        """Take the runs that vanished now, and those that have no verdict any more.

        Returns a line for each of the former that has not vanished too often.
        """
        lines, too_often = {}, {}
        for name in vanished:
            self._times[name] += 1
            if self._times[name] <= MOST_RETURNS:
                lines[name] = (
                    f"{_run(name)}: vanished: it never reported its end, and its target was "
                    "removed, no longer shows it, or is no longer listened at; or nothing was "
                    "heard of it for its idle time"
                )
            elif self._times[name] == MOST_RETURNS + 1:
                too_often[name] = (
                    f"{_run(name)}: it has vanished and come back {MOST_RETURNS} times: do "
                    "several processes answer at one address by turns? Give each a page of its "
                    "own (docs/web-servers-and-workers.md)"
                )
        for name in forgotten:
            self._times.pop(name, None)
        self._lines.say(logging.WARNING, too_often, self._seen_at)
        return lines


class _Failures:
    """Logs, once for a run, where this program failed at it; each traceback once."""

    def __init__(self, clock: Clock, seen_at: Callable[[str], str]) -> None:
        self._seen_at = seen_at
        self._lines = Lines(logger, "runs are ones that this sidecar fails at", clock=clock)
        self._logged = Once(most=sys.maxsize)  # bounded by the runs there are
        """Session id and what could not be done."""
        self._traced = Once(MOST_TRACEBACKS)
        """Where something failed, of which the traceback was logged."""

    def log(self, failures: Iterable[RunFailure], forgotten: Iterable[str]) -> None:
        """Take what failed now, and the session ids that have no verdict any more."""
        lines = {}
        for session_id, step, error in failures:
            if not self._logged.first((session_id, step)):
                continue
            lines[session_id] = (
                f"{_run(session_id)}: it could not be {step} ({one_line(repr(error))}): a bug in "
                "otel-budget. Its verdict is held, then on_no_data applies; all other runs are "
                "judged. Please report it, with the traceback"
            )
            where = (step, type(error), *_frames(error))
            if self._traced.first(where):
                logger.error("a run could not be %s", step, exc_info=error)
        gone = set(forgotten)
        if gone:
            self._logged.forget(lambda key: key[0] in gone)
        self._lines.say(logging.ERROR, lines, self._seen_at)


def _frames(error: Exception) -> tuple[tuple[str, int], ...]:
    """Return where an exception was raised, as files and lines."""
    return tuple((f.filename, f.lineno or 0) for f in traceback.extract_tb(error.__traceback__))


class _UnjudgedLimits:
    """Logs, once for a run, which of its limits cannot be judged: nothing exports the resource."""

    def __init__(self, clock: Clock, seen_at: Callable[[str], str]) -> None:
        self._seen_at = seen_at
        self._lines = Lines(logger, "runs have limits that are not judged", clock=clock)
        self._since: dict[str, float] = {}
        """Session id to when it was first so; infinite once that is logged."""

    def log(self, verdicts: Iterable[Verdict], forgotten: Iterable[str]) -> None:
        """Take new verdicts, and the session ids that have none any more."""
        lines = {}
        for verdict in verdicts:
            if not verdict.unjudged:
                continue
            name, now = verdict.session_id, verdict.evaluated_at
            if verdict.run_state in semconv.OVER_STATES:
                continue
            if now - self._since.setdefault(name, now) >= UNJUDGED_AFTER:
                self._since[name] = math.inf
                lines[name] = (
                    f"{_run(name)}: nothing has exported {' and '.join(verdict.unjudged)} in "
                    f"{UNJUDGED_AFTER:.0f} s of watching: that limit does not hold. Limit what the "
                    "program exports (`otel-budget read` shows it), or have it export more"
                )
        for name in forgotten:
            self._since.pop(name, None)
        self._lines.say(logging.WARNING, lines, self._seen_at)
