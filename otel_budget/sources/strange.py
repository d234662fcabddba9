"""What a page is that shows nothing to count. Pure.

It may be that of an agent on which no run is, and that is in order; or of something else, or of use
by names that are not read, and then nothing behind it is guarded.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from otel_budget import semconv
from otel_budget.core.resources import COUNTERS
from otel_budget.sources.selection import by_other_names, named_alike

if TYPE_CHECKING:
    from collections.abc import Collection

    from otel_budget.core.samples import Assembled

#: What is on the page of every sidecar, and on that of every agent, even if no run is on.
_OF_A_SIDECAR: Final = semconv.SIDECAR_SESSIONS.name.encode()
_OF_AN_AGENT: Final = re.compile(rb"^otel_budget_", re.MULTILINE)
_BUILD: Final = semconv.BUILD_INFO.name.encode()


def why_strange(body: bytes, found: Assembled, *, foreign: bool) -> str:
    """Return why a page without a run is not that of an agent without one; empty if it may be.

    foreign: True if it is known to have runs, and shows nothing else of otel-budget: between two
    runs it shows nothing at all.
    """
    if _OF_A_SIDECAR in body:
        return "it is a sidecar's own /metrics, not an agent's"
    if found.dropped.get(semconv.BAD_SESSION_ID):
        return f"what it shows has no {semconv.SESSION_ID} that can be one"
    others = other_names(body, "otel-budget", tuple(COUNTERS))
    if others or _OF_AN_AGENT.search(body) or foreign:
        return others
    return "its page has none; is it the address of an agent's /metrics?"


def is_own(body: bytes) -> bool:
    """Tell whether a page is one of otel-budget itself."""
    return _BUILD in body


def declares(body: bytes, names: tuple[str, ...]) -> bool:
    """Tell whether a page has one of these metrics, or declares it."""
    return _declared(names).search(body) is not None


def other_names(body: bytes, what: str, names: Collection[str]) -> str:
    """Say which metrics of a page look like these by another name; empty if none does."""
    alike = named_alike(body, names)
    return by_other_names(what, alike) if alike else ""


@lru_cache(maxsize=64)
def _declared(names: tuple[str, ...]) -> re.Pattern[bytes]:
    text = "|".join(map(re.escape, names))
    return re.compile(rf"^(?:# (?:HELP|TYPE) )?(?:{text})(?=[ {{])".encode(), re.MULTILINE)
