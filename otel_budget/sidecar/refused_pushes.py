"""Which runs the ledger does not let a pusher speak for, so that its pushes are answered so.

Whoever pushes under the id of a run that another one carries would be told that all is well, and
nothing of it counts: a program that changed its name here would not find out.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from otel_budget.core.observation import PUSHED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Pairs that are kept.
_MOST: Final = 10_000


class RefusedPushes:
    """Pairs of a run and who may not push it, as of the newest step that looked at them."""

    def __init__(self) -> None:
        """Begin with none."""
        self._known: dict[tuple[str, str], str] = {}

    def note(
        self, shown: Iterable[tuple[str, str]], refused: Mapping[tuple[str, str], str]
    ) -> None:
        """Take note of a step. shown: runs with their target, without its labels.

        refused: those that were, to why.
        """
        if self._known:
            for pair in shown:
                self._known.pop(pair, None)
        self._known.update(refused)
        while len(self._known) > _MOST:
            del self._known[next(iter(self._known))]

    def of(self, peer: str, sessions: Iterable[str]) -> Counter[str]:
        """Return how many of these runs a peer may not push, by reason."""
        found, target = Counter[str](), f"{PUSHED}{peer}"
        if self._known:
            found.update(
                self._known[session_id, target]
                for session_id in sessions
                if (session_id, target) in self._known
            )
        return found
