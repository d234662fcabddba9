"""The verdict on a run that cannot be judged, as the program fails at it: that of before is held,
then ``on_no_data`` applies, as with data that are no good. What was exceeded stays stopped.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING

from otel_budget.core.limits import DEFAULT_THRESHOLD
from otel_budget.core.verdict import LimitStatus, Reason, Verdict
from otel_budget.policy.decision_table import FINAL, UNKNOWN, decide_without_data
from otel_budget.policy.overrides import STOPPED, said

if TYPE_CHECKING:
    from otel_budget.core.override import Override
    from otel_budget.policy.verdicts import Rules


def verdict_on_failure(
    session_id: str,
    started_at: float | None,
    *,
    before: Verdict | None,
    stop: Override | None,
    failing_for: float,
    rules: Rules,
    now: float,
) -> Verdict:
    """Return a verdict that needs nothing of a run but its name.

    before: the last one on it. stop: an operator's that holds. failing_for: seconds. now: Unix
    time.
    """
    if before is None:
        before = Verdict(
            session_id=session_id, action=UNKNOWN[0], status=LimitStatus.INCONCLUSIVE,
            reason=Reason.INTERNAL_ERROR, message="", resources={}, evaluated_at=now,
            started_at=started_at,
            completion_threshold=rules.completion_threshold or DEFAULT_THRESHOLD,
        )  # fmt: skip
    action, status, reason, message = before.action, before.status, before.reason, before.message
    if stop is not None:
        (action, reason), message = STOPPED, said(stop)
    elif (action, reason) not in FINAL:
        held = action, Reason.INTERNAL_ERROR
        action, reason = decide_without_data(
            held, held[1], failing_for, rules.hold, rules.on_no_data
        )
        status = LimitStatus.INCONCLUSIVE
        message = f"the sidecar failed at this run (see its log): {action} for want of good data"
    decided = "\x1f".join((session_id, action, reason, status, rules.revision, repr(started_at)))
    return dataclasses.replace(
        before, action=action, status=status, reason=str(reason), message=message,
        evaluated_at=now, lease_seconds=rules.lease, policy_revision=rules.revision, sequence=None,
        decision_id=hashlib.sha256(decided.encode()).hexdigest()[:16],
    )  # fmt: skip
