"""What several targets say of one process, where more than one shows it.

A second target may be another way to the process, or somebody else's page that makes up its name.
It may tighten what the first one says, and loosens nothing: of those that were seen lately the
stricter word counts, and the earliest beginning. The process has ended when one of them says so and
none was seen later that says it goes on.
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, NamedTuple

from otel_budget import semconv
from otel_budget.ledger.attributes import strictest

if TYPE_CHECKING:
    from collections.abc import Collection

    from otel_budget.core.observation import RunAttributes

#: Targets, or samples of one that contradict each other, that are heard at most.
VOICES_MOST = 8


class Voice(NamedTuple):
    """What one target says. Times in seconds on the reader's own clock."""

    at: float
    """When the sample it comes from was taken."""
    attributes: RunAttributes
    began_at: float | None
    timed: bool
    whole_at: float = 0.0
    """When the newest sample was taken of which nothing was missing."""
    ended_at: float | None = None
    """When it was first seen to say that the run has ended, if it does."""

    def follow(self, before: Voice | None) -> Voice:
        """Return it as what the same target says after something else."""
        voice = self
        if before is not None and not voice.whole_at:
            voice = voice._replace(whole_at=before.whole_at)
        if self.attributes.state not in semconv.ENDED_STATES:
            return voice
        known = None if before is None else before.ended_at
        return voice._replace(ended_at=self.at if known is None else known)


def heard_together(voices: Collection[Voice], silence: float) -> Voice:
    """Return what they say together. silence: seconds after which one does not count any more."""
    newest = max(voice.at for voice in voices)
    since = max(voice.whole_at for voice in voices) - silence
    heard = [voice for voice in voices if voice.at >= since]
    attributes = reduce(strictest, (voice.attributes for voice in heard))
    ended = [voice for voice in heard if voice.ended_at is not None]
    since = min((voice.ended_at or 0.0 for voice in ended), default=newest)
    if ended and not any(voice.ended_at is None and voice.at > since for voice in heard):
        attributes = attributes._replace(state=min(voice.attributes.state or "" for voice in ended))
    beginnings = [voice.began_at for voice in heard if voice.began_at is not None]
    timed = any(voice.timed for voice in heard)
    return Voice(newest, attributes, min(beginnings, default=None), timed)
