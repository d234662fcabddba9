"""Follow the sidecar's verdicts on one run, in a background thread, with the standard library only.

The stream (Server-Sent Events) is preferred: a verdict arrives without polling. While it cannot be
had, each try to open it again is followed by one GET. Nothing here decides: verdicts are handed on,
and so is whether the sidecar answers at all.
"""

from __future__ import annotations

import http.client
import json
import logging
import random
import socket
import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote

from otel_budget import wire
from otel_budget.enforcement.address import SidecarAddress
from otel_budget.enforcement.nudge import Nudger, look

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_budget.model.verdict import Verdict

logger = logging.getLogger("otel_budget")

#: Seconds to connect, and to wait for the answer to a GET.
TIMEOUT = 5.0
#: Seconds without a byte after which a stream is taken for dead; keep-alives come far more often.
SILENCE = 15.0
#: Seconds between tries, growing from the first to the second.
RETRY_FIRST, RETRY_MOST = 0.1, 2.0
MAX_LINE = 1_000_000
#: The sidecar is there, and has not seen this run, or anything, yet. Any server may answer 404, so
#: only a problem in the sidecar's own format counts.
_NOT_YET = (http.client.NOT_FOUND, http.client.SERVICE_UNAVAILABLE)
#: It is there, and wants to be asked with another token, or less often.
_NOT_LET_IN = (
    http.client.UNAUTHORIZED, http.client.FORBIDDEN, http.client.TOO_MANY_REQUESTS,
)  # fmt: skip


class UnreachableError(Exception):
    """The sidecar did not give what was asked for; the message says what it did instead."""


class VerdictClient:
    """Hands every verdict on a run to ``on_verdict``, and changes of reachability on."""

    def __init__(
        self,
        url: str,
        session_id: str,
        *,
        on_verdict: Callable[[Verdict], None],
        on_reachable: Callable[[bool], None],
        on_life: Callable[[], None] = lambda: None,
        on_silence: Callable[[], None] = lambda: None,
    ) -> None:
        """Check the URL. Nothing is opened before ``start``.

        on_life: called with whatever is heard of the sidecar, verdict or not. on_silence: called
        whenever it was asked in vain.
        """
        self._address = SidecarAddress.parse(url)
        self._url, self._session_id = url, session_id
        self._on_verdict, self._on_reachable, self._on_life = on_verdict, on_reachable, on_life
        self._on_silence = on_silence
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._reachable: bool | None = None
        self.problem = ""
        """What was wrong when the sidecar was last asked; empty before anything was."""
        self._nudger = Nudger(self._address, session_id)
        self._thread = threading.Thread(
            target=self._follow, name=f"otel-budget-verdicts-{session_id}", daemon=True
        )

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def is_heard_here(self) -> bool:
        """Tell whether the caller is the thread that hears the sidecar, which waits for nothing."""
        return threading.current_thread() is self._thread

    def nudge(self) -> None:
        """Have the sidecar look at the run now. Returns at once."""
        self._nudger.nudge()

    def last_look(self) -> tuple[str, Callable[[float], bool]]:
        """Return what tells the sidecar apart, and what has it look once more, within seconds."""
        return self._url, partial(look, self._address, self._session_id)

    def stop(self) -> None:
        """Stop following; does not wait for the thread, which may be in a system call."""
        self._stopped.set()
        self._nudger.stop()
        with self._lock:
            if self._socket is not None:
                with suppress(OSError):  # closed already: nobody waits for bytes
                    self._socket.shutdown(socket.SHUT_RDWR)

    def _follow(self) -> None:
        wait = RETRY_FIRST
        while not self._stopped.is_set():
            heard = self._try(self._stream) or self._try(self._get)
            if not heard:
                self._on_silence()
            wait = RETRY_FIRST if heard else min(wait * 2, RETRY_MOST)
            # Spread over time, so that a sidecar that comes back is not met by all at once.
            self._stopped.wait(wait * random.uniform(0.5, 1.5))  # noqa: S311 - not a secret

    def _try(self, way: Callable[[http.client.HTTPConnection], bool]) -> bool:
        """Ask in one way; True if a verdict was heard."""
        connection: http.client.HTTPConnection | None = None
        try:
            connection = self._address.connect(TIMEOUT)
            connection.connect()
            with self._lock:
                self._socket = connection.sock
            return way(connection)
        except Exception as exc:  # noqa: BLE001 - whatever it answers, following goes on
            if not self._stopped.is_set():
                self.problem = f"{self._url}: {exc}"
                logger.debug("sidecar %s", self.problem)
                if way == self._get:  # the last resort
                    self._tell(reachable=False)
            return False
        finally:
            with self._lock:
                self._socket = None
            if connection is not None:
                connection.close()

    def _stream(self, connection: http.client.HTTPConnection) -> bool:
        path = f"{self._address.path}/v1/stream?session_id={quote(self._session_id, safe='')}"
        connection.request("GET", path, headers=self._address.headers("text/event-stream"))
        response = connection.getresponse()
        kind = response.headers.get_content_type()
        if response.status != http.client.OK or kind != "text/event-stream":
            raise UnreachableError(f"{path} answered {response.status} {kind}")
        if self._socket is not None:  # the connection may have let go of it by now
            self._socket.settimeout(SILENCE)
        self._tell(reachable=True)
        decoder, heard, asked = wire.EventDecoder(), False, False
        while not self._stopped.is_set():
            line = response.readline(MAX_LINE)
            if not line:
                return heard
            self._on_life()
            if line.startswith(b":") and not heard and not asked:
                asked = True
                self.nudge()  # it is there, and knows nothing of the run yet
            for event in decoder.feed(line.decode("utf-8", "replace").rstrip("\r\n")):
                if event.event == wire.EVENT_VERDICT:
                    self._hand_on(event.data)
                    heard = True
        return heard

    def _get(self, connection: http.client.HTTPConnection) -> bool:
        path = f"{self._address.path}/v1/verdicts/{quote(self._session_id, safe='')}"
        connection.request("GET", path, headers=self._address.headers("application/json"))
        response = connection.getresponse()
        body = response.read(MAX_LINE)
        kind = response.headers.get_content_type()
        if response.status in _NOT_YET and kind == "application/problem+json":
            self._tell(reachable=True)
            return False
        if response.status in _NOT_LET_IN and kind == "application/problem+json":
            raise UnreachableError(f"{path} answered {response.status}: {detail_of(body)}")
        if response.status != http.client.OK:
            raise UnreachableError(
                f"{path} answered {response.status} {kind}, which is not a sidecar's answer"
            )
        self._hand_on(body)
        self._tell(reachable=True)
        return True

    def _hand_on(self, text: str | bytes) -> None:
        verdict = wire.from_json(text)
        if verdict.session_id != self._session_id:
            raise UnreachableError(f"answered about session {verdict.session_id!r}")
        if not self._stopped.is_set():
            self._on_verdict(verdict)

    def _tell(self, *, reachable: bool) -> None:
        if reachable:
            self._on_life()
        if reachable is not self._reachable:
            self._reachable = reachable
            self._on_reachable(reachable)


def detail_of(body: bytes) -> str:
    """Return what a problem+json answer says, as one printable line; empty for anything else."""
    with suppress(ValueError, TypeError, KeyError, RecursionError):
        words = " ".join(str(json.loads(body)["detail"]).split())
        return "".join(c if c.isprintable() else "?" for c in words)[:500]
    return ""
