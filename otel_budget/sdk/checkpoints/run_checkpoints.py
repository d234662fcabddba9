"""Which of the checkpoints under one id belong together: by run, and by process that carried it.

The rule: nobody removes what somebody else may have to go on from. A process keeps its own newest
ones, and those that were there when it took the run up, whose use it carries on. Of other runs
under the id only those that completed make room.
"""

from __future__ import annotations

import re
from dataclasses import fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_budget.core.usage import ResourceUsage
from otel_budget.sdk.phase_counters import plus

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

#: Checkpoints of a run, or of all completed ones, that stay.
KEEP: Final = 10
#: The start of a run is at the head of a file, how it ended at its foot: a state may be large.
_BEGUN: Final = re.compile(rb'"started_at": ([0-9]+(?:\.[0-9]+)?)')
_COMPLETED: Final = re.compile(rb'^ "outcome": "completed",$', re.MULTILINE)
_HEAD: Final = 1024
_FOOT: Final = 2048
_NOT_ADDED: Final = ("session_id", "started_at", "duration_seconds", "active_seconds",
                     "last_checkpoint_at", "cost_usd")  # fmt: skip
_ADDED: Final = tuple(field.name for field in fields(ResourceUsage) if field.name not in _NOT_ADDED)


class TakenUp(NamedTuple):
    """Which process wrote a checkpoint of a run that it had taken up."""

    at: float
    """When that process began, in Unix time: it has no other name."""
    carried: ResourceUsage
    """What the run had used by then, as that process knew."""


class Glimpse(NamedTuple):
    """What can be seen of a checkpoint without reading all of it."""

    started_at: float
    """When its run began; 0 if that cannot be seen."""
    completed: bool


_UNSEEN: Final = Glimpse(0.0, completed=False)


def glimpse(path: Path) -> Glimpse:
    """Look at a checkpoint's head and foot."""
    try:
        stat = path.stat()
    except OSError:
        return _UNSEEN
    return _glimpse(path, stat.st_ino, stat.st_mtime_ns)


@lru_cache(maxsize=4096)
def _glimpse(path: Path, _inode: int, _written_at: int) -> Glimpse:
    try:
        with path.open("rb") as file:
            begun = _BEGUN.search(file.read(_HEAD))
            file.seek(max(0, file.seek(0, 2) - _FOOT))
            completed = _COMPLETED.search(file.read()) is not None
    except OSError:
        return _UNSEEN
    return Glimpse(float(begun[1]) if begun else 0.0, completed)


def may_go(paths: Sequence[Path], started_at: float, own: frozenset[Path]) -> list[Path]:
    """Return the checkpoints that a process may remove. paths: all there are, oldest first.

    own: those it wrote, and those that were there when it took the run up.
    """
    seen = {path: glimpse(path) for path in paths}
    mine = [path for path in paths if path in own and seen[path].started_at == started_at]
    completed = {look.started_at for look in seen.values() if look.completed} - {started_at, 0.0}
    over = [path for path in paths if seen[path].started_at in completed]
    return mine[:-KEEP] + over[:-KEEP]


def used_by_all(newest: Iterable[tuple[TakenUp | None, ResourceUsage]]) -> ResourceUsage:
    """Return what a run used over all processes that carried it, also beside one another.

    newest: of each process, who it is and what the run had used by its newest checkpoint; one is
    None, or none is: the process that began the run. As everywhere, each begins from the larger of
    what is known and what it carried over.
    """
    row = sorted(newest, key=lambda one: 0.0 if one[0] is None else one[0].at)
    total = row[0][1]
    for taken_up, used in row[1:]:
        if taken_up is None:
            continue
        carried = taken_up.carried
        values: dict[str, Any] = {
            name: max(getattr(total, name), getattr(carried, name))
            + getattr(used, name)
            - getattr(carried, name)
            for name in _ADDED
        }
        own = plus(used.cost_usd, carried.cost_usd.copy_negate())
        last = [at for at in (total.last_checkpoint_at, used.last_checkpoint_at) if at is not None]
        total = replace(
            total,
            **values,
            cost_usd=plus(max(total.cost_usd, carried.cost_usd), own),
            duration_seconds=max(total.duration_seconds, used.duration_seconds),
            active_seconds=max(total.active_seconds, used.active_seconds),
            last_checkpoint_at=max(last, default=None),
        )
    return total
