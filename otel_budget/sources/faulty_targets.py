"""Targets for which a server cannot answer: found by asking for fewer, and left out.

A server refuses a query as a whole even where a single target is at fault: it has more series than
the server may look at, or than fit into an answer, or labels without end. Then the server is asked
which targets there are, and for halves of them until it is found which it is. Those are left out,
their runs are in doubt, and now and then all are asked for again.

A target with so many series that the answer to all takes too long is found by their number.
"""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence

    from otel_budget.sources.prometheus_api import Point

    #: Gives the number of samples of each target, by job and instance; None if that failed.
    Places = Callable[[], Awaitable[Iterable[Point] | None]]
    #: Tells whether the server answers for what matches further matchers.
    Answers = Callable[[Sequence[str]], Awaitable[bool]]
    #: Tells whether the server answers for these instances alone.
    Works = Callable[[Collection[str]], Awaitable[bool]]

INSTANCE: Final = "instance"
#: Instances that may be left out: if it were more, something else is at fault.
_MOST: Final = 8
#: Queries at most until it is found which.
_QUERIES: Final = 64
#: Parts that are asked for first, of so many instances at least.
_PARTS, _TOGETHER = 16, 100
#: Times the usual number of samples from which a target has too many of them.
_MANY: Final = 10
#: Seconds until all are asked for again, and until the next search after one that found nothing.
AGAIN: Final = 60.0


class LeftOut(NamedTuple):
    """The targets that are left out."""

    instances: tuple[str, ...] = ()
    why: str = ""
    """What the server says to all of them."""
    targets: tuple[str, ...] = ()
    """Job and instance of each."""
    until: float = -math.inf
    """When it is time to try again with all."""


class FaultyTargets:
    """Knows for which targets a server cannot answer. Times: seconds on the reader's clock."""

    none_left_out: Final = LeftOut()

    def __init__(self) -> None:
        self.known = self.none_left_out
        """Those left out of the newest observation."""
        self._looked_at = -math.inf
        """When the last search was, if it found nothing."""

    def left_out(self, now: float) -> LeftOut:
        """Return what to leave out now."""
        return self.known if now < self.known.until else self.none_left_out

    async def find(
        self, why: str, now: float, places: Places, answers: Answers, *, slow: bool = False
    ) -> LeftOut:
        """Find out which targets they are.

        why: what the server said to all. slow: the answer to all takes it too long. Does not search
        again within a minute of a search that found nothing.
        """
        if now - self._looked_at < AGAIN:
            return self.none_left_out
        self._looked_at = now
        jobs: dict[str, set[str]] = {}
        series = Counter[str]()
        for point in await places() or ():
            name = point.labels.get(INSTANCE, "")
            jobs.setdefault(name, set()).add(point.labels.get("job", ""))
            series[name] += int(point.value) if math.isfinite(point.value) else 0
        found = self.known.instances
        if not found or not await answers(without(found)):
            if slow:
                found = outstanding(series)
                found = found if found and await answers(without(found)) else ()
            else:
                found = await find(sorted(jobs), lambda some: answers((only(some),)))
        if not found:
            return self.none_left_out
        self._looked_at = -math.inf
        targets = tuple(f"{job}/{name}" for name in found for job in sorted(jobs.get(name, ())))
        return LeftOut(found, why, targets, now + AGAIN)


def only(instances: Collection[str]) -> str:
    """Return the matcher for these instances."""
    return f'{INSTANCE}=~"{_either(instances)}"'


def without(instances: Collection[str]) -> tuple[str, ...]:
    """Return the matchers for all others; none if there are none to leave out."""
    return (f'{INSTANCE}!~"{_either(instances)}"',) if instances else ()


def outstanding(series: Counter[str]) -> tuple[str, ...]:
    """Return the instances with far more samples than most have."""
    usual = statistics.median_low(series.values()) if series else 0
    return tuple(name for name, many in series.most_common(_MOST) if many > _MANY * usual)


async def find(instances: Sequence[str], works: Works) -> tuple[str, ...]:
    """Return the instances for which a server does not answer.

    Empty if it answers for each part of them, or if they are too many, or not to be found.
    """
    size = max(_TOGETHER, math.ceil(len(instances) / _PARTS))
    parts = [instances[at : at + size] for at in range(0, len(instances), size)]
    found: list[str] = []
    for _ in range(_QUERIES):
        if not parts:
            return tuple(found)
        part = parts.pop()
        if await works(part):
            continue
        if len(part) > 1:
            parts += [part[: len(part) // 2], part[len(part) // 2 :]]
            continue
        found.append(part[0])
        if len(found) > _MOST:
            break
    return ()


def _either(instances: Collection[str]) -> str:
    quoted = (re.escape(name).replace("\\", "\\\\").replace('"', '\\"') for name in instances)
    return "|".join(quoted)
