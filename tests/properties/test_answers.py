"""Answers read by what changed in them give what each gives when it is read alone, as a whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_budget import semconv
from otel_budget.core.owner_labels import Details
from otel_budget.core.resources import COUNTERS
from otel_budget.sources.incremental.prometheus_answer import PrometheusAnswer
from otel_budget.sources.prometheus_api import AnswerError
from otel_budget.sources.prometheus_vector import ANSWERS, MARK, SAMPLED, Found, Run, take_apart
from otel_budget.sources.session_assembly import needed

#: All that can be read of a run.
DETAILS = Details(("tenant",), token_kinds=True)

Row = tuple[tuple[tuple[str, str], ...], str]
"""Labels and value."""

ids = st.sampled_from(["a", "b", "c", "not an id"])
places = st.sampled_from([
    (("instance", "h:1"), ("job", "agents")),
    (("instance", "h:2"), ("job", "agents")),
    (("instance", "h:1"), ("job", "agents"), ("replica", "x")),
    (("instance", "h:1"), ("job", "agents"), ("replica", "y")),
    (("instance", "h:2"), ("job", "agents"), ("tenant", "t"), ("exported_team", "x")),
    (("instance", "h:1"), ("job", "agents"), ("quoted", 'a"},{"metric":{')),
])  # fmt: skip
names = st.sampled_from([
    *COUNTERS, *COUNTERS, semconv.INCARNATION_START.name, *needed(DETAILS),
    semconv.SESSION_INFO.name,
])  # fmt: skip
further = st.sampled_from([
    (), (), ((semconv.RESOURCE, "tokens"),), (("model", "m"),), ((semconv.STATE, "running"),),
    (("token_type", "input"),),
    ((SAMPLED, "x"),), ((ANSWERS, "1"),),
])  # fmt: skip
marked = st.sampled_from([(), (), (), ((SAMPLED, "x"),), ((ANSWERS, "1"),)])
numbers = st.sampled_from(["0", "1", "2", "7.5", "-1", "0.3", "1700000000.25"])
odd = st.sampled_from(["NaN", "+Inf", "1e400", "x"])


@st.composite
def answer_rows(draw: st.DrawFn) -> list[list[Row]]:
    """Return answers that have most of their series from the answer before."""
    value = st.one_of(numbers, odd) if draw(st.integers(0, 4)) == 4 else numbers

    def series(name: str | None, extra: tuple[tuple[str, str], ...]) -> Row:
        labels = {semconv.SESSION_ID: draw(ids), **dict(draw(places)), **dict(extra)}
        mark = {SAMPLED: MARK + labels.get(SAMPLED, "")}
        labels |= mark if name is None else {"__name__": name}
        return tuple(sorted(labels.items())), draw(value)

    def up() -> Row:
        labels = {**dict(draw(places)), ANSWERS: "1", "__name__": "up"}
        return tuple(sorted(labels.items())), draw(value)

    def several(least: int, most: int) -> list[Row]:
        raw = [series(draw(names), draw(further)) for _ in range(draw(st.integers(least, most)))]
        times = [series(None, draw(marked)) for _ in range(draw(st.integers(least, most)))]
        return [*raw, *times, *(up() for _ in range(draw(st.integers(0, 2))))]

    rows = several(4, 12)
    answers = [rows]
    for _ in range(draw(st.integers(1, 4))):
        stays = draw(st.booleans())  # every series in its place
        rows = [row for row in rows if stays or draw(st.integers(0, 9))]
        rows = [(labels, draw(value) if draw(st.booleans()) else old) for labels, old in rows]
        if not stays:
            rows = draw(st.permutations(rows)) if draw(st.integers(0, 3)) == 0 else rows
            rows += several(0, 1)
        answers.append(rows)
    return answers


@given(answer_rows(), st.sampled_from([1, 3, 64]))
def test_answer_after_answer_it_is_what_each_answer_says(
    answers: list[list[Row]], together: int
) -> None:
    quick = PrometheusAnswer(None, details=DETAILS)
    with patch("otel_budget.sources.incremental.line_diff._MOST_TOGETHER", together):
        for number, rows in enumerate(answers):
            unique = dict(rows)  # a server gives no series twice
            body = written(unique, 1_700_000_000.0 + 0.25 * number)
            assert outcome(lambda: by_change(quick, body)) == outcome(lambda: alone(body))  # noqa: B023 - called at once


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "1e400", "many"])
def test_a_value_that_none_can_have_is_no_reason_to_read_all_of_the_others(value: str) -> None:
    """One target would have the answers of all read the slow way."""
    place = (("instance", "h:1"), ("job", "agents"))
    run = ((semconv.SESSION_ID, "a"), *place)
    named = [(("__name__", name), *run) for name in COUNTERS]
    up = (("__name__", "up"), (ANSWERS, "1"), *place)
    quick = PrometheusAnswer(None, details=DETAILS)
    with patch(
        "otel_budget.sources.incremental.prometheus_answer.take_apart", side_effect=AssertionError
    ):
        for number, shown in enumerate(("5", value, value, "6")):
            rows: dict[tuple[tuple[str, str], ...], str] = {up: shown}
            rows |= {((SAMPLED, MARK), *run): "1700000000", **dict.fromkeys(named, shown)}
            quick.update(written(rows, 1_700_000_000.0 + number))
            (session,) = quick.found(lambda target, session_id: 0.0).sessions  # noqa: ARG005 - as DateOf has it
            assert bool(session.implausible) == (shown == value)


def written(rows: Mapping[tuple[tuple[str, str], ...], str], at: float) -> bytes:
    """Return an answer as Prometheus writes it."""
    result = [{"metric": dict(labels), "value": [at, value]} for labels, value in rows.items()]
    data = {"status": "success", "data": {"resultType": "vector", "result": result}}
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode()


def by_change(quick: PrometheusAnswer, body: bytes) -> object:
    taken = quick.update(body)
    attributes = facts_of(taken.sampled, taken.evaluated_at, quick.found(date(taken.sampled)))
    return attributes, dict(taken.ups)


def alone(body: bytes) -> object:
    answer, _ = take_apart(body, None, details=DETAILS)
    fresh = PrometheusAnswer(None, details=DETAILS)
    fresh._take_changes = _refuse  # type: ignore[method-assign, assignment] # as a whole, then
    fresh.update(body)
    attributes = facts_of(
        answer.sampled, answer.vector.evaluated_at, fresh.found(date(answer.sampled))
    )
    return attributes, dict(answer.ups)


def _refuse(_body: bytes) -> object:
    from otel_budget.sources.incremental.line_diff import UnusualError

    raise UnusualError


def date(sampled: Mapping[Run, float]) -> Callable[[str, str], float]:
    """Date a run by the server's own time."""
    return lambda target, session_id: sampled.get((target, session_id), -1.0)


def facts_of(sampled: Mapping[Run, float], at: float | None, found: Found) -> object:
    """Return it all, in whatever order."""
    sessions = {(s.target, s.session_id): s for s in found.sessions}
    return dict(sampled), at, sessions, {k: n for k, n in found.dropped.items() if n}


def outcome(read: Callable[[], object]) -> object:
    """Return what was found, or that it is an error."""
    try:
        return read()
    except AnswerError as exc:
        return str(exc)
