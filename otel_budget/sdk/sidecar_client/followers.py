"""The runs of this process that follow one sidecar, and who hears of each."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

from otel_budget.logs.logger import logger

if TYPE_CHECKING:
    from otel_budget.core.verdict import Verdict


class Follower(Protocol):
    """One run's ear. Nothing that it does ends those of the others."""

    session_id: str

    def receive(self, verdict: Verdict) -> None:
        """Take in a verdict on the run."""

    def set_reachable(self, *, reachable: bool) -> None:
        """Take note whether the sidecar answers."""

    def answered(self) -> None:
        """Take note that it was heard of, with a verdict or without."""

    def not_answered(self) -> None:
        """Take note that it was asked in vain."""


class Followers:
    """By session id; several monitors may have the same."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._followers: dict[str, tuple[Follower, ...]] = {}

    def __len__(self) -> int:
        """Return the number of ids."""
        return len(self._followers)

    def add(self, follower: Follower) -> None:
        """Add one."""
        with self.lock:
            same = self._followers.get(follower.session_id, ())
            self._followers[follower.session_id] = (*same, follower)

    def remove(self, follower: Follower) -> bool:
        """Remove one; False if it was not there."""
        with self.lock:
            same = self._followers.get(follower.session_id, ())
            left = tuple(one for one in same if one is not follower)
            if left:
                self._followers[follower.session_id] = left
            else:
                self._followers.pop(follower.session_id, None)
            return len(left) < len(same)

    def ids(self) -> list[str]:
        """Return the ids, the oldest first."""
        with self.lock:
            return list(self._followers)

    def of(self, session_id: str) -> tuple[Follower, ...]:
        """Return who hears of a run."""
        return self._followers.get(session_id, ())

    def all(self) -> list[Follower]:
        """Return all followers."""
        with self.lock:
            return [one for same in self._followers.values() for one in same]

    def deliver(self, verdict: Verdict) -> bool:
        """Deliver a verdict; False if no run here asked for it."""
        followers = self.of(verdict.session_id)
        for follower in followers:
            try:
                follower.receive(verdict)
            except BaseException:
                logger.exception("run %r: a verdict could not be processed", verdict.session_id)
        return bool(followers)

    def set_reachable(self, session_ids: list[str], *, reachable: bool) -> None:
        """Tell those of some runs whether the sidecar answers."""
        for session_id in session_ids:
            for follower in self.of(session_id):
                try:
                    follower.set_reachable(reachable=reachable)
                except BaseException:
                    logger.exception(
                        "run %r: a change of the sidecar's state could not be processed", session_id
                    )

    def note_answer(self, *, answered: bool) -> None:
        """Tell all that the sidecar answered, or that it was asked in vain."""
        for follower in self.all():
            try:
                if answered:
                    follower.answered()
                else:
                    follower.not_answered()
            except BaseException:
                logger.exception(
                    "run %r: an answer of the sidecar could not be processed", follower.session_id
                )
