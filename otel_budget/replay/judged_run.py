"""One run in a replay: what was decided on it so far, and what its process would have shown."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from otel_budget import semconv
from otel_budget.core.limits import STOP, ResourceLimits
from otel_budget.core.observation import RunAttributes, RunObservation, shared_labels
from otel_budget.core.reasons import Action
from otel_budget.core.resources import COUNTED, FURTHER, RESOURCES, TIMES, ZERO
from otel_budget.core.token_kinds import KIND_COUNTERS
from otel_budget.core.validation import MAX_COUNT
from otel_budget.core.verdict import LimitStatus
from otel_budget.errors import InvalidValueError
from otel_budget.policy.bounds import bound
from otel_budget.replay.frontier import Outcome, Stop

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from otel_budget.core.quantities import Number
    from otel_budget.core.verdict import Verdict
    from otel_budget.replay.trace import TraceLine, Use
    from otel_budget.sidecar.verdict_cache import CachedVerdict

#: Where the runs of a trace are seen: a trace is complete, so there is one place.
TRACE: Final = "trace"
#: Seconds. A start of 0 is how an exporter shows that it knows none.
_AFTER_ZERO: Final = 1e-9
#: Statuses of which a progress changes nothing.
_WITHOUT_PROGRESS: Final = (LimitStatus.OK, LimitStatus.EXCEEDED)
_NO_LIMITS: Final = ResourceLimits.only()


def would_be_stop(verdict: Verdict) -> Stop | None:
    """Return the stop that a verdict would be if nothing were in shadow; None if it would not."""
    would = verdict.would
    if would is None or would.action is Action.CONTINUE or not verdict.should_continue:
        return None
    return Stop(verdict.evaluated_at, would.reason, would.limit_from)


class JudgedRun:
    """What was decided on a run."""

    __slots__ = ("decided", "forecast", "number", "said", "session_id", "stop", "would_stop")

    def __init__(self, session_id: str, number: int) -> None:
        """Begin with a run that was not judged. number: of those that began before it."""
        self.session_id, self.number = session_id, number
        self.decided: CachedVerdict | None = None
        """The last verdict on it, and until when it stands."""
        self.said: tuple[object, ...] | None = None
        """What was last given out of it."""
        self.stop: Stop | None = None
        """The verdict in force that tells it to stop; None: it may go on."""
        self.would_stop: Stop | None = None
        """The first verdict that would have told it to stop, were nothing in shadow."""
        self.forecast: set[tuple[str, float]] = set()
        """Resources and shares of which the forecast was given."""

    def note(self, verdict: Verdict) -> None:
        """Take note of a verdict that says something new."""
        if verdict.should_continue:
            self.stop = None
        elif self.stop is None:
            reason, origin = str(verdict.reason), verdict.limit_from
            self.stop = Stop(verdict.evaluated_at, reason, origin)
        self.would_stop = self.would_stop or would_be_stop(verdict)


class TracedRun(JudgedRun):
    """A run of a trace: it adds up what its lines say, as its process would count."""

    __slots__ = (
        "at", "attributes", "began_at", "behind", "counters", "counts_kinds", "due_at",
        "is_over", "late", "limits", "marks", "queued_at",
    )  # fmt: skip

    def __init__(
        self,
        line: TraceLine,
        number: int,
        limited: Collection[str] = (),
        *,
        counts_kinds: bool = False,
    ) -> None:
        """Begin with its first line.

        limited: resources of which all runs have a limit. counts_kinds: its process tells tokens
        apart by kind.
        """
        super().__init__(line.session_id, number)
        self.began_at = self.at = line.at
        """When it began, and when it was last heard of."""
        self.behind = True
        """True if the ledger has not been told of all that its lines said."""
        self.limits = line.limits or _NO_LIMITS
        self.queued_at = math.inf
        """When it is to be judged next, if nothing is heard of it."""
        own = {
            row.name: limit
            for row in RESOURCES.values()
            if (limit := row.limit_of(self.limits)) is not None
        }
        counted = [name for name in COUNTED if name not in FURTHER or name in {*own, *limited}]
        self.counters: Mapping[tuple[str, str], Number] = {(n, ""): ZERO[n] for n in counted}
        """What its process counted, as a source shows it."""
        self.counts_kinds = counts_kinds
        self.is_over = False
        """True if it ended, and still holds for others."""
        self.marks: tuple[tuple[tuple[str, str], Number], ...] | None = None
        """Counters, and the values from which on something new may be said of it; None: whatever it
        does may be something new."""
        self.due_at = math.inf
        """When a share of a limit on its time is reached."""
        self.late: dict[str, Number] = {}
        """Per resource, what it used after it was told to stop."""
        begun = line.at or _AFTER_ZERO
        self.attributes = RunAttributes(
            started_at=begun,
            incarnation_at=begun,
            limits=own,
            thresholds={name: RESOURCES[name].threshold_of(self.limits) for name in own},
            completion_threshold=self.limits.completion_threshold,
            state=semconv.RUNNING,
            optional_series=float(len(own) + bool(self.limits.wrap_up_calls)),
            labels=shared_labels(line.labels),
            parent=line.parent,
            wrap_up_calls=float(self.limits.wrap_up_calls) or None,
        )

    @property
    def stops_for_unpriced(self) -> bool:
        """Whether it stops itself for calls without a price."""
        return self.limits.on_unpriced == STOP

    @property
    def stops_for_unknown(self) -> bool:
        """Whether it stops itself for calls of unknown usage."""
        return self.limits.on_unknown_usage == STOP

    def book(self, line: TraceLine) -> None:
        """Take what a line says of use and progress.

        Raises InvalidValueError where all of it is more than can be counted.
        """
        use = line.use
        if use is not None:
            self._count(use, line.where)
        if line.progress is not None or line.progress_unknown:
            self._progress(line.progress)
        self.at, self.behind = line.at, True

    def shown(self) -> RunObservation:
        """Return what its process shows after its last line."""
        return RunObservation(self.session_id, TRACE, self.at, self.counters, self.attributes)

    def _count(self, use: Use, where: str) -> None:
        counters = dict(self.counters)
        for resource, amount in use.amounts.items():
            key = (resource, "")
            total: Number = counters.get(key, ZERO[resource]) + amount  # type: ignore[operator] # of one type
            if total > MAX_COUNT:
                sentence = f"the {resource} of {self.session_id} add up to more than 2^53"
                raise InvalidValueError("use", amount, "", where=where, sentence=sentence)
            counters[key] = total
        for kind, tokens in use.kinds.items() if self.counts_kinds else ():
            key = (KIND_COUNTERS[kind], "")
            counters[key] = int(counters.get(key, 0)) + tokens
        self.counters = counters
        if use.unknown_usage_calls or use.unpriced_calls:
            known = self.attributes
            self.attributes = known._replace(
                unknown_usage_calls=(known.unknown_usage_calls or 0.0) + use.unknown_usage_calls,
                unpriced_calls=(known.unpriced_calls or 0.0) + use.unpriced_calls,
            )

    def _progress(self, progress: float | None) -> None:
        """Take a progress, and what was used when it was reported. None: unknown from now on."""
        if progress is None:
            used: dict[str, float | None] = dict.fromkeys(COUNTED)
        else:
            used = {name: float(total) for (name, _), total in self.counters.items()}
        further = {name: used[name] for name in FURTHER if used.get(name) is not None}
        known = self.attributes._replace(progress=progress)
        self.attributes = known._replace(
            optional_series=float(known.optional_shown),
            progress_tokens=used[semconv.TOKENS],
            progress_api_calls=used[semconv.API_CALLS],
            progress_cost=used[semconv.COST],
            progress_further=further or None,  # type: ignore[arg-type] # none of them is None
        )

    def mark(self, shares: Sequence[float] = ()) -> None:
        """Take note of how much may be used before there could be something new to say of it.

        By its own verdict, that is another status, while no limit is near: then it depends on the
        progress, too, and where calls are kept back on their size. shares: of each limit, at which
        the forecast is to be given.
        """
        self.marks, self.due_at = None, math.inf
        verdict = None if self.decided is None else self.decided.verdict
        if verdict is None:
            return
        marks = self._marks_of(verdict.headroom)
        for resource, state in verdict.resources.items() if shares else ():
            if state.limit is None:
                continue
            lines = [
                bound(resource, state.limit, share, "").warning_at
                for share in shares
                if (resource, share) not in self.forecast
            ]
            if not lines:
                continue
            more: Number = min(lines) - state.used  # type: ignore[operator] # of one type
            if resource in TIMES:
                self.due_at = min(self.due_at, verdict.evaluated_at + float(more))
            else:
                marks += self._marks_of({resource: more})
        if verdict.status in _WITHOUT_PROGRESS and not self.limits.wrap_up_calls:
            self.marks = tuple(marks)

    def _marks_of(self, room: Mapping[str, Number]) -> list[tuple[tuple[str, str], Number]]:
        counters = self.counters
        return [
            (key, counters[key] + more)  # type: ignore[operator] # of one type
            for resource, more in room.items()
            if (key := (resource, "")) in counters
        ]

    @property
    def stands(self) -> bool:
        """True if by what it used since its verdict there is nothing new to say of it."""
        if self.marks is None:
            return False
        counters = self.counters
        return all([counters[key] < mark for key, mark in self.marks])  # noqa: C419 - quicker

    def end(self, state: str, at: float) -> None:
        """Take note of the state in which it ended."""
        self.attributes = self.attributes._replace(state=state)
        self.at, self.behind = at, True

    def pass_over(self, use: Use) -> None:
        """Take note of what the run used although it was told to stop."""
        for resource, amount in use.amounts.items():
            self.late[resource] = self.late.get(resource, ZERO[resource]) + amount  # type: ignore[operator] # of one type

    def outcome(self, *, resolved: bool | None, at: float, keep_going: bool) -> Outcome:
        """Return what became of it, as of its end, or that of the trace.

        It was not cut by a stop that came with its last line.
        """
        used = {n: total for (n, _), total in self.counters.items() if n in RESOURCES}
        recorded = dict(used)
        if not keep_going:
            for name, amount in self.late.items():
                recorded[name] = recorded.get(name, ZERO[name]) + amount  # type: ignore[operator] # of one type
        stop = self.stop
        if stop is not None and stop.at >= at and not self.late:
            stop = None
        return Outcome(self.session_id, used, recorded, resolved, stop)
