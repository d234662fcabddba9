"""Who may call what: bearer tokens, and from which pages a browser may ask.

- Without a read token everyone who reaches the address may read; the configuration allows that on
  the loopback interface, behind client certificates, or when explicitly told to.
- A client with the admin token may read and act. Without an admin token no one may act.
- The health checks say nothing about any run, and need no token.
"""

from __future__ import annotations

import hmac
import logging
from contextlib import suppress
from dataclasses import replace
from enum import IntEnum
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from otel_budget.files.token_file import TokenFileError, read_tokens
from otel_budget.files.watch import FileWatch
from otel_budget.net.loopback import is_loopback
from otel_budget.sidecar.api.connection_limits import MAX_HEAD, client_of, not_counted
from otel_budget.sidecar.api.problem import problem, problem_answer
from otel_budget.sidecar.api.route import Access

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

    from otel_budget.sidecar.api.connection_limits import OnRefused
    from otel_budget.sidecar.api.route import Answer, Handler

logger = logging.getLogger(__name__)

#: Characters. A shorter token can be guessed by asking often enough.
SHORTEST_TOKEN: Final = 16
_TOO_LARGE: Final = f"line and headers of the request have more than {MAX_HEAD:,} bytes"
_OTHER_HOST: Final = (
    "asked for another host: use a loopback address or localhost; if a proxy is in front of the "
    "sidecar, add the proxy's name to listen.allowed_hosts"
)
_MISSING: Final = "a token is needed"
_HOW: Final = "{}: send it as `Authorization: Bearer TOKEN`"
_NO_ADMIN: Final = (
    "operators cannot act here: the sidecar has no admin token; give it one with "
    "listen.admin_token_file"
)
_ONLY_READS: Final = "this token may only read: send the admin token to act"
_NO_BODY: Final = {"Connection": "close"}


class Role(IntEnum):
    """What a client may do; each role includes those before it."""

    NONE = 0
    READER = 1
    ADMIN = 2


class Tokens:
    """The tokens of a file, read again whenever it changes.

    Every line is a token, so that during a rotation the file can hold the old one and the new one.
    A file that can no longer be read changes nothing: a half-written file must not cut runs off
    from their sidecar. To revoke a token, write another.
    """

    def __init__(self, path: Path) -> None:
        """Read it. Raises TokenFileError."""
        self._path, self._watch = path, FileWatch(path)
        self._tokens: tuple[bytes, ...] = ()
        self._read()
        self._is_broken = False

    def has(self, token: bytes) -> bool:
        """Tell whether a token is one of these, in a time that does not depend on them."""
        return self.number_of(token) is not None

    def number_of(self, token: bytes) -> int | None:
        """Return the place of a token among these, in a time that does not depend on them; None if
        it is none of them.
        """
        self._renew()
        found = None
        for number, known in enumerate(self._tokens):
            if hmac.compare_digest(known, token):
                found = number
        return found

    def token_in(self, line: str) -> str:
        """Return the token in a line of the file."""
        return line

    def note_lines(self, lines: tuple[str, ...]) -> None:
        """Take note of the lines of the file, which are good."""

    def _renew(self) -> None:
        try:
            if self._read():
                logger.info("tokens: read %s again", self._path)
            self._is_broken = False
        except TokenFileError as exc:
            if not self._is_broken:
                logger.error("tokens: keeping the ones read before: %s", exc)  # noqa: TRY400 - the file is at fault
            self._is_broken = True

    def _read(self) -> bool:
        """Read the file if it changed; tell whether it did. Raises TokenFileError."""
        stamps = None
        with suppress(OSError):  # reading it says what is wrong
            stamps = self._watch.changed()
            if stamps is None:
                return False
        lines = read_tokens(self._path)
        tokens = [self.token_in(line) for line in lines]
        if any(len(token) < SHORTEST_TOKEN for token in tokens):
            least = f"holds a token shorter than {SHORTEST_TOKEN} characters"
            raise TokenFileError(self._path, f"{least}: make one with `openssl rand -hex 32`")
        self._tokens = tuple(token.encode() for token in tokens)
        self.note_lines(lines)
        self._watch.read_as_of(stamps)
        return True


class Gate:
    """Knows who may do what."""

    def __init__(
        self,
        read: Tokens | None = None,
        admin: Tokens | None = None,
        *,
        only_hosts: Callable[[str], bool] | None = None,
        on_refused: OnRefused = not_counted,
    ) -> None:
        """Take the tokens; None means that none is required.

        only_hosts: tells whether a name in a Host header is allowed; None allows all.
        on_refused: called with a reason and the client's address for every request refused.
        """
        self._read, self._admin = read, admin
        self._only_hosts, self.on_refused = only_hosts, on_refused

    @property
    def can_act(self) -> bool:
        """True if there is a token with which to act."""
        return self._admin is not None

    def role(self, authorization: str) -> Role:
        """Return what the sender of an Authorization header may do."""
        scheme, _, given = authorization.partition(" ")
        token = given.strip().encode() if scheme.lower() == "bearer" else b""
        if self._admin is not None and self._admin.has(token):
            return Role.ADMIN
        if self._read is None or self._read.has(token):
            return Role.READER
        return Role.NONE

    def knows_host(self, host: str) -> bool:
        """Tell whether a Host header names this sidecar.

        A page in a browser may make its own name point here (DNS rebinding); the browser then asks
        for that name.
        """
        if self._only_hosts is None:
            return True
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        return self._only_hosts(name.strip("[]").lower())


def local_names(*more: str) -> Callable[[str], bool]:
    """Return a test for the names of this machine's loopback interface, and others."""
    known = {"localhost", "", *(name.lower() for name in more)}

    return lambda name: name in known or is_loopback(name)


class Guarded:
    """An ASGI application behind a gate; the sender's role is in ``scope["state"]["role"]``."""

    def __init__(self, app: ASGIApp, gate: Gate, open_paths: Collection[str]) -> None:
        """Put the gate in front. open_paths: those that need no token."""
        self._app, self._gate, self._open_paths = app, gate, open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if head_size(scope) > MAX_HEAD:  # h11 bounds only a head that comes in pieces
            too_large = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            await problem(too_large, _TOO_LARGE, _NO_BODY)(scope, receive, send)
            return
        headers = Headers(scope=scope)
        role = self._gate.role(headers.get("authorization", ""))
        scope.setdefault("state", {})["role"] = role
        client = (scope.get("client") or ("",))[0]
        if not self._gate.knows_host(headers.get("host", "")):
            self._gate.on_refused("host", client)
            misdirected = HTTPStatus.MISDIRECTED_REQUEST
            await problem(misdirected, _OTHER_HOST, _NO_BODY)(scope, receive, send)
        elif role is Role.NONE and scope["path"] not in self._open_paths:
            given = "authorization" in headers
            self._gate.on_refused("token", client)
            await unauthorized(given=given)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def head_size(scope: Scope) -> int:
    """Return the bytes of a request's line and headers."""
    headers = sum(len(name) + len(value) for name, value in scope["headers"])
    return headers + len(scope["raw_path"]) + len(scope["query_string"])


def unauthorized(*, given: bool) -> Response:
    """Return the answer to a request with a wrong token, or without one."""
    detail = _HOW.format("this token is not known here" if given else _MISSING)
    error = ', error="invalid_token"' if given else ""
    return problem(
        HTTPStatus.UNAUTHORIZED,
        detail,
        {"WWW-Authenticate": f'Bearer realm="otel-budget"{error}', **_NO_BODY},
    )


def admin_only(gate: Gate, handler: Handler) -> Handler:
    """Return a handler that only a client with the admin token reaches."""

    async def guarded(request: Request) -> Response:
        if not gate.can_act:
            raise HTTPException(HTTPStatus.FORBIDDEN, _NO_ADMIN)
        if request.state.role is not Role.ADMIN:
            gate.on_refused("token", client_of(request))
            if "authorization" not in request.headers:
                return unauthorized(given=False)
            raise HTTPException(HTTPStatus.FORBIDDEN, _ONLY_READS)
        return await handler(request)

    return guarded


_UNAUTHORIZED: Final = replace(
    problem_answer(401, "A token is needed, or this one is not known.", _HOW.format(_MISSING)),
    headers={"WWW-Authenticate": {"schema": {"type": "string"}}},
)
_OPEN: Final = (
    problem_answer(
        421,
        "The request names another host than this machine, as a page in a browser may.",
        _OTHER_HOST,
    ),
    problem_answer(431, "The request line and headers are too large.", _TOO_LARGE),
)
_READ: Final = (_UNAUTHORIZED, *_OPEN)
_ADMIN: Final = (
    *_READ,
    problem_answer(403, "The token may only read, or the sidecar has no admin token.", _ONLY_READS),
)
#: What the guard may answer in place of an operation, by who may call it.
ANSWERS: Final[dict[Access, tuple[Answer, ...]]] = {
    Access.OPEN: _OPEN,
    Access.READ: _READ,
    Access.ADMIN: _ADMIN,
}
