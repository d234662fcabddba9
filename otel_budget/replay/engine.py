"""A policy tried on what happened: lines of a trace, or readings of a history, in; verdicts out.

Use is added up by the ledger and judged by the policy that live runs have. Time is that of what is
replayed. What is done here is what the loop of a sidecar does, in time that is an argument:

- A tick falls on every line, or reading. Judged are the run that it is about, and each run whose
  verdict does not stand any more then: the time it is limited to goes on without a word of it.
- A trace is complete: between its start and its end a run is never stale. A history may be not.
- A run that is told to stop stops: what it used later did not happen, and its time stands still. A
  graceful stop gives way as it does live, to a progress that the run reports at which it may
  finish. Where it is kept going, all of it is booked and judged.
- A run whose end is known is not judged again.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from otel_budget import semconv
from otel_budget.core.limits import STOP
from otel_budget.core.observation import Observation
from otel_budget.errors import InvalidValueError
from otel_budget.ledger.ledger import Ledger
from otel_budget.policy.suggester import PastRun, Suggester
from otel_budget.policy.suggestion import ended_run, workflow_of
from otel_budget.policy.verdicts import verdict_from_snapshot
from otel_budget.replay.changes import VerdictChange, deciding, forecasts, said
from otel_budget.replay.judged_run import TRACE, TracedRun
from otel_budget.replay.summary import Counts
from otel_budget.replay.trace import TraceLine
from otel_budget.sidecar.verdict_cache import CachedVerdict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otel_budget.core.verdict import Verdict
    from otel_budget.ledger.run import RunTotals
    from otel_budget.policy.verdicts import Rules
    from otel_budget.replay.changes import Found
    from otel_budget.replay.frontier import Outcome
    from otel_budget.replay.judged_run import JudgedRun
    from otel_budget.replay.summary import Summary

#: Seconds that a verdict in a trace is trusted: it need not be renewed. Finite, to be counted with.
_LEASE: Final = 1e18
#: Seconds by which floats of Unix times may be off: who is due that soon is judged now.
_ROUNDED: Final = 1e-6
#: Ended runs from one look for those that are long over to the next.
_FORGET_EVERY: Final = 1000
_OF_TRACE: Final = frozenset({TRACE})


class Replay:
    """The runs of one trace under one policy.

    A run is forgotten when its end was taken, so memory grows with the runs that are open at once.
    """

    def __init__(
        self,
        rules: Rules,
        *,
        keep_going: bool = False,
        forecast_at: Sequence[float] = (),
        on_outcome: Callable[[Outcome], None] = lambda _outcome: None,
        on_end: Callable[[RunTotals, TraceLine], None] = lambda _run, _line: None,
    ) -> None:
        """Begin before the first line.

        keep_going: a run goes on although it is told to stop. forecast_at: shares of each limit at
        which to say what is forecast, above 0 and at most 1. on_outcome: told what became of each
        run that is over; of those that stay open by ``finish``. on_end: told of each run that
        ends, with the line that says so.
        """
        self._rules = replace(rules, lease=_LEASE, stale_after=math.inf)
        self._keep_going, self._shares = keep_going, tuple(forecast_at)
        self._on_outcome, self._on_end = on_outcome, on_end
        self._suggester = Suggester()
        self._ledger = Ledger()
        self._ledger.adds_restarts = rules.adds_restarts
        self._runs: dict[str, TracedRun] = {}
        self._begun = self._closed = 0
        self._due: list[tuple[float, int, str]] = []
        """When runs are to be judged although nothing is heard of them: number and session id. Not
        the run, which may be over long before."""
        self._stricter: dict[tuple[bool, bool], Rules] = {}
        self._stricter_than: Rules | None = None
        """What these were made of."""
        self._counts = Counts()

    @property
    def open_runs(self) -> tuple[str, ...]:
        """Session ids of the runs that began and did not end, in the order in which they began."""
        return tuple(self._runs)

    def verdict_on(self, session_id: str, now: float) -> Verdict | None:
        """Return the verdict on a run as of now, which changes nothing; None if it is over."""
        run = self._runs.get(session_id)
        if run is None:
            return None
        snapshot = self._ledger.snapshot(self._totals(run), now, self._rules.ceilings)
        return verdict_from_snapshot(snapshot, self._rules_for(run), now)

    def take(self, line: TraceLine) -> list[Found]:
        """Take the next line; return what is new: changes by run, then forecasts.

        Raises InvalidValueError with its place for one that cannot be: of a run that did not begin,
        has ended, or begins twice.
        """
        now = line.at
        self._counts.tick(now)
        run = self._run_of(line)
        judged = self._is_new(run, line)
        due = self._due_runs(now)
        if judged:
            due[run.number] = run
        found = self._judge_all([due[n] for n in (due if len(due) == 1 else sorted(due))], now)
        if line.end is not None:
            found += self._close(run, line)
        return found

    def finish(self) -> Summary:
        """Take note that nothing more comes: what began and did not end stays open."""
        counts = self._counts
        for run in self._runs.values():
            counts.open_runs += 1
            self._add_up(run, resolved=None, at=math.inf)
        self._runs.clear()
        return self.summary()

    def summary(self) -> Summary:
        """Return what came of the runs that are over so far; of all after ``finish``."""
        return self._counts.summary(self._ledger.dropped, self._rules.revision)

    def _run_of(self, line: TraceLine) -> TracedRun:
        """Return the run of a line, which may begin with it."""
        run = self._runs.get(line.session_id)
        if line.start:
            if run is not None:
                sentence = f"{line.session_id} begins a second time, and did not end before"
                raise InvalidValueError("start", None, "", where=line.where, sentence=sentence)
            run = TracedRun(line, self._begun, self._rules.ceilings)
            self._begun += 1
            self._runs[line.session_id] = run
        elif run is None:
            sentence = (
                f'{line.session_id} has no line with "start": true before this one, or has ended '
                "by its time"
            )
            raise InvalidValueError("session_id", None, "", where=line.where, sentence=sentence)
        return run

    def _is_new(self, run: TracedRun, line: TraceLine) -> bool:
        """Book what a line says; return whether the run is to be judged for it.

        It is not where its verdict says that it has not used enough for another status. Its totals
        reach the ledger with those of a later line then, as one sample may hold many calls; but of
        what is forecast, call by call.
        """
        use, stopped = line.use, run.stop is not None
        says_progress = line.progress is not None or line.progress_unknown
        if use is not None and stopped:
            run.pass_over(use)
            if not self._keep_going:
                return False  # it made no more calls, so it reported no progress with them
        if not (line.start or use is not None or says_progress):
            return False
        unsure = False
        if use is not None and (use.unknown_usage_calls or use.unpriced_calls):
            self._counts.unsure(use.unknown_usage_calls, use.unpriced_calls)
            on_unknown = self._rules_for(run).on_unknown
            unsure = STOP in (on_unknown.unpriced, on_unknown.usage)
        run.book(line)
        if self._shares:
            self._totals(run)
        return unsure or not run.stands

    def _totals(self, run: TracedRun) -> RunTotals:
        """Return what the ledger knows of a run, after all that its lines said so far."""
        ledger = self._ledger
        if run.behind:
            shown, run.behind = run.shown(), False
            ledger.apply(Observation(TRACE, shown.sampled_at, (shown,), asked=_OF_TRACE))
            if ledger.failures:
                raise ledger.failures[0].error
            ledger.findings.clear()
            ledger.superseded.clear()
        return ledger.runs[run.session_id]

    def _judge_all(self, runs: Sequence[TracedRun], now: float) -> list[Found]:
        """Judge runs as of now; return what is new: changes by run, then forecasts."""
        found: list[Found] = []
        for run in runs:
            decided = _decide(self._ledger, self._totals(run), run, self._rules_for(run), now)
            change = self._said(run, decided.verdict, now)
            if change is not None:
                found.append(change)
        for run in runs:
            if self._shares and run.decided is not None:
                found += forecasts(run.decided.verdict, self._shares, run.forecast, now)
            run.mark(self._shares)
            self._queue(run, now)
        return found

    def _queue(self, run: TracedRun, now: float) -> None:
        """Have a run judged again when time alone makes that necessary."""
        due_at = run.due_at if run.decided is None else min(run.due_at, run.decided.due_at)
        if due_at < run.queued_at or run.queued_at <= now + _ROUNDED:
            run.queued_at = due_at
            if due_at < _LEASE * 1e-6:
                heapq.heappush(self._due, (due_at, run.number, run.session_id))

    def _said(self, run: JudgedRun, verdict: Verdict, now: float) -> VerdictChange | None:
        what = said(verdict)
        if what == run.said:
            return None
        run.said = what
        run.note(verdict)
        self._counts.change(verdict)
        return VerdictChange(now, verdict)

    def _due_runs(self, now: float) -> dict[int, TracedRun]:
        """Return the runs, by number, whose verdict does not stand, though nothing was heard."""
        queue, found = self._due, dict[int, TracedRun]()
        while queue and queue[0][0] <= now + _ROUNDED:
            _, number, session_id = heapq.heappop(queue)
            run = self._runs.get(session_id)
            if run is None or run.number != number:
                continue  # it is over; another one may have its id
            if run.stop is None or self._keep_going:
                found[number] = run
        return found

    def _forget_due(self) -> None:
        """Drop the times at which runs that are over would have been judged, once they are most."""
        runs = self._runs
        if len(self._due) > 2 * len(runs) + _FORGET_EVERY:
            numbers = {run.number for run in runs.values()}
            self._due = [entry for entry in self._due if entry[1] in numbers]
            heapq.heapify(self._due)

    def _rules_for(self, run: TracedRun) -> Rules:
        """Return the rules, with what a run does by its own limits for calls of unknown use."""
        own = run.stops_for_unpriced, run.stops_for_unknown
        rules = self._suggester.rules(self._rules)
        if own == (False, False):
            return rules
        if rules is not self._stricter_than:
            self._stricter, self._stricter_than = {}, rules
        if own not in self._stricter:
            given = rules.on_unknown
            unpriced, usage = (STOP if stops else None for stops in own)
            both = replace(given, unpriced=unpriced or given.unpriced, usage=usage or given.usage)  # type: ignore[arg-type] # each is of the words that are allowed
            self._stricter[own] = replace(rules, on_unknown=both)
        return self._stricter[own]

    def _close(self, run: TracedRun, line: TraceLine) -> list[Found]:
        """Take the end of a run; return what that changes for others."""
        self._add_up(run, resolved=line.resolved, at=line.at)
        totals = self._totals(run)
        self._on_end(totals, line)
        obeyed = run.stop is not None and not self._keep_going
        state = semconv.STOPPED if obeyed else line.end or semconv.COMPLETED
        if self._rules.suggesting is not None:
            self._suggest_by(run, totals, state, line)
        del self._runs[run.session_id]
        self._forget_due()
        if self._ledger.adds_restarts:
            self._keep_for_next(run, state, line)
        else:
            del self._ledger.runs[run.session_id]
        return self._judge_concerned(line.at)

    def _suggest_by(self, run: TracedRun, totals: RunTotals, state: str, line: TraceLine) -> None:
        """Take a run that is over for what limits are suggested by, as a sidecar does."""
        last = _decide(self._ledger, totals, run, self._rules_for(run), line.at).verdict
        ended = ended_run(last, state=state, resolved=line.resolved)
        workflow, start = workflow_of(run.attributes), run.began_at
        self._suggester.take([PastRun(workflow, run.session_id, start, line.at, ended)])

    def _judge_concerned(self, now: float) -> list[Found]:
        """Judge the runs for which another limit is suggested now."""
        changes = self._suggester.changes
        if not changes:
            return []
        workflows = {change.workflow for change in changes}
        changes.clear()
        concerned = [
            run
            for run in self._runs.values()
            if workflow_of(run.attributes) in workflows and (run.stop is None or self._keep_going)
        ]
        return self._judge_all(concerned, now)

    def _keep_for_next(self, run: TracedRun, state: str, line: TraceLine) -> None:
        """Keep a run that is over: what it used may count for the next run of its id."""
        run.end(state, line.at)
        self._totals(run)
        self._closed += 1
        if self._closed % _FORGET_EVERY == 0:
            self._ledger.forget(line.at, math.inf)

    def _add_up(self, run: TracedRun, *, resolved: bool | None, at: float) -> None:
        keep_going = self._keep_going
        outcome = run.outcome(resolved=resolved, at=at, keep_going=keep_going)
        decided = () if run.decided is None else deciding(run.decided.verdict)
        self._counts.run(outcome, run.stop, decided if run.stop else (), run.late)
        self._on_outcome(outcome)


def _decide(
    ledger: Ledger, totals: RunTotals, run: JudgedRun, rules: Rules, now: float
) -> CachedVerdict:
    """Judge a run as of now, as a sidecar does."""
    snapshot = ledger.snapshot(totals, now, rules.ceilings)
    run.decided = CachedVerdict.of(totals, snapshot, rules, now, run.decided)
    return run.decided
