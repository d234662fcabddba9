"""Where a URL leads to."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import quote

from otel_budget.net.url import split_url

_PORTS: Final = {"http": 80, "https": 443}
#: What may stand in a path and a query as it is.
_ALLOWED: Final = "/%:@!$&'()*+,;=~?"


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
