"""``/v1/audit``: what is asked of the log, and what is refused."""

from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from otel_budget.core.audit import AuditKind, AuditQuery
from otel_budget.sidecar.api.app import build_app
from otel_budget.sidecar.api.broadcaster import VerdictBroadcaster
from tests.support.api import Host, assert_problem
from tests.support.sidecar_fixtures import LEASE, START, SteadyClock
from tests.unit.sidecar.api.conftest import DescribedClient


def test_entries_are_given_as_they_are_stored_with_where_the_next_page_begins(
    client: TestClient,
) -> None:
    page = client.get("/v1/audit").json()
    assert (page["next_after"], page["begins"], page["unreadable"]) == (7, 1, 0)
    assert page["entries"][0] == {
        "number": 7, "at": "2023-11-14T22:13:20.000Z", "kind": "order", "session_id": "a",
        "run_started_at": START - 10, "budget": None, "body": {"event": "stop"},
    }  # fmt: skip


@pytest.mark.parametrize(("query", "want"), [
    ("", AuditQuery(limit=100)),
    ("session=a&kind=verdict", AuditQuery(session_id="a", kind=AuditKind.VERDICT, limit=100)),
    ("budget=team&limit=1000", AuditQuery(budget="team", limit=1000)),
    ("after=12&order=newest", AuditQuery(after=12, newest=True, limit=100)),
    ("since=100.5&until=2001-09-09T01:46:40Z", AuditQuery(100.5, 1e9, limit=100)),
    ("since=2001-09-09T03:46:40%2B02:00", AuditQuery(1e9, limit=100)),
])  # fmt: skip
def test_what_is_asked_reaches_the_log(
    client: TestClient, host: Host, query: str, want: AuditQuery
) -> None:
    assert client.get(f"/v1/audit?{query}").status_code == 200
    assert host.asked_of_log == want


@pytest.mark.parametrize(("query", "key"), [
    ("since=yesterday", "since"),
    ("since=2026-01-01", "since"),
    ("until=inf", "until"),
    ("session=a%20b", "session"),
    ("budget=A", "budget"),
    ("kind=all", "kind"),
    ("limit=1001", "limit"),
    ("limit=0", "limit"),
    ("after=-1", "after"),
    ("order=random", "order"),
])  # fmt: skip
def test_what_is_asked_wrongly_is_refused_by_its_name(
    client: TestClient, query: str, key: str
) -> None:
    problem = assert_problem(client.get(f"/v1/audit?{query}"), 400)
    assert key in problem["detail"]


def test_a_storage_that_cannot_be_read_is_no_empty_log(client: TestClient, host: Host) -> None:
    host.storage_fails = True
    problem = assert_problem(client.get("/v1/audit"), 503)
    assert "disk I/O error" in problem["detail"]


@pytest.fixture(scope="module")
def asked() -> DescribedClient:
    return DescribedClient(build_app(VerdictBroadcaster(LEASE, SteadyClock()), Host(), "1.2.3"))


@given(
    st.binary(max_size=60),
    st.sampled_from(["since", "until", "session", "budget", "kind", "limit", "after", "order"]),
)
@example(b"1e400", "since")
@example(b"0001-01-01T00:00:00+14:00", "until")
@example(b"\xd9\xa1", "after")
def test_whatever_is_asked_is_answered_as_described(
    asked: DescribedClient, hostile: bytes, key: str
) -> None:
    assert asked.get(f"/v1/audit?{key}={quote(hostile, safe='')}").status_code in (200, 400)
