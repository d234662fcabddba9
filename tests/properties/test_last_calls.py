"""The last calls of a run: they fit, they are kept back whatever comes, and nothing is loosened."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from otel_budget import ResourceLimits, ResourceMonitor, semconv
from otel_budget.core.budget import Mode, WindowSpan
from otel_budget.core.quantities import Number
from otel_budget.core.reasons import Action, Reason
from otel_budget.core.verdict import (
    BudgetResource,
    BudgetState,
    LimitStatus,
    ResourceState,
    Verdict,
)
from otel_budget.ledger.call_pace import CallPace
from otel_budget.policy.bounds import Bounds, bound
from otel_budget.policy.decision_table import WRAPPING_UP, strictest
from otel_budget.policy.reserve import LastCalls, with_reserve
from otel_budget.policy.verdicts import verdict_from_usage
from otel_budget.testing import FakeClock
from tests.properties import strategies as given_

TOKENS, CALLS, COST = semconv.TOKENS, semconv.API_CALLS, semconv.COST
kept_back = st.integers(1, 3)


@st.composite
def growing_runs(draw: st.DrawFn) -> list[int]:
    """Return the sizes of a run's calls: a context that grows, with noise of a twentieth."""
    size, growth = draw(st.integers(500, 20_000)), draw(st.integers(0, 800))
    noise = draw(st.lists(st.integers(-50, 50), min_size=40, max_size=120))
    return [(size + growth * n) * (1000 + off) // 1000 for n, off in enumerate(noise)]


@given(sizes=growing_runs(), kept=kept_back, share=st.floats(0.2, 0.9))
@settings(max_examples=60)
def test_when_a_run_is_to_wrap_up_the_calls_that_it_kept_back_fit(
    sizes: list[int], kept: int, share: float
) -> None:
    """After any call that was allowed, so many more do, but for what they are larger by chance."""
    limit = int(sum(sizes) * share)
    pace, used, made = CallPace(), 0, 0
    bounds = {TOKENS: bound(TOKENS, limit, 1.0, "session")}
    while True:
        verdict = verdict_from_usage(
            "r", {TOKENS: used, CALLS: made}, bounds, progress=None, completion_threshold=0.8,
            now=0.0, last_calls=LastCalls(kept, pace),
        )  # fmt: skip
        if not verdict.should_continue:
            break
        used, made = used + sizes[made], made + 1
        pace.observe({TOKENS: used, CALLS: made}, float(made))
    assume(made > 5)  # of the first few calls nobody knows how they grow
    assert verdict.reason == Reason.WRAP_UP
    assert verdict.wrap_up is not None
    assert verdict.wrap_up.calls == kept
    last = sizes[made : made + kept]
    assert used + sum(last) <= limit + max(sizes[: made + kept]) * kept // 10
    assert verdict.wrap_up.tokens is not None
    assert used + verdict.wrap_up.tokens <= limit


@st.composite
def paces(draw: st.DrawFn) -> CallPace:
    """Return what is known of some calls."""
    pace, used, every = CallPace(), 0, draw(st.integers(0, 2))
    for n, tokens in enumerate(draw(st.lists(st.integers(0, 5), max_size=6)), 1):
        used += tokens
        pace.observe({TOKENS: used, COST: Decimal(used) / 10, CALLS: n}, float(n * every))
    return pace


last_calls = st.builds(LastCalls, kept_back, paces())


def judged(
    used: dict[str, Number], bounds: Bounds, progress: float | None, last: LastCalls | None
) -> Verdict:
    """Return the verdict of a run on itself."""
    return verdict_from_usage(
        "r", used, bounds, progress=progress, completion_threshold=0.8, now=0.0, last_calls=last
    )


@given(given_.used, given_.all_bounds(), given_.progress, paces(), st.integers(0, 4))
def test_calls_kept_back_only_make_a_verdict_stricter(
    used: dict[str, Number], bounds: Bounds, progress: float | None, pace: CallPace, kept: int
) -> None:
    """And by no other decision than to wrap up; with none kept back nothing changes."""
    without = judged(used, bounds, progress, None)
    verdict = judged(used, bounds, progress, LastCalls(kept, pace))
    before = without.action, Reason(without.reason)
    now = verdict.action, Reason(verdict.reason)
    assert now in {before, WRAPPING_UP}
    assert strictest(now, before) == now
    if not kept:
        assert (now, verdict.status, verdict.headroom) == (
            before, without.status, without.headroom,
        )  # fmt: skip


@given(given_.used, given_.used, given_.all_bounds(), given_.progress, last_calls)
def test_more_use_never_loosens(
    used: dict[str, Number],
    more: dict[str, Number],
    bounds: Bounds,
    progress: float | None,
    last: LastCalls,
) -> None:
    if not judged(used, bounds, progress, last).should_continue:
        higher = {name: max(used[name], more[name]) for name in used}
        assert not judged(higher, bounds, progress, last).should_continue


@given(given_.used, given_.all_bounds(), paces(), kept_back)
def test_the_order_of_limits_does_not_matter(
    used: dict[str, Number], bounds: Bounds, pace: CallPace, kept: int
) -> None:
    turned = dict(reversed(bounds.items()))
    one, other = with_reserve(bounds, kept, pace), with_reserve(turned, kept, pace)
    assert dict(one.lines) == dict(other.lines)
    assert one.bounds == other.bounds
    last = LastCalls(kept, pace)
    assert judged(used, bounds, None, last).wrap_up == judged(used, turned, None, last).wrap_up


@given(given_.used, given_.all_bounds(), paces(), st.integers(0, 4))
def test_no_allowance_goes_past_a_limit(
    used: dict[str, Number], bounds: Bounds, pace: CallPace, kept: int
) -> None:
    allowed = judged(used, bounds, 0.0, LastCalls(kept, pace)).wrap_up
    if allowed is None:
        return
    assert allowed.calls >= 1
    left = {name: bounds[name].limit - used[name] for name in bounds}  # type: ignore[operator]
    for name, amount in ((CALLS, allowed.calls), (TOKENS, allowed.tokens), (COST, allowed.cost)):
        assert amount is None or name not in left or amount <= left[name]
    for name in (semconv.DURATION, semconv.ACTIVE_DURATION):
        assert allowed.seconds is None or name not in left or allowed.seconds <= left[name]


# --- in the process -------------------------------------------------------------------------------


def heard(monitor: ResourceMonitor, known: int, ceiling: int | None, pooled: int | None) -> Verdict:
    """Return a sidecar's continue that knows of so many tokens."""
    state = ResourceState(known, None, None, None, LimitStatus.OK)
    if ceiling is not None:
        left = max(0, ceiling - known)
        state = ResourceState(
            known, ceiling, left, known / ceiling, LimitStatus.OK, "sidecar", warning_at=ceiling
        )
    budgets: tuple[BudgetState, ...] = ()
    if pooled is not None:
        one = BudgetResource(500, 500 + pooled, pooled, 0.5, LimitStatus.OK, 0, 0, 0, 500 + pooled)
        span = WindowSpan(0.0)
        budgets = (BudgetState("b", {}, Mode.ENFORCE, span, {TOKENS: one}, "budget:b"),)
    return Verdict(
        monitor.session_id, Action.CONTINUE, LimitStatus.OK, Reason.WITHIN_LIMITS, "",
        {TOKENS: state}, 0.0, lease_seconds=1000.0, sequence=1, budgets=budgets,
        started_at=monitor._record.started_at,
    )  # fmt: skip


steps = st.lists(
    st.one_of(
        st.tuples(st.just("record"), st.integers(0, 30), st.booleans(), st.integers(0, 9)),
        st.tuples(st.just("advance"), st.sampled_from([0.0, 1.0, 7.5, 40.0])),
        st.tuples(
            st.just("hear"), st.floats(0, 1), st.none() | st.integers(1, 300),
            st.none() | st.integers(0, 200),
        ),
        st.tuples(st.just("limits"), st.integers(0, 3)),
        st.tuples(st.just("wrap up"), st.integers(0, 3)),
    ),
    max_size=15,
)  # fmt: skip


class Watched:
    """A run of which each answer is held against one that is worked out anew."""

    def __init__(self, kept: int) -> None:
        self.fake = FakeClock(now=1_700_000_000.1)
        limits = ResourceLimits(
            max_tokens=200, max_api_calls=12, max_cost_usd=2, max_duration_seconds=100,
            wrap_up_calls=kept,
        )  # fmt: skip
        self.monitor = ResourceMonitor(
            limits, "kept", clock=self.fake.clock, sidecar="http://127.0.0.1:9"
        )
        self.monitor._run._begun = True

    def do(self, name: str, *arguments: Any) -> None:
        """Take one step."""
        monitor = self.monitor
        if name == "record":
            tokens, is_call, tenths = arguments
            monitor.record_operation(tokens, is_call, cost_usd=Decimal(tenths) / 10)
        elif name == "advance":
            self.fake.advance(*arguments)
        elif name == "hear":
            share, ceiling, pooled = arguments
            known = int(share * monitor.get_usage_report().tokens)
            monitor._run._receive(heard(monitor, known, ceiling, pooled))
        elif name == "limits":
            monitor.update_limits(wrap_up_calls=arguments[0])
        else:
            self.wrap_up(*arguments)

    def wrap_up(self, calls: int) -> None:
        """Make last calls while they are let through, if the run is stopped in time."""
        monitor = self.monitor
        if monitor.should_continue() or monitor.verdict.wrap_up is None:
            return
        with monitor.wrap_up() as allowed:
            assert allowed is not None
            made = 0
            while made < calls and monitor.should_continue():
                monitor.record_operation(3, api_call=True)
                made += 1
                self.agree()
            assert made <= allowed.calls

    def agree(self) -> None:
        """Hold the answers against what follows from all that is known now."""
        for progress in (None, 0.3, None):
            anew = self.monitor._guard.verdict(progress).should_continue
            assert self.monitor.should_continue(progress) is anew, progress


@given(st.integers(0, 3), steps)
@settings(max_examples=100)
def test_in_the_process_the_fast_answer_is_the_one_worked_out_anew(
    kept: int, history: list[Any]
) -> None:
    """Whatever was recorded and heard, whatever time passed, and in a wrap-up."""
    watched = Watched(kept)
    try:
        for step in history:
            watched.do(*step)
            watched.agree()
    finally:
        watched.monitor.close(timeout=0)
