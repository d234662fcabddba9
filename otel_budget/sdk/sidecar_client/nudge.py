"""Ask the sidecar to look at runs now: they may be past a limit that only the sidecar knows.

A nudge carries no numbers; the sidecar scrapes, as ever. They go out from separate threads, a
few for all runs of this process, over connections that are kept: what counts the use never waits,
and however many runs cross a line at once, they take few threads and files. Those that come while
all are on their way go together, and of one run as one; where they do not help, no more are sent
for a while.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from contextlib import ExitStack, suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from otel_budget.logs.logger import logger
from otel_budget.sdk.sidecar_client.connection import Connection
from otel_budget.sdk.sidecar_client.polling import MOST_NAMED, together

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_budget.sdk.sidecar_client.address import SidecarAddress
    from otel_budget.sdk.sidecar_client.connection import Call

#: Seconds without nudges: where they cannot help, after one that failed, and where the run is not
#: known yet.
USELESS, FAILED, UNKNOWN = 60.0, 1.0, 0.1
#: Requests on their way at once. One waits for a scrape; what comes meanwhile need not wait for it.
MOST_AT_ONCE: Final = 4
#: Seconds after which an idle thread ends; the next nudge starts another.
_IDLE: Final = 5.0
_READ: Final = 1_000_000
#: The sidecar knows no target that shows the run yet, or has enough to do: ask again.
_AGAIN: Final = (http.client.NOT_FOUND, http.client.TOO_MANY_REQUESTS)
#: What an earlier version answers, which looks at one run of those that are named.
_OF_ONE: Final = (http.client.NO_CONTENT, http.client.NOT_FOUND)


class Nudger:
    """Sends the nudges of all runs that follow one sidecar."""

    def __init__(self, address: SidecarAddress, is_followed: Callable[[str], object]) -> None:
        """Start nothing yet. is_followed: tells whether a run goes on."""
        self._address, self._is_followed = address, is_followed
        # All may be used by a signal handler that comes in the middle of their use.
        self._lock, self._calls = threading.RLock(), SimpleQueue[None]()
        self._wanted: dict[str, None] = {}
        self._under_way: set[str] = set()
        """Runs whose nudge is not answered yet; one that is wanted again waits for that."""
        self._lines: dict[int, Connection] = {}
        """Of each thread, by its number."""
        self._idle = self._number = 0
        """Threads that take what comes next, and the number of the newest."""
        self._quiet_until = 0.0
        self._most = MOST_NAMED
        self._over = threading.Event()

    def nudge(self, session_id: str) -> None:
        """Have one sent, if none of the run is waiting. Returns at once; never raises."""
        with self._lock:
            if self._over.is_set():
                return
            self._wanted[session_id] = None
            if session_id in self._under_way:
                return
            self._calls.put(None)
            if not self._idle and len(self._lines) < MOST_AT_ONCE:
                self._start()

    def withdraw(self, session_id: str) -> None:
        """Send none of a run, unless one is on its way: there is a newer verdict on it."""
        with self._lock:
            self._wanted.pop(session_id, None)

    def end(self) -> None:
        """Send no more, and wait for no answer: the threads end in a moment."""
        with self._lock:
            self._over.set()
            lines = list(self._lines.values())
        for line in lines:
            self._calls.put(None)
            line.hang_up()

    def forget(self) -> None:
        """Let go of the connections in a forked child."""
        for line in self._lines.values():
            line.forget()

    def _start(self) -> None:
        self._number += 1
        number, line = self._number, Connection(self._address)
        thread = threading.Thread(
            target=self._run, args=(number, line), name=f"otel-budget-nudge-{number}", daemon=True
        )
        self._lines[number] = line
        try:
            thread.start()
        except RuntimeError as exc:  # no more threads, or the interpreter is ending
            del self._lines[number]
            logger.debug("nudge: %s; the sidecar looks when it scrapes next", exc)

    def _run(self, number: int, line: Connection) -> None:
        with ExitStack() as kept:
            call: Call | None = None
            while (runs := self._next(number)) is not None:
                if not runs:
                    continue
                try:
                    call = call or kept.enter_context(line.open())
                    pause = self._send(call, runs)
                except Exception as exc:  # noqa: BLE001 - whatever it is, the runs go on
                    logger.debug("nudge: %s", exc)
                    pause = FAILED
                if pause or (call is not None and call.is_over):
                    kept.close()
                    call = None
                self._answered(runs, pause)

    def _next(self, number: int) -> list[str] | None:
        """Wait for the next ones; None when there were none for long, or are to be no more."""
        with self._lock:
            self._idle += 1
        called = True
        try:
            while not self._over.wait(max(0.0, self._quiet_until - time.monotonic())):
                self._calls.get(timeout=_IDLE)
                if time.monotonic() >= self._quiet_until:
                    break
                self._calls.put(None)  # for after it
        except Empty:
            called = False
        with self._lock:
            self._idle -= 1
            if self._over.is_set() or not (called or self._wanted):
                del self._lines[number]
                return None
            return self._some()

    def _some(self) -> list[str]:
        """Take as many as one request names. Hold the lock."""
        self._wanted = {one: None for one in self._wanted if self._is_followed(one)}
        ready = [one for one in self._wanted if one not in self._under_way]
        taken = together(ready, self._most)
        for session_id in taken:
            del self._wanted[session_id]
        self._under_way.update(taken)
        with suppress(Empty):  # whatever they were for was taken, or is called for again
            while True:
                self._calls.get_nowait()
        if len(taken) < len(ready):
            self._calls.put(None)
        return taken

    def _answered(self, runs: list[str], pause: float) -> None:
        with self._lock:
            self._under_way.difference_update(runs)
            if pause:
                self._quiet_until = time.monotonic() + pause
            if self._wanted:
                self._calls.put(None)

    def _send(self, call: Call, runs: list[str]) -> float:
        """Send one for some runs; return the seconds for which no other is to follow."""
        answer, _ = call.ask("POST", _path(*runs), "application/json")
        body = answer.read(_READ)
        status = _status(answer)
        if len(runs) > 1 and status in _OF_ONE:
            self._most = 1
            with self._lock:
                self._wanted.update(dict.fromkeys(runs))
            return 0.0
        if len(runs) > 1 and status == http.client.OK:
            found = json.loads(body)
            if len(found["unknown"]) + len(found["impossible"]) < len(runs):
                return 0.0
            return UNKNOWN if found["unknown"] else USELESS
        if status == http.client.NO_CONTENT:
            return 0.0
        if status == http.client.NOT_FOUND:
            return UNKNOWN
        return FAILED if status == http.client.TOO_MANY_REQUESTS else USELESS


def _path(*session_ids: str) -> str:
    return "/v1/nudge?" + "&".join(f"session_id={quote(one, safe='')}" for one in session_ids)


def _status(answer: http.client.HTTPResponse) -> int:
    if answer.status == http.client.NOT_FOUND and not _is_problem(answer):
        # Something else listens there, or a proxy stands between: asking again does not help.
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
    line = Connection(address, seconds)
    with line.open() as call:
        answer, _ = call.ask("POST", _path(session_id), "application/json")
        answer.read()
        return _status(answer)
