"""Follow the sidecar's verdicts on one run, with the standard library only.

All runs of a process that follow one sidecar share one connection, and the thread that reads it;
a run that ends does not end it for the others, and the last one takes it along.
"""

from __future__ import annotations

import os
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from otel_budget.sdk.sidecar_client.address import SidecarAddress
from otel_budget.sdk.sidecar_client.followers import Followers
from otel_budget.sdk.sidecar_client.handover import HANDOVERS
from otel_budget.sdk.sidecar_client.nudge import look
from otel_budget.sdk.sidecar_client.stream import VerdictStream

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otel_budget.core.verdict import Verdict
    from otel_budget.sdk.run_record import RunRecord
    from otel_budget.sdk.sidecar_client.slices import Slices


def _finish_both(first: Callable[[float], bool], seconds: float) -> bool:
    """Have slices given back, and runs handed over: what is not given back ends with its lease."""
    until = time.monotonic() + seconds
    first(seconds)
    return HANDOVERS.finish(max(0.0, until - time.monotonic()))


class Links:
    """The sidecars that this process follows."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._links: dict[SidecarAddress, tuple[VerdictStream, Followers]] = {}
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._in_child)

    def join(self, client: VerdictClient, address: SidecarAddress, url: str) -> VerdictStream:
        """Have a run followed, and return what follows it."""
        with self._lock:
            link, runs = self._links.get(address, (None, None))
            if link is not None and runs is not None:
                runs.add(client)
                link.changed(client.session_id)
                return link
            runs = Followers()
            runs.add(client)
            link = VerdictStream(address, url, runs)
            link.start()
            self._links[address] = link, runs
            return link

    def leave(self, client: VerdictClient, address: SidecarAddress) -> None:
        """Have a run followed no more; a second time does nothing."""
        with self._lock:
            link, runs = self._links.get(address, (None, None))
            if link is None or runs is None or not runs.remove(client):
                return
            if len(runs):
                link.changed(client.session_id)
            else:
                del self._links[address]
                link.end()

    def _in_child(self) -> None:
        for link, _ in self._links.values():
            link.forget()
        self._lock = threading.RLock()
        self._links = {}


LINKS: Final = Links()


class VerdictClient:
    """Hands every verdict on a run to ``on_verdict``, and changes of reachability on."""

    def __init__(
        self,
        url: str,
        session_id: str,
        *,
        on_verdict: Callable[[Verdict], None],
        on_reachable: Callable[[bool], None],
        on_answer: Callable[[], None] = lambda: None,
        on_no_answer: Callable[[], None] = lambda: None,
    ) -> None:
        """Check the URL. Nothing is opened before ``start``.

        on_life: called with whatever is heard of the sidecar, verdict or not. on_silence: called
        whenever it was asked in vain.
        """
        self._address = SidecarAddress.parse(url)
        self._url, self.session_id = url, session_id
        self._on_verdict, self._on_reachable, self._on_answer = on_verdict, on_reachable, on_answer
        self._on_no_answer = on_no_answer
        self._lock = threading.Lock()
        self._link: VerdictStream | None = None
        self._stopped = False
        self._reachable: bool | None = None
        self._finish_slices: Callable[[float], bool] | None = None
        """Waits, within seconds, until what was granted of shared budgets is given back."""

    @property
    def problem(self) -> str:
        """What was wrong when the sidecar was last asked; empty before anything was."""
        return "" if self._link is None else self._link.problem

    def start(self) -> None:
        """Begin to follow."""
        if not self._stopped:
            self._link = LINKS.join(self, self._address, self._url)

    def is_reader_thread(self) -> bool:
        """Tell whether the caller is a thread that hears the sidecar, which waits for nothing."""
        return self._link is not None and self._link.is_reader_thread()

    def nudge(self) -> None:
        """Have the sidecar look at the run now. Returns at once."""
        if self._link is not None and not self._stopped:
            self._link.nudge(self.session_id)

    def withdraw_nudge(self) -> None:
        """Have it not look, if that was not said yet."""
        if self._link is not None:
            self._link.withdraw_nudge(self.session_id)

    def last_look(self) -> tuple[str, Callable[[float], bool]]:
        """Return what tells the sidecar apart, and what has it look once more, within seconds."""
        return self._url, partial(look, self._address, self.session_id)

    def hand_over(self, run: Sequence[RunRecord]) -> Callable[[float], bool]:
        """Have the last state of the run handed over; return what waits for that, within seconds.

        run: its records; none if there is nothing to say of it. What is returned returns False if
        something was not taken, of this run or another of the process.
        """
        if run:
            HANDOVERS.add(self._address, run)
        first = self._finish_slices
        return HANDOVERS.finish if first is None else partial(_finish_both, first)

    def slices(self, on_more: Callable[[], None]) -> Slices:
        """Return the run's credit of shared budgets. on_more: called when there may be more."""
        from otel_budget.sdk.sidecar_client.slices import TENDERS  # few runs share budgets

        self._finish_slices = partial(TENDERS.finish, self._address)
        return TENDERS.slices(self._address, self.session_id, on_more)

    def stop(self) -> None:
        """Stop following; does not wait for the threads, which end in a moment."""
        self._stopped = True
        LINKS.leave(self, self._address)

    # --- what the link tells ---------------------------------------------------------------------
    def receive(self, verdict: Verdict) -> None:
        """Hand on a verdict."""
        if not self._stopped:
            self._on_verdict(verdict)

    def set_reachable(self, *, reachable: bool) -> None:
        """Hand on whether the sidecar answers, if that is news."""
        if self._stopped:
            return
        if reachable:
            self._on_answer()
        with self._lock:
            news, self._reachable = reachable is not self._reachable, reachable
        if news:
            self._on_reachable(reachable)

    def answered(self) -> None:
        """Hand on that it was heard of."""
        if not self._stopped:
            self._on_answer()

    def not_answered(self) -> None:
        """Hand on that it was asked in vain."""
        if not self._stopped:
            self._on_no_answer()
