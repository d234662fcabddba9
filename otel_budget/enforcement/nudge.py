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
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

if TYPE_CHECKING:
    from otel_budget.enforcement.address import SidecarAddress

logger = logging.getLogger("otel_budget")

#: Seconds to wait for the answer, which comes once the run is judged.
TIMEOUT: Final = 5.0
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
        self._address, self._session_id = address, session_id
        self._path = f"{address.path}/v1/nudge?session_id={quote(session_id, safe='')}"
        # Both may be used by a signal handler that comes in the middle of their use.
        self._lock, self._wanted = threading.RLock(), SimpleQueue[None]()
        self._over = threading.Event()
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
        """Send no more."""
        self._over.set()
        self._wanted.put(None)

    def ask_once(self, seconds: float) -> int:
        """Send one by itself and return the status of the answer. Raises what a request raises."""
        connection = self._address.connect(seconds)
        try:
            return self._ask(connection)
        finally:
            connection.close()

    def _run(self) -> None:
        connection: http.client.HTTPConnection | None = None
        try:
            while self._next():
                try:
                    connection = connection or self._address.connect(TIMEOUT)
                    pause = self._send(connection)
                except Exception as exc:  # noqa: BLE001 - whatever it is, the run goes on
                    logger.debug("nudge: %s", exc)
                    pause = FAILED
                if pause and connection is not None:
                    connection.close()
                    connection = None
                self._over.wait(pause)
        finally:
            if connection is not None:
                connection.close()

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

    def _send(self, connection: http.client.HTTPConnection) -> float:
        """Send one; return the seconds for which no other is to follow."""
        status = self._ask(connection)
        if status == http.client.NO_CONTENT:
            return 0.0
        if status == http.client.NOT_FOUND:
            return UNKNOWN
        return FAILED if status == http.client.TOO_MANY_REQUESTS else USELESS

    def _ask(self, connection: http.client.HTTPConnection) -> int:
        connection.request("POST", self._path, headers=self._address.headers("application/json"))
        response = connection.getresponse()
        response.read()
        if response.status == http.client.NOT_FOUND and not _is_problem(response):
            # Something else listens there, or a proxy stands between: asking again helps nobody.
            raise http.client.HTTPException("the answer is not a sidecar's")
        return response.status


def _is_problem(response: http.client.HTTPResponse) -> bool:
    return response.headers.get_content_type() == "application/problem+json"


def look(address: SidecarAddress, session_id: str, seconds: float) -> bool:
    """Have a sidecar look at a run, and wait until it has; True if it did within the seconds."""
    sender, until = Nudger(address, session_id), time.monotonic() + seconds
    try:
        while (left := until - time.monotonic()) > 0:
            status = sender.ask_once(left)
            if status not in _AGAIN:
                return status == http.client.NO_CONTENT
            time.sleep(min(UNKNOWN, left))
    except Exception as exc:  # noqa: BLE001 - whatever it is, the process may end
        logger.debug("nudge at the end: %s", exc)
    return False
