"""The answer of a Prometheus query API, read strictly. Pure.

An answer of another shape is an error: to read it as "nothing there" would be to read it as 0.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Final

from otel_budget.errors import OtelBudgetError
from otel_budget.sources.notices import one_line
from otel_budget.sources.partial import remarks, said_by_body, said_by_row

_PAIR: Final = 2


class AnswerError(OtelBudgetError):
    """Say why an answer cannot be used."""


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
    evaluated_at: str | None
    """The server's own time of evaluation, Unix seconds as it wrote them; None if it is empty."""
    warnings: tuple[str, ...]
    """What the server says about data that is missing."""
    infos: tuple[str, ...] = ()
    """What else it has to say."""


def parse_answer(body: bytes) -> Vector:
    """Read the answer to an instant query. Raises AnswerError if it is anything but a vector."""
    try:
        # Numbers stay text until they are told apart: "NaN" and "+Inf" come as strings anyway.
        answer = json.loads(body, parse_float=str, parse_int=str, parse_constant=str)
    except (ValueError, RecursionError) as exc:
        raise AnswerError(f"its answer is not JSON: {exc}") from exc
    if not isinstance(answer, dict):
        raise AnswerError("its answer is not a JSON object")
    if answer.get("status") != "success":
        said = f"{answer.get('errorType', 'no errorType')}: {answer.get('error', 'no error')}"
        raise AnswerError(f"it refuses the query: {one_line(said)}")
    data = answer.get("data")
    if not isinstance(data, dict) or not isinstance(data.get("result"), list):
        raise AnswerError("its answer has no data.result")
    if data.get("resultType") != "vector":
        kind = one_line(repr(data.get("resultType")))
        raise AnswerError(f"its answer is a {kind}, not a vector")
    try:
        rows = [_row(row) for row in data["result"]]
    except (KeyError, TypeError, ValueError) as exc:
        said = one_line(f"{type(exc).__name__}: {exc}")
        raise AnswerError(f"its answer holds no vector: {said}") from exc
    points = tuple(point for point, _ in rows)
    missing = dict.fromkeys(said_by_body(answer))
    for row in data["result"]:
        if len(row) > _PAIR:
            missing |= dict.fromkeys(said_by_row(row))
    return Vector(points, rows[0][1] if rows else None, tuple(missing), remarks(answer))


def _row(row: Any) -> tuple[Point, str]:
    labels, value = row["metric"], row["value"]
    if not isinstance(labels, dict) or not all(isinstance(v, str) for v in labels.values()):
        raise TypeError("labels are not text")
    if not isinstance(value, list) or len(value) != _PAIR:
        raise TypeError(f"{value!r} is not a time and a value")
    at, number = value
    if not math.isfinite(float(at)):
        raise ValueError(f"{at!r} is not a time")
    return Point(labels, float(number)), at
