"""The check of a URL that something is asked at, and where it leads."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote, urlsplit

from otel_budget.errors import OtelBudgetError

if TYPE_CHECKING:
    from urllib.parse import SplitResult

_PORTS: Final = {"http": 80, "https": 443}
#: Characters that a path and a query may have as they are.
_ALLOWED: Final = "/%:@!$&'()*+,;=~?"


class UrlError(OtelBudgetError, ValueError):
    """Refuse a URL.

    shown: it, without user and password. has_user: True if these are all that is wrong with it.
    """

    def __init__(self, shown: object, *, has_user: bool = False) -> None:
        self.shown, self.has_user = shown, has_user
        why = "has a user in it" if has_user else "is no http or https URL with a host"
        super().__init__(f"{shown} {why}")


def split_url(url: object) -> SplitResult:
    """Return the parts of an http or https URL with a host and without a user. Raises UrlError."""
    if not isinstance(url, str):
        raise UrlError(url)
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for what is not a port
    except ValueError as exc:
        raise UrlError(url) from exc
    if parts.scheme not in _PORTS or not parts.hostname:
        raise UrlError(url)
    if "@" in parts.netloc:
        # Not shown: a URL becomes a name in verdicts and logs, and this one holds a password.
        raise UrlError(f"{parts.scheme}://…@{parts.hostname}", has_user=True)
    return parts


class Place(NamedTuple):
    """Where a URL leads to."""

    host: str
    port: int
    is_tls: bool
    host_header: str
    target: str
    """Path and query."""


@lru_cache(maxsize=65_536)
def place_of(url: str) -> Place:
    """Return where a URL leads to. Raises ValueError."""
    parts = split_url(url)
    host, scheme = parts.hostname or "", parts.scheme
    port = parts.port or _PORTS[scheme]
    bare = host.partition("%")[0]  # a zone means something on this machine only
    named = f"[{bare}]" if ":" in bare else bare.encode("idna").decode("ascii")
    header = named if port == _PORTS[scheme] else f"{named}:{port}"
    target = quote(parts.path or "/", safe=_ALLOWED)
    if parts.query:
        target += "?" + quote(parts.query, safe=_ALLOWED)
    return Place(host, port, scheme == "https", header, target)
