"""Kinds of tokens: what of a run's tokens is told apart where a budget weighs them. Pure.

What is read are wholes and their parts, each a counter of its own, named ``tokens:input`` and the
like; they are no resources, nothing is limited by them. What they come to is disjoint: no token is
two of them. The rules:

- A part that is not told apart stays in its whole: output of which nobody says what was reasoning
  is output.
- What is of no kind, or of an unknown one, is in none.
- Kinds never add up to more than the tokens do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_budget import semconv

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The kinds, which no token is two of: uncached input, what was read from and written to a cache,
#: output without reasoning, reasoning.
TOKEN_KINDS: Final = ("input", "cache_read", "cache_write", "output", "reasoning")
#: Part to the whole it is read inside of.
PART_OF: Final = {"cache_read": "input", "cache_write": "input", "reasoning": "output"}
#: A token that counts once, as weights are: in thousandths.
WHOLE_WEIGHT: Final = 1000
#: Kind to the counter it is read as; of input and output with their parts.
KIND_COUNTERS: Final = {kind: f"{semconv.TOKENS}:{kind}" for kind in TOKEN_KINDS}
KIND_COUNTER_NAMES: Final = frozenset(KIND_COUNTERS.values())


def disjoint(shown: Mapping[str, int], tokens: int) -> dict[str, int]:
    """Return how many tokens are of each kind, none of them twice; absent is none that is known.

    shown: kind to what was counted of it, parts within their wholes. tokens: all there are.
    """
    left = dict(shown)
    for part, whole in PART_OF.items():
        if part in left and whole in left:
            left[part] = min(left[part], left[whole])
            left[whole] -= left[part]
    room, found = max(0, tokens), {}
    for kind in TOKEN_KINDS:
        if left.get(kind, 0) > 0 and room > 0:
            found[kind] = min(left[kind], room)
            room -= found[kind]
    return found


def with_parts(kinds: Mapping[str, int]) -> dict[str, int]:
    """Return kinds that are disjoint as they are counted: parts within their wholes."""
    counted = dict(kinds)
    for part, whole in PART_OF.items():
        if part in kinds:
            counted[whole] = counted.get(whole, 0) + kinds[part]
    return counted
