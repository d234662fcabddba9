"""The answer of a Prometheus query API, read strictly. Pure.

An answer of another shape is an error: to read it as "nothing there" would be to read it as 0. What
is wrong with one row costs that row: its value is none that can be (NaN), so that what it is of is
in doubt and not absent. A row that does not even say that is counted.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, NamedTuple

from otel_budget.errors import OtelBudgetError
from otel_budget.logs.text import one_line
from otel_budget.sources.partial import remarks, said_by_body, said_by_row

_PAIR: Final = 2
#: Of a second. Prometheus keeps times as whole numbers of them.
_MILLISECONDS: Final = 1000


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


class Series(NamedTuple):
    """One series over time."""

    labels: Mapping[str, str]
    """With ``__name__`` where the query keeps it."""
    samples: Sequence[tuple[int, float]]
    """In the order of time: when each was taken, in Unix milliseconds, and its value, NaN for one
    that is none."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """Series over a range of time."""

    series: tuple[Series, ...]
    warnings: tuple[str, ...]
    """As in Vector, and the next two as well."""
    infos: tuple[str, ...] = ()
    odd: tuple[str, ...] = ()


def parse_answer(body: bytes) -> Vector:
    """Read the answer to an instant query. Raises AnswerError if it is anything but a vector,
    or if no row of it can be read.
    """
    answer, rows = _rows_of(body, "vector")
    found = [_point(row) for row in rows]
    points = tuple(point for point in found if point is not None)
    at = next((at for row in rows if (at := _time(row)) is not None), None)
    if rows and (at is None or not points):
        raise AnswerError(f"its answer holds no vector: {one_line(repr(rows[0]))}")
    odd = [one_line(repr(row)) for row, point in zip(rows, found, strict=True) if point is None]
    return Vector(points, at, _missing(answer, rows), remarks(answer), tuple(odd))


def parse_matrix(body: bytes) -> Matrix:
    """Read the answer to a query over time. Raises AnswerError if it is anything but a matrix, or
    if no row of it can be read.
    """
    answer, rows = _rows_of(body, "matrix")
    found = [_series(row) for row in rows]
    series = tuple(each for each in found if each is not None)
    if rows and not series:
        raise AnswerError(f"its answer holds no series: {one_line(repr(rows[0]))}")
    odd = [one_line(repr(row)) for row, each in zip(rows, found, strict=True) if each is None]
    return Matrix(series, _missing(answer, rows), remarks(answer), tuple(odd))


def _missing(answer: Mapping[str, Any], rows: Sequence[Any]) -> tuple[str, ...]:
    """Return what an answer, or a row of it, says is missing."""
    missing = dict.fromkeys(said_by_body(answer))
    for row in rows:
        if isinstance(row, dict) and len(row) > _PAIR:
            missing |= dict.fromkeys(said_by_row(row))
    return tuple(missing)


def _rows_of(body: bytes, wanted: str) -> tuple[Mapping[str, Any], list[Any]]:
    """Return an answer, and the rows in it. wanted: what kind of a result it has to be."""
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
    if data.get("resultType") != wanted:
        kind = one_line(repr(data.get("resultType")))
        raise AnswerError(f"its answer is a {kind}, not a {wanted}")
    return answer, data["result"]


def _series(row: Any) -> Series | None:
    """Return what a row says over time; None if that cannot be read.

    A single sample whose time cannot be read leaves none of the row: what is missing of a series
    that only grows would not be noticed.
    """
    labels = row.get("metric") if isinstance(row, dict) else None
    if not isinstance(labels, dict) or not all(isinstance(v, str) for v in labels.values()):
        return None
    try:
        samples = [(round(float(at) * _MILLISECONDS), _value(text)) for at, text in row["values"]]
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    if any(later[0] <= before[0] for before, later in pairwise(samples)):
        samples = sorted(dict(samples).items())
    return Series(labels, samples)


def _value(text: Any) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        return math.nan


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
