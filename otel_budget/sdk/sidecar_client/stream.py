"""One stream to one sidecar, for all runs of this process that follow it.

A thread reads it. Which runs it is on changes while it lasts: that is said in a separate request,
by a second thread that is there only meanwhile. A sidecar that knows no such requests is followed
over the stream of all its runs. While there is no stream to be had, the runs are asked for by GET.
Nothing here decides: verdicts are handed on, and so is whether the sidecar answers at all.
"""

from __future__ import annotations

import http.client
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from otel_budget.core import sse, verdict_json
from otel_budget.errors import InvalidValueError
from otel_budget.logs.logger import logger
from otel_budget.sdk.sidecar_client.backoff import (
    MOST,
    MOST_AWAY,
    MOST_REFUSED,
    STEADY,
    Backoff,
    asked_for,
    between_polls,
)
from otel_budget.sdk.sidecar_client.connection import Connection, HungUpError
from otel_budget.sdk.sidecar_client.nudge import Nudger
from otel_budget.sdk.sidecar_client.polling import Found, Poll, UnreachableError
from otel_budget.sdk.sidecar_client.stream_changes import Changes

if TYPE_CHECKING:
    from otel_budget.sdk.sidecar_client.address import SidecarAddress
    from otel_budget.sdk.sidecar_client.connection import Deadline
    from otel_budget.sdk.sidecar_client.followers import Followers

#: Seconds without a line after which a stream is taken for dead; keep-alives come far more often,
#: and the first line comes at once.
SILENCE, FIRST_LINE = 15.0, 5.0
#: The same where leases are shorter: it is asked by GET before a reader takes it for lost.
LEAST_SILENCE: Final = 4.0
MAX_LINE: Final = 1_000_000
#: Seconds between two notes that the sidecar lives, and the share of the processor that telling all
#: runs may take: a run takes some microseconds.
_LIFE_EVERY, _RUNS_A_SECOND = 0.2, 5000
_TOGETHER: Final = 0.1


@dataclass(slots=True)
class _Tried:
    """What came of a stream."""

    connected: bool = False
    opened: bool = False
    """It was a stream."""
    lines: int = 0
    heard: bool = False
    """A verdict on one of the runs came."""
    lasted: float = 0.0
    asked: float = 0.0
    """Seconds for which the answer asked not to be bothered."""


class VerdictStream(threading.Thread):
    """Follows one sidecar until it is told to end."""

    def __init__(self, address: SidecarAddress, url: str, runs: Followers) -> None:
        super().__init__(name="otel-budget-verdicts", daemon=True)
        self._address, self._url, self._runs = address, url, runs
        self._over, self._woken = threading.Event(), threading.Event()
        self._line = Connection(address)
        self._poll = Poll(runs)
        self._changes = Changes(
            address, runs, self._poll, on_refused=self._widen, on_gone=self._line.cut
        )
        self._nudger = Nudger(address, runs.of)
        self._wide = False
        """The stream is on all runs of the sidecar."""
        self._polling = False
        """The sidecar answers, and gives no stream."""
        self._stream_pace, self._poll_pace = Backoff(), Backoff()
        self._stream_at = self._poll_at = 0.0
        self._new: dict[str, None] = {}
        """Runs that began since all were asked for."""
        self._lease = 0.0
        """Seconds, of the verdicts that were last asked for."""
        self._longest = 0.0
        """Seconds, of the leases on the present stream."""
        self._life_at = 0.0
        self.problem = ""
        """What was wrong when the sidecar was last asked; empty before anything was."""

    def changed(self, session_id: str) -> None:
        """Take note of a run that is followed from now on, or no more, or by one more."""
        if self._polling:
            self._new[session_id] = None
            self._woken.set()
        else:
            self._changes.wanted(session_id)

    def nudge(self, session_id: str) -> None:
        """Have the sidecar look at a run now. Returns at once."""
        self._nudger.nudge(session_id)

    def withdraw_nudge(self, session_id: str) -> None:
        """Have it not look at a run, if that was not said yet."""
        self._nudger.withdraw(session_id)

    def end(self) -> None:
        """Stop following. Returns at once; the thread ends in a moment, whatever it waits for."""
        self._over.set()
        self._woken.set()
        self._line.hang_up()
        self._changes.end()
        self._nudger.end()

    def forget(self) -> None:
        """Let go of the connections in a forked child."""
        self._line.forget()
        self._changes.forget()
        self._nudger.forget()

    def is_reader_thread(self) -> bool:
        """Tell whether the caller is one of the threads that hear the sidecar."""
        return threading.current_thread() is self or self._changes.is_here()

    def run(self) -> None:
        """Follow."""
        while not self._over.is_set():
            try:
                pause = self._round()
            except Exception:
                logger.exception("following the sidecar %s failed; it is tried again", self._url)
                pause = self._poll_pace.failed()
            self._woken.wait(max(pause, 0.0))
            self._woken.clear()
            if self._new:  # however many begin at once, they are asked for together
                self._over.wait(_TOGETHER)

    # --- one round -------------------------------------------------------------------------------
    def _round(self) -> float:
        """Try what is due; return the seconds until the next thing is."""
        tried: _Tried | None = None
        if time.monotonic() >= self._stream_at:
            tried = self._try_stream()
            if self._over.is_set():
                return 0.0
            if tried.lasted >= STEADY:
                self._stream_pace.succeeded()
                self._poll_at = 0.0
            if tried.heard or not tried.connected:
                return self._after_stream(tried)
        if time.monotonic() >= self._poll_at:
            self._ask_all()
        elif self._new:
            self._ask_new()
        if tried is not None:
            refused = self._polling and not tried.lines
            wait = self._stream_pace.failed(MOST_REFUSED if refused else MOST, asked=tried.asked)
            self._stream_at = time.monotonic() + wait
        return min(self._poll_at, self._stream_at) - time.monotonic()

    def _after_stream(self, tried: _Tried) -> float:
        """Return the pause after a stream that gave verdicts, or to which there was no way."""
        self._polling = False
        if not tried.heard:
            self._wide = False  # who comes back may be a later version
            self._failed()
        wait = self._stream_pace.failed(MOST_AWAY)
        self._stream_at = time.monotonic() + wait
        return wait

    def _ask_all(self) -> None:
        """Ask for all runs, and work out when to ask again."""
        self._new.clear()
        try:
            found = self._poll.ask(self._line, self._runs.ids())
        except Exception as exc:  # noqa: BLE001 - whatever it answers, following goes on
            if self._over.is_set():
                return
            self._note(exc)
            self._polling = False
            asked = exc.asked if isinstance(exc, UnreachableError) else 0.0
            self._failed()
            self._poll_at = time.monotonic() + self._poll_pace.failed(asked=asked)
            return
        self._polling = True
        self._alive()
        self._poll_at = time.monotonic() + self._pause_after(found)

    def _ask_new(self) -> None:
        """Ask for those that began meanwhile."""
        new = list(self._new)
        try:
            self._poll.ask(self._line, [one for one in new if self._runs.of(one)])
        except Exception as exc:  # noqa: BLE001 - they are asked for again with all others
            self._note(exc)
        for session_id in new:
            self._new.pop(session_id, None)

    def _pause_after(self, found: Found) -> float:
        if found.heard:
            self._poll_pace.succeeded()
            self._lease = found.lease
            return between_polls(found.lease)
        return self._poll_pace.failed(asked=found.asked)

    # --- the stream ------------------------------------------------------------------------------
    def _try_stream(self) -> _Tried:
        tried, began_at = _Tried(), time.monotonic()
        try:
            self._stream(tried)
        except HungUpError:
            pass
        except Exception as exc:  # noqa: BLE001 - whatever it answers, following goes on
            if not self._over.is_set():
                tried.asked = exc.asked if isinstance(exc, UnreachableError) else 0.0
                self._note(exc)
        finally:
            self._changes.closed()
        if tried.opened:
            tried.lasted = time.monotonic() - began_at
        return tried

    def _stream(self, tried: _Tried) -> None:
        ids = self._runs.ids()
        if not ids:
            return
        path = "/v1/stream" if self._wide else f"/v1/stream?session_id={quote(ids[0], safe='')}"
        with self._line.open() as call:
            tried.connected = True
            # One that gives nothing holds up the questions of which verdicts come meanwhile.
            patience = min(FIRST_LINE, max(1.0, self._lease / 3)) if self._lease else FIRST_LINE
            answer, deadline = call.ask("GET", path, "text/event-stream", timeout=patience)
            kind = answer.headers.get_content_type()
            if answer.status != http.client.OK or kind != "text/event-stream":
                asked = asked_for(answer.headers.get("Retry-After"), time.time())
                raise UnreachableError(f"{path} answered {answer.status} {kind}", asked)
            tried.opened, self._polling, self._longest = True, False, 0.0
            self._runs.set_reachable(ids if self._wide else ids[:1], reachable=True)
            stream_id = answer.headers.get(sse.STREAM_HEADER)
            self._changes.opened(stream_id, None if self._wide else ids[0])
            deadline.move(patience)
            self._read(answer, deadline, tried, ids[0])

    def _read(
        self, answer: http.client.HTTPResponse, deadline: Deadline, tried: _Tried, first: str
    ) -> None:
        """Read a stream to its end. first: the run it was opened for."""
        decoder = sse.EventDecoder()
        while not self._over.is_set():
            line = answer.readline(MAX_LINE)
            if not line:
                return
            short = max(LEAST_SILENCE, self._longest) if self._longest else SILENCE
            deadline.move(min(SILENCE, short))
            tried.lines += 1
            self._alive()
            if tried.lines == 1 and line.startswith(b":"):
                self._changes.unknown(first)  # it is there, and knows nothing of the run yet
            for event in decoder.feed(line.decode("utf-8", "replace").rstrip("\r\n")):
                if event.event == sse.EVENT_VERDICT:
                    tried.heard |= self._hand_on(event.data)

    def _hand_on(self, text: str) -> bool:
        try:
            verdict = verdict_json.from_json(text)
        except InvalidValueError as exc:  # it costs the other runs nothing
            self._note(exc)
            return False
        self._longest = max(self._longest, verdict.lease_seconds or 0.0)
        return self._runs.deliver(verdict)

    def _widen(self) -> None:
        """Open the stream of all runs instead: the sidecar lets no other be changed."""
        self._wide = True
        self._stream_pace.succeeded()
        self._line.cut()

    # --- what is said of it ----------------------------------------------------------------------
    def _alive(self) -> None:
        """Tell all runs that the sidecar lives; not so often that it takes much time."""
        now = time.monotonic()
        if now >= self._life_at:
            self._life_at = now + max(_LIFE_EVERY, len(self._runs) / _RUNS_A_SECOND)
            self._runs.note_answer(answered=True)

    def _failed(self) -> None:
        self._runs.set_reachable(self._runs.ids(), reachable=False)
        self._runs.note_answer(answered=False)

    def _note(self, exc: Exception) -> None:
        self.problem = f"{self._url}: {exc}"
        logger.debug("sidecar %s", self.problem)
