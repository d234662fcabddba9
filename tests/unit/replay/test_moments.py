"""Points in time as people write them."""

import pytest

from otel_budget.errors import InvalidValueError
from otel_budget.replay.moments import moment

NOW = 1_767_225_600.0


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("now", NOW),
        ("-7d", NOW - 7 * 86_400),
        ("now-1h30m", NOW - 5400),
        ("1767225000", 1_767_225_000.0),
        ("1767225000.25", 1_767_225_000.25),
        ("2026-01-01T00:00:00Z", NOW),
        ("2026-01-01t01:00:00.5+01:00", NOW + 0.5),
        ("2026-01-01 00:00Z", NOW),
    ],
)
def test_a_time_is_rfc_3339_or_seconds_or_how_long_ago(text: str, found: float) -> None:
    assert moment("--from", text, NOW) == found


@pytest.mark.parametrize(
    "text",
    [
        "", "yesterday", "7d", "-", "-7x", "2026-01-01", "2026-01-01T00:00:00",
        "2026-13-01T00:00:00Z", "nan", "inf", "1e9", "17672256000000", "-99999d", "now+1h",
    ],
)  # fmt: skip
def test_what_is_no_time_is_refused_with_what_is(text: str) -> None:
    with pytest.raises(InvalidValueError, match=r"--from.*2026-03-01T08:00:00Z"):
        moment("--from", text, NOW)
