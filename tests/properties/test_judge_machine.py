"""Random histories of a judged run against a simple model: what it is told, by what rules, when.

The model is the contract's table (docs/design.md, section 3) written down once more, without the
ledger: the newest number that was seen, when that was, and what was ordered.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from otel_budget import semconv
from otel_budget.core.observation import Observation, Problem, RunObservation
from otel_budget.core.override import Override, OverrideKind
from otel_budget.core.quantities import Number
from otel_budget.core.reasons import Action, Reason
from otel_budget.core.verdict import Verdict
from otel_budget.policy.bounds import bounds_from
from otel_budget.policy.verdicts import Rules
from otel_budget.sidecar.evaluator import Evaluator
from otel_budget.sidecar.storage.sqlite.storage import open_sqlite
from tests.support.figures import length, note
from tests.support.sidecar_fixtures import START, TARGET, session

RUN = "run-1"
CEILING, STALE_AFTER, HOLD = 100, 3.0, 10.0
RULES = Rules(
    ceilings=bounds_from({semconv.TOKENS: CEILING}, {}, "sidecar"),
    completion_threshold=0.8, stale_after=STALE_AFTER, hold=HOLD, on_no_data=Action.STOP,
)  # fmt: skip
AMOUNTS = st.integers(0, 12)
CEILINGS = st.none() | st.sampled_from([0, 20, 60, 100, 200])
PROGRESS = st.none() | st.sampled_from([0.0, 0.5, 0.8, 1.0])


@dataclass
class Known:
    """What an observer knows of the run."""

    used: int = 0
    own: int | None = None
    progress: float | None = None
    seen_at: float = -math.inf
    nonsense_since: float | None = None
    failing: bool = False


@dataclass
class Ordered:
    """What an operator ordered."""

    stopped_until: float = -math.inf
    ceiling: int | None = None
    ceiling_until: float = -math.inf


class CachedVerdict(RuleBasedStateMachine):
    """A run, a source that fails at times, an operator, and a sidecar that comes and goes."""

    def __init__(self) -> None:
        """Begin with a run that was seen once."""
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.now, self.really = START, 0
        self.own: int | None = None
        self.known, self.ordered = Known(), Ordered()
        self._open()
        self.verdict: Verdict | None = None
        self.look(progress=None)

    def teardown(self) -> None:
        """Let go of the storage."""
        self._storage.close()
        self._folder.cleanup()

    def _open(self) -> None:
        path = str(Path(self._folder.name) / "ledger.db")
        self._storage, restored = open_sqlite(path)
        self._evaluator = Evaluator(self._storage, restored, self.now)
        self.listening_since = self.now

    @rule(tokens=AMOUNTS)
    def use(self, tokens: int) -> None:
        """The run spends."""
        self.really += tokens

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.5, 4.0, 12.0]))
    def time_passes(self, seconds: float) -> None:
        """Nobody reads; what is due is judged."""
        self.now += seconds
        self._step(None)

    @rule(own=CEILINGS)
    def limit_itself(self, own: int | None) -> None:
        """The run sets a limit of its own, or lifts it."""
        self.own = own

    @rule(progress=PROGRESS)
    def look(self, progress: float | None) -> None:
        """A good reading."""
        self.now += 0.25
        self._see(self.really, progress)
        self.known = Known(self.really, self.own, progress, self.now)

    @rule()
    def look_at_nonsense(self) -> None:
        """The counter is no number: what was known stays known."""
        self.now += 0.25
        seen = self._session(0, None)._replace(counters={}, implausible=("tokens",))
        self._step(Observation("scrape", self.now, (seen,)))
        since = self.known.nonsense_since
        self.known.nonsense_since = self.now if since is None else since
        self.known.failing = False
        if self.own is not None:  # the limit beside it is sound; one that is not there stays
            self.known.own = self.own

    @rule(number=st.sampled_from(["said", "lost"]))
    def look_at_a_part(self, number: str) -> None:
        """Limit and progress are lost, and nobody says so: they stay; what is used counts."""
        self.now += 0.25
        seen = self._session(self.really, self.known.progress)
        had = (self.known.own is not None) + (self.known.progress is not None)
        optional = had if had and number == "said" else None
        lost = seen.attributes._replace(limits={}, progress=None, optional_series=optional)
        self._step(Observation("scrape", self.now, (seen._replace(attributes=lost),)))
        self.known = Known(self.really, self.known.own, self.known.progress, self.now)

    @rule()
    def look_in_vain(self) -> None:
        """The target does not answer."""
        self.now += 0.25
        problem = Problem(TARGET, Reason.SOURCE_ERROR, "refused")
        self._step(Observation("scrape", self.now, problems=(problem,)))
        self.known.failing = True

    @rule()
    def see_nothing(self) -> None:
        """The target answers, and does not show the run: that is not a use of 0."""
        self.now += 0.25
        self._step(Observation("scrape", self.now))
        self.known.failing = False

    @rule(lasting=st.none() | st.sampled_from([1.0, 20.0]))
    def order_to_stop(self, lasting: float | None) -> None:
        """An operator stops it."""
        until = math.inf if lasting is None else self.now + lasting
        self._order(Override(OverrideKind.STOP, "because", at=self.now,
                          until=None if lasting is None else until))  # fmt: skip
        self.ordered.stopped_until = until

    @rule()
    def release(self) -> None:
        """And lets it go."""
        self._order(Override(OverrideKind.RELEASE, "fine", at=self.now))
        self.ordered.stopped_until = -math.inf

    @rule(ceiling=CEILINGS, lasting=st.sampled_from([1.0, 20.0]))
    def order_a_ceiling(self, ceiling: int | None, lasting: float) -> None:
        """An operator raises, lowers or lifts the sidecar's ceiling for a time."""
        limits: dict[str, Number | None] = {semconv.TOKENS: ceiling}
        self._order(Override(OverrideKind.LIMITS, "x", "", self.now, self.now + lasting, limits))
        self.ordered.ceiling, self.ordered.ceiling_until = ceiling, self.now + lasting

    @rule()
    def end_the_order(self) -> None:
        """And takes that back."""
        self._order(Override(OverrideKind.LIMITS, "x", at=self.now))
        self.ordered.ceiling_until = -math.inf

    @precondition(lambda self: self.verdict is not None)
    @rule()
    def restart(self) -> None:
        """The sidecar is killed and reads its storage."""
        self._storage.close()
        self._open()
        self.known.failing = False  # it has not asked yet
        # A sample that changed nothing is not stored: it may be taken for older than it is.
        stored = self._evaluator._ledger.runs[RUN].sampled_at
        assert stored is not None
        assert stored <= self.known.seen_at
        self.known.seen_at = stored
        self._step(None)

    @invariant()
    def it_is_told_what_the_contract_says(self) -> None:
        """Action and reason, from the numbers, their age, and the orders."""
        verdict = self.verdict
        assert verdict is not None
        state = verdict.resources[semconv.TOKENS]
        limit = self._limit()
        assert (state.used, state.limit) == (self.known.used, limit)
        assert (str(verdict.action), str(verdict.reason)) == self._expected(limit)

    def _limit(self) -> int | None:
        held = self.now < self.ordered.ceiling_until
        ceiling = self.ordered.ceiling if held else CEILING
        return min((one for one in (self.known.own, ceiling) if one is not None), default=None)

    def _expected(self, limit: int | None) -> tuple[str, str]:
        if self.now < self.ordered.stopped_until:
            return "stop", "operator_stop"
        used, progress = self.known.used, self.known.progress
        if limit is not None and used >= limit:
            return "stop", "limit_exceeded"
        action, reason = "continue", "within_limits"
        if limit is not None and 10 * used >= 8 * limit:
            if progress is None:
                reason = "approaching_limit_progress_unknown"
            elif progress >= 0.8:
                reason = "finishing"
            else:
                action, reason = "stop", "approaching_limit"
        listened = self.now - self.listening_since
        if self.known.nonsense_since is not None:
            bad_for: float = min(self.now - self.known.nonsense_since, listened)
            reason = "implausible_data"
        else:
            overdue = self.now - self.known.seen_at - STALE_AFTER
            if overdue <= 0:
                return action, reason
            bad_for = min(overdue, listened)
            reason = "source_error" if self.known.failing else "stale_data"
        return (action if bad_for <= HOLD else "stop"), reason

    def _see(self, tokens: int, progress: float | None) -> None:
        self._step(Observation("scrape", self.now, (self._session(tokens, progress),)))

    def _session(self, tokens: int, progress: float | None) -> RunObservation:
        limits = {} if self.own is None else {semconv.TOKENS: self.own}
        made = session(RUN, tokens, at=self.now, limits=limits)
        optional = len(limits) + (progress is not None)
        stated = made.attributes._replace(progress=progress, optional_series=optional)
        return made._replace(attributes=stated)

    def _order(self, order: Override) -> None:
        step = self._evaluator.apply_override(RUN, order, RULES, 1e9, self.now)
        self._take(step.verdicts)

    def _step(self, reading: Observation | None) -> None:
        self._take(self._evaluator.tick(reading, RULES, 1e9, self.now).verdicts)

    def _take(self, verdicts: tuple[Verdict, ...]) -> None:
        (verdict,) = verdicts
        before = self.verdict
        if before is not None:
            assert before.sequence is not None
            assert verdict.sequence is not None
            assert verdict.sequence >= before.sequence
            same = (before.action, before.reason) == (verdict.action, verdict.reason)
            assert same or verdict.sequence > before.sequence
        self.verdict = verdict


HISTORIES, STEPS = length(40, 1000), 40


class TestJudged(CachedVerdict.TestCase):  # type: ignore[misc, valid-type] # made by hypothesis
    """Tries it."""

    settings = settings(max_examples=HISTORIES, stateful_step_count=STEPS)

    def runTest(self) -> None:  # noqa: N802 - unittest's name
        """Try it, and write the figure down."""
        super().runTest()
        note(
            "Tried by machines",
            f"hypothesis: {HISTORIES:,} random histories of up to {STEPS} steps: a judged run, its "
            "source, an operator and restarts of the sidecar",
            "action, reason, limit and sequence of every verdict as the contract's table says",
        )
