"""A run whose hooks ask, and verdicts for it."""

from __future__ import annotations

from typing import Any

from otel_budget import semconv
from otel_budget.agents.base import Answer
from otel_budget.agents.ending import HookedRun
from otel_budget.agents.known import hooks_of
from otel_budget.core.reasons import Action, Reason
from otel_budget.core.verdict import LimitStatus, ResourceState, Verdict
from otel_budget.core.wrap_up import WrapUp

NOW = 1_700_000_000.0


def verdict(
    used: int = 10,
    limit: int = 1000,
    *,
    at: float = NOW,
    reason: str | None = None,
    action: Action | None = None,
    limit_from: str = "sidecar",
    run_state: str | None = None,
    wrap_up: WrapUp | None = None,
) -> Verdict:
    """Return a verdict by the tokens used, or for another reason; 80 % is near."""
    near, over = used >= 0.8 * limit, used >= limit
    status = LimitStatus.EXCEEDED if over else LimitStatus.APPROACHING if near else LimitStatus.OK
    because: str = Reason.LIMIT_EXCEEDED if over else Reason.WITHIN_LIMITS
    if near and not over:
        because = Reason.APPROACHING_LIMIT_PROGRESS_UNKNOWN
    state = ResourceState(
        used, limit, max(limit - used, 0), used / limit, status, limit_from, warning_at=limit * 0.8
    )
    whole = status
    if reason is not None:
        because = reason
        silent = ("stale_data", "source_error", "partial_data", "implausible_data")
        whole = LimitStatus.INCONCLUSIVE if reason in silent else status
    does = action or (Action.STOP if over or reason is not None else Action.CONTINUE)
    return Verdict(
        session_id="run-1", action=does, status=whole, reason=because,
        message=f"because of {because}", resources={semconv.TOKENS: state}, evaluated_at=at,
        data_at=at, lease_seconds=15.0, run_state=run_state, wrap_up=wrap_up,
    )  # fmt: skip


class Hooked:
    """One run as its agent's hooks see it."""

    def __init__(self, agent: str = "claude-code") -> None:
        """Begin without anything."""
        found = hooks_of(agent)
        assert found is not None
        self.agent, self.run, self.now = found, HookedRun(), NOW

    def step(self, name: str, judged: Verdict | None, **more: Any) -> Answer:
        """Return what is answered at an event, before it is written."""
        event = self.agent.read({"hook_event_name": name, "session_id": "s", **more})
        self.run.note(event, self.now)
        return self.run.answer(event, self.agent.can(event), judged, self.now)

    def ask(self, name: str, judged: Verdict | None, **more: Any) -> dict[str, Any]:
        """Return what is answered at an event, as the agent reads it."""
        event = self.agent.read({"hook_event_name": name, "session_id": "s", **more})
        return self.agent.write(event, self.step(name, judged, **more))
