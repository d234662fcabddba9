"""What a provider bills beside plain input and output tokens: the names, and those of one call.

The rules:
- Tokens of a kind (audio, written to a cache for an hour) are part of the input or the output, as
  all parts are; units (a web search) come on top of the tokens.
- What has no price of its own is not free: the cost of such a call is "at least" what is known.
- A service tier has prices of its own for all of a call; the standard one is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from otel_budget.core import validation
from otel_budget.errors import InvalidValueError

#: Of what is written to a cache, what is kept for an hour; the rest is kept for some minutes.
CACHE_WRITE_1H = "cache_write_1h_tokens"
#: Kind of input tokens to those of them that were read from a cache.
INPUT_KINDS = {
    "input_audio_tokens": "cache_audio_read_tokens",
    "input_image_tokens": "cache_image_read_tokens",
    "input_video_tokens": "cache_video_read_tokens",
}
CACHED_KINDS = tuple(INPUT_KINDS.values())
OUTPUT_KINDS = ("output_audio_tokens", "output_image_tokens", "output_video_tokens")
TOKEN_KINDS = (CACHE_WRITE_1H, *INPUT_KINDS, *CACHED_KINDS, *OUTPUT_KINDS)
#: What comes on top of the tokens.
WEB_SEARCHES, FILE_SEARCHES, CODE_EXECUTIONS = "web_searches", "file_searches", "code_executions"
TOOL_CALLS = "tool_calls"
"""Of a tool that the provider runs and bills, and that has no name here."""
CITATION_TOKENS = "citation_tokens"
"""What was read of sources, where it is billed beside input and output."""
REGIONAL = "regional_calls"
"""A call whose region costs more than the list says."""
UNITS = (WEB_SEARCHES, FILE_SEARCHES, CODE_EXECUTIONS, TOOL_CALLS, CITATION_TOKENS, REGIONAL)
NAMES = (*TOKEN_KINDS, *UNITS)

_STANDARD = frozenset(
    {"", "auto", "default", "on_demand", "standard", "standard_only", "traffic_type_unspecified"}
)
_SAME = {"on_demand_flex": "flex", "on_demand_priority": "priority"}
_LONGEST_NAME = 64


class Extras(NamedTuple):
    """The extras of one call; there is at least one."""

    counts: Mapping[str, int]
    """By name, each above 0."""
    service_tier: str | None = None
    """In small letters, as ``batch``, ``flex``, ``priority``, ``fast``; None: the standard one."""


def extras_of(counts: Mapping[str, int], service_tier: object = None) -> Extras | None:
    """Return a call's extras; None if it has none. service_tier: as a provider calls it."""
    kept = {name: count for name, count in counts.items() if count}
    tier = tier_of(service_tier)
    return Extras(kept, tier) if kept or tier is not None else None


def tier_of(said: object) -> str | None:
    """Return a service tier under its own name; None for the standard one, and for nothing said."""
    if not isinstance(said, str):
        return None
    name = said.strip().lower()[:_LONGEST_NAME]
    return None if name in _STANDARD else _SAME.get(name, name)


def checked(counts: object, service_tier: object) -> Extras | None:
    """Return the extras that a caller gives. Raises InvalidValueError naming the argument."""
    if service_tier is not None and not isinstance(service_tier, str):
        raise InvalidValueError("service_tier", service_tier, "a text, or None")
    if counts is None:
        counts = {}
    if not isinstance(counts, Mapping):
        raise InvalidValueError("extras", counts, "a mapping of names to counts")
    for name, value in counts.items():
        if name not in NAMES:
            raise InvalidValueError("extras", name, "the names " + ", ".join(NAMES))
        validation.count(f"extras[{name!r}]", value)
    return extras_of(counts, service_tier)
