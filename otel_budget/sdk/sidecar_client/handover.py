"""Hand over the last state of runs that ended: a sidecar that scrapes seldom would miss it.

It goes out from a thread of its own, one for each sidecar, so no run waits for it where it ends;
those that end while a request is on its way go together in the next. The end of the process waits
for what is left. What could not be handed over is to be read from the page, as ever.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import deque
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Final, Self

from otel_budget.logs.logger import logger
from otel_budget.runtime.fork import in_child
from otel_budget.sdk.metrics.last_state import text_of
from otel_budget.sdk.sidecar_client.connection import TIMEOUT, Connection

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otel_budget.sdk.sidecar_client.address import SidecarAddress
    from otel_budget.sdk.sidecar_client.connection import Call

    Render = Callable[[Sequence[Any]], bytes]

PATH: Final = "/v1/handover"
#: Runs that wait at most; the oldest is left to the page then.
_MOST_WAITING: Final = 5_000
#: Bytes, and runs, of one request. A sidecar takes 64 KiB, unless it is told otherwise.
_BODY: Final = 60_000
_RUNS: Final = 16
#: Seconds after which an idle thread ends.
_IDLE: Final = 5.0
#: Seconds between two tries of what a sidecar has no time for, or cannot store, and how many.
_AGAIN_AFTER, _TRIES = 0.2, 5
#: Seconds for which none is sent to what does not know of them: an earlier version, or no sidecar.
_USELESS: Final = 60.0
_READ: Final = 100_000
_BUSY: Final = (http.client.TOO_MANY_REQUESTS, http.client.SERVICE_UNAVAILABLE)
#: What is raised, and answered (5xx), also by a sidecar that ends in the middle of a request.
_AWAY: Final = (OSError, http.client.HTTPException)
_UNKNOWN: Final = (http.client.NOT_FOUND, http.client.METHOD_NOT_ALLOWED)


class Sender:
    """Hands over runs to one sidecar, in the order in which they ended."""

    def __init__(self, address: SidecarAddress, render: Render) -> None:
        """Start nothing yet. render: returns some of what is handed over as text."""
        self._address, self._render = address, render
        # Reentrant for signal handlers, like the records'.
        self._changed = threading.Condition(threading.RLock())
        self._waiting: deque[Any] = deque()
        self._sending = 0
        """Runs that are on their way."""
        self._failed = 0
        """Runs that could not be handed over since the last ``finish``."""
        self._left: deque[Any] = deque(maxlen=_MOST_WAITING)
        """Those of them that another try may bring there: the sidecar was away, or busy."""
        self._works = False
        """True while there is a thread."""
        self._useless_until = 0.0
        self._line: Connection | None = None

    def add(self, run: Any) -> None:
        """Have a run handed over. Returns at once; never raises."""
        with self._changed:
            self._waiting.append(run)
            if len(self._waiting) > _MOST_WAITING:
                self._waiting.popleft()
                self._failed += 1
            self._changed.notify_all()
            if self._works:
                return
            self._works = True
        try:
            threading.Thread(target=self._work, name="otel-budget-handover", daemon=True).start()
        except RuntimeError:  # no more threads, or the interpreter is ending: ``finish`` does it
            self._works = False

    def finish(self, seconds: float) -> bool:
        """Wait until all is handed over; False if some of it was not, within so many seconds.

        What could not be handed over before is tried once more.
        """
        until = time.monotonic() + seconds
        with self._changed:
            self._try_again()
            if not self._works and self._waiting:
                self._works = True
                in_place = True
            else:
                in_place = False
        if in_place:
            self._drain(until)
        with self._changed:
            done = self._changed.wait_for(
                lambda: not self._waiting and not self._sending, max(0.0, until - time.monotonic())
            )
            failed, self._failed = self._failed, 0
        return done and not failed

    def forget(self) -> None:
        """Let go of the connection in a forked child."""
        if self._line is not None:
            self._line.forget()

    def _work(self) -> None:
        self._drain(None)

    def _drain(self, until: float | None) -> None:
        """Send what waits. until: when to give up, in place; None: stay for what comes next."""
        seconds = TIMEOUT if until is None else max(0.1, until - time.monotonic())
        self._line = Connection(self._address, seconds)
        with _KeptLine(self._line) as line:
            while (runs := self._next(until)) is not None:
                failed, left = len(runs), list[Any]()
                try:
                    failed = self._send(line, runs)
                except Exception as exc:  # noqa: BLE001 - whatever it is, the runs are over
                    logger.debug("handover: %s", exc)
                    left = runs if isinstance(exc, _AWAY) else []
                    line.close()
                with self._changed:
                    self._sending = 0
                    self._failed += failed
                    if not failed:
                        self._try_again()  # it is there again
                    self._left.extend(left)
                    self._changed.notify_all()

    def _try_again(self) -> None:
        """Have those wait again that were left. Under the lock."""
        room = max(0, _MOST_WAITING - len(self._waiting))
        again = [self._left.popleft() for _ in range(min(room, len(self._left)))]
        self._waiting.extendleft(reversed(again))
        self._failed -= len(again)

    def _next(self, until: float | None) -> list[Any] | None:
        """Wait for the next runs; None when there are none for long, or it is time to give up."""
        with self._changed:
            if until is None:
                self._changed.wait_for(lambda: self._waiting, _IDLE)
            if not self._waiting or (until is not None and time.monotonic() >= until):
                self._works = False
                return None
            runs = [self._waiting.popleft() for _ in range(min(_RUNS, len(self._waiting)))]
            self._sending = len(runs)
            return runs

    def _send(self, line: _KeptLine, runs: list[Any]) -> int:
        """Send some; return how many of them were not taken."""
        if time.monotonic() < self._useless_until:
            return len(runs)
        body = self._render(runs)
        if len(body) > _BODY and len(runs) > 1:
            half = len(runs) // 2
            return self._send(line, runs[:half]) + self._send(line, runs[half:])
        status, said = line.post(body)
        for _ in range(_TRIES - 1):
            if status not in _BUSY:
                break
            time.sleep(_AGAIN_AFTER)
            status, said = line.post(body)
        if status == http.client.NO_CONTENT:
            return 0
        if status == http.client.OK:
            return len(json.loads(said)["refused"])
        if status in _BUSY or status >= http.client.INTERNAL_SERVER_ERROR:
            raise ConnectionError(f"the sidecar answers {status}")
        if status in _UNKNOWN:
            self._useless_until = time.monotonic() + _USELESS
        logger.debug("handover: the sidecar answers %s", status)
        return len(runs)


class _KeptLine:
    """A connection that is kept for the next request, and opened again where it is over."""

    def __init__(self, line: Connection) -> None:
        self._line, self._kept = line, ExitStack()
        self._call: Call | None = None

    def post(self, body: bytes) -> tuple[int, bytes]:
        """Return status and body of the answer. Raises what a request raises."""
        if self._call is not None:
            with suppress(ConnectionError):  # closed there while nothing was asked
                return self._post(self._call, body)
            self.close()
        self._call = self._kept.enter_context(self._line.open())
        return self._post(self._call, body)

    def _post(self, call: Call, body: bytes) -> tuple[int, bytes]:
        answer, _ = call.ask("POST", PATH, "application/json", body=body, content_type="text/plain")
        said = answer.read(_READ)
        if call.is_over:
            self.close()
        return answer.status, said

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        self._kept.close()
        self._call = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Handovers:
    """Of this process, to all of its sidecars."""

    def __init__(self, render: Render) -> None:
        """Know no sidecar."""
        self._render = render
        self._reset()
        in_child(self._in_child)

    def add(self, address: SidecarAddress, run: Any) -> None:
        """Have a run handed over to a sidecar. Returns at once; never raises."""
        with self._lock:
            sender = self._senders.get(address)
            if sender is None:
                sender = self._senders[address] = Sender(address, self._render)
        sender.add(run)

    def finish(self, seconds: float) -> bool:
        """Wait until all is handed over; False if some of it was not, within so many seconds."""
        until = time.monotonic() + seconds
        with self._lock:
            senders = list(self._senders.values())
        return all([s.finish(max(0.0, until - time.monotonic())) for s in senders])  # noqa: C419 - each of them

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._senders: dict[SidecarAddress, Sender] = {}

    def _in_child(self) -> None:
        for sender in self._senders.values():
            sender.forget()
        self._reset()


HANDOVERS: Final = Handovers(text_of)
"""Of this process. What is handed over is the records of a run."""
