"""Who may ask what: bearer tokens, and from which pages a browser may ask.

- Without a read token everybody who reaches the address may read; the configuration allows that on
  the loopback interface, behind client certificates, or when told so.
- Whoever has the admin token may read and act. Without one nobody may act.
- The two health checks say nothing of any run, and ask for nothing.
"""

from __future__ import annotations

import hmac
import logging
from contextlib import suppress
from enum import IntEnum
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from starlette.datastructures import Headers

from otel_budget.files.token_file import TokenFileError, read_tokens
from otel_budget.files.watch import FileWatch
from otel_budget.net.loopback import is_loopback
from otel_budget.sidecar.api.connection_limits import MAX_HEAD, not_counted
from otel_budget.sidecar.api.problem import problem

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

    from otel_budget.sidecar.api.connection_limits import OnRefused

logger = logging.getLogger(__name__)

OPEN_PATHS: Final = ("/-/healthy", "/-/ready")
#: Characters. Less can be guessed by asking often enough.
SHORTEST_TOKEN: Final = 16
_NO_BODY: Final = {"Connection": "close"}


class Role(IntEnum):
    """What somebody may do; each may also do what those below it may."""

    NOBODY = 0
    READER = 1
    ADMIN = 2


class Tokens:
    """The tokens of a file, read again whenever it changes.

    All of its lines count: while a token is exchanged the old one and the new one both stand there.
    A file that cannot be read any more changes nothing, for a run must not lose its sidecar by a
    half-written file; to revoke a token, write another.
    """

    def __init__(self, path: Path) -> None:
        """Read it. Raises TokenFileError."""
        self._path, self._watch = path, FileWatch(path)
        self._tokens: tuple[bytes, ...] = ()
        self._read()
        self._is_broken = False

    def has(self, token: bytes) -> bool:
        """Tell whether a token is one of these, in a time that does not depend on them."""
        self._renew()
        found = False
        for known in self._tokens:
            found |= hmac.compare_digest(known, token)
        return found

    def _renew(self) -> None:
        try:
            if self._read():
                logger.info("tokens: %s was read again", self._path)
            self._is_broken = False
        except TokenFileError as exc:
            if not self._is_broken:
                logger.error("tokens: those read before stay valid: %s", exc)  # noqa: TRY400 - the file is at fault
            self._is_broken = True

    def _read(self) -> bool:
        """Read the file if it changed; tell whether it did. Raises TokenFileError."""
        stamps = None
        with suppress(OSError):  # reading it says what is wrong
            stamps = self._watch.changed()
            if stamps is None:
                return False
        tokens = read_tokens(self._path)
        if any(len(token) < SHORTEST_TOKEN for token in tokens):
            least = f"holds a token of less than {SHORTEST_TOKEN} characters"
            raise TokenFileError(self._path, f"{least}: make one with `openssl rand -hex 32`")
        self._tokens = tuple(token.encode() for token in tokens)
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
        """Take the tokens; None is not asked for.

        only_hosts: tells of a name in a Host header whether it may be asked for, None allows all.
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
        return Role.NOBODY

    def knows_host(self, host: str) -> bool:
        """Tell whether a Host header is one of ours.

        A page that a browser has loaded may have its own name point here (DNS rebinding); then the
        browser would ask for that name.
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

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        """Put the gate in front."""
        self._app, self._gate = app, gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if _head_size(scope) > MAX_HEAD:  # h11 bounds only a head that comes in pieces
            detail = f"line and headers of the request have more than {MAX_HEAD:,} bytes"
            too_large = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            await problem(too_large, detail, _NO_BODY)(scope, receive, send)
            return
        headers = Headers(scope=scope)
        role = self._gate.role(headers.get("authorization", ""))
        scope.setdefault("state", {})["role"] = role
        client = (scope.get("client") or ("",))[0]
        if not self._gate.knows_host(headers.get("host", "")):
            self._gate.on_refused("host", client)
            detail = (
                "asked for another host: ask for it by its loopback address, or localhost; the "
                "name of a proxy in front of it goes into listen.allowed_hosts"
            )
            await problem(HTTPStatus.MISDIRECTED_REQUEST, detail, _NO_BODY)(scope, receive, send)
        elif role is Role.NOBODY and scope["path"] not in OPEN_PATHS:
            given = "authorization" in headers
            self._gate.on_refused("token", client)
            await unauthorized(given=given)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _head_size(scope: Scope) -> int:
    headers = sum(len(name) + len(value) for name, value in scope["headers"])
    return headers + len(scope["raw_path"]) + len(scope["query_string"])


def unauthorized(*, given: bool) -> Response:
    """Return the answer to a request with a wrong token, or without one."""
    said = "this token is not known here" if given else "a token is needed"
    detail = f"{said}: send it as `Authorization: Bearer TOKEN`"
    error = ', error="invalid_token"' if given else ""
    return problem(
        HTTPStatus.UNAUTHORIZED,
        detail,
        {"WWW-Authenticate": f'Bearer realm="otel-budget"{error}', **_NO_BODY},
    )
