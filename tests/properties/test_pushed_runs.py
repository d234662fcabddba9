"""Whatever agents push, in whatever order: the ledger has the larger of what each signal says.

A model adds up by hand what a run's metrics and records say. Requests come in any order of sessions
and processes; the receiver restarts now and then, and forgets.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from otel_budget import semconv
from otel_budget.core.observation import Observation
from otel_budget.ledger.ledger import Ledger
from tests.support.otlp_fixtures import pushed_runs
from tests.support.otlp_messages import counter, logs, metrics, point, record

SESSIONS, TYPES, PROCESSES = ("a", "b"), ("input", "cacheRead", "output"), (0, 1, 2)
METRIC = "claude_code.token.usage"


@dataclass
class Model:
    """A sidecar with a receiver, and what it should know."""

    ledger: Ledger = field(default_factory=Ledger)
    boots: int = 0
    number: int = 0
    said_by_metrics: Counter[str] = field(default_factory=Counter)
    said_by_records: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    cumulative: Counter[tuple[str, int, str]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        """Begin."""
        self.restart()

    def restart(self) -> None:
        """Begin with a new receiver."""
        self.boots += 1
        self.pushed = pushed_runs(f"boot-{self.boots}")

    def add(self, session: str, kind: str, tokens: int) -> None:
        """Push what was added."""
        self.said_by_metrics[session] += tokens
        at = point(float(tokens), self.next(), session__id=session, type=kind)
        metrics(counter(METRIC, at, delta=True)).push(self.pushed, self.now)

    def grow(self, session: str, process: int, kind: str, tokens: int) -> None:
        """Push a whole page of a process whose counters are cumulative. 0: it says no start."""
        self.said_by_metrics[session] += tokens
        self.cumulative[session, process, kind] += tokens
        self.next()
        points = [
            point(value, of and 1000 * of + TYPES.index(one), session__id=session, type=one)
            for (id_, of, one), value in sorted(self.cumulative.items())
            if (id_, of) == (session, process)
        ]
        # A resource that changes makes no other stream, if it is known since when that counts.
        changing: dict[str, Any] = {"number": self.number} if process else {}
        metrics(counter(METRIC, *points), **changing).push(self.pushed, self.now)

    def tell(self, session: str, tokens: int) -> None:
        """Push the record of a call, twice as often as not."""
        self.said_by_records[session] += tokens
        self.calls[session] += 1
        id_ = f"r{self.next()}"
        for again in range(1 + tokens % 2):
            told = record("claude_code.api_request", session__id=session, request_id=id_,
                          input_tokens=tokens, again=again)  # fmt: skip
            logs(told).push(self.pushed, self.now)

    def next(self) -> int:
        """Return a number that was not there before."""
        self.number += 1
        return self.number

    @property
    def now(self) -> float:
        """The time, which goes on with each request."""
        return 1000.0 + self.number

    def tick(self) -> None:
        """Have the ledger take in what is new, and compare."""
        new = self.pushed.drain(self.now)
        self.ledger.apply(Observation("otlp", self.now, new.sessions, spacing=60.0))
        assert not self.ledger.failures
        for session in SESSIONS:
            most = max(self.said_by_metrics[session], self.said_by_records[session])
            known = self.ledger.runs.get(session)
            used = {} if known is None else known.totals()
            assert used.get(semconv.TOKENS, 0) == most
            assert used.get(semconv.API_CALLS, 0) == self.calls[session]


TOKENS = st.integers(0, 50)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from(SESSIONS), st.sampled_from(TYPES), TOKENS),
        st.tuples(
            st.just("grow"), st.sampled_from(SESSIONS), st.sampled_from(PROCESSES),
            st.sampled_from(TYPES), TOKENS,
        ),
        st.tuples(st.just("tell"), st.sampled_from(SESSIONS), TOKENS),
        st.just(("tick",)),
        st.just(("restart",)),
    ),
    max_size=30,
)  # fmt: skip


@given(STEPS)
def test_the_ledger_has_the_larger_of_what_each_signal_says(
    steps: list[tuple[object, ...]],
) -> None:
    """A receiver restarts after what it took was judged, as a push is answered then."""
    model = Model()
    for name, *arguments in steps:
        if name == "restart":
            model.tick()
        getattr(model, str(name))(*arguments)
    model.tick()
