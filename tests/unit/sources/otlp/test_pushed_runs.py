"""Runs that are pushed: what is taken, what is new, what is bounded."""

from __future__ import annotations

from otel_budget import semconv
from tests.support.otlp_fixtures import PEER, case, pushed_runs


def test_a_pushed_run_is_drained_once_and_whole_with_each_change() -> None:
    """Claude Code's metrics: tokens and money add up, and each drain shows all of them."""
    pushed, recorded = pushed_runs(), case("claude_code/delta_pb")
    metrics = [request for request in recorded.requests if not request.is_logs]
    for now, request in enumerate(metrics, start=1):
        taken = request.push(pushed, float(now))
        assert not taken.repeated
        assert not taken.dropped
    (run,) = pushed.drain(10.0).sessions
    assert run.session_id == recorded.session_id
    assert run.target == f'otlp://{PEER}{{signal="metrics",preset="claude_code"}}'
    assert run.attributes.idle_after == 1800
    tokens = [value for (what, _), value in run.counters.items() if what == semconv.TOKENS]
    assert sum(tokens) == recorded.expected["tokens"]
    assert pushed.drain(11.0).sessions == ()
    assert pushed.observation_of(recorded.session_id) == (run,)
