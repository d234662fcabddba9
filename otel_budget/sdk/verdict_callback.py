"""Hand the verdicts on a run to the caller's own code: ``on_verdict``.

In a separate thread, which is there only while there is something to say: neither what the
caller's code raises nor how long it takes is any business of those who hear the sidecar, or of the
run's own questions. One at a time, in their order.
"""

from __future__ import annotations

import threading
from collections import deque
from contextvars import copy_context
from typing import TYPE_CHECKING, Final

from otel_budget.logs.logger import logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_budget.core.verdict import Verdict

#: Verdicts that wait for code that takes its time; of more the oldest are left out.
MOST: Final = 16
#: Seconds for which a question that changed the verdict waits until that was said: code that takes
#: no time has been called by the time the answer is there.
SOON: Final = 0.2


class VerdictCallback:
    """Calls one function, for one run."""

    def __init__(self, session_id: str, on_verdict: Callable[[Verdict], object]) -> None:
        self._session_id, self._on_verdict = session_id, on_verdict
        self._waiting: deque[Verdict] = deque(maxlen=MOST)
        self._working = threading.Lock()

    def for_child(self) -> VerdictCallback:
        """Return one that says the same to the same code, for a forked child."""
        return VerdictCallback(self._session_id, self._on_verdict)

    def notify(self, verdict: Verdict, *, wait: bool) -> None:
        """Have it told soon. wait: for that, but not for long.

        Takes no lock that the caller's code may hold; fit for a signal handler.
        """
        self._waiting.append(verdict)
        if not self._working.acquire(blocking=False):
            return  # the thread looks again before it ends
        thread = threading.Thread(
            target=copy_context().run, args=(self._work,),
            name=f"otel-budget-on-verdict-{self._session_id}", daemon=True,
        )  # fmt: skip
        try:
            thread.start()
        except RuntimeError:  # no more threads, or the interpreter is ending
            self._work()
            return
        if wait:
            thread.join(SOON)

    def _work(self) -> None:
        while True:
            self._drain()
            self._working.release()
            if not self._waiting or not self._working.acquire(blocking=False):
                return

    def _drain(self) -> None:
        while True:
            try:
                verdict = self._waiting.popleft()
            except IndexError:
                return
            try:
                self._on_verdict(verdict)
            except BaseException as exc:
                # sys.exit() and a cancellation, too: in this thread they would end nothing else.
                logger.exception(
                    "run %r: on_verdict raised %s; the run goes on, and so do its limits",
                    self._session_id, type(exc).__name__,
                )  # fmt: skip
