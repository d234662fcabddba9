"""How fast something is being spent: what was spent of late over the time it took.

Both sums fade with the same time constant, so an old burst stops counting after a few minutes and
the very first samples are not averaged with a past that never was.
"""

from __future__ import annotations

import math
from typing import NamedTuple

#: Seconds. Long enough to bridge a slow model call, short enough to follow a change of pace.
TIME_CONSTANT = 60.0
#: Nothing spent for five time constants (what is left then is below 1 %): not being spent.
IDLE_AFTER = 5 * TIME_CONSTANT


def faded(seconds: float) -> float:
    """Return what is left of a sum after so many seconds."""
    return math.exp(-seconds / TIME_CONSTANT)


class Rate(NamedTuple):
    """A fading sum of what was spent, in units of the resource, and of the seconds it took."""

    spent: float = 0.0
    seconds: float = 0.0
    spent_at: float | None = None
    """When something was last spent."""

    def observe(
        self, amount: float, seconds: float, at: float, fading: float | None = None
    ) -> Rate:
        """Return the rate after ``amount`` more was spent in ``seconds`` up to the time ``at``.

        fading: ``faded(seconds)``, where it is known already.
        """
        fade = faded(seconds) if fading is None else fading
        return Rate(
            self.spent * fade + amount,
            self.seconds * fade + seconds,
            at if amount > 0 else self.spent_at,
        )

    def per_second(self, now: float) -> float | None:
        """Return units per second, or None when it is not being spent."""
        if self.spent_at is None or now - self.spent_at > IDLE_AFTER or self.seconds <= 0:
            return None
        return self.spent / self.seconds
