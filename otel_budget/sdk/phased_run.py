"""What both orchestrators have in common: named phases, their results, and how a run ended."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

from otel_budget.core.limits import SECTION, ResourceLimits, refuse_misplaced
from otel_budget.core.wrap_up import WRAP_UP_PHASE
from otel_budget.errors import InvalidValueError, OtelBudgetError
from otel_budget.sdk.monitor import ResourceMonitor

if TYPE_CHECKING:
    from os import PathLike

    from otel_budget.core.verdict import Verdict

Work = Callable[[ResourceMonitor], Any]
Phases = Mapping[str, Work] | Sequence[tuple[str, Work]]
Finish = Callable[[ResourceMonitor, Mapping[str, Any]], Any]
"""What a stopped run does last: a function of the monitor and of the results so far."""
_NOT_A_PAIR: Final = "a mapping of names to functions, or (name, function) pairs, no name twice"


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
    wrapped_up: Any = None
    """What ``wrap_up=`` returned; None if there is none, or it was not allowed."""


class PhaseFailedError(OtelBudgetError):
    """A phase raised. ``result`` holds all that was done before; the cause is chained."""

    def __init__(self, phase: str, result: RunResult) -> None:
        """Keep the phase's name and the partial result."""
        self.phase, self.result = phase, result
        done = ", ".join(result.results) or "none"
        super().__init__(f"phase {phase!r} failed; completed before it: {done}")


class PhasedRun:
    """A run of named phases: its configuration, its monitor, and what is done of it."""

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
    ) -> Self:
        """Take up a run from its newest checkpoint: phases done then are not run again.

        config: its limits replace the checkpoint's. options: as for ``ResourceMonitor.resume``.
        Raises CheckpointError as that does, NoCheckpointError of a run that completed.
        """
        limits = None if config is None else _read(config)[0]
        monitor = ResourceMonitor.resume(session_id, project_root, limits, **options)
        return cls(config, monitor=monitor)

    def _results_of(self, named: list[tuple[str, Work]]) -> dict[str, Any]:
        """Return the results that a run which is resumed has already."""
        return {name: self._done[name] for name, _ in named if name in self._done}

    def _counted(self, result: Any) -> Any:
        """Return what a phase came to; record the use that it hands over."""
        if not isinstance(result, PhaseResult):
            return result
        if result.usage:
            self.monitor.record_operation(**result.usage)
        return result.value

    def _save(self, done: Mapping[str, Any]) -> None:
        """Keep the results for the checkpoints; those that are not JSON are run again on resume."""
        self.monitor.keep_state({"results": {n: v for n, v in done.items() if _is_json(v)}})

    def _may_wrap_up(self, wrap_up: Finish | None) -> bool:
        """Tell whether a stopped run has something to do, and something left for it."""
        verdict = self.monitor.verdict
        return wrap_up is not None and (verdict.should_continue or verdict.wrap_up is not None)

    def _end(
        self,
        outcome: str,
        named: list[tuple[str, Work]],
        done: dict[str, Any],
        wrapped_up: Any = None,
    ) -> RunResult:
        verdict = self.monitor.verdict
        self.monitor.close(outcome)
        return RunResult(
            session_id=self.monitor.session_id,
            outcome=outcome,
            results=done,
            remaining=tuple(name for name, _ in named if name not in done),
            summary=self.monitor.get_usage_summary(),
            verdict=verdict,
            wrapped_up=wrapped_up,
        )


def named_phases(phases: Phases) -> list[tuple[str, Work]]:
    """Return the phases with their names, checked before any of them runs."""
    rows = list(phases.items() if isinstance(phases, Mapping) else phases)
    named: dict[str, Work] = {}
    for row in rows:
        if not isinstance(row, tuple) or len(row) != 2:  # noqa: PLR2004 - a pair
            raise InvalidValueError("phases", row, _NOT_A_PAIR)
        name, work = row
        if not isinstance(name, str) or not name or name in named or not callable(work):
            raise InvalidValueError("phases", row, _NOT_A_PAIR)
        if name == WRAP_UP_PHASE:
            raise InvalidValueError("phases", name, "other names: that one is of wrap_up=")
        named[name] = work
    return list(named.items())


def checked_finish(wrap_up: Finish | None) -> None:
    """Refuse what cannot be called, before a run begins."""
    if wrap_up is not None and not callable(wrap_up):
        raise InvalidValueError(
            "wrap_up", wrap_up, "a function of the monitor and the results so far, or None"
        )


def refuse_coroutine(what: str, work: object, result: object) -> None:
    """Refuse a coroutine in place of a result: its work was never done."""
    if inspect.iscoroutine(result):
        result.close()
        allowed = "a function that does its work; coroutines are for AsyncOrchestrator"
        raise InvalidValueError(what, work, allowed)


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
