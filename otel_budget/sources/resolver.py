"""From host names to addresses, so that a name whose lookup hangs costs no other name anything.

The system's resolver blocks a thread, for half a minute and more where no name server answers.
- Lookups have threads of their own, a bounded number, and one for each name at a time. They are
  daemons: none of them delays the end of the process.
- Names that gave no address the last time wait longer and longer, and hold only a share of the
  threads, so that those which do are never behind them.
- What is known of a name is kept for some seconds; while no name server answers, for minutes.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections import OrderedDict, deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otel_budget.sources.base import Clock

    #: Returns the addresses of a name, or raises OSError; blocks.
    Lookup = Callable[[str], Sequence["Address"]]

#: Lookups at once, and how many of those may be of names that gave no address the last time.
MOST_LOOKUPS: Final = 64
_MOST_DOUBTFUL: Final = 16
#: Seconds for which the addresses of a name are not looked up again.
_FRESH: Final = 5.0
#: Seconds for which they are used while no name server answers.
_KEPT: Final = 300.0
#: Seconds to wait for newer addresses where there are older ones.
_PATIENCE: Final = 0.25
#: A name without an address is looked up again after so many times what that took, in seconds.
_PAUSE_SHARE, _LEAST_PAUSE, _LONGEST_PAUSE = 3.0, 1.0, 60.0
_MOST_NAMES: Final = 20_000
#: Errors after which a name that had an address has none any more.
_GONE: Final = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})


class Address(NamedTuple):
    """Where to connect to, but for the port."""

    family: int
    place: tuple[Any, ...]
    """As a socket takes it, with port 0."""

    def at(self, port: int) -> tuple[Any, ...]:
        """Return it with a port."""
        return (self.place[0], port, *self.place[2:])


@dataclass(slots=True)
class _Name:
    addresses: tuple[Address, ...] = ()
    found_at: float = 0.0
    error: OSError | None = None
    """Why the last lookup gave nothing."""
    again_at: float = 0.0
    """When to look it up again."""
    pending: asyncio.Future[None] | None = field(default=None)
    """Done when the present lookup is."""


def bound_lookups() -> None:
    """Let an unanswered lookup take 2 s for each domain that is searched, not 10.

    For this process; what the environment says already is kept. Call it before any lookup.
    """
    os.environ.setdefault("RES_OPTIONS", "timeout:1 attempts:2")


def look_up(name: str) -> Sequence[Address]:
    """Ask the system. Raises OSError; a name that no name can be like raises UnicodeError."""
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(Address(family, place) for family, _, _, _, place in found))


class Resolver:
    """What is known of names. Used within one event loop."""

    def __init__(self, clock: Clock, lookup: Lookup = look_up) -> None:
        self._clock, self._lookup = clock, lookup
        self._known: OrderedDict[str, _Name] = OrderedDict()
        """Longest unused first."""
        self._waiting: deque[str] = deque()
        self._doubtful: deque[str] = deque()
        self._running = self._doubtful_running = 0

    async def addresses(self, name: str) -> Sequence[Address]:
        """Return the addresses of a name, at least one. Raises OSError.

        Waits for as long as the lookup takes; who asks bounds that.
        """
        numeric = _numeric(name)
        if numeric:
            return numeric
        known = self._known.setdefault(name, _Name())
        self._known.move_to_end(name)
        now = self._clock()
        if now >= known.again_at and known.pending is None:
            self._begin(name, known)
            self._forget_some()
        if known.pending is not None:
            await _wait(known.pending, _PATIENCE if self._are_kept(known) else None)
        if known.addresses and (known.error is None or self._are_kept(known)):
            return known.addresses
        # A new exception each time: one that is raised again grows by its traceback.
        error = known.error or OSError(f"the name {name} has no address")
        raise type(error)(*error.args)

    def prefer(self, name: str, address: Address) -> None:
        """Try this address of a name first from now on: it answers."""
        known = self._known.get(name)
        if known is not None and known.addresses[:1] != (address,) and address in known.addresses:
            others = (other for other in known.addresses if other != address)
            known.addresses = (address, *others)

    def _are_kept(self, known: _Name) -> bool:
        return bool(known.addresses) and self._clock() - known.found_at < _KEPT

    def _begin(self, name: str, known: _Name) -> None:
        known.pending = asyncio.get_running_loop().create_future()
        (self._doubtful if known.error is not None else self._waiting).append(name)
        self._start()

    def _start(self) -> None:
        """Start lookups as long as there are threads."""
        while self._running < MOST_LOOKUPS:
            doubtful = not self._waiting
            if doubtful and (not self._doubtful or self._doubtful_running >= _MOST_DOUBTFUL):
                return
            name = (self._doubtful if doubtful else self._waiting).popleft()
            self._running += 1
            self._doubtful_running += doubtful
            loop = asyncio.get_running_loop()
            thread = threading.Thread(
                target=self._run, args=(name, doubtful, loop), name=f"lookup {name}", daemon=True
            )
            try:
                thread.start()
            except RuntimeError as exc:  # the system lets the process have no more of them
                loop.call_soon(self._take, name, (), OSError(str(exc)), 0.0, doubtful)

    def _run(self, name: str, doubtful: bool, loop: asyncio.AbstractEventLoop) -> None:  # noqa: FBT001 - handed to a thread
        began = self._clock()
        addresses: Sequence[Address] = ()
        error: OSError | None = None
        try:
            addresses = self._lookup(name)
        except OSError as exc:
            error = exc
        except UnicodeError as exc:
            error = OSError(f"{name!r} is no name of a host: {exc}")
        took = self._clock() - began
        with suppress(RuntimeError):  # the loop is closed: the process ends
            loop.call_soon_threadsafe(self._take, name, addresses, error, took, doubtful)

    def _take(
        self,
        name: str,
        addresses: Sequence[Address],
        error: OSError | None,
        took: float,
        doubtful: bool,  # noqa: FBT001 - handed to a callback
    ) -> None:
        self._running -= 1
        self._doubtful_running -= doubtful
        known, now = self._known[name], self._clock()
        known.error = error
        if error is None:
            known.addresses, known.found_at = tuple(addresses), now
            known.again_at = now + _FRESH
        else:
            if error.errno in _GONE:
                known.addresses = ()
            pause = min(max(_PAUSE_SHARE * took, _LEAST_PAUSE), _LONGEST_PAUSE)
            known.again_at = now + pause
        if known.pending is not None:
            known.pending.set_result(None)
            known.pending = None
        self._start()

    def _forget_some(self) -> None:
        """Keep the names bounded; those that are being looked up are waited for."""
        for name in list(self._known) if len(self._known) > _MOST_NAMES else ():
            if len(self._known) <= _MOST_NAMES:
                return
            if self._known[name].pending is None:
                del self._known[name]


async def _wait(pending: asyncio.Future[None], seconds: float | None) -> None:
    """Wait for a lookup that others wait for, too."""
    await asyncio.wait([pending], timeout=seconds)


def _numeric(name: str) -> Sequence[Address]:
    """Return the address that a name is, which takes no lookup; none if it is a name."""
    if not (name[-1:].isdigit() or ":" in name):
        return ()
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return ()
    return [Address(family, place) for family, _, _, _, place in found]
