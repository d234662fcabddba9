"""Bearer tokens in files, as the side that sends one and the side that asks for one read them."""

from __future__ import annotations

import os
import re
from stat import S_ISREG
from typing import TYPE_CHECKING, Final

from otel_budget.errors import OtelBudgetError

if TYPE_CHECKING:
    from pathlib import Path

#: Visible ASCII without spaces; what else a header cannot carry, or an editor puts there unseen.
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")


class TokenFileError(OtelBudgetError):
    """A file gives no token. The message says why, and never shows what is in it."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path, self.problem = path, problem
        super().__init__(f"the bearer token file {path} {problem}")


def open_to(path: Path) -> str:
    """Return who may read a secret file besides its owner and this process; empty if no one may.

    A group that this process is in is meant: as on a secret that is mounted for it.
    """
    try:
        stat = path.stat()
    except OSError:
        return ""
    if stat.st_mode & 0o004:
        return "every user of this host"
    groups = {os.getegid(), *os.getgroups()}
    return "its group" if stat.st_mode & 0o040 and stat.st_gid not in groups else ""


def read_tokens(path: Path) -> tuple[str, ...]:
    """Return the tokens of a file, one on each line. Raises TokenFileError; never returns none."""
    try:
        if not S_ISREG(path.stat().st_mode):  # to open a FIFO may take for ever
            raise TokenFileError(path, "is not a regular file")
        lines = path.read_text(encoding="ascii").split("\n")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not plain text"
        raise TokenFileError(path, f"cannot be read: {reason}") from exc
    tokens = tuple(line.strip() for line in lines if line.strip())
    if not tokens:
        raise TokenFileError(path, "holds no token")
    if not all(_TOKEN.fullmatch(token) for token in tokens):
        raise TokenFileError(path, "holds a token with spaces or control characters in it")
    return tokens


def read_token(path: Path) -> str:
    """Return the token to send: the only one of a file. Raises TokenFileError."""
    tokens = read_tokens(path)
    if len(tokens) > 1:
        raise TokenFileError(path, f"must hold one token, and holds {len(tokens)}")
    return tokens[0]
