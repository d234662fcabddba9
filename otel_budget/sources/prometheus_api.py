"""The answer of a Prometheus query API, read strictly. Pure.

An answer of another shape is an error: to read it as "nothing there" would be to read it as 0. What
is wrong with one row costs that row: its value is none that can be (NaN), so that what it is of is
in doubt and not absent. A row that does not even say that is counted.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Final

from otel_budget.errors import OtelBudgetError
from otel_budget.logs.text import one_line
from otel_budget.sources.partial import remarks, said_by_body, said_by_row

_PAIR: Final = 2


class AnswerError(OtelBudgetError):
    """An answer cannot be used; the message says why."""


class QueryRefusedError(AnswerError):
    """The server refuses this query."""


@dataclass(frozen=True, slots=True)
class Point:
    """One series at the moment of evaluation."""

    labels: dict[str, str]
    """With ``__name__`` where the query keeps it."""
    value: float


@dataclass(frozen=True, slots=True)
class Vector:
    """An instant vector."""

    points: tuple[Point, ...]
    evaluated_at: float | None
    """The server's own time of evaluation, Unix seconds; None if it is empty."""
    warnings: tuple[str, ...]
    """What the server says about data that is missing."""
    infos: tuple[str, ...] = ()
    """What else it has to say."""
    odd: tuple[str, ...] = ()
    """Rows without labels that can be read, for people."""


def parse_answer(body: bytes) -> Vector:
    """Read the answer to an instant query. Raises AnswerError if it is anything but a vector,
    or if no row of it can be read.
    """
    try:
        # Numbers stay text at first: "NaN" and "+Inf" come as strings anyway.
        # Some stores take bytes that are no text into labels, and give them back as they are.
        text = body.decode("utf-8", "replace")
        answer = json.loads(text, parse_float=str, parse_int=str, parse_constant=str)
    except (ValueError, RecursionError) as exc:
        raise AnswerError(f"its answer is not JSON: {exc}") from exc
    if not isinstance(answer, dict):
        raise AnswerError("its answer is not a JSON object")
    if answer.get("status") != "success":
        said = f"{answer.get('errorType', 'no errorType')}: {answer.get('error', 'no error')}"
        raise QueryRefusedError(f"it refuses the query: {one_line(said)}")
    data = answer.get("data")
    if not isinstance(data, dict) or not isinstance(data.get("result"), list):
        raise AnswerError("its answer has no data.result")
    if data.get("resultType") != "vector":
        kind = one_line(repr(data.get("resultType")))
        raise AnswerError(f"its answer is a {kind}, not a vector")
    rows = data["result"]
    found = [_point(row) for row in rows]
    points = tuple(point for point in found if point is not None)
    at = next((at for row in rows if (at := _time(row)) is not None), None)
    if rows and (at is None or not points):
        raise AnswerError(f"its answer holds no vector: {one_line(repr(rows[0]))}")
    odd = [one_line(repr(row)) for row, point in zip(rows, found, strict=True) if point is None]
    missing = dict.fromkeys(said_by_body(answer))
    for row in rows:
        if isinstance(row, dict) and len(row) > _PAIR:
            missing |= dict.fromkeys(said_by_row(row))
    return Vector(points, at, tuple(missing), remarks(answer), tuple(odd))


def _point(row: Any) -> Point | None:
    """Return what a row says, with NaN for a value that is none; None without labels."""
    labels = row.get("metric") if isinstance(row, dict) else None
    if not isinstance(labels, dict):
        return None
    try:
        _, number = row["value"]
        found = Point(labels, float(number))
    except (KeyError, TypeError, ValueError):
        if not labels:
            return None
        found = Point(labels, math.nan)  # also a histogram, by the name of a counter
    for text in labels.values():
        if not isinstance(text, str):
            readable = {k: v for k, v in labels.items() if isinstance(v, str)}
            return Point(readable, math.nan) if readable else None
    return found


def _time(row: Any) -> float | None:
    """Return the time of evaluation that a row bears; None if it has none that can be."""
    try:
        at = float(row["value"][0])
    except (KeyError, TypeError, ValueError, IndexError):
        return None
    return at if math.isfinite(at) else None
