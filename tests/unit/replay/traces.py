"""Traces of small runs, for tests of what is replayed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from otel_budget.replay.trace_json import read_line
from otel_budget.sdk.pricing.prices import prices_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from otel_budget.replay.trace import TraceLine

Line = dict[str, Any]


def run(
    name: str, sizes: Sequence[int], *, start: float = 1000.0, resolved: bool | None = True,
    progress: bool = False, end: bool = True, limits: Line | None = None,
) -> Iterator[Line]:  # fmt: skip
    """Yield the lines of a run with a call of each size, ten seconds apart, a dollar a million.

    progress: it tells the share of its calls that are made.
    """
    named = {"session_id": name}
    yield {"t": start, **named, "start": True, **({"limits": limits} if limits else {})}
    for number, size in enumerate(sizes, 1):
        use = {"tokens": size, "api_calls": 1, "cost_usd": f"{size / 1e6:.6f}"}
        told = {"progress": number / len(sizes)} if progress else {}
        yield {"t": start + 10 * number, **named, "use": use, **told}
    if end:
        judged = {} if resolved is None else {"resolved": resolved}
        yield {"t": start + 10 * len(sizes) + 1, **named, "end": "completed", **judged}


def text_of(*runs: Iterable[Line]) -> str:
    """Return runs as the text of a trace."""
    lines = sorted((line for one in runs for line in one), key=lambda line: float(line["t"]))
    return "".join(json.dumps(line) + "\n" for line in lines)


def lines_of(*runs: Iterable[Line]) -> list[TraceLine]:
    """Return runs as a reader gives them."""
    prices = prices_of(None)
    return [read_line(text, "trace", prices) for text in text_of(*runs).splitlines()]
