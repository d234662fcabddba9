"""What the end of a process waits for: that the ends of its runs are seen.

A run that was given a sidecar hands it its last state from the background; where that was taken,
there is no scrape to wait for.

No run waits by itself: it stays on the page until it has been scraped, and for a minute after. Only
a page that is about to go has to wait, once for all of its runs.
"""

from __future__ import annotations

import logging
import math
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from otel_budget.errors import InvalidValueError
from otel_budget.logs.logger import logger
from otel_budget.runtime.environment import setting
from otel_budget.runtime.fork import in_child
from otel_budget.sdk.lifecycle.at_exit import AT_EXIT, ExitOrder
from otel_budget.sdk.metrics.collector import RUNS, RunCollector

ENV_SCRAPE_WAIT: Final = "OTEL_BUDGET_SCRAPE_WAIT"
#: Seconds to wait for scrapes that are due by then, unless told otherwise.
USUAL: Final = 5.0
#: Seconds a sidecar may take to look at what ended.
LOOK_WITHIN: Final = 2.0
#: Times as long as a look in place took in which there is no other, and seconds at most if it
#: helped.
_SHARE, _PAUSE = 10, 0.4
_ALLOWED: Final = "a number of seconds, 0 or more"


#: Has a sidecar look at the runs of this process, within so many seconds; True if it did.
Look = Callable[[float], bool]
#: Waits until what was handed over is taken, within so many seconds; False if some was not.
Finish = Callable[[float], bool]


class LastScrape:
    """Waits, when the interpreter or an endpoint ends, for those who scrape this process."""

    def __init__(
        self,
        sessions: RunCollector,
        order: ExitOrder,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Wait as is usual for those who scrape these, and know no sidecar."""
        self._sessions, self._order, self._monotonic = sessions, order, monotonic
        self.wait_for: float | None = None
        """Seconds to wait for scrapes; None for the usual time."""
        self._looks: dict[str, Look] = {}
        self._lock = threading.Lock()
        """Of what is handed over, below."""
        self._finish: Finish | None = None
        self._unheard = False
        """True if a run has ended, since the last wait, that has no sidecar to be handed to."""
        self._heard = 0
        """Number of runs that had ended when all were found to be handed over."""
        self._look_from = -math.inf
        """When a sidecar may be asked in place again."""
        in_child(self._reset)

    def ask(self, scrape_wait: float | None) -> None:
        """Take the seconds to wait at most. None: what the environment says, or as is usual.

        Raises InvalidValueError.
        """
        named, value = "scrape_wait", scrape_wait
        if value is None:
            named, text = ENV_SCRAPE_WAIT, setting(ENV_SCRAPE_WAIT)
            if not text or self.wait_for is not None:
                return
            try:
                value = float(text)
            except ValueError as exc:
                raise InvalidValueError(named, text, _ALLOWED) from exc
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidValueError(named, value, _ALLOWED)
        if not 0 <= value < math.inf:
            raise InvalidValueError(named, value, _ALLOWED)
        self.wait_for = float(value)

    def ended(
        self,
        sidecar: str | None = None,
        look: Look | None = None,
        handed_over: Finish | None = None,
    ) -> None:
        """Take note that a run has ended. sidecar: what tells apart those that can be had to look,
        one is asked for all of its runs. handed_over: waits for what is handed over to sidecars,
        this run included, unless there is nothing to say of it; None for one without a sidecar.
        """
        with self._lock:
            if handed_over is None:
                self._unheard = True
            else:
                self._finish = handed_over
        if sidecar is not None and look is not None:
            self._looks[sidecar] = look
        self._order.then[id(self)] = self.wait

    def look_if_pool_worker(self) -> None:
        """Have the sidecars look now if this is a process of ``with multiprocessing.Pool()``, which
        is killed, with nothing called, as soon as its results are there.

        Not at each end of runs that are short; where it is in vain, a tenth of the time at most.
        """
        began = self._monotonic()
        if self._looks and began >= self._look_from and _is_pool_worker():
            seen = self._are_heard(LOOK_WITHIN)[1]
            now = self._monotonic()
            pause = _SHARE * (now - began)
            self._look_from = now + (min(pause, _PAUSE) if seen else pause)

    def wait(self) -> None:
        """Have the sidecars look, then wait for those who scrape by themselves.

        Unless a time was asked for, only for scrapes that are due within the usual one.
        """
        self._order.then.pop(id(self), None)
        heard, _ = self._are_heard(LOOK_WITHIN)
        asked = self.wait_for is not None
        if not self._sessions.unseen() or (heard and not asked):
            return
        seconds = self.wait_for
        seconds = USUAL if seconds is None else seconds
        if seconds > USUAL:
            logger.info("waiting up to %g s for one more scrape (scrape_wait)", seconds)
        if not self._sessions.wait_scraped(seconds, in_any_case=asked):
            logger.log(
                logging.WARNING if seconds > USUAL else logging.DEBUG,
                "no scrape came within %g s: not everything that scrapes this process has seen how "
                "its runs ended; scrape_wait has to be longer than the scrape interval", seconds,
            )  # fmt: skip

    def wait_here(self, seconds: float) -> bool:
        """Do the same at the end of a run, within so many seconds: its process may end in a way
        that calls nothing. False if an expected scrape did not come.
        """
        began = time.monotonic()
        heard, _ = self._are_heard(min(seconds, LOOK_WITHIN))
        left = max(0.0, seconds - (time.monotonic() - began))
        return (heard and self.wait_for is None) or self._sessions.wait_scraped(left)

    def _are_heard(self, seconds: float) -> tuple[bool, bool]:
        """Wait, so many seconds, until sidecars have the last state of all runs that ended.

        Those that were not handed it are had to look. Returns whether all of it was handed over,
        and whether that, or a look, was not in vain.
        """
        began, ends = time.monotonic(), self._sessions.ends
        with self._lock:
            finish, unheard = self._finish, self._unheard
            self._finish, self._unheard = None, False
        handed_over = finish is not None and finish(seconds)
        unheard = unheard or (finish is not None and not handed_over)
        if handed_over and not unheard:
            with self._lock:  # runs that end at once come here in any order
                self._heard = max(self._heard, ends)
            self._looks.clear()
        if self._heard >= ends > 0 and not unheard:
            return True, True
        left = max(0.0, seconds - (time.monotonic() - began))
        looked = self._have_looked(left)
        if unheard and self._sessions.unseen():
            with self._lock:  # what is handed over after it says nothing of this one
                self._unheard = True
        return False, looked

    def _have_looked(self, seconds: float) -> bool:
        until, seen = time.monotonic() + seconds, True
        with suppress(KeyError):  # another thread, whose run ends too, was faster
            while self._looks and self._sessions.unseen():
                _, look = self._looks.popitem()
                seen &= look((until - time.monotonic()) / (len(self._looks) + 1))
        return seen

    def _reset(self) -> None:
        self._lock = threading.Lock()  # a thread of the parent may have held it
        self._looks.clear()
        self._finish, self._unheard, self._heard = None, False, 0
        self._look_from = -math.inf


def _is_pool_worker() -> bool:
    """Tell whether this is a process of multiprocessing.Pool, by the name that it gives them."""
    process = sys.modules.get("multiprocessing.process")
    return process is not None and "PoolWorker" in process.current_process().name


LAST_SCRAPE = LastScrape(RUNS, AT_EXIT)
