"""Groups and windows of budgets as people, queries and files name them."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_budget import semconv
from otel_budget.core.budget import Budget, Group, Window, WindowKind
from otel_budget.core.budget_text import (
    duration_text,
    group_from_labels,
    group_from_text,
    shown_group,
    window_json,
    window_text,
)
from otel_budget.errors import InvalidValueError

TOTAL = Window(WindowKind.TOTAL)


def budget(*per: str) -> Budget:
    """Return a budget with groups."""
    return Budget("research", TOTAL, {semconv.TOKENS: 1000}, per=per)


@given(st.tuples(st.text(), st.text()))
def test_a_group_that_is_written_is_read_as_the_same(values: tuple[str, str]) -> None:
    by_two = budget("user", "team")
    if any("\ud800" <= char <= "\udfff" for value in values for char in value):
        return  # half characters are no text
    assert group_from_text(by_two, by_two.group_text(values)) == values
    assert group_from_labels(by_two, by_two.group_labels(values)) == values


@pytest.mark.parametrize(
    ("per", "text", "group"),
    [
        ((), "", ()),
        (("user",), "user=ann", ("ann",)),
        (("user",), "user=", ("",)),
        (("user", "team"), "team=core,user=ann", ("ann", "core")),
        (("user",), "user=a%2Cb", ("a,b",)),
        (("user",), "other", None),
    ],
)
def test_a_group_is_read_from_a_query(per: tuple[str, ...], text: str, group: Group) -> None:
    assert group_from_text(budget(*per), text) == group


@pytest.mark.parametrize(
    ("per", "text"),
    [
        ((), "user=ann"),
        ((), "other"),
        (("user",), ""),
        (("user",), "ann"),
        (("user",), "team=core"),
        (("user",), "user=ann,user=bob"),
        (("user",), "user=ann,team=core"),
        (("user",), "user=a=b"),
        (("user",), "user=50%"),
        (("user",), "user=%ff"),
        (("user", "team"), "user=ann"),
    ],
)
def test_what_names_no_group_is_refused_and_says_how_one_is_named(
    per: tuple[str, ...], text: str
) -> None:
    with pytest.raises(InvalidValueError, match=r"group: .*allowed: .*(=VALUE|no groups)"):
        group_from_text(budget(*per), text)


def test_the_group_of_those_past_the_cap_is_read_as_it_is_shown() -> None:
    assert group_from_labels(budget("user"), {"other": "true"}) is None
    assert group_from_labels(budget("other"), {"other": "true"}) == ("true",)
    with pytest.raises(InvalidValueError):
        group_from_labels(budget("user"), {"user": 5})


def test_a_value_that_is_not_there_is_shown_in_words() -> None:
    assert shown_group({"user": "", "team": "a"}) == "user=(none), team=a"
    assert (shown_group({}), shown_group({"other": "true"})) == ("", "other")


@pytest.mark.parametrize(
    ("window", "configured", "words"),
    [
        (Window(WindowKind.RUN), "run", "each run by itself"),
        (TOTAL, "total", "in total"),
        (Window(WindowKind.ROLLING, 86_400.0), {"rolling": "24h"}, "the last 24h"),
        (
            Window(WindowKind.FIRST_USE, 18_000.0),
            {"every": "5h", "from": "first_use"},
            "5h from the first use",
        ),
        (
            Window(WindowKind.CALENDAR, every="hour"),
            {"every": "hour", "time_zone": "UTC"},
            "each hour (UTC)",
        ),
        (
            Window(WindowKind.CALENDAR, every="day", zone="Europe/Berlin", at=dt.time(6)),
            {"every": "day", "time_zone": "Europe/Berlin", "at": "06:00"},
            "each day, from 06:00 (Europe/Berlin)",
        ),
        (
            Window(WindowKind.CALENDAR, every="week", day=7),
            {"every": "week", "time_zone": "UTC", "at": "00:00", "day": "sunday"},
            "each week, from Sunday at 00:00 (UTC)",
        ),
        (
            Window(WindowKind.CALENDAR, every="month", day=31),
            {"every": "month", "time_zone": "UTC", "at": "00:00", "day": 31},
            "each month, from day 31 at 00:00 (UTC)",
        ),
    ],
)
def test_a_window_is_told_as_configured_and_in_words(
    window: Window, configured: object, words: str
) -> None:
    assert (window_json(window), window_text(window)) == (configured, words)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(7 * 86_400, "7d"), (86_400, "24h"), (5400, "90m"), (90, "90s"), (1.5, "1.5s")],
)
def test_a_duration_is_told_as_it_is_configured(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
