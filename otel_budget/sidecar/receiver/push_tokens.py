"""Who pushes: by the token that comes with a request, or by the address that it comes from.

A line of the token file is ``TOKEN`` or ``NAME:TOKEN``. If all tokens are of one name, or there is
one without a name, they do not tell pushers apart: then the address does. During a rotation the
file has the old and the new token under the same name.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from otel_budget.sidecar.api.auth import Tokens

if TYPE_CHECKING:
    from pathlib import Path

_NAMED: Final = re.compile(r"([A-Za-z0-9_.-]{1,64}):(.+)")


class PushTokens:
    """Knows who pushes."""

    def __init__(self, path: Path | None) -> None:
        """path: of the token file; None: everyone may push. Raises TokenFileError."""
        self._tokens = None if path is None else _NamedTokens(path)

    @property
    def need_token(self) -> bool:
        """True if nobody may push without one."""
        return self._tokens is not None

    @property
    def have_names(self) -> bool:
        """True if tokens tell pushers apart."""
        return self._tokens is not None and len(set(self._tokens.names)) > 1

    def peer_of(self, authorization: str, client: str) -> str | None:
        """Return who pushes; None if it may not.

        authorization: the header. client: the address it comes from.
        """
        if self._tokens is None:
            return client
        scheme, _, given = authorization.partition(" ")
        token = given.strip().encode() if scheme.lower() == "bearer" else b""
        number = self._tokens.number_of(token)
        if number is None:
            return None
        return self._tokens.names[number] if self.have_names else client


class _NamedTokens(Tokens):
    """The tokens of a file, with the names of who has them."""

    names: tuple[str, ...] = ()

    def token_in(self, line: str) -> str:
        """Return the token in a line, which may have a name before it."""
        named = _NAMED.fullmatch(line)
        return line if named is None else named[2]

    def note_lines(self, lines: tuple[str, ...]) -> None:
        """Take note of whose tokens they are."""
        found = [_NAMED.fullmatch(line) for line in lines]
        self.names = tuple(
            f"token-{number}" if named is None else named[1]
            for number, named in enumerate(found, 1)
        )
