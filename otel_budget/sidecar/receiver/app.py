"""OTLP over HTTP: what is pushed is taken, judged and stored, and then answered 200.

A client that gets no such answer sends the same once more, which counts once. What can be decided
by the head of a request is decided before its body is read.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Protocol

from starlette.datastructures import Headers

from otel_budget.logs.once import Once
from otel_budget.sidecar.api.auth import head_size
from otel_budget.sidecar.api.connection_limits import MAX_HEAD
from otel_budget.sidecar.receiver import answers
from otel_budget.sidecar.receiver.answers import CLOSE, JSON, LOGS, METRICS, PROTOBUF, TRACES
from otel_budget.sidecar.receiver.body import RETRY, Bodies, GoneError
from otel_budget.sources.decompression import UnpackError, unpacker
from otel_budget.sources.otlp.messages import OtlpError
from otel_budget.sources.otlp.source import TooLargeError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from otel_budget.sidecar.api.connection_limits import OnRefused
    from otel_budget.sidecar.receiver.push_tokens import PushTokens
    from otel_budget.sources.otlp.source import OtlpSource

logger = logging.getLogger(__name__)

_MOST_TRACEBACKS: Final = 20
#: Seconds that a request may wait to be judged and stored.
JUDGED_WITHIN: Final = 5.0
_PATHS: Final = {"/v1/metrics": METRICS, "/v1/logs": LOGS, "/v1/traces": TRACES}
_OTHER_HOST: Final = (
    "asked for another host: use a loopback address or localhost, or add the name to "
    "source.otlp.allowed_hosts"
)
_NOT_STORED: Final = "what was pushed is not stored yet: send it again"


class Notes(Protocol):
    """Takes note of what is pushed."""

    def note_push(self, signal: str, outcome: str, items: int = 0, rejected: int = 0) -> None:
        """Note one request. items: points or records that count as usage."""


class ReceiverApp:
    """The ASGI application of the receiver."""

    def __init__(
        self,
        source: OtlpSource,
        judge: Callable[[], Awaitable[bool]],
        tokens: PushTokens,
        *,
        most: int,
        notes: Notes,
        refused: Callable[[str, Sequence[str]], Mapping[str, int]],
        only_hosts: Callable[[str], bool] | None = None,
        on_refused: OnRefused,
    ) -> None:
        """judge: judges and stores what was pushed; returns whether it is. most: bytes of a body.

        refused: returns how many of these runs, once judged, a peer may not push, by reason.
        only_hosts, on_refused: as in ``sidecar.api.auth.Gate``.
        """
        self.source, self.tokens, self.only_hosts = source, tokens, only_hosts
        self._judge, self._notes, self._on_refused = judge, notes, on_refused
        self._refused, self._bodies = refused, Bodies(most)
        self._traced = Once(_MOST_TRACEBACKS)
        """Where something failed, of which the traceback was logged."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        signal = _PATHS.get(scope["path"], "")
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        items = rejected = 0
        try:
            peer = self._admit(scope, headers, signal, kind)
            async with self._bodies.read(receive, headers.get("content-length", "")) as body:
                items, rejected, words = await self._take(signal, bytes(body), headers, peer)
            response = answers.taken(signal, kind, rejected, words)
            outcome = answers.IGNORED if signal == TRACES else answers.TAKEN
        except answers.RefusedError as error:
            response, outcome = answers.refused(error, kind), error.outcome
        except GoneError:
            return
        except Exception as error:
            if self._traced.first((type(error), *_lines(error))):
                logger.exception("a pushed request could not be taken")
            response, outcome = self._broken(kind), answers.REFUSED
        if signal:
            self._notes.note_push(signal, outcome, items, rejected)
        await response(scope, receive, send)

    def _admit(self, scope: Scope, headers: Headers, signal: str, kind: str) -> str:
        """Return who pushes. Raises RefusedError, by the head of a request alone."""
        client = (scope.get("client") or ("",))[0]
        if head_size(scope) > MAX_HEAD:  # h11 bounds only a head that comes in pieces
            words = f"line and headers of the request have more than {MAX_HEAD:,} bytes"
            raise _refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, words)
        if self.only_hosts is not None and not self.only_hosts(_name(headers.get("host", ""))):
            self._on_refused("host", client)
            raise _refuse(HTTPStatus.MISDIRECTED_REQUEST, _OTHER_HOST)
        peer = self.tokens.peer_of(headers.get("authorization", ""), client)
        if peer is None:
            self._on_refused("token", client)
            asks = {"WWW-Authenticate": 'Bearer realm="otel-budget"', **CLOSE}
            words = "a token is needed: send it as `Authorization: Bearer TOKEN`"
            raise answers.RefusedError(HTTPStatus.UNAUTHORIZED, words, asks)
        if not signal:
            words = f"there are {', '.join(_PATHS)}; is the endpoint given without them?"
            raise _refuse(HTTPStatus.NOT_FOUND, words)
        if scope["method"] != "POST":
            allow = {"Allow": "POST", **CLOSE}
            raise answers.RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, "only POST is taken", allow)
        if kind not in (PROTOBUF, JSON):
            words = f"the content type has to be {PROTOBUF} or {JSON} (OTLP over HTTP)"
            raise _refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, words)
        return peer

    async def _take(
        self, signal: str, body: bytes, headers: Headers, peer: str
    ) -> tuple[int, int, str]:
        """Take a body, and wait until it is judged.

        Returns how many items count, how many were refused, and why. Raises RefusedError.
        """
        if signal == TRACES:
            return 0, 0, ""
        try:
            packed = unpacker(headers.get("content-encoding", ""))
        except UnpackError as error:
            words = "the content encoding has to be gzip or identity"
            raise _refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, words) from error
        content_type = headers["content-type"]
        try:
            with self.source.awaited():
                taken = await self.source.take(signal, body, packed, content_type, peer)
                await self._judged()
        except OtlpError as error:
            raise answers.RefusedError(HTTPStatus.BAD_REQUEST, str(error)) from error
        except UnpackError as error:
            raise answers.RefusedError(HTTPStatus.BAD_REQUEST, f"the body {error}") from error
        except TooLargeError as error:
            raise answers.RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, str(error)) from error
        dropped = {reason: number for reason, number in taken.dropped.items() if number}
        counted, refused = taken.counted, self._refused(peer, taken.sessions)
        dropped |= refused  # runs: how many values they had is not known
        if refused and sum(refused.values()) == len(taken.sessions):
            counted = 0
        why = ", ".join(f"{reason} {number:,}" for reason, number in sorted(dropped.items()))
        return counted, sum(dropped.values()), f"refused: {why}" if why else ""

    async def _judged(self) -> None:
        """Wait until what was taken is judged and stored. Raises RefusedError."""
        try:
            async with asyncio.timeout(JUDGED_WITHIN):
                stored = await self._judge()
        except TimeoutError:
            stored = False
        if not stored:
            raise answers.RefusedError(
                HTTPStatus.SERVICE_UNAVAILABLE, _NOT_STORED, RETRY, outcome=answers.UNSTORED
            )

    @staticmethod
    def _broken(kind: str) -> Response:
        words = "the sidecar failed to take it; its log says why"
        return answers.refused(_refuse(HTTPStatus.INTERNAL_SERVER_ERROR, words), kind)


def _refuse(status: HTTPStatus, words: str) -> answers.RefusedError:
    return answers.RefusedError(status, words, CLOSE)


def _lines(error: Exception) -> list[int]:
    """Return where an exception was raised."""
    return [frame.lineno or 0 for frame in traceback.extract_tb(error.__traceback__)]


def _name(host: str) -> str:
    """Return the name in a Host header."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    return name.strip("[]").lower()
