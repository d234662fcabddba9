"""A policy tried on what happened: lines of a trace, or readings of a history, in; verdicts out.

Use is added up by the ledger and judged by the policy that live runs have. Time is that of what is
replayed. What is done here is what the loop of a sidecar does, in time that is an argument:

- A tick falls on every line, or reading, and where the window of a shared budget ends. Judged are
  the run that it is about, each run whose verdict does not stand any more then (the time it is
  limited to goes on without a word of it), and those that share what changed.
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
from otel_budget.core.reasons import Reason
from otel_budget.errors import InvalidValueError
from otel_budget.ledger.ledger import Ledger
from otel_budget.policy.suggester import PastRun, Suggester
from otel_budget.policy.suggestion import ended_run, workflow_of
from otel_budget.policy.verdicts import verdict_from_snapshot
from otel_budget.replay.changes import VerdictChange, deciding, forecasts, said
from otel_budget.replay.judged_run import TRACE, TracedRun
from otel_budget.replay.shared_steps import SharedSteps
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
    from otel_budget.replay.summary import Summary

#: Seconds that a verdict in a trace is trusted: it need not be renewed. Finite, to be counted with.
_LEASE: Final = 1e18
#: Seconds by which floats of Unix times may be off: who is due that soon is judged now.
_ROUNDED: Final = 1e-6
#: Ended runs from one look for those that are long over to the next.
_FORGET_EVERY: Final = 1000
_OF_TRACE: Final = frozenset({TRACE})
#: Of a stop: it gives way to a progress at which the run may finish.
_GIVES_WAY: Final = (Reason.APPROACHING_LIMIT,)


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
        self._over: dict[str, TracedRun] = {}
        """Runs that are over, and hold for others that go on."""
        self._begun = self._closed = 0
        self._due: list[tuple[float, int, str]] = []
        """When runs are to be judged although nothing is heard of them: number and session id. Not
        the run, which may be over long before."""
        self._stricter: dict[tuple[bool, bool], Rules] = {}
        self._stricter_than: Rules | None = None
        """What these were made of."""
        self._counts = Counts()
        self._shared = SharedSteps(self._rules, self._ledger)

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
        pools, above = self._shared.of(self._ledger.runs[session_id])
        return verdict_from_snapshot(snapshot, self._rules_for(run), now, pools, above)

    def take(self, line: TraceLine) -> list[Found]:
        """Take the next line; return what is new: changes by run, then forecasts.

        Raises InvalidValueError with its place for one that cannot be: of a run that did not begin,
        has ended, or begins twice.
        """
        now, shared = line.at, self._shared
        found = self._let_windows_end(now) if shared.are_there else []
        self._counts.tick(now)
        if shared.begin(now, line):
            for each in self._runs.values():
                self._totals(each)  # from now on, what one says may concern another
        run = self._run_of(line)
        judged = self._is_new(run, line)
        due = self._due_runs(now)
        if judged:
            due[run.number] = run
        found += self._judge_due(due, now)
        if line.end is not None:
            found += self._close(run, line)
        return found

    def _let_windows_end(self, now: float) -> list[Found]:
        """Do the ticks at which windows ended up to now; return what is new."""
        found: list[Found] = []
        while (end := self._shared.next_end(now)) is not None:
            self._counts.tick(end)
            self._shared.begin(end)
            found += self._judge_due(self._due_runs(end), end)
        return found

    def _judge_due(self, due: dict[int, TracedRun], now: float) -> list[Found]:
        """Judge runs as of now, and all whom it concerns; return what is new."""
        shared = self._shared
        if not shared.are_there:
            return self._judge_all([due[n] for n in (due if len(due) == 1 else sorted(due))], now)
        for run in due.values():
            self._totals(run)
        judged = self._decide_on(due, now, others=shared.settle())
        shared.done([run.session_id for run in judged])
        return self._tell(judged, now)

    def _decide_on(self, due: dict[int, TracedRun], now: float, *, others: bool) -> list[TracedRun]:
        """Decide on runs, parents before their children; return those, by number.

        others: also on those that share what changed.
        """
        ledger, shared, judged = self._ledger, self._shared, dict[int, TracedRun]()
        ids = shared.in_order(ledger.runs) if others else [r.session_id for r in due.values()]
        for session_id in ids:
            run = self._runs.get(session_id) or self._over.get(session_id)
            totals = ledger.runs[session_id]
            if run is None:
                continue
            concerned = others and self._goes_on(run) and shared.concerns(totals, run.decided)
            if run.number in due or concerned:
                self._decide(totals, run, now)
                judged[run.number] = run
            if run.decided is not None:
                shared.note(run.decided)
        return [judged[number] for number in sorted(judged)]

    def _goes_on(self, run: TracedRun) -> bool:
        """Tell whether a run was not told to stop, or does not care."""
        return run.stop is None or self._keep_going

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
        uses = self._shared.uses()
        return self._counts.summary(self._ledger.dropped, self._rules.revision, uses)

    def _run_of(self, line: TraceLine) -> TracedRun:
        """Return the run of a line, which may begin with it."""
        run = self._runs.get(line.session_id)
        if line.start:
            if run is not None:
                sentence = f"{line.session_id} begins a second time, and did not end before"
                raise InvalidValueError("start", None, "", where=line.where, sentence=sentence)
            shared = self._shared
            run = TracedRun(
                line, self._begun, {*self._rules.ceilings, *shared.limited},
                counts_kinds=shared.weigh_tokens,
            )  # fmt: skip
            self._begun += 1
            self._over.pop(line.session_id, None)  # it takes the place of that one
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
        what is forecast, or keeps calls back by their size, call by call.
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
        if self._shares or run.limits.wrap_up_calls:
            self._totals(run)
        return unsure or self._shared.are_there or not run.stands

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
        for run in runs:
            self._decide(self._totals(run), run, now)
        return self._tell(runs, now)

    def _tell(self, runs: Sequence[TracedRun], now: float) -> list[Found]:
        """Return what is new of runs that were just judged: changes by run, then forecasts."""
        found: list[Found] = []
        for run in runs:
            if run.decided is None or run.is_over:
                continue
            change = self._said(run, run.decided.verdict, now)
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

    def _said(self, run: TracedRun, verdict: Verdict, now: float) -> VerdictChange | None:
        what = said(verdict)
        if what == run.said:
            return None
        run.said = what
        run.note(verdict)
        self._counts.change(verdict)
        if self._shared.are_there and not self._goes_on(run) and verdict.reason not in _GIVES_WAY:
            run.end(semconv.STOPPED, now)  # it does not ask for any of what the others share
            self._totals(run)
        return VerdictChange(now, verdict)

    def _due_runs(self, now: float) -> dict[int, TracedRun]:
        """Return the runs, by number, whose verdict does not stand, though nothing was heard."""
        queue, found = self._due, dict[int, TracedRun]()
        while queue and queue[0][0] <= now + _ROUNDED:
            _, number, session_id = heapq.heappop(queue)
            run = self._runs.get(session_id)
            if run is None or run.number != number:
                continue  # it is over; another one may have its id
            if self._goes_on(run):
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
        elif self._shared.keeps(totals):
            run.end(state, line.at)
            self._totals(run)
            self._over[run.session_id], run.is_over = run, True
        else:
            self._drop(totals)
        return self._judge_concerned(line.at)

    def _drop(self, totals: RunTotals) -> None:
        """Let a run go that is over, and those above it that hold for nobody else."""
        self._shared.drop(totals)
        for session_id in [s for s in self._over if not self._shared.keeps(self._ledger.runs[s])]:
            del self._over[session_id]
            self._drop(self._ledger.runs[session_id])

    def _suggest_by(self, run: TracedRun, totals: RunTotals, state: str, line: TraceLine) -> None:
        """Take a run that is over for what limits are suggested by, as a sidecar does."""
        last = self._decide(totals, run, line.at).verdict
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
            if workflow_of(run.attributes) in workflows and self._goes_on(run)
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
        if run.would_stop is not None:
            self._counts.would_stop(run.would_stop)
        self._on_outcome(outcome)

    def _decide(self, totals: RunTotals, run: TracedRun, now: float) -> CachedVerdict:
        """Judge a run as of now, as a sidecar does."""
        rules = self._rules_for(run)
        snapshot = self._ledger.snapshot(totals, now, rules.ceilings)
        pools, above = self._shared.of(totals)
        run.decided = CachedVerdict.of(
            totals, snapshot, rules, now, run.decided, budgets=pools, above=above
        )
        return run.decided
