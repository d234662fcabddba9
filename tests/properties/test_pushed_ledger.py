"""Whatever is pushed and told in whatever order: what the ledger says of it."""

from __future__ import annotations

import math
from typing import Any

from hypothesis import given, note
from hypothesis import strategies as st

from otel_budget import semconv
from otel_budget.core.observation import Observation, RunAttributes, RunObservation
from otel_budget.core.verdict import LimitStatus
from otel_budget.ledger.ledger import Ledger
from otel_budget.policy.verdicts import Rules, verdict_from_snapshot
from otel_budget.sidecar.storage import codec

START, IDLE = 1_700_000_000.0, 100.0
SIGNALS = ("metrics", "logs", "hooks")
PEERS = ("owner", "stranger")

STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("push"), st.sampled_from(PEERS), st.sampled_from(SIGNALS),
            st.integers(0, 1000),
        ),
        st.tuples(st.just("tell"), st.sampled_from(semconv.SESSION_STATES)),
        st.tuples(st.just("wait"), st.floats(0.1, 3 * IDLE)),
        st.tuples(st.just("read"), st.booleans()),
        st.tuples(st.just("restart")),
    ),
    max_size=40,
)  # fmt: skip


class Story:
    """A ledger, and what it should say."""

    def __init__(self) -> None:
        """Begin with one push of the owner."""
        self.ledger, self.now = Ledger(), START
        self.sums = {(peer, signal): 0 for peer in PEERS for signal in SIGNALS}
        """What each view came to, of what was let in."""
        self.known = {"owner"}
        """Those that were let in."""
        self.seen = set[tuple[str, str]]()
        self.over, self.heard_at, self.told_at = False, START, -math.inf
        self.push("owner", "metrics", 1)

    def push(self, peer: str, signal: str, more: int) -> None:
        """Push what one view comes to by now."""
        self.now += 0.5
        total = self.sums[peer, signal] + more
        known = peer in self.known
        if known or self.over or self._was_gone:
            self.sums[peer, signal] = total
            self.known.add(peer)
            self.heard_at = self.now
            # What was on its way when the end was told does not refute it; nor does nothing new.
            news = more or (peer, signal) not in self.seen
            self.seen.add((peer, signal))
            if self.now - self.told_at > 10 and news:
                self.over = False
        target = f'otlp://{peer}{{signal="{signal}"}}'
        shown = RunObservation(
            "run", target, self.now, {(semconv.TOKENS, ""): total},
            RunAttributes(idle_after=IDLE), process=f"otlp://{peer}",
        )  # fmt: skip
        self.ledger.apply(
            Observation("otlp", self.now, sessions=(shown,), asked=frozenset({target}))
        )

    def tell(self, state: str) -> None:
        """Tell a state."""
        self.now += 20.0  # nothing is on its way any more
        self.ledger.apply(Observation("otlp", self.now, asked=frozenset(), told={"run": state}))
        ended = state in semconv.ENDED_STATES
        if ended and not self.over:
            self.told_at = self.now
        self.over, self.heard_at = ended, self.now

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    def read(self, fails: bool) -> None:  # noqa: FBT001 - as it is drawn
        """Read another source, which has a target or fails."""
        self.now += 1.0
        self.ledger.apply(
            Observation("scrape", self.now, targets=frozenset({"a"}), listed=not fails)
        )

    def restart(self) -> None:
        """Go on from what is stored."""
        self.now += 1.0
        run = codec.from_json(codec.to_json(self.ledger.runs["run"]))
        self.ledger = Ledger()
        self.ledger.adopt(run, self.now)
        self.heard_at = self.now if not self._was_gone else self.heard_at

    @property
    def _was_gone(self) -> bool:
        return self.ledger.runs["run"].vanished_at is not None

    def check(self) -> None:
        """Hold the verdict against it."""
        run = self.ledger.runs["run"]
        verdict = verdict_from_snapshot(self.ledger.snapshot(run, self.now), Rules(), self.now)
        assert verdict.status is LimitStatus.OK, verdict.message
        used = sum(max(self.sums[peer, signal] for signal in SIGNALS) for peer in PEERS)
        assert verdict.resources[semconv.TOKENS].used == used
        if self.over:
            assert verdict.run_state in semconv.ENDED_STATES
        elif self.now - self.heard_at > IDLE:
            assert verdict.run_state == semconv.VANISHED
        else:
            assert verdict.run_state in (None, "running", "paused", "waiting")


@given(STEPS)
def test_use_is_the_sum_over_pushers_of_their_larger_views_and_silence_is_none(
    steps: list[tuple[Any, ...]],
) -> None:
    """Of those that were let in: another one is, once the run is over."""
    note(repr(steps))
    story = Story()
    for name, *arguments in steps:
        getattr(story, name)(*arguments)
        story.check()
