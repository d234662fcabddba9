"""One page for all who ask at the same time, and a tenth of the time at most for who nudges."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from otel_budget.net.loopback import is_loopback
from otel_budget.sdk.metrics.collector import SCRAPER, RunCollector
from otel_budget.sdk.metrics.page_server import OwnNames
from otel_budget.sdk.metrics.rendering import Rendering
from otel_budget.testing import FakeClock
from tests.support.monitors import Make


class Pages:
    """Makes pages that each take so many seconds by a clock of the test's."""

    def __init__(self, clock: FakeClock, takes: float) -> None:
        """Have made none."""
        self.clock, self.takes, self.made = clock, takes, 0
        self.sessions = RunCollector(clock.clock.monotonic)
        self.app = Rendering(self._make, self.sessions, clock.clock.monotonic, clock.advance)

    def _make(self, _environ: dict[str, Any], start: Any) -> list[bytes]:
        self.made += 1
        self.sessions.shown_to(SCRAPER.get(), self.sessions.ends)
        self.clock.advance(self.takes)
        start("200 OK", [("Content-Type", "text/plain")])
        return [b"page %d" % self.made]

    def ask(self, **environ: str) -> bytes:
        """Ask as a sidecar does."""
        said: list[str] = []
        asked = {"HTTP_USER_AGENT": "otel-budget", **environ}
        body = b"".join(self.app(asked, lambda status, _: said.append(status)))
        assert said == ["200 OK"]
        return body


@pytest.mark.parametrize("takes", [0.001, 0.01, 0.05, 0.2, 0.5])
def test_who_asks_again_and_again_takes_a_tenth_of_the_time_at_most(
    takes: float, clock: FakeClock
) -> None:
    """However long a page takes."""
    pages, began = Pages(clock, takes), clock.elapsed
    for _ in range(2000):
        pages.ask()
        clock.advance(0.0005)
    assert pages.made * takes < 0.12 * (clock.elapsed - began)


@pytest.mark.parametrize("takes", [0.001, 0.05, 0.19])
def test_who_scrapes_each_second_is_given_a_new_page_at_once(
    takes: float, clock: FakeClock
) -> None:
    """Beside another one who does so."""
    pages = Pages(clock, takes)
    for number in range(20):
        came = clock.elapsed
        assert pages.ask() == b"page %d" % (number + 1)
        assert clock.elapsed - came == pytest.approx(takes)
        clock.advance(came + 1 - clock.elapsed)


def test_what_somebody_waits_to_see_is_on_the_page_at_once(clock: FakeClock, make: Make) -> None:
    """A run that began, that ended, or whose own monitor asks the sidecar to look."""
    pages = Pages(clock, 0.05)
    record = make()._record

    def asks_to_look() -> None:
        pages.sessions.news += 1

    for happens in (
        partial(pages.sessions.add, record), partial(pages.sessions.closed, record), asks_to_look,
    ):  # fmt: skip
        before = pages.ask()
        assert pages.ask() == before
        happens()
        came = clock.elapsed
        assert pages.ask() != before
        assert clock.elapsed - came == pytest.approx(0.05)


def test_another_format_is_another_page(clock: FakeClock) -> None:
    """So is a selection by name."""
    pages = Pages(clock, 0.05)
    for environ in ({}, {"HTTP_ACCEPT": "application/openmetrics-text"}, {"QUERY_STRING": "x=1"}):
        pages.ask(**environ)
    assert pages.made == 3


def test_who_is_given_a_page_that_another_asked_for_has_seen_what_ended_before(
    clock: FakeClock, make: Make
) -> None:
    """And only that: a process waits for a scraper that has not seen the end of its runs."""
    pages = Pages(clock, 0.05)
    record = make()._record
    pages.sessions.registered = True
    pages.sessions.add(record)
    record.close("completed")
    pages.sessions.closed(record)
    pages.ask()
    assert not pages.sessions.unseen()
    pages.ask(REMOTE_ADDR="10.0.0.9")
    assert pages.made == 1
    assert not pages.sessions.unseen()
    other = make()._record
    pages.sessions.add(other)
    pages.sessions.closed(other)
    assert pages.sessions.unseen()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:9464", 200),
        ("127.1.2.3", 200),
        ("[::1]:9464", 200),
        ("LOCALHOST.", 200),
        ("", 200),
        ("agents.localhost", 200),
        ("worker-7:9464", 200),
        ("10.0.0.5:9464", 200),
        ("[fe80::1]:9464", 200),
        ("host.docker.internal:9464", 200),
        ("host.containers.internal:9464", 200),
        ("evil.example", 421),
        ("evil.example:9464", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example:9464", 421),
        ("internal.evil.example", 421),
        ("notinternal", 421),
    ],
)
def test_a_page_on_the_loopback_interface_answers_to_names_that_nobody_else_can_own(
    host: str, status: int
) -> None:
    """A proxy in a mesh asks for a pod's address, a container for its host's name."""
    said: list[str] = []

    def app(_environ: dict[str, Any], start: Any) -> list[bytes]:
        start("200 OK", [])
        return [b"page"]

    guarded = OwnNames(app, "worker-7")
    body = b"".join(guarded({"HTTP_HOST": host}, lambda status, _: said.append(status)))
    assert said[0].startswith(str(status))
    assert (body == b"page") is (status == 200)


@pytest.mark.parametrize(
    ("address", "only_loopback"),
    [
        ("127.0.0.1", True),
        ("127.0.0.53", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),  # noqa: S104 - nothing is bound
        ("::", False),
        ("10.0.0.5", False),
        ("fe80::1%eth0", False),
    ],
)
def test_what_listens_elsewhere_is_open_to_the_network_and_to_every_name(
    address: str, *, only_loopback: bool
) -> None:
    """There a name could be rebound to the other address as well."""
    assert is_loopback(address) is only_loopback
