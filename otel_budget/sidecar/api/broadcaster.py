"""The current verdict on every run, and the subscriptions that it goes out to.

All of it lives on one event loop; nothing here is locked.
- A verdict with a new sequence goes out at once; one that says the same as before goes out again
  every third of its lease, with current numbers, so that no lease runs out while the sidecar lives.
- Nothing is sent again that was not judged again: if judging stops, the leases run out, and each
  reader does what its own fail mode says. A reader's lease begins at receipt, so a verdict goes out
  with what is left of its lease, and not at all once the lease is over.
- A slow reader loses old verdicts, never the newest: one frame per run waits for it.
"""

from __future__ import annotations

import asyncio
import logging
import math
from itertools import islice
from typing import TYPE_CHECKING, Self, TypeVar

from otel_budget.core import sse, verdict_json
from otel_budget.sidecar.verdict_cache import RENEW_AFTER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator
    from types import TracebackType

    from otel_budget.core.verdict import LimitStatus, Verdict

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: The longest time, in seconds, that a stream carries no byte: a reader gives it up as dead after
#: 15, and proxies on the way do so not much later.
KEEP_ALIVE_AFTER = 5.0
#: A renewal goes out with this publication, not the next, once this share of its time has passed.
_EARLY = 0.9
#: Frames in one write: a slow reader's old verdicts must not pile up in the socket's buffer.
_FRAMES_PER_WRITE = 64
_KEEP_ALIVE = sse.KEEP_ALIVE.encode()
#: What is left of a lease is rounded down to this many parts, so that readers share the same bytes.
_HUNDRED = 100
_ROUNDING = 1e-9
#: With at least this many parts left, a verdict was judged just now and goes out with all of them.
_AT_ONCE = 95


class PublishedVerdict:
    """One verdict as it is published.

    Its text is rendered when first asked for, and only once except for what is left of its lease.
    """

    __slots__ = ("_frame", "_pieces", "sent_at", "verdict")

    def __init__(self, verdict: Verdict, sent_at: float) -> None:
        """Keep a verdict. sent_at: when the copy that subscribers got last was evaluated."""
        self.verdict, self.sent_at = verdict, sent_at
        self._pieces: tuple[str, str] | None = None
        self._frame: tuple[int, bytes] | None = None
        """Hundredths of the lease that are left, and the frame that says so."""

    @property
    def sequence(self) -> int:
        """Return the number of the publication; 0 if it has none."""
        return self.verdict.sequence or 0

    def share_left(self, now: float) -> int:
        """Return how many hundredths of its lease are left; 0 or less if it is over."""
        lease = self.verdict.lease_seconds
        if lease is None:
            return _HUNDRED
        left = lease - max(0.0, now - self.verdict.evaluated_at)
        share = math.floor(left / lease * _HUNDRED + _ROUNDING) if left > 0 else 0
        return _HUNDRED if share >= _AT_ONCE else share

    def json(self, share: int = _HUNDRED) -> str:
        """Return the verdict as one line of JSON. share: hundredths of its lease that are left."""
        if self._pieces is None:
            self._pieces = verdict_json.around_lease(self.verdict)
        lease = self.verdict.lease_seconds
        left = (
            "null" if lease is None else repr(lease if share == _HUNDRED else _part(lease, share))
        )
        return f"{self._pieces[0]}{left}{self._pieces[1]}"

    def frame(self, share: int = _HUNDRED) -> bytes:
        """Return the verdict as a Server-Sent Events frame. share: as of ``json``."""
        if self._frame is None or self._frame[0] != share:
            text = sse.frame(sse.EVENT_VERDICT, self.json(share), self.verdict.sequence)
            self._frame = share, text.encode()
        return self._frame[1]


def _part(lease: float, share: int) -> float:
    """Return some hundredths of a lease in seconds, in whole milliseconds."""
    return lease if share == _HUNDRED else math.floor(lease * share * 10) / 1000


class VerdictBroadcaster:
    """Holds the current verdicts and sends them to subscribers."""

    def __init__(self, lease: float, clock: Callable[[], float]) -> None:
        """Start without a verdict.

        lease: seconds, as in the verdicts to come. clock: the one they are evaluated by.
        """
        self.lease, self._clock = lease, clock
        self.closed = False
        self._current: dict[str, PublishedVerdict] = {}
        self._unrendered: set[str] = set()
        """Session ids of runs whose verdict could not be rendered."""
        self._for_all: set[Subscription] = set()
        self._for_some: set[Subscription] = set()
        self._for_one: dict[str, set[Subscription]] = {}
        """The same, by the runs they are on."""

    @property
    def renew_after(self) -> float:
        """Return the seconds after which an unchanged verdict is sent again."""
        return self.lease * RENEW_AFTER

    @property
    def keep_alive_after(self) -> float:
        """Return the seconds after which a stream without a verdict gets a sign of life."""
        return min(self.renew_after, KEEP_ALIVE_AFTER)

    @property
    def subscribers(self) -> int:
        """Return the number of open subscriptions."""
        return len(self._for_all) + len(self._for_some)

    def is_followed(self, session_id: str) -> bool:
        """Tell whether a subscription names this run. May be called from any thread."""
        return session_id in self._for_one

    def publish(self, verdicts: Iterable[Verdict], forgotten: Iterable[str] = ()) -> None:
        """Publish the verdicts of one tick, each with its sequence; send those that are due.

        forgotten: session ids that no longer have a verdict.
        """
        for session_id in forgotten:
            self._current.pop(session_id, None)
            self._unrendered.discard(session_id)
            for subscription in self._listeners(session_id):
                subscription.withdraw(session_id)
        for verdict in verdicts:
            self._publish(verdict)

    def get(self, session_id: str) -> PublishedVerdict | None:
        """Return the current verdict of a run; None if there is none."""
        return self._current.get(session_id)

    def is_over(self, published: PublishedVerdict) -> bool:
        """Tell whether the lease of a verdict has run out."""
        return published.share_left(self._clock()) <= 0

    def json_of(self, published: PublishedVerdict) -> str | None:
        """Return a verdict as JSON with what is left of its lease; None if that has run out."""
        share = published.share_left(self._clock())
        return self._rendered(published, published.json, share) if share > 0 else None

    def frames_of(self, published: Iterable[PublishedVerdict]) -> Iterator[bytes]:
        """Yield a frame for each whose lease has not run out, with what is left of it."""
        now = self._clock()
        for one in published:
            share = one.share_left(now)
            frame = self._rendered(one, one.frame, share) if share > 0 else None
            if frame is not None:
                yield frame

    def _rendered(
        self, published: PublishedVerdict, render: Callable[[int], T], share: int
    ) -> T | None:
        """Return the text of a verdict; None if it cannot be rendered, which costs no other run."""
        try:
            return render(share)
        except Exception:
            session_id = published.verdict.session_id
            if session_id not in self._unrendered:
                self._unrendered.add(session_id)
                logger.exception(
                    "run %r: its verdict cannot be rendered, so no client gets it. This is a bug: "
                    "please report it with the traceback", session_id,
                )  # fmt: skip
            return None

    def page(
        self, *, limit: int, after: str = "", status: LimitStatus | None = None
    ) -> tuple[list[PublishedVerdict], str | None]:
        """Return up to ``limit`` verdicts sorted by session id, and where the next page starts.

        after: the session id that ended the previous page. status: only runs with this status, and
        those whose lease has run out. The second value is the ``after`` of the next page; None on
        the last.
        """
        found: list[PublishedVerdict] = []
        for session_id in sorted(key for key in self._current if key > after):
            published = self._current[session_id]
            other = status is not None and published.verdict.status is not status
            if other and not self.is_over(published):
                continue
            if len(found) == limit:
                return found, found[-1].verdict.session_id
            found.append(published)
        return found, None

    def subscribe(self, *session_ids: str, after: int | None = None) -> Subscription:
        """Open a subscription to some runs, or to all, with their current verdicts in it.

        after: the last sequence the reader saw; only newer verdicts are in it then. A sequence that
        this sidecar has not reached comes from before its storage was lost: then all are in it.
        """
        wanted = self._current.keys() if not session_ids else dict.fromkeys(session_ids)
        current = [self._current[one] for one in wanted if one in self._current]
        if after is not None and after <= self._newest():
            current = [published for published in current if published.sequence > after]
        current = [published for published in current if not self.is_over(published)]
        subscription = Subscription(self, sorted(current, key=lambda p: p.sequence))
        if session_ids:
            self._listen(subscription, session_ids)
        else:
            self._for_all.add(subscription)
        return subscription

    def follow(self, subscription: Subscription, session_ids: Iterable[str]) -> list[str]:
        """Add runs to a subscription to some runs; return those without a current verdict.

        Their current verdicts go into it at once, even if it was to them before.
        """
        unknown, wanted = [], dict.fromkeys(session_ids)
        self._listen(subscription, wanted)
        for session_id in wanted:
            published = self._current.get(session_id)
            if published is None or self.is_over(published):
                unknown.append(session_id)
            else:
                subscription.offer(published, changed=True)
        return unknown

    def unfollow(self, subscription: Subscription, session_ids: Iterable[str]) -> None:
        """Remove runs from a subscription to some runs."""
        for session_id in subscription.followed.intersection(session_ids):
            subscription.followed.discard(session_id)
            subscription.withdraw(session_id)
            same = self._for_one.get(session_id, set())
            same.discard(subscription)
            if not same:
                self._for_one.pop(session_id, None)

    def unsubscribe(self, subscription: Subscription) -> None:
        """Remove a subscription; a second call does nothing."""
        self._for_all.discard(subscription)
        self._for_some.discard(subscription)
        self.unfollow(subscription, set(subscription.followed))

    def close(self) -> None:
        """End every stream once it has sent what is waiting in it."""
        self.closed = True
        for subscription in (*self._for_all, *self._for_some):
            subscription.wake()

    def _listen(self, subscription: Subscription, session_ids: Iterable[str]) -> None:
        self._for_some.add(subscription)
        for session_id in session_ids:
            subscription.followed.add(session_id)
            self._for_one.setdefault(session_id, set()).add(subscription)

    def _publish(self, verdict: Verdict) -> None:
        before = self._current.get(verdict.session_id)
        now = verdict.evaluated_at
        changed = before is None or before.verdict.sequence != verdict.sequence
        due = before is None or now - before.sent_at >= self.renew_after * _EARLY
        published = PublishedVerdict(
            verdict, now if changed or due or before is None else before.sent_at
        )
        self._current[verdict.session_id] = published
        if changed or due:
            for subscription in self._listeners(verdict.session_id):
                subscription.offer(published, changed=changed)

    def _listeners(self, session_id: str) -> tuple[Subscription, ...]:
        return (*self._for_all, *self._for_one.get(session_id, ()))

    def _newest(self) -> int:
        return max((published.sequence for published in self._current.values()), default=0)


class Subscription:
    """One reader: what waits for it, one frame per run."""

    def __init__(self, broadcaster: VerdictBroadcaster, first: Iterable[PublishedVerdict]) -> None:
        """Open it with the verdicts that go out at once."""
        self.followed: set[str] = set()
        """The runs it is to; empty for all."""
        self._broadcaster = broadcaster
        self._pending = {published.verdict.session_id: published for published in first}
        self._wake = asyncio.Event()
        self._sent_at = 0.0
        """Time of the event loop."""
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        """Return the subscription, which is already open."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the subscription."""
        self._broadcaster.unsubscribe(self)
        if self._timer is not None:
            self._timer.cancel()

    @property
    def follows(self) -> int:
        """Return the number of runs it is to; 0 for all."""
        return len(self.followed)

    @property
    def waiting(self) -> int:
        """Return how many frames are waiting to be read."""
        return len(self._pending)

    def offer(self, published: PublishedVerdict, *, changed: bool) -> None:
        """Put a verdict in place of an older one of the same run.

        A changed one goes to the end, so that the ids of changes go out in ascending order, and a
        reader that comes back with the last id it saw misses none.
        """
        if changed:
            self._pending.pop(published.verdict.session_id, None)
        self._pending[published.verdict.session_id] = published
        self._wake.set()

    def withdraw(self, session_id: str) -> None:
        """Drop the waiting verdict of a run that was forgotten."""
        self._pending.pop(session_id, None)

    def wake(self) -> None:
        """Wake the reader."""
        self._wake.set()

    async def frames(self) -> AsyncIterator[bytes]:
        """Yield what there is to send, and a comment after too long a silence.

        Ends when the broadcaster is closed and nothing is waiting.
        """
        loop = asyncio.get_running_loop()
        self._check_silence(loop)
        if not self._pending:
            yield _KEEP_ALIVE  # says at once that the sidecar lives, for a run it does not know yet
        while True:
            self._wake.clear()
            while self._pending:
                frames = self._take()
                if frames:
                    yield frames
            if self._broadcaster.closed:
                return
            self._sent_at = loop.time()
            await self._wake.wait()
            if not self._pending and not self._broadcaster.closed:
                yield _KEEP_ALIVE

    def _check_silence(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wake the reader if nothing was sent for too long; check again when that may be so.

        One timer as long as the stream is open: making one for each wait would take longer than
        waking the reader, and there may be thousands of them.
        """
        after = self._broadcaster.keep_alive_after
        left = self._sent_at + after - loop.time()
        if left <= 0:
            self._wake.set()
            left = after
        self._timer = loop.call_later(left, self._check_silence, loop)

    def _take(self) -> bytes:
        ids = list(islice(self._pending, _FRAMES_PER_WRITE))
        taken = [self._pending.pop(session_id) for session_id in ids]
        return b"".join(self._broadcaster.frames_of(taken))
