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
from otel_budget.core.verdict import LimitStatus, judged
from otel_budget.policy.budgets import NO_POOLS, Outline, Pools, outlines
from otel_budget.policy.families import NOTHING_ABOVE, Above
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

    __slots__ = ("due_at", "fingerprint", "revision", "run", "silence", "stopped_above", "verdict")

    def __init__(self, verdict: Verdict, budgets: Pools | None = None) -> None:
        """Keep a verdict of which nothing else is known: it does not stand.

        budgets: those it was made with, if they are known.
        """
        self.verdict = verdict
        shared = verdict.budgets
        outline = outlines(shared) if budgets is None else budgets.outline_of(shared)
        self.fingerprint = _fingerprint(verdict, outline)
        """What makes it another one: not its numbers, but what they amount to."""
        self.run: RunTotals | None = None
        self.stopped_above: str | None = None
        """The run above it that was stopped when it was judged."""
        self.due_at = self.silence = -math.inf
        self.revision = 0

    @classmethod
    def of(
        cls,
        run: RunTotals,
        snapshot: RunSnapshot,
        rules: Rules,
        now: float,
        before: CachedVerdict | None,
        *,
        budgets: Pools = NO_POOLS,
        above: Above = NOTHING_ABOVE,
    ) -> CachedVerdict:
        """Judge a run as of ``now``.

        before: its last verdict, whose renewal falls due. budgets: those that it shares. above:
        what holds because of the runs that it is a descendant of.
        """
        verdict = verdict_from_snapshot(snapshot, rules, now, budgets, above)
        evaluated = cls(verdict, budgets)
        evaluated.stopped_above = above.stopped_by
        vanished = verdict.run_state == semconv.VANISHED
        if snapshot.overrides or (verdict.status is LimitStatus.INCONCLUSIVE and not vanished):
            return evaluated
        if budgets and snapshot.attributes.wrap_up_calls:
            return evaluated  # how much others leave of them matters long before a line does
        due_at = now + rules.lease * RENEW_AFTER
        if before is None:
            due_at -= rules.lease * RENEW_AFTER * _share(run.session_id)
        elif before.due_at > now:
            due_at = min(due_at, before.due_at)
        if not (snapshot.ended or snapshot.has_left):
            rests = [verdict.headroom.get(time, math.inf) for time in TIMES]
            due_at = min(due_at, now + float(min(rests)))
        evaluated.run, evaluated.revision, evaluated.due_at = run, run.revision, due_at
        evaluated.silence = math.inf if snapshot.ended else stale_after(snapshot, rules)
        if snapshot.has_left:
            evaluated.silence = math.inf  # it is none
        elif snapshot.idle_for is not None:
            evaluated.silence = math.inf
            left = (snapshot.attributes.idle_after or 0.0) - snapshot.idle_for
            if left > 0:
                evaluated.due_at = min(due_at, math.nextafter(now + left, math.inf))
        elif vanished:  # nothing comes of it any more: only time goes by
            stale_in = evaluated.silence - snapshot.silent_for + snapshot.unwatched_for
            turns = (now + stale_in, now + stale_in + rules.hold)
            due = [math.nextafter(turn, math.inf) for turn in turns if turn >= now]
            evaluated.due_at = min(due_at, *due, math.inf)
            evaluated.silence = math.inf
        return evaluated

    def is_current(self, run: RunTotals, now: float) -> bool:
        """Tell whether it would say the same of the run now."""
        return (
            now < self.due_at
            and run is self.run
            and run.revision == self.revision
            and run.sampled_at is not None
            and now - run.sampled_at <= self.silence
        )


def _share(session_id: str) -> float:
    """Return a number from 0 to 1 that is the run's own: not all are renewed at one tick."""
    return zlib.crc32(session_id.encode()) / 2**32


def _fingerprint(verdict: Verdict, budgets: Outline) -> tuple[object, ...]:
    """Return what makes a verdict another one. budgets: the same of its budgets."""
    return (
        verdict.started_at,
        verdict.also_started_at,
        verdict.action,
        verdict.status,
        str(verdict.reason),
        verdict.stopped_by,
        verdict.waiting_since,
        verdict.ordered_at,
        verdict.own_limits_replaced,
        {n: (s.limit, s.status, s.limit_from) for n, s in judged(verdict.resources).items()},
        verdict.would and verdict.would[:4],
        verdict.wrap_up and verdict.wrap_up.calls,
        budgets,
    )
