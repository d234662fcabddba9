"""A history as a trace: what the ledger knows of each run, as increases from sample to sample.

Nothing is added up here: totals, what is unknown of them, limits, progress and state are the
ledger's. What a trace cannot say is told in ``remarks``, and so is how a run is named whose id is
taken by another one before it.
"""

from __future__ import annotations

import math
import weakref
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from otel_budget import semconv
from otel_budget.core.limits import ResourceLimits
from otel_budget.core.resources import RESOURCES, ZERO
from otel_budget.core.token_kinds import with_parts
from otel_budget.errors import InvalidValueError
from otel_budget.ledger.processes import used_at_progress
from otel_budget.replay.trace import TraceLine, Use

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from otel_budget.core.observation import RunAttributes
    from otel_budget.core.quantities import Number
    from otel_budget.ledger.run import RunTotals

#: Labels of ``session_info`` that are not a run's own.
_NOT_ITS_OWN: Final = frozenset(
    {"__name__", "job", "instance", semconv.SESSION_ID, semconv.PARENT_SESSION_ID}
)
#: Characters of a session id.
_ID_LONGEST: Final = 128


@dataclass(slots=True)
class _Written:
    """What stands in the trace of one run."""

    name: str
    run: weakref.ref[RunTotals]
    limits: object
    """As they were at its start."""
    at: float
    revision: int = -1
    used: Mapping[str, Number] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)
    """Of tokens, disjoint."""
    unknown_usage_calls: int = 0
    unpriced_calls: int = 0
    progress: object = None
    """The last that was written, and what was used then."""
    end: TraceLine | None = None


class TraceRecorder:
    """Takes runs as a ledger knows them, tick by tick."""

    def __init__(self) -> None:
        """Begin with an empty trace."""
        self.starts: list[TraceLine] = []
        """In no order."""
        self._written: dict[str, _Written] = {}
        self._over: list[TraceLine] = []
        self._names: Counter[str] = Counter()
        self.remarks: Counter[str] = Counter()
        """What of runs does not stand in the trace, to how often."""

    def note(
        self, runs: Iterable[RunTotals], labels: Mapping[str, Mapping[str, str]]
    ) -> list[TraceLine]:
        """Return what is new of some runs, in the order of time; their starts are kept apart.

        labels: session id to the labels of its ``session_info``.
        """
        lines: list[TraceLine] = []
        for run in runs:
            written = self._written.get(run.session_id)
            if written is None or written.run() is not run:
                written = self._begin(run, written, labels.get(run.session_id, {}))
            if written.revision != run.revision:
                lines += self._news(run, written)
        return sorted(lines, key=lambda line: line.at)

    def ends(self) -> list[TraceLine]:
        """Return the lines on which runs end, after all others, in no order."""
        return [*self._over, *(each.end for each in self._written.values() if each.end is not None)]

    def _begin(
        self, run: RunTotals, before: _Written | None, labels: Mapping[str, str]
    ) -> _Written:
        if before is not None and before.end is not None:
            self._over.append(before.end)
        said = run.attributes
        own = {key: text for key, text in labels.items() if key not in _NOT_ITS_OWN}
        began_at = min(run.began_at, run.confirmed_at)
        name = self._name(run.session_id, before, began_at)
        limits = self._limits(said)
        parent = said.parent
        self.starts.append(
            TraceLine(began_at, name, "", start=True, labels=own, limits=limits, parent=parent)
        )
        written = _Written(name, weakref.ref(run), _limits_of(said), began_at)
        self._written[run.session_id] = written
        if semconv.ACTIVE_DURATION in said.limits:
            self.remarks[
                "pauses are not in a trace: an active time counts as a duration there"
            ] += 1
        return written

    def _name(self, session_id: str, before: _Written | None, began_at: float) -> str:
        """Return what a run is called: its id, unless one is called so that is not over."""
        if before is None:
            return session_id
        if before.end is not None and before.end.at <= began_at:
            return before.name
        self._names[session_id] += 1
        self.remarks["another run of the same id was not over: it stands as ID:2, and so on"] += 1
        return f"{session_id[: _ID_LONGEST - 8]}:{self._names[session_id] + 1}"

    def _limits(self, said: RunAttributes) -> ResourceLimits | None:
        given: dict[str, object] = {
            RESOURCES[name].limit_key: limit
            for name, limit in said.limits.items()
            if math.isfinite(limit)
        }
        if said.wrap_up_calls:
            given["wrap_up_calls"] = int(said.wrap_up_calls)
        if not given:
            return None
        given |= {RESOURCES[name].threshold_key: share for name, share in said.thresholds.items()}
        if said.completion_threshold is not None:
            given["completion_threshold"] = said.completion_threshold
        try:
            return ResourceLimits.only(**given)
        except InvalidValueError:
            self.remarks["limits that cannot be are left out"] += 1
            return None

    def _news(self, run: RunTotals, written: _Written) -> list[TraceLine]:
        """Return what a run used since the last line, and how far it says it is."""
        written.revision = run.revision
        said, used, uncertainty = run.attributes, run.totals(), run.uncertainty
        if _limits_of(said) != written.limits:
            written.limits = _limits_of(said)
            self.remarks["limits changed on the way: those of the start stand in the trace"] += 1
        if uncertainty.estimated_calls or uncertainty.alternating:
            self.remarks["uses that are estimates stand as if they were known"] += 1
        kinds = run.token_kinds()
        at = written.at = max(written.at, run.confirmed_at)
        lines: list[TraceLine] = []
        when_said = used_at_progress(said, used, run.speakers)
        progress = None if said.progress is None else (said.progress, when_said)
        if progress is not None and progress != written.progress:
            between = _between(written.used, used, when_said)
            use = self._use(written, between, (0, 0), kinds)
            lines.append(TraceLine(at, written.name, "", use=use, progress=said.progress))
        gone = progress is None and written.progress is not None
        written.progress = progress
        unsure = (uncertainty.unknown_usage_calls, uncertainty.unpriced_calls)
        use = self._use(written, used, unsure, kinds)
        if use is not None or gone:
            lines.append(TraceLine(at, written.name, "", use=use, progress_unknown=gone))
        ended = run.ended_at is not None and said.state in semconv.ENDED_STATES
        written.end = TraceLine(at, written.name, "", end=said.state) if ended else None
        return lines

    def _use(
        self,
        written: _Written,
        used: Mapping[str, Number],
        unsure: tuple[int, int],
        kinds: Mapping[str, int],
    ) -> Use | None:
        """Return the increase over what was written, which it is then.

        kinds: of tokens, disjoint. What of them does not fit into the tokens of this line is left
        to the next.
        """
        amounts = {
            name: total - before  # type: ignore[operator] # both are of one quantity
            for name, total in used.items()
            if total > (before := written.used.get(name, ZERO[name]))
        }
        unknown = max(0, unsure[0] - written.unknown_usage_calls)
        unpriced = max(0, unsure[1] - written.unpriced_calls)
        written.used = {**written.used, **used}
        written.unknown_usage_calls += unknown
        written.unpriced_calls += unpriced
        if not (amounts or unknown or unpriced):
            return None
        room, more = int(amounts.get(semconv.TOKENS, 0)), dict[str, int]()
        for kind, total in kinds.items():
            tokens = min(room, total - written.kinds.get(kind, 0))
            if tokens > 0:
                more[kind] = tokens
                written.kinds[kind] = written.kinds.get(kind, 0) + tokens
                room -= tokens
        return Use(amounts, unknown, unpriced, with_parts(more))


def _limits_of(said: RunAttributes) -> object:
    return (
        dict(said.limits), dict(said.thresholds), said.completion_threshold, said.wrap_up_calls
    )  # fmt: skip


def _between(
    least: Mapping[str, Number], most: Mapping[str, Number], amounts: Mapping[str, Number]
) -> dict[str, Number]:
    """Return the amounts, none below what stands already and none above what was used."""
    return {
        name: max(least.get(name, ZERO[name]), min(most[name], amount))
        for name, amount in amounts.items()
        if name in most
    }
