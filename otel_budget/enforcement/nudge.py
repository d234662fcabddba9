"""Ask the sidecar to look at the run now: it may be past a limit that only the sidecar knows.

A nudge carries no numbers; the sidecar scrapes, as ever. They go out from a thread of their own,
over one connection that is kept: what counts the use never waits. However many come at once, one
is on its way and one waits; where they do not help, no more are sent for a while.
"""

from __future__ import annotations

import http.client
import logging
import threading
import time
from contextlib import ExitStack, suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from otel_budget.enforcement.line import Line

if TYPE_CHECKING:
    from otel_budget.enforcement.address import SidecarAddress
    from otel_budget.enforcement.line import Call

logger = logging.getLogger("otel_budget")

#: Seconds without nudges: where they cannot help, after one that failed, and where the run is not
#: known yet.
USELESS, FAILED, UNKNOWN = 60.0, 1.0, 0.1
#: Seconds after which an idle thread ends; the next nudge starts another.
_IDLE: Final = 5.0
#: The sidecar knows no target that shows the run yet, or has enough to do: ask again.
_AGAIN: Final = (http.client.NOT_FOUND, http.client.TOO_MANY_REQUESTS)


class Nudger:
    """Sends the nudges of one run."""

    def __init__(self, address: SidecarAddress, session_id: str) -> None:
        """Start nothing yet."""
        self._session_id, self._path = session_id, _path(session_id)
        # Both may be used by a signal handler that comes in the middle of their use.
        self._lock, self._wanted = threading.RLock(), SimpleQueue[None]()
        self._over, self._line = threading.Event(), Line(address)
        self._thread: threading.Thread | None = None

    def nudge(self) -> None:
        """Have one sent, if none is waiting. Returns at once; never raises."""
        if self._wanted.empty():
            self._wanted.put(None)
        with self._lock:
            if self._thread is not None or self._over.is_set():
                return
            self._thread = threading.Thread(
                target=self._run, name=f"otel-budget-nudge-{self._session_id}", daemon=True
            )
            try:
                self._thread.start()
            except RuntimeError as exc:  # no more threads, or the interpreter is ending
                self._thread = None
                logger.debug("nudge: %s; the sidecar looks when it scrapes next", exc)

    def stop(self) -> None:
        """Send no more, and wait for no answer: the thread ends in a moment."""
        self._over.set()
        self._wanted.put(None)
        self._line.hang_up()

    def _run(self) -> None:
        with ExitStack() as kept:
            call: Call | None = None
            while self._next():
                try:
                    call = call or kept.enter_context(self._line.open())
                    pause = self._send(call)
                except Exception as exc:  # noqa: BLE001 - whatever it is, the run goes on
                    logger.debug("nudge: %s", exc)
                    pause = FAILED
                if pause or (call is not None and call.is_over):
                    kept.close()
                    call = None
                self._over.wait(pause)

    def _next(self) -> bool:
        """Wait for the next one; False when there was none for long, or there are to be no more."""
        wanted = True
        try:
            self._wanted.get(timeout=_IDLE)
        except Empty:
            wanted = False
        with self._lock:
            if self._over.is_set() or not (wanted or not self._wanted.empty()):
                self._thread = None
                return False
            with suppress(Empty):  # however many there are, this is for all of them
                while True:
                    self._wanted.get_nowait()
        return True

    def _send(self, call: Call) -> float:
        """Send one; return the seconds for which no other is to follow."""
        answer, _ = call.ask("POST", self._path, "application/json")
        answer.read()
        status = _status(answer)
        if status == http.client.NO_CONTENT:
            return 0.0
        if status == http.client.NOT_FOUND:
            return UNKNOWN
        return FAILED if status == http.client.TOO_MANY_REQUESTS else USELESS


def _path(session_id: str) -> str:
    return f"/v1/nudge?session_id={quote(session_id, safe='')}"


def _status(answer: http.client.HTTPResponse) -> int:
    if answer.status == http.client.NOT_FOUND and not _is_problem(answer):
        # Something else listens there, or a proxy stands between: asking again helps nobody.
        raise http.client.HTTPException("the answer is not a sidecar's")
    return answer.status


def _is_problem(response: http.client.HTTPResponse) -> bool:
    return response.headers.get_content_type() == "application/problem+json"


def look(address: SidecarAddress, session_id: str, seconds: float) -> bool:
    """Have a sidecar look at a run, and wait until it has; True if it did within the seconds."""
    until = time.monotonic() + seconds
    try:
        while (left := until - time.monotonic()) > 0:
            status = _ask_once(address, session_id, left)
            if status not in _AGAIN:
                return status == http.client.NO_CONTENT
            time.sleep(min(UNKNOWN, left))
    except Exception as exc:  # noqa: BLE001 - whatever it is, the process may end
        logger.debug("nudge at the end: %s", exc)
    return False


def _ask_once(address: SidecarAddress, session_id: str, seconds: float) -> int:
    """Send one by itself and return the status of the answer. Raises what a request raises."""
    line = Line(address, seconds)
    with line.open() as call:
        answer, _ = call.ask("POST", _path(session_id), "application/json")
        answer.read()
        return _status(answer)
