"""How the window of a budget is said in words."""

from __future__ import annotations

import datetime as dt

import pytest

from otel_budget.core.budget import Window, WindowKind, duration_text

CALENDAR, HOUR = WindowKind.CALENDAR, 3600.0


@pytest.mark.parametrize(
    ("window", "want"),
    [
        (Window(WindowKind.RUN), "run"),
        (Window(WindowKind.TOTAL), "total"),
        (Window(WindowKind.ROLLING, seconds=24 * HOUR), "rolling 24h"),
        (Window(WindowKind.FIRST_USE, seconds=5 * HOUR), "5h from first use"),
        (Window(CALENDAR, every="month"), "every month"),
        (Window(CALENDAR, every="day", zone="Asia/Kathmandu", at=dt.time(6)),
         "every day, at 06:00, Asia/Kathmandu"),
        (Window(CALENDAR, every="week", day=2), "every week, day 2"),
    ],
)  # fmt: skip
def test_a_window_is_said_without_what_is_as_usual(window: Window, want: str) -> None:
    assert window.text == want


@pytest.mark.parametrize(
    ("seconds", "want"),
    [(45, "45s"), (90, "90s"), (5400, "90m"), (86_400, "24h"), (604_800, "7d"), (0.5, "0.5s")],
)
def test_a_duration_is_said_in_its_largest_whole_unit(seconds: float, want: str) -> None:
    assert duration_text(seconds) == want
