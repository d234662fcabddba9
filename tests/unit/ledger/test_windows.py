"""Windows of budgets: every case of tests/cases/windows.yaml, and that they tile time."""

import datetime as dt
import zoneinfo
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_budget.config import windows
from otel_budget.core.budget import Window, WindowKind, WindowSpan
from otel_budget.files.yaml_file import YamlFile
from otel_budget.ledger.windows import span_after, span_at, span_before
from tests.support.case_files import FOLDER

UNITS = ("hour", "day", "week", "month", "quarter", "year")
#: 1970 to 2100.
MOMENTS = st.floats(0, 4_102_444_800, allow_nan=False)

_DATA: Any = YamlFile.read(FOLDER / "windows.yaml").data
CASES: list[dict[str, Any]] = _DATA["cases"]
KEYS = {"note", "window", "at", "opened_at", "start", "end", "then"}


def instant(text: str) -> float:
    """Return a time with its offset as Unix time."""
    moment = dt.datetime.fromisoformat(text)
    assert moment.tzinfo is not None, f"{text} has no offset"
    return moment.timestamp()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["note"])
def test_a_window_begins_and_ends_where_the_case_says(case: dict[str, Any]) -> None:
    """To the instant, and with the offset that its zone has then."""
    assert case.keys() - {"opened_at", "then"} == KEYS - {"opened_at", "then"}
    assert case.keys() <= KEYS
    window = windows.window(case["window"])

    def local(at: float) -> str:
        return dt.datetime.fromtimestamp(at, window.tz).isoformat()

    opened_at = instant(case["opened_at"]) if "opened_at" in case else None
    span = span_at(window, instant(case["at"]), opened_at)
    assert local(span.start) == case["start"]
    if case["end"] is None:
        assert (span.end, span.resets_at) == (float("inf"), None)
        return
    assert local(span.end) == case["end"]
    for end in case.get("then", ()):
        following = span_after(window, span)
        assert following is not None
        assert (following.start, local(following.end)) == (span.end, end)
        assert span_before(window, following) == span
        span = following


@cache
def zone_names() -> tuple[str, ...]:
    """Return all zones of the machine."""
    return tuple(sorted(zoneinfo.available_timezones()))


@st.composite
def calendar_windows(draw: st.DrawFn) -> Window:
    """Draw a calendar window."""
    every = draw(st.sampled_from(UNITS))
    zone = draw(st.sampled_from(zone_names()))
    at = dt.time(draw(st.integers(0, 23)), draw(st.integers(0, 59)))
    return Window(
        WindowKind.CALENDAR,
        every=every,
        zone=zone,
        tz=zoneinfo.ZoneInfo(zone),
        at=dt.time(0) if every == "hour" else at,
        day=draw(st.integers(1, 7 if every == "week" else 31)),
    )


@given(calendar_windows(), MOMENTS)
def test_windows_follow_one_another_without_gap_or_overlap(window: Window, at: float) -> None:
    """Whoever asks for the next or the one before gets what touches this one."""
    span = span_at(window, at)
    assert span.start <= at < span.end == span.resets_at
    after, before = span_after(window, span), span_before(window, span)
    assert after is not None
    assert before is not None
    assert before.end == span.start
    assert after.start == span.end
    assert span_after(window, before) == span_before(window, after) == span


@given(calendar_windows(), MOMENTS, st.floats(0, 1, exclude_max=True))
def test_every_moment_of_a_window_is_in_it(window: Window, at: float, share: float) -> None:
    """The n-th boundary does not depend on where one begins to look for it."""
    span = span_at(window, at)
    inside = min(span.start + share * (span.end - span.start), span.end - 1e-3)
    assert span_at(window, inside) == span
    assert span_at(window, span.start) == span


@given(calendar_windows(), MOMENTS, MOMENTS)
def test_a_later_moment_is_never_in_an_earlier_window(
    window: Window, one: float, other: float
) -> None:
    """Windows grow with time."""
    first, second = sorted((one, other))
    assert span_at(window, first).start <= span_at(window, second).start


@given(MOMENTS, st.floats(1, 1e7), st.floats(0, 1e7))
def test_a_window_of_first_use_is_as_long_as_it_says(
    opened: float, seconds: float, later: float
) -> None:
    """It holds what comes before its end; what comes then opens the next one."""
    window = Window(WindowKind.FIRST_USE, seconds=seconds)
    first = span_at(window, opened)
    assert first == WindowSpan(opened, opened + seconds, opened + seconds)
    at = opened + later
    span = span_at(window, at, opened)
    assert span == (first if at < first.end else span_at(window, at))
    assert span_after(window, span) is span_before(window, span) is None


def test_use_before_the_latest_window_of_first_use_is_in_one_that_ends_where_it_opens() -> None:
    """So that no two windows overlap, whatever comes late."""
    window = Window(WindowKind.FIRST_USE, seconds=100)
    assert span_at(window, 950, opened_at=1000) == WindowSpan(950, 1000, 1000)
    assert span_at(window, 850, opened_at=1000) == WindowSpan(850, 950, 950)


def test_a_rolling_window_and_a_total_are_never_reset() -> None:
    """Nothing of them is forgotten at once."""
    rolling = span_at(Window(WindowKind.ROLLING, seconds=60), 1000)
    assert (rolling.start, rolling.resets_at) == (940, None)
    total = span_at(Window(WindowKind.TOTAL), 1000, opened_at=7)
    assert (total.start, total.resets_at) == (7, None)
    assert span_after(Window(WindowKind.TOTAL), total) is None
