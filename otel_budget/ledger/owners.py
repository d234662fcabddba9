"""Which targets are listened to about a run: those it is bound to, if it is.

- What a target says of a run that is bound to others is refused, all of it.
- Where the configuration says so, a run that is not bound belongs to the targets that carry it. As
  long as one of them goes on showing it, others are refused; then the next one carries it.
- A run that is pushed belongs to who pushed it first, until it is over. What its program pushes may
  come in long after the one before, so silence does not set it free.
- What a target said before it was refused stays counted. Nothing else of it holds any more.
- What a run that ended hands over itself is the word of the process that carries it, which its
  start tells from others: one that is known to carry the run ends it wherever it is read, one that
  is not known ends nothing that goes on.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from otel_budget import semconv
from otel_budget.core.bindings import UNBOUND
from otel_budget.core.observation import is_handed_over, is_pushed, plain_target
from otel_budget.ledger.competing_runs import PASSED_GAPS, PASSED_GAPS_DOWN
from otel_budget.ledger.findings import Finding, FindingKind
from otel_budget.ledger.processes import ALL_COUNTERS, used_together

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterable, Mapping

    from otel_budget.core.bindings import Bindings
    from otel_budget.core.observation import RunObservation
    from otel_budget.core.quantities import Number
    from otel_budget.ledger.competing_runs import CompetingRun
    from otel_budget.ledger.freshness import Absences
    from otel_budget.ledger.run import RunTotals
    from otel_budget.ledger.targets import Targets

#: Refusals that are kept in mind so as to be told once.
_REFUSED_KEPT = 10_000


class Owners:
    """Decides which targets are listened to about which run; counts and flags what is refused."""

    def __init__(
        self, targets: Targets, absences: Absences, dropped: Counter[str], findings: list[Finding]
    ) -> None:
        """Begin with no binding. dropped, findings: what is refused is added to both."""
        self.bindings = UNBOUND
        """Which targets may speak for which run."""
        self.mixed: set[str] = set()
        """Session ids of runs that were seen at targets that are refused by now."""
        self._targets, self._absences = targets, absences
        self._dropped, self._findings = dropped, findings
        self._refused: set[tuple[str, str]] = set()
        """Target and pattern, or nothing and session id, of which a refusal was flagged."""

    def bind(self, bindings: Bindings | None, known: Mapping[str, RunTotals]) -> bool:
        """Go by other bindings from now on; return whether they are others. None: as it is."""
        if bindings is None or bindings is self.bindings or bindings == self.bindings:
            return False
        self.bindings = bindings
        self._refused.clear()
        self.mixed = {sid for sid, run in known.items() if self.is_mixed(run)}
        return True

    def may_speak(self, session_id: str, target: str) -> bool:
        """Tell whether no binding keeps a target from speaking for a run.

        What was handed over was let in by the process that it is of, not by where it came from.
        """
        return (
            is_handed_over(target)
            or self.bindings.refusing(session_id, plain_target(target)) is None
        )

    def is_mixed(self, run: RunTotals) -> bool:
        """Tell whether a run was seen at a target that may not speak for it."""
        return has_stranger(run, partial(self.may_speak, run.session_id))

    def leave_strangers_out(self, run: RunTotals) -> bool:
        """Let go of what strangers say of a run if an owner of it was seen; return whether one was.

        It is not mixed any more then.
        """
        may_speak = partial(self.may_speak, run.session_id)
        if not has_owner(run, may_speak):
            return False
        leave_out(run, may_speak)
        self.mixed.discard(run.session_id)
        return True

    def refuses(
        self,
        session: RunObservation,
        run: RunTotals | None,
        rivals: Iterable[CompetingRun],
        now: float,
    ) -> bool:
        """Tell whether a target may not speak for a run; count it, and flag it once.

        run: the one that is known under this id. rivals: others that are watched under it.
        """
        if len(self._refused) >= _REFUSED_KEPT:
            self._refused.clear()
        if is_handed_over(session.target):
            return self._refuses_handover(session, run, rivals, now)
        session_id = session.session_id
        pattern = self.bindings.refusing(session_id, plain_target(session.target))
        if pattern is not None:
            self._refuse_bound(session, pattern)
            return True
        if run is None or carries(run, session.target):
            return False
        if not self.bindings.first_owns and not pushes_another(run, session.target):
            return False
        if self.bindings.pattern_of(session_id) or self._is_free(run, now):
            return False
        self._refuse_carried(session, run)
        return True

    def _refuses_handover(
        self,
        session: RunObservation,
        run: RunTotals | None,
        rivals: Iterable[CompetingRun],
        now: float,
    ) -> bool:
        """Tell whether what is handed over may not end a run.

        It may if its process is known to carry the run; and one that is not known, if the run is
        not bound, and nothing that goes on carries it.
        """
        session_id = session.session_id
        known = [rival.run for rival in rivals]
        known += [] if run is None else [run]
        may_speak = partial(self.may_speak, session_id)
        if any(is_carried_by(one, session.attributes.incarnation_at, may_speak) for one in known):
            return False
        pattern = self.bindings.pattern_of(session_id)
        if pattern is not None:
            self._refuse_bound(session, pattern)
            return True
        if run is None or self._is_free(run, now):
            return False
        self._refuse_carried(session, run)
        return True

    def _is_free(self, run: RunTotals, now: float) -> bool:
        silent, down = self._absences.silent_for(run, now), self._targets.gives_nothing(run)
        return is_free(run, silent, down=down)

    def _refuse_bound(self, session: RunObservation, pattern: str) -> None:
        """Count what is refused as its run is bound to other targets, and flag it once."""
        session_id, target = session.session_id, plain_target(session.target)
        self._dropped[semconv.BOUND_ELSEWHERE] += max(1, len(session.counters))
        if (target, pattern) not in self._refused:
            self._refused.add((target, pattern))
            owners = ", ".join(sorted(self.bindings.owners[pattern])) or "no known target"
            said = owners if pattern == session_id else f"{owners} as {pattern}"
            self._findings.append(
                Finding(FindingKind.BOUND_ELSEWHERE, session_id, (target,), said=said)
            )

    def _refuse_carried(self, session: RunObservation, run: RunTotals) -> None:
        """Count what is refused as another target carries its run, and flag it once."""
        session_id, target = session.session_id, plain_target(session.target)
        self._dropped[semconv.CARRIED_ELSEWHERE] += max(1, len(session.counters))
        if ("", session_id) not in self._refused:
            self._refused.add(("", session_id))
            said = ", ".join(sorted(run.targets))
            self._findings.append(
                Finding(FindingKind.CARRIED_ELSEWHERE, session_id, (target,), said=said)
            )


def carries(run: RunTotals, target: str) -> bool:
    """Tell whether a run was seen at a target."""
    processes = run.processes.values()
    if any(target in process.target_series for process in processes):
        return True
    place = plain_target(target)
    return any(plain_target(each) == place for i in processes for each in i.target_series)


def pushes_another(run: RunTotals, target: str) -> bool:
    """Tell whether a target was pushed, and what is known of a run was pushed by somebody else."""
    if not (run.pushed and is_pushed(target)):
        return False
    return not carries(run, target)


def is_carried_by(
    run: RunTotals, incarnation_at: float | None, is_owner: Callable[[str], bool]
) -> bool:
    """Tell whether a process with this start was seen to carry a run, where it may be seen."""
    return any(
        process.started_at == incarnation_at and any(map(is_owner, process.target_series))
        for process in run.processes.values()
        if process.started_at is not None
    )


def is_shown_at(run: RunTotals, reading: RunObservation) -> bool:
    """Tell whether what a reading is of was taken in: its process is known at its target."""
    start, target = reading.attributes.incarnation_at, reading.target
    return any(i.started_at == start and target in i.target_series for i in run.processes.values())


def is_free(run: RunTotals, silent_for: float, *, down: bool) -> bool:
    """Tell whether another target may take up a run: those that carry it show it no more.

    silent_for: watched seconds without a sample. down: True if its targets
    give nothing.
    """
    if run.ended_at is not None or run.vanished_at is not None:
        return True
    if run.pushed and run.attributes.idle_after is not None:
        return False
    gaps = PASSED_GAPS_DOWN if down else PASSED_GAPS
    return silent_for > gaps * max(1.0, run.gap())


def has_stranger(run: RunTotals, is_owner: Callable[[str], bool]) -> bool:
    """Tell whether a run was seen at a target that is not one of its owners."""
    return any(not is_owner(t) for i in run.processes.values() for t in i.target_series)


def has_owner(run: RunTotals, is_owner: Callable[[str], bool]) -> bool:
    """Tell whether a run was seen at one of its owners."""
    return any(is_owner(t) for i in run.processes.values() for t in i.target_series)


def leave_out(run: RunTotals, is_owner: Callable[[str], bool]) -> None:
    """Let go of what strangers say of a run of which an owner was seen; their use stays counted."""
    before = _counted_by(run)
    for process in run.processes.values():
        for target in [t for t in process.target_series if not is_owner(t)]:
            del process.target_series[target]
        process.hear_only(is_owner)
    kept = {key: i for key, i in run.processes.items() if i.target_series}
    run.processes = kept
    runs = {process.run_started_at for process in kept.values()}
    run.also = tuple(start for start in run.also if start in runs)
    run.forget_sums()
    after = _counted_by(run)
    for resource, total in before.items():
        gone = total - after.get(resource, type(total)(0))  # type: ignore[operator]
        run.earlier[resource] = run.earlier.get(resource, type(total)(0)) + gone  # type: ignore[operator]
    run.changed(run.confirmed_at)


def _counted_by(run: RunTotals) -> dict[str, Number]:
    """Return all that is counted of a run, kinds of tokens among it."""
    counted = used_together(run.processes.values(), run.earlier, ALL_COUNTERS)
    return counted | run.totals()
