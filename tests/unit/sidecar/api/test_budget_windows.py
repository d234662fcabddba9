"""What was used in windows that are over: beside a budget, and by itself."""

from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from starlette.testclient import TestClient

from otel_budget import semconv
from otel_budget.core.budget import Group, Window, WindowKind
from otel_budget.ledger.book_values import ClosedWindow
from tests.support.api import Host, assert_problem
from tests.support.budgets import budget, report
from tests.support.sidecar_fixtures import START

BERLIN = Window(
    WindowKind.CALENDAR, every="day", zone="Europe/Berlin", tz=ZoneInfo("Europe/Berlin")
)
BY_USER = budget("users", "user", window=BERLIN)
DAY = 86_400.0


def closed(group: Group = (), day: int = 0, name: str = "users", *per: str) -> ClosedWindow:
    """Return a window that is over. day: how long ago."""
    end = START - day * DAY
    return ClosedWindow(
        name, group, per or ("user",), end - DAY, end,
        {semconv.TOKENS: 5 + day, semconv.COST: Decimal("0.10")}, {semconv.TOKENS: 1000}, {},
        START - 9 * DAY,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _windows(host: Host) -> None:
    host.budgets = {"users": report(BY_USER, {("ann",): 1, ("bob",): 2, None: 3})}
    host.closed = [
        *(closed(("ann",), day) for day in range(20)), closed(("bob",)), closed(None),
        closed(("core", "ann"), 1, "gone", "team", "user"),
    ]  # fmt: skip


def test_a_group_has_its_last_windows_beside_it(client: TestClient) -> None:
    found = client.get("/v1/budgets/users?group=user=ann").json()
    assert len(found["closed_windows"]) == 10
    assert found["closed_windows"][0] == {
        "group": {"user": "ann"},
        "start": "2023-11-13T23:13:20.000+01:00",
        "end": "2023-11-14T23:13:20.000+01:00",
        "used": {"tokens": 5, "cost": "0.10"},
        "limits": {"tokens": 1000},
        "carried": {},
        "counted_from": "2023-11-05T23:13:20.000+01:00",
        "at_least": False,
    }
    assert "closed_windows" not in client.get("/v1/budgets/users").json()


@pytest.mark.parametrize(("number", "found"), [(0, 0), (3, 3), (1000, 20)])
def test_as_many_are_told_as_are_asked_for(client: TestClient, number: int, found: int) -> None:
    beside = client.get(f"/v1/budgets/users?group=user=ann&windows={number}").json()
    alone = client.get(f"/v1/budgets/users/windows?group=user=ann&limit={number}").json()
    assert len(beside["closed_windows"]) == len(alone["windows"]) == found
    assert beside["closed_windows"] == alone["windows"]


def test_the_windows_of_all_groups_are_told_together(client: TestClient) -> None:
    windows = client.get("/v1/budgets/users/windows").json()["windows"]
    assert len(windows) == 22
    other = client.get("/v1/budgets/users/windows?group=other").json()["windows"]
    assert [one["group"] for one in other] == [{"other": "true"}]


def test_a_budget_that_is_no_more_keeps_its_history(client: TestClient) -> None:
    path = "/v1/budgets/gone/windows?group=team=core,user=ann"
    (window,) = client.get(path).json()["windows"]
    assert window["group"] == {"team": "core", "user": "ann"}
    assert_problem(client.get("/v1/budgets/gone/windows?group=team=core,user=bob"), 404)
    assert_problem(client.get("/v1/budgets/gone/windows"), 404)
    assert_problem(client.get("/v1/budgets/gone"), 404)


@pytest.mark.parametrize(
    "query", ["limit=-1", "limit=1001", "limit=x", "group=ann", "group=team=a", "group=user=%"]
)
def test_what_is_not_understood_is_refused(client: TestClient, query: str) -> None:
    assert_problem(client.get(f"/v1/budgets/users/windows?{query}"), 400)
    assert_problem(client.get("/v1/budgets/users?group=user=ann&windows=x"), 400)


def test_a_history_that_cannot_be_read_is_not_taken_for_an_empty_one(
    client: TestClient, host: Host
) -> None:
    host.unreadable = True
    assert_problem(client.get("/v1/budgets/users/windows?group=user=ann"), 503)
    assert_problem(client.get("/v1/budgets/users?group=user=ann"), 503)
    assert client.get("/v1/budgets/users?group=user=ann&windows=0").status_code == 200
