"""A policy tried on a history: the ticks of a sidecar, done by the sidecar's own evaluator.

Everything that was used is booked, as it was used. What a run was told is another matter:

- Without ``keep_going`` a run that is told to stop has stopped. What it used later is what the stop
  would have saved, and no later verdict is given but one that lets it go on although it has used
  nothing since: a graceful stop gives way to a progress at which the run may finish.
- With ``keep_going`` all verdicts are given, as a sidecar that nobody obeys gives them.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from otel_budget import semconv
from otel_budget.core.observation import Observation
from otel_budget.core.resources import ZERO
from otel_budget.replay.budget_use import BudgetTally
from otel_budget.replay.changes import VerdictChange, deciding, forecasts, said
from otel_budget.replay.frontier import Outcome, Stop
from otel_budget.replay.judged_run import would_be_stop
from otel_budget.replay.kept_runs import KeptRuns
from otel_budget.replay.summary import Counts
from otel_budget.sidecar.evaluator import Evaluator
from otel_budget.sidecar.storage.base import Restored
from otel_budget.sources.prometheus_reading import SOURCE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from otel_budget.core.quantities import Number
    from otel_budget.core.verdict import Verdict
    from otel_budget.ledger.run import RunTotals
    from otel_budget.policy.verdicts import Rules
    from otel_budget.replay.changes import Found
    from otel_budget.replay.history import Tick
    from otel_budget.replay.summary import Summary
    from otel_budget.sidecar.budget_report import BudgetReport

#: Seconds that a verdict is trusted at least: nobody waits for its renewal, which says nothing new.
_LEASE: Final = 600.0
#: Stands for the same answer as at the tick before.
_THE_SAME: Final[frozenset[str]] = frozenset()


@dataclass(slots=True)
class _Run:
    """What became of one run."""

    totals: weakref.ref[RunTotals]
    used: Mapping[str, Number] = field(default_factory=dict)
    """By now."""
    unsure: tuple[int, int] = (0, 0)
    """Calls of unknown usage, and unpriced ones."""
    state: str | None = None
    """The one in which it ended; None: it did not say that it ends."""
    said: tuple[object, ...] | None = None
    """What was last given out of its verdict."""
    stop: Stop | None = None
    """The verdict in force that tells it to stop; None: it may go on."""
    stopped_by: tuple[str, ...] = ()
    """The resources that this came from."""
    stopped_at: Mapping[str, Number] | None = None
    """What it had used then."""
    would_stop: Stop | None = None
    """The first verdict that would have told it to stop, were nothing in shadow."""
    forecast: set[tuple[str, float]] = field(default_factory=set)
    """Resources and shares of which the forecast was given."""

    @property
    def late(self) -> dict[str, Number]:
        """What was used after it was told to stop."""
        before = self.used if self.stopped_at is None else self.stopped_at
        return {
            name: total - before.get(name, ZERO[name])  # type: ignore[operator] # of one resource
            for name, total in self.used.items()
            if total > before.get(name, ZERO[name])
        }


class HistoryReplay:
    """The runs of one history under one policy."""

    def __init__(
        self,
        rules: Rules,
        forget_after: float,
        begin: float,
        *,
        keep_going: bool = False,
        forecast_at: Sequence[float] = (),
        on_outcome: Callable[[Outcome], None] = lambda _outcome: None,
        on_runs: Callable[[Sequence[RunTotals]], None] = lambda _runs: None,
    ) -> None:
        """begin: Unix time of the first tick. The rest: as in Replay, and forget_after as in
        Settings. on_runs: gets the runs with something new in them, once a tick.
        """
        self._rules = replace(rules, lease=max(rules.lease, _LEASE))
        self._forget_after = forget_after
        self._keep_going, self._shares = keep_going, tuple(forecast_at)
        self._on_outcome, self._on_runs = on_outcome, on_runs
        self._tally = BudgetTally(rules.budgets)
        self._budgets: Mapping[str, BudgetReport] = {}
        kept = KeptRuns(self._note_runs, self._tally.close)
        self._evaluator = Evaluator(kept, Restored(), begin)
        self._runs: dict[str, _Run] = {}
        self._over: list[tuple[str, _Run]] = []
        """Those that another one of the same id followed."""
        self._counts = Counts()
        self._dropped: Mapping[str, int] = {}

    @property
    def open_runs(self) -> tuple[str, ...]:
        """Session ids of the runs that did not say that they end."""
        return tuple(session_id for session_id, run in self._all() if run.state is None)

    def take(self, tick: Tick) -> list[Found]:
        """Do the next tick; return what is new: changes by run, then forecasts."""
        self._counts.tick(tick.at)
        rest: Observation | None = tick.observation
        if rest is None:
            rest = Observation(SOURCE, tick.at, asked=_THE_SAME)
        found: list[Found] = []
        while rest is not None:  # of more new runs than one step begins, the rest follows
            result = self._evaluator.tick(rest, self._rules, self._forget_after, tick.at)
            rest, self._dropped, self._budgets = result.rest, result.dropped, result.budgets
            for change in result.changes:
                found += self._change(change.verdict, tick.at)
            for verdict in result.evaluated if self._shares else ():
                run = self._runs[verdict.session_id]
                found += forecasts(verdict, self._shares, run.forecast, tick.at)
        return found

    def finish(self) -> Summary:
        """Take note that nothing more comes."""
        for session_id, run in self._all():
            self._add_up(session_id, run)
        self._runs.clear()
        self._over.clear()
        uses = self._tally.uses(self._budgets) if self._rules.budgets else ()
        return self._counts.summary(self._dropped, self._rules.revision, uses)

    def _all(self) -> list[tuple[str, _Run]]:
        return [*self._over, *self._runs.items()]

    def _note_runs(self, changed: Sequence[RunTotals]) -> None:
        """Take note of what runs have used by now."""
        for totals in changed:
            session_id = totals.session_id
            run = self._runs.get(session_id)
            if run is None or run.totals() is not totals:
                if run is not None:
                    self._over.append((session_id, run))
                run = self._runs[session_id] = _Run(weakref.ref(totals))
            run.used = dict(totals.totals())
            uncertainty = totals.uncertainty
            run.unsure = (uncertainty.unknown_usage_calls, uncertainty.unpriced_calls)
            ended = totals.ended_at is not None
            run.state = totals.attributes.state if ended else None
        self._on_runs(changed)

    def _change(self, verdict: Verdict, now: float) -> list[Found]:
        """Return a verdict that says something else, if it is one that the run would hear."""
        run, what = self._runs[verdict.session_id], said(verdict)
        if what == run.said:
            return []
        if run.stop is not None and not self._keep_going:
            gives_way = verdict.should_continue and not run.late
            if not gives_way:
                return []
        run.said = what
        run.would_stop = run.would_stop or would_be_stop(verdict)
        if verdict.should_continue:
            run.stop, run.stopped_at = None, None
        elif run.stop is None:
            run.stop = Stop(now, str(verdict.reason), verdict.limit_from)
            run.stopped_at, run.stopped_by = run.used, deciding(verdict)
        self._counts.change(verdict)
        return [VerdictChange(now, verdict)]

    def _add_up(self, session_id: str, run: _Run) -> None:
        counts, late = self._counts, run.late
        counts.unsure(*run.unsure)
        counts.open_runs += run.state is None
        stop = run.stop
        if stop is not None and not late and run.state == semconv.COMPLETED:
            stop = None  # it came with its last call
        before = run.used if run.stopped_at is None or self._keep_going else run.stopped_at
        outcome = Outcome(session_id, before, run.used, None, stop)
        counts.run(outcome, run.stop, run.stopped_by if run.stop else (), late)
        if run.would_stop is not None:
            counts.would_stop(run.would_stop)
        self._on_outcome(outcome)
