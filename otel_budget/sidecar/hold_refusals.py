"""Reservations that were refused, as entries of the audit log: few, however many there are.

Of a budget's group and a reason the first is noted at once, and then one entry for all that came
within ``EVERY``, with their number.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_budget.core.audit import AuditEntry, AuditKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_budget.policy.reservations import Refused

#: Seconds between two entries of one group and reason.
EVERY: Final = 60.0
#: Groups that are told apart, at most.
_MOST: Final = 1000

_Subject = tuple[str, str]
"""As ``limit_from`` names the group, and why."""


class HoldRefusals:
    """Notes them; used from one thread at a time."""

    def __init__(self, note: Callable[[AuditEntry], None] | None) -> None:
        """Begin with none. note: takes an entry; None: nothing is logged."""
        self._note = note
        self._said: dict[_Subject, float] = {}
        self._more: dict[_Subject, tuple[int, Refused, str]] = {}
        self.counts: dict[_Subject, int] = {}
        """How many there were, by budget and reason."""

    def note(self, why: Refused, session_id: str, now: float) -> None:
        """Take note of one."""
        room = why.rooms[0]
        of = room.claim.budget, str(why.refusal)
        self.counts[of] = self.counts.get(of, 0) + 1
        subject = room.state.origin, str(why.refusal)
        if subject not in self._said and len(self._said) >= _MOST:
            self._said.clear()
        if now - self._said.get(subject, -EVERY) >= EVERY:
            self._said[subject] = now
            self._write(why, session_id, 1, now)
        else:
            times = self._more.get(subject, (0, why, session_id))[0]
            if subject in self._more or len(self._more) < _MOST:
                self._more[subject] = times + 1, why, session_id

    def settle(self, now: float) -> None:
        """Note those that came since the last entry on the same, once that is long enough ago."""
        for subject, (times, why, session_id) in list(self._more.items()):
            if now - self._said.get(subject, -EVERY) >= EVERY:
                del self._more[subject]
                self._said[subject] = now
                self._write(why, session_id, times, now)

    def _write(self, why: Refused, session_id: str, times: int, now: float) -> None:
        if self._note is None:
            return
        room = why.rooms[0]
        body = {
            "event": "hold_refused",
            "reason": str(why.refusal),
            "limit_from": room.state.origin,
            "times": times,
            "detail": why.detail[:500],
        }
        self._note(AuditEntry(AuditKind.BUDGET, now, body, session_id, budget=room.claim.budget))
