"""How long a sidecar is left alone between two questions."""

import pytest

from otel_budget.sdk.sidecar_client.backoff import (
    FIRST,
    MOST,
    MOST_ASKED,
    MOST_AWAY,
    MOST_REFUSED,
    Backoff,
    asked_for,
    between_polls,
)

NOW = 1_700_000_000.0


def test_each_failure_doubles_the_pause_up_to_a_bound_and_a_success_begins_anew() -> None:
    backoff = Backoff()
    waits = [backoff.failed() for _ in range(20)]
    for number, wait in enumerate(waits):
        usual = min(FIRST * 2**number, MOST)
        assert 0.5 * usual <= wait <= 1.5 * usual
    assert MOST_REFUSED / 2 <= backoff.failed(MOST_REFUSED) <= MOST_REFUSED * 1.5
    assert backoff.failed(MOST_AWAY) <= MOST_AWAY * 1.5
    backoff.succeeded()
    assert backoff.failed() <= FIRST * 1.5


def test_not_all_come_back_at_once() -> None:
    assert len({Backoff().failed() for _ in range(50)}) > 40


@pytest.mark.parametrize(("asked", "most"), [(10.0, 12.5), (3600.0, MOST_ASKED * 1.25)])
def test_what_a_server_asks_for_is_kept_within_bounds(asked: float, most: float) -> None:
    assert min(asked, MOST_ASKED) <= Backoff().failed(asked=asked) <= most


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, 0.0), ("", 0.0), ("10", 10.0), (" 7 ", 7.0), ("-5", 0.0), ("soon", 0.0),
        ("9" * 400, 999_999.0), ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0),
        ("Tue, 14 Nov 2023 22:13:50", 30.0), ("Tue, 14 Nov 2023 22:13:10 GMT", 0.0),
        ("Tue, 99 Nov 2023 22:13:10 GMT", 0.0),
    ],
)  # fmt: skip
def test_retry_after_is_seconds_or_a_date_or_nothing(text: str | None, seconds: float) -> None:
    assert asked_for(text, NOW) == seconds


@pytest.mark.parametrize(
    ("lease", "least", "most"), [(15.0, 4.0, 5.0), (3.0, 0.8, 1.0), (0.0, 0.2, 0.25), (9e9, 24, 30)]
)
def test_who_asks_for_verdicts_asks_three_times_in_a_lease(
    lease: float, least: float, most: float
) -> None:
    assert all(least <= between_polls(lease) <= most for _ in range(50))
