"""A small orchestrator to build on: named phases, limits before each, partial results kept.

It shows how the monitor is meant to be used, and is enough for many runs. What a phase returned is
never thrown away: not when the budget stops the run, not when a later phase fails.
"""

from __future__ import annotations

from typing import Any

from otel_budget.core.exceeded import BudgetExceeded
from otel_budget.core.wrap_up import WRAP_UP_PHASE
from otel_budget.sdk.phased_run import (
    Finish,
    PhasedRun,
    PhaseFailedError,
    Phases,
    RunResult,
    Work,
    checked_finish,
    named_phases,
    refuse_coroutine,
)


class Orchestrator(PhasedRun):
    """Run named phases under limits.

    config: a YAML file or a mapping with a ``resource_limits:`` section; other keys are yours.
    monitor: one to build on, such as a resumed one; else one is made with the options, as for
    ResourceMonitor (session_id, project_root, workflow, scope, sidecar, …).
    """

    def run(self, phases: Phases, *, wrap_up: Finish | None = None) -> RunResult:
        """Run the phases in order and return what came of it.

        phases: name to a function of the monitor; it returns its result, or a PhaseResult to have
        its use recorded. Before each the limits are checked with the progress so far. A
        BudgetExceeded from a phase stops the run like a limit does. wrap_up: called once if the run
        is stopped while something is left for its last calls (``Verdict.wrap_up``), with the
        monitor and the results so far; what it returns is ``RunResult.wrapped_up``. Raises
        PhaseFailedError, with the partial result inside, when a phase or wrap_up raises anything
        else.
        """
        checked_finish(wrap_up)
        named = named_phases(phases)
        done = self._results_of(named)
        with self.monitor:
            for index, (name, work) in enumerate(named):
                if name in done:
                    continue
                if not self.monitor.should_continue(index / len(named)):
                    return self._stopped(named, done, wrap_up)
                try:
                    done[name] = self._phase(name, work)
                except BudgetExceeded:
                    return self._stopped(named, done, wrap_up)
                except Exception as exc:
                    raise PhaseFailedError(name, self._end("failed", named, done)) from exc
                self._save(done)
            self.monitor.should_continue(1.0)
            return self._end("completed", named, done)

    def _phase(self, name: str, work: Work) -> Any:
        with self.monitor.phase(name):
            result = work(self.monitor)
            refuse_coroutine(f"phase {name!r}", work, result)
            return self._counted(result)

    def _stopped(
        self, named: list[tuple[str, Work]], done: dict[str, Any], wrap_up: Finish | None
    ) -> RunResult:
        """End a run that is stopped: with its last calls, if it has any."""
        if wrap_up is None or not self._may_wrap_up(wrap_up):
            return self._end("stopped", named, done)
        try:
            with self.monitor.wrap_up():
                last = wrap_up(self.monitor, done)
                refuse_coroutine("wrap_up", wrap_up, last)
                last = self._counted(last)
        except BudgetExceeded:
            return self._end("stopped", named, done)
        except Exception as exc:
            raise PhaseFailedError(WRAP_UP_PHASE, self._end("failed", named, done)) from exc
        return self._end("stopped", named, done, last)
