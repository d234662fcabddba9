"""A small orchestrator to build on: named phases, limits before each, partial results kept.

It shows how the monitor is meant to be used, and is enough for many runs. What a phase returned is
never thrown away: not when the budget stops the run, not when a later phase fails.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from otel_budget.core.exceeded import BudgetExceeded
from otel_budget.core.limits import SECTION, ResourceLimits, refuse_misplaced
from otel_budget.errors import InvalidValueError, OtelBudgetError
from otel_budget.sdk.monitor import ResourceMonitor

if TYPE_CHECKING:
    from os import PathLike

    from otel_budget.core.verdict import Verdict

Work = Callable[[ResourceMonitor], Any]
Phases = Mapping[str, Work] | Sequence[tuple[str, Work]]


@dataclass(frozen=True, slots=True)
class PhaseResult:
    """What a phase returns to have its use recorded for it."""

    value: Any
    """The result itself."""
    usage: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of ``ResourceMonitor.record_operation``: one operation, counted after the phase."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended, with everything it got done."""

    session_id: str
    outcome: str
    """``completed``, ``stopped`` (by a limit or the sidecar) or ``failed`` (a phase raised)."""
    results: Mapping[str, Any]
    """Name of each completed phase to what it returned, resumed ones included."""
    remaining: tuple[str, ...]
    """Names of the phases that did not complete, in order."""
    summary: Mapping[str, Mapping[str, Any]]
    """``ResourceMonitor.get_usage_summary()`` at the end."""
    verdict: Verdict
    """The last verdict, with its reason."""


class PhaseFailedError(OtelBudgetError):
    """A phase raised. ``result`` holds all that was done before; the cause is chained."""

    def __init__(self, phase: str, result: RunResult) -> None:
        """Keep the phase's name and the partial result."""
        self.phase, self.result = phase, result
        done = ", ".join(result.results) or "none"
        super().__init__(f"phase {phase!r} failed; completed before it: {done}")


class Orchestrator:
    """Run named phases under limits.

    config: a YAML file or a mapping with a ``resource_limits:`` section; other keys are yours.
    monitor: one to build on, such as a resumed one; else one is made with the options, as for
    ResourceMonitor (session_id, project_root, workflow, scope, sidecar, …).
    """

    def __init__(
        self,
        config: str | PathLike[str] | Mapping[str, Any] | None = None,
        *,
        monitor: ResourceMonitor | None = None,
        **options: Any,
    ) -> None:
        """Read the configuration and make the monitor. Starts nothing."""
        limits, self.config = _read(config)
        self.monitor = monitor or ResourceMonitor(limits, **options)
        state = self.monitor.state
        saved = state.get("results") if isinstance(state, dict) else None
        self._done: dict[str, Any] = dict(saved or {})

    @classmethod
    def resume(
        cls,
        session_id: str,
        project_root: str | PathLike[str],
        config: str | PathLike[str] | Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Orchestrator:
        """Take up a run from its newest checkpoint: phases done then are not run again.

        config: its limits replace the checkpoint's. options: as for ``ResourceMonitor.resume``.
        Raises CheckpointError as that does, NoCheckpointError of a run that completed.
        """
        limits = None if config is None else _read(config)[0]
        monitor = ResourceMonitor.resume(session_id, project_root, limits, **options)
        return cls(config, monitor=monitor)

    def run(self, phases: Phases) -> RunResult:
        """Run the phases in order and return what came of it.

        phases: name to a function of the monitor; it returns its result, or a PhaseResult to have
        its use recorded. Before each the limits are checked with the progress so far. A
        BudgetExceeded from a phase stops the run like a limit does. Raises PhaseFailedError, with
        the partial result inside, when a phase raises anything else.
        """
        named = _named(phases)
        done: dict[str, Any] = {n: self._done[n] for n, _ in named if n in self._done}
        with self.monitor:
            for index, (name, work) in enumerate(named):
                if name in done:
                    continue
                if not self.monitor.should_continue(index / len(named)):
                    return self._end("stopped", named, done)
                try:
                    done[name] = self._phase(name, work)
                except BudgetExceeded:
                    return self._end("stopped", named, done)
                except Exception as exc:
                    raise PhaseFailedError(name, self._end("failed", named, done)) from exc
                self._save(done)
            self.monitor.should_continue(1.0)
            return self._end("completed", named, done)

    def _phase(self, name: str, work: Work) -> Any:
        with self.monitor.phase(name):
            result = work(self.monitor)
            if inspect.iscoroutine(result):
                result.close()
                raise InvalidValueError(
                    f"phase {name!r}", work, "a function that does its work; for asyncio, use a "
                    "ResourceMonitor (async with, wait_for_stop_async)",
                )  # fmt: skip
            if not isinstance(result, PhaseResult):
                return result
            if result.usage:
                self.monitor.record_operation(**result.usage)
            return result.value

    def _save(self, done: Mapping[str, Any]) -> None:
        """Keep the results for the checkpoints; those that are not JSON are run again on resume."""
        self.monitor.keep_state({"results": {n: v for n, v in done.items() if _is_json(v)}})

    def _end(self, outcome: str, named: list[tuple[str, Work]], done: dict[str, Any]) -> RunResult:
        verdict = self.monitor.verdict
        self.monitor.close(outcome)
        return RunResult(
            session_id=self.monitor.session_id,
            outcome=outcome,
            results=done,
            remaining=tuple(name for name, _ in named if name not in done),
            summary=self.monitor.get_usage_summary(),
            verdict=verdict,
        )


def _named(phases: Phases) -> list[tuple[str, Work]]:
    """Return the phases with their names, checked before any of them runs."""
    allowed = "a mapping of names to functions, or (name, function) pairs, no name twice"
    rows = list(phases.items() if isinstance(phases, Mapping) else phases)
    named: dict[str, Work] = {}
    for row in rows:
        if not isinstance(row, tuple) or len(row) != 2:  # noqa: PLR2004 - a pair
            raise InvalidValueError("phases", row, allowed)
        name, work = row
        if not isinstance(name, str) or not name or name in named or not callable(work):
            raise InvalidValueError("phases", row, allowed)
        named[name] = work
    return list(named.items())


def _read(
    config: str | PathLike[str] | Mapping[str, Any] | None,
) -> tuple[ResourceLimits, Mapping[str, Any]]:
    if config is None:
        return ResourceLimits(), {}
    if not isinstance(config, Mapping):
        from otel_budget.files.yaml_file import YamlFile  # as late as that: PyYAML takes its time

        file = YamlFile.read(config)
        file.build(refuse_misplaced)
        return file.section(SECTION).build(ResourceLimits.from_section), file.data
    refuse_misplaced(config)
    section = config.get(SECTION)
    section = {} if section is None else section
    if not isinstance(section, Mapping):
        raise InvalidValueError(SECTION, section, "a mapping of keys")
    return ResourceLimits.from_section(section), config


def _is_json(value: Any) -> bool:
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError, RecursionError):
        return False
