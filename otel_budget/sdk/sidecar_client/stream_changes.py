"""Say which runs a stream is on, while it lasts: a thread that is there as long as there is need.

Of each run that began or ended it compares whether it is followed with whether the stream is on it,
so whatever happens meanwhile, in the end they are the same.
"""

from __future__ import annotations

import http.client
import json
import threading
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from otel_budget.logs.logger import logger
from otel_budget.sdk.sidecar_client.backoff import Backoff
from otel_budget.sdk.sidecar_client.connection import Connection, HungUpError

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_budget.sdk.sidecar_client.address import SidecarAddress
    from otel_budget.sdk.sidecar_client.connection import Call
    from otel_budget.sdk.sidecar_client.followers import Followers
    from otel_budget.sdk.sidecar_client.polling import Poll

#: Bytes that the ids of one request may take; halved where the sidecar allows less.
_MOST_BYTES: Final = 16_384
#: Times that a request may fail in a row before the stream of all runs is opened instead.
_PATIENCE: Final = 3
_READ: Final = 1_000_000


class _RefusedError(Exception):
    """The sidecar, or what stands before it, does not let a stream be changed."""


class Changes:
    """Of one link."""

    def __init__(
        self,
        address: SidecarAddress,
        runs: Followers,
        poll: Poll,
        *,
        on_refused: Callable[[], None],
        on_gone: Callable[[], None],
    ) -> None:
        """Begin without a stream. poll: asks for runs. on_refused: the stream cannot be changed.
        on_gone: the sidecar has no such stream.
        """
        self._address, self._runs, self._poll = address, runs, poll
        self._on_refused, self._on_gone = on_refused, on_gone
        self._lock = threading.RLock()
        self._line = Connection(address)
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._most = _MOST_BYTES
        self._stream_id: str | None = None
        self._is_open = False
        self._covered: set[str] | None = set()
        """The runs that the stream is on; None for all there are."""
        self._dirty: dict[str, None] = {}
        """Runs that began or ended, or have one more follower, who knows no verdict yet."""
        self._unknown: str | None = None
        """A run that the sidecar has not seen yet."""
        self._gone = 0
        """Times in a row that the stream was not known to who was asked to change it."""

    def opened(self, stream_id: str | None, session_id: str | None) -> None:
        """Take note of a stream on one run, or on all. stream_id: None if it cannot be changed."""
        with self._lock:
            self._stream_id, self._is_open = stream_id, True
            self._covered = None if session_id is None else {session_id}
            self._dirty = {} if session_id is None else dict.fromkeys(self._runs.ids())
            self._dirty.pop(session_id or "", None)
            self._see_to_it()

    def closed(self) -> None:
        """Take note of its end."""
        with self._lock:
            self._stream_id, self._is_open, self._covered = None, False, set()
            self._unknown = None

    def wanted(self, session_id: str) -> None:
        """Take note of a run that began or ended, or has one more follower."""
        with self._lock:
            if self._is_open:
                self._dirty[session_id] = None
                self._see_to_it()

    def unknown(self, session_id: str) -> None:
        """Have the sidecar look for runs soon: it has not seen this one."""
        with self._lock:
            self._unknown = session_id
            self._see_to_it()

    def end(self) -> None:
        """Say nothing more."""
        self._over.set()
        self._line.hang_up()

    def forget(self) -> None:
        """Let go of the connection in a forked child."""
        self._line.forget()

    def is_here(self) -> bool:
        """Tell whether the caller is the thread of this."""
        return threading.current_thread() is self._thread

    def _see_to_it(self) -> None:
        if self._thread is not None or self._over.is_set() or not self._is_wanted():
            return
        thread = threading.Thread(target=self._work, name="otel-budget-verdicts-on", daemon=True)
        self._thread = thread
        try:
            thread.start()
        except RuntimeError as exc:  # no more threads, or the interpreter is ending
            self._thread = None
            logger.debug("sidecar %s: %s; it is tried with the next run", self._address.host, exc)

    def _is_wanted(self) -> bool:
        return self._is_open and bool(self._dirty or self._unknown)

    def _work(self) -> None:
        pace, failures = Backoff(), 0
        while True:
            with self._lock:
                if self._over.is_set() or not self._is_wanted():
                    self._thread = None
                    return
                stream_id, some = self._stream_id, self._some()
                unknown, self._unknown = self._unknown, None
            try:
                self._do(stream_id, some, unknown)
                failures = 0
                continue
            except HungUpError:  # by us; what is left is looked at again
                pass
            except _RefusedError as exc:
                failures = _PATIENCE
                logger.debug("sidecar %s: %s", self._address.host, exc)
            except Exception as exc:  # noqa: BLE001 - whatever it is, the stream goes on
                failures += 1
                logger.debug("sidecar %s: %s", self._address.host, exc)
            with self._lock:
                self._dirty = {**dict.fromkeys(some), **self._dirty}
            if failures >= _PATIENCE:
                failures = 0
                self._give_up(stream_id)
            if failures:
                self._over.wait(pace.failed())

    def _some(self) -> list[str]:
        """Take as many runs as one request holds."""
        size = 0
        some: list[str] = []
        for session_id in self._dirty:
            size += len(session_id) + 3
            if some and size > self._most:
                break
            some.append(session_id)
        for session_id in some:
            del self._dirty[session_id]
        return some

    def _give_up(self, stream_id: str | None) -> None:
        with self._lock:
            same = stream_id == self._stream_id and self._is_open
            wide, self._is_open = self._covered is None, self._is_open and not same
        if same and not wide:
            self._on_refused()

    def _do(self, stream_id: str | None, some: list[str], unknown: str | None) -> None:
        add = [one for one in some if self._runs.of(one)]
        covered = self._covered
        if covered is None:  # what is known of those that are new comes by no stream
            if add:
                self._poll.ask(self._line, add)
        elif some and stream_id is None:
            raise _RefusedError("a stream cannot be changed: an earlier version?")
        elif stream_id is not None:
            remove = [one for one in some if one in covered and not self._runs.of(one)]
            if add or remove:
                with self._line.open() as call:
                    unknown = self._change(call, stream_id, add, remove) or unknown
        if unknown is not None:
            with self._line.open() as call:
                path = f"/v1/nudge?session_id={quote(unknown, safe='')}"
                call.ask("POST", path, "application/json")[0].read(_READ)

    def _change(self, call: Call, stream_id: str, add: list[str], remove: list[str]) -> str | None:
        """Change the stream; return one of the runs that are not known yet."""
        path = f"/v1/stream/{quote(stream_id, safe='')}"
        body = json.dumps({"add": add, "remove": remove})
        answer, _ = call.ask("POST", path, "application/json", body=body)
        said = answer.read(_READ)
        if answer.status == http.client.REQUEST_ENTITY_TOO_LARGE and self._most > 1:
            self._most //= 2
            raise HungUpError("fewer runs at a time")
        if answer.status == http.client.NOT_FOUND and self._gone < _PATIENCE:
            self._gone += 1
            with self._lock:
                same = stream_id == self._stream_id and self._is_open
                self._is_open = self._is_open and not same
            if same:  # else another one is open by now
                self._on_gone()
            raise HungUpError("the stream is gone; another one is opened")
        if answer.status != http.client.OK:
            raise _RefusedError(f"{path} answered {answer.status}")
        self._gone, unknown = 0, json.loads(said)["unknown"]
        with self._lock:
            if stream_id == self._stream_id and self._covered is not None:
                self._covered.update(add)
                self._covered.difference_update(remove)
        self._runs.set_reachable(add, reachable=True)
        return next((one for one in unknown if isinstance(one, str)), None)
