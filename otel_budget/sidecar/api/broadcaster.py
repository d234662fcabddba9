"""The current verdict on every run, and the subscriptions that it goes out to.

All of it lives on one event loop; nothing here is locked.
- A verdict with a new sequence goes out at once; one that says the same as before goes out again
  every third of its lease, with the numbers of now, so that no lease runs out on a living sidecar.
- Nothing is sent again that was not judged again: should judging stop, the leases run out, and each
  reader does what its own fail mode says. A reader's lease begins at its receipt, so a verdict goes
  out with what is left of its lease, and to nobody once that is over.
- A slow reader loses old verdicts, never the newest: what waits for it is one frame per run.
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

#: Seconds without a byte on a stream at most: a reader takes one for dead after 15, and proxies on
#: the way do after not much more.
KEEP_ALIVE_AFTER = 5.0
#: A renewal that is due this little later goes with the present publication, not with the next.
_EARLY = 0.9
#: Frames in one write: a slow reader's old verdicts must not pile up in the socket's buffer.
_FRAMES_PER_WRITE = 64
_KEEP_ALIVE = sse.KEEP_ALIVE.encode()
#: A lease is told in so many parts, rounded down: many readers at once get the same bytes.
_HUNDRED = 100
_ROUNDING = 1e-9
#: What goes out before so much of the lease is gone was just judged, and has the whole of it.
_AT_ONCE = 95


class Published:
    """One verdict as it is published; its text is made when first asked for, and once but for what
    is left of its lease.
    """

    __slots__ = ("_frame", "_pieces", "sent_at", "verdict")

    def __init__(self, verdict: Verdict, sent_at: float) -> None:
        """Keep a verdict. sent_at: time of evaluation of the copy that last went to subscribers."""
        self.verdict, self.sent_at = verdict, sent_at
        self._pieces: tuple[str, str] | None = None
        self._frame: tuple[int, bytes] | None = None
        """Hundredths of the lease, and the frame that has so much."""

    @property
    def sequence(self) -> int:
        """Return the number of the publication; 0 for a verdict that was never given one."""
        return self.verdict.sequence or 0

    def share_left(self, now: float) -> int:
        """Return how many hundredths of its lease are left; none is left at 0 and below."""
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
    """Holds what is published and hands it to subscribers."""

    def __init__(self, lease: float, clock: Callable[[], float]) -> None:
        """Begin with no verdict. lease: seconds, as in the verdicts to come. clock: that of their
        evaluation.
        """
        self.lease, self._clock = lease, clock
        self.closed = False
        self._current: dict[str, Published] = {}
        self._unmade: set[str] = set()
        """Session ids of runs whose verdict could not be written."""
        self._for_all: set[Subscription] = set()
        self._for_some: set[Subscription] = set()
        self._for_one: dict[str, set[Subscription]] = {}
        """Of those, who listens, by run."""

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
        """Tell whether somebody listens to one run alone. May be called from any thread."""
        return session_id in self._for_one

    def publish(self, verdicts: Iterable[Verdict], forgotten: Iterable[str] = ()) -> None:
        """Take the verdicts of one tick, each with its sequence, and send out what is due.

        forgotten: session ids that have no verdict any more.
        """
        for session_id in forgotten:
            self._current.pop(session_id, None)
            self._unmade.discard(session_id)
            for subscription in self._listeners(session_id):
                subscription.withdraw(session_id)
        for verdict in verdicts:
            self._publish(verdict)

    def get(self, session_id: str) -> Published | None:
        """Return the present verdict of a run; None if there is no such run."""
        return self._current.get(session_id)

    def is_over(self, published: Published) -> bool:
        """Tell whether the lease of a verdict ran out since it was judged."""
        return published.share_left(self._clock()) <= 0

    def json_of(self, published: Published) -> str | None:
        """Return a verdict with what is left of its lease as JSON; None if that is over."""
        share = published.share_left(self._clock())
        return self._made(published, published.json, share) if share > 0 else None

    def frames_of(self, published: Iterable[Published]) -> Iterator[bytes]:
        """Yield a frame for each that still has some of its lease, with what is left of it."""
        now = self._clock()
        for one in published:
            share = one.share_left(now)
            frame = self._made(one, one.frame, share) if share > 0 else None
            if frame is not None:
                yield frame

    def _made(self, published: Published, make: Callable[[int], T], share: int) -> T | None:
        """Return the text of a verdict; None if it cannot be made: it goes to nobody, others do."""
        try:
            return make(share)
        except Exception:
            session_id = published.verdict.session_id
            if session_id not in self._unmade:
                self._unmade.add(session_id)
                logger.exception(
                    "session %s: its verdict cannot be written, so that nobody is given it: a "
                    "mistake of this program. Please report it, with the traceback", session_id,
                )  # fmt: skip
            return None

    def page(
        self, *, limit: int, after: str = "", status: LimitStatus | None = None
    ) -> tuple[list[Published], str | None]:
        """Return up to ``limit`` verdicts in the order of their session ids, and where to go on.

        after: the session id where the page before ended. status: only these, and those of which
        it is not known any more. The second value is the ``after`` of the next page, None when
        there is none.
        """
        found: list[Published] = []
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
        """Open a subscription to some runs, or to all; what is current goes into it at once.

        after: the last sequence the reader saw; only newer verdicts go into it at once. A number
        this sidecar has not given out yet comes from another life (its storage is gone): then all
        go.
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
        """Have a subscription to some runs be to these as well; return those without a verdict.

        What is current of them goes into it at once, also of those that it was to before.
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
        """Have a subscription to some runs be to these no more."""
        for session_id in subscription.followed.intersection(session_ids):
            subscription.followed.discard(session_id)
            subscription.withdraw(session_id)
            same = self._for_one.get(session_id, set())
            same.discard(subscription)
            if not same:
                self._for_one.pop(session_id, None)

    def unsubscribe(self, subscription: Subscription) -> None:
        """Forget a subscription; a second time does nothing."""
        self._for_all.discard(subscription)
        self._for_some.discard(subscription)
        self.unfollow(subscription, set(subscription.followed))

    def close(self) -> None:
        """End every stream once it has sent what waits in it."""
        self.closed = True
        for subscription in (*self._for_all, *self._for_some):
            subscription.wake()

    def _listen(self, subscription: Subscription, session_ids: Iterable[str]) -> None:
        """Let a subscription be to these runs."""
        self._for_some.add(subscription)
        for session_id in session_ids:
            subscription.followed.add(session_id)
            self._for_one.setdefault(session_id, set()).add(subscription)

    def _publish(self, verdict: Verdict) -> None:
        before = self._current.get(verdict.session_id)
        now = verdict.evaluated_at
        changed = before is None or before.verdict.sequence != verdict.sequence
        due = before is None or now - before.sent_at >= self.renew_after * _EARLY
        published = Published(verdict, now if changed or due or before is None else before.sent_at)
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

    def __init__(self, broadcaster: VerdictBroadcaster, first: Iterable[Published]) -> None:
        """Begin with what goes out at once."""
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
        """Return how many frames wait to be read."""
        return len(self._pending)

    def offer(self, published: Published, *, changed: bool) -> None:
        """Put a verdict in place of an older one of the same run.

        A changed one goes to the end, so the ids of changes go out in ascending order and none is
        passed over by a reader that comes back with the last id it saw.
        """
        if changed:
            self._pending.pop(published.verdict.session_id, None)
        self._pending[published.verdict.session_id] = published
        self._wake.set()

    def withdraw(self, session_id: str) -> None:
        """Drop what waits of a run that was forgotten."""
        self._pending.pop(session_id, None)

    def wake(self) -> None:
        """Let the reader look again."""
        self._wake.set()

    async def frames(self) -> AsyncIterator[bytes]:
        """Yield what there is to send, and a comment when there was nothing for too long.

        Ends when the broadcaster is closed and nothing waits any more.
        """
        loop = asyncio.get_running_loop()
        self._look(loop)
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

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wake the reader if nothing was sent for too long; look again when that may be.

        One timer for as long as the stream is open: to make one each time it waits takes longer
        than to wake it, and there may be thousands of them.
        """
        after = self._broadcaster.keep_alive_after
        left = self._sent_at + after - loop.time()
        if left <= 0:
            self._wake.set()
            left = after
        self._timer = loop.call_later(left, self._look, loop)

    def _take(self) -> bytes:
        ids = list(islice(self._pending, _FRAMES_PER_WRITE))
        taken = [self._pending.pop(session_id) for session_id in ids]
        return b"".join(self._broadcaster.frames_of(taken))
