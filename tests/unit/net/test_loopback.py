"""The one loopback test."""

import pytest

from otel_budget.net.loopback import is_loopback


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "::1", "::1%lo", "::ffff:127.0.0.1"],
)
def test_only_this_machine_is_reached_at_a_loopback_address(host: str) -> None:
    """In each of its forms."""
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    ["", "0.0.0.0", "::", "10.0.0.1", "fe80::1%eth0", "a.example", "localhost.example"],  # noqa: S104 - nothing is bound
)
def test_others_are_reached_at_any_other_address_and_a_name_is_not_looked_up(host: str) -> None:
    """A name may lead anywhere."""
    assert not is_loopback(host)
