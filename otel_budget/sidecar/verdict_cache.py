"""A verdict with what it was judged from: as long as that stands, it need not be judged again.

At most ticks most runs are as they were. A verdict stands while nothing of its run changed, its
samples come, no order and no bad data hold, its duration crosses no line, and its lease need not be
renewed. What only goes with the clock (the duration, the forecast, its time) is that much behind.
"""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING, Final

from otel_budget import semconv
from otel_budget.core.resources import TIMES
from otel_budget.core.verdict import LimitStatus
from otel_budget.policy.verdicts import stale_after, verdict_from_snapshot

if TYPE_CHECKING:
    from otel_budget.core.verdict import Verdict
    from otel_budget.ledger.run import RunTotals
    from otel_budget.ledger.snapshot import RunSnapshot
    from otel_budget.policy.verdicts import Rules

#: A lease is renewed after this share of it, so that two renewals may get lost.
RENEW_AFTER: Final = 1 / 3


class CachedVerdict:
    """One run's verdict."""

    __slots__ = ("account", "due_at", "gist", "revision", "silence", "verdict")

    def __init__(self, verdict: Verdict) -> None:
        """Keep a verdict of which nothing else is known: it does not stand."""
        self.verdict = verdict
        self.gist = _gist(verdict)
        """What makes it another one: not its numbers, but what they amount to."""
        self.account: RunTotals | None = None
        self.due_at = self.silence = -math.inf
        self.revision = 0

    @classmethod
    def of(
        cls,
        account: RunTotals,
        snapshot: RunSnapshot,
        rules: Rules,
        now: float,
        before: CachedVerdict | None,
    ) -> CachedVerdict:
        """Judge a run as of ``now``. before: its last verdict, whose renewal falls due."""
        verdict = verdict_from_snapshot(snapshot, rules, now)
        judged = cls(verdict)
        vanished = verdict.run_state == semconv.VANISHED
        if snapshot.overrides or (verdict.status is LimitStatus.INCONCLUSIVE and not vanished):
            return judged
        due_at = now + rules.lease * RENEW_AFTER
        if before is None:
            due_at -= rules.lease * RENEW_AFTER * _share(account.session_id)
        elif before.due_at > now:
            due_at = min(due_at, before.due_at)
        if not snapshot.ended:
            rests = [verdict.headroom.get(time, math.inf) for time in TIMES]
            due_at = min(due_at, now + float(min(rests)))
        judged.account, judged.revision, judged.due_at = account, account.revision, due_at
        judged.silence = math.inf if snapshot.ended else stale_after(snapshot, rules)
        if vanished:  # nothing comes of it any more: only time goes by
            stale_in = judged.silence - snapshot.silent_for + snapshot.unheard_for
            turns = (now + stale_in, now + stale_in + rules.hold)
            due = [math.nextafter(turn, math.inf) for turn in turns if turn >= now]
            judged.due_at = min(due_at, *due, math.inf)
            judged.silence = math.inf
        return judged

    def stands(self, account: RunTotals, now: float) -> bool:
        """Tell whether it would say the same of the run now."""
        return (
            now < self.due_at
            and account is self.account
            and account.revision == self.revision
            and account.sampled_at is not None
            and now - account.sampled_at <= self.silence
        )


def _share(session_id: str) -> float:
    """Return a number from 0 to 1 that is the run's own: not all are renewed at one tick."""
    return zlib.crc32(session_id.encode()) / 2**32


def _gist(verdict: Verdict) -> tuple[object, ...]:
    """Return what makes a verdict another one."""
    return (
        verdict.started_at,
        verdict.also_started_at,
        verdict.action,
        verdict.status,
        str(verdict.reason),
        {name: (s.limit, s.status, s.limit_from) for name, s in verdict.resources.items()},
    )
