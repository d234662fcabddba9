"""Which process a target is of, where the process itself does not say when it started. Pure.

One process may be seen along several ways: through two jobs, by two addresses, through a pair of
Prometheus servers, directly and by federation. What the scraping side adds distinguishes ways, not
processes:
- the job, where there is an instance;
- the labels that name a replica of a server (``semconv.REPLICA_LABELS``, or those configured);
- the job and instance under which another server hands a series on: then the process is
  that of ``exported_instance``.
Anything else (another instance, any other label) is another process: what may be two counts
twice, never not at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

EXPORTED_JOB: Final = "exported_job"
EXPORTED_INSTANCE: Final = "exported_instance"
EXPORTED: Final = (EXPORTED_JOB, EXPORTED_INSTANCE)
_PORTS: Final = {"http": "80", "https": "443"}
_HERE: Final = "localhost"
#: Addresses by which a host reaches itself; that a server listens on all is one to ask it at, too.
_SELF: Final = frozenset({_HERE, "::1", "127.0.0.1", "0.0.0.0", "::"})  # noqa: S104 - nothing listens


def process_at(url: str) -> str:
    """Return the process at a URL: the same one by whichever of its host's loopback names."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", str(parts.port or _PORTS.get(parts.scheme, ""))
    query = f"?{parts.query}" if parts.query else ""
    return f"{_host(host)}:{port}{parts.path or '/'}{query}"


def process_of(labels: Mapping[str, str]) -> str:
    """Return the process that series with these labels are of; empty if they name none."""
    instance, exported = labels.get("instance", ""), labels.get(EXPORTED_INSTANCE, "")
    if not exported:
        return _address(instance) or labels.get(EXPORTED_JOB) or labels.get("job", "")
    inner = _address(exported)
    # "localhost" is another host for each server that asks it.
    return f"{inner} at {_address(instance)}" if _is_here(inner) else inner


def _address(instance: str) -> str:
    """Return an instance in one spelling."""
    if instance.count("/") or not instance:
        return instance
    if instance.startswith("["):
        host, _, port = instance[1:].partition("]")
        port = port.removeprefix(":")
        if not port:
            return _host(host)
    else:
        host, _, port = instance.rpartition(":")
    return f"{_host(host)}:{port}" if host else _host(instance)


def _host(host: str) -> str:
    host = host.lower().rstrip(".")
    return _HERE if host in _SELF else host


def _is_here(address: str) -> bool:
    return address.partition(":")[0] == _HERE
