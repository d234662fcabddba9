"""``/v1/budgets``: how shared budgets stand, by group."""

import datetime as dt
import re
from decimal import Decimal
from typing import Any
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from otel_budget import semconv
from otel_budget.core import budget_json
from otel_budget.core.budget import Group, Mode, Window, WindowKind
from otel_budget.sidecar.api.app import build_app
from otel_budget.sidecar.api.broadcaster import VerdictBroadcaster
from otel_budget.sidecar.budget_report import BudgetReport
from tests.support.api import Host, assert_problem, token_of
from tests.support.budgets import budget, group_report, report
from tests.support.sidecar_fixtures import LEASE, START, SteadyClock
from tests.unit.sidecar.api.conftest import DescribedClient

RESEARCH = budget()
BY_USER = budget("users", "user", match={"team": ("a", "b")}, title="Each user")
NOBODY = budget("weekend", "user")


def reports(*some: BudgetReport) -> dict[str, BudgetReport]:
    """Return reports by the names of their budgets."""
    return {one.budget.name: one for one in some}


@pytest.fixture
def three(host: Host, client: TestClient) -> TestClient:
    """Return a client of an API with a budget for all, one by user, and one that no run matched."""
    host.budgets = reports(
        report(RESEARCH, {(): 900}),
        report(BY_USER, {("bob",): 5, ("ann",): 1200, None: 7, ("",): 3, ("a,b",): 4}),
        report(NOBODY, {}),
    )
    return client


def test_all_budgets_are_listed_by_name_and_group(three: TestClient) -> None:
    page = three.get("/v1/budgets").json()
    assert [(one["name"], one["group"]) for one in page["budgets"]] == [
        ("research", {}),
        ("users", {"user": ""}),
        ("users", {"user": "a,b"}),
        ("users", {"user": "ann"}),
        ("users", {"user": "bob"}),
        ("users", {"other": "true"}),
        ("weekend", None),
    ]
    assert page["next_cursor"] is None


def test_a_group_is_told_as_verdicts_tell_it(three: TestClient, host: Host) -> None:
    """With what was configured and the rule of its window beside."""
    assert host.budgets is not None
    host.held = {("users", ("ann",)): {"tokens": 70}}
    found = three.get("/v1/budgets/users?group=user=ann").json()
    state = budget_json.to_dict(host.budgets["users"].groups[("ann",)].state)
    state["resources"]["tokens"]["held"] = 70
    assert {**found, "window": state["window"]} == {**found, **state}
    assert found["window"] == {
        **state["window"],
        "rule": {"every": "day", "time_zone": "UTC", "at": "00:00"},
        "text": "each day, from 00:00 (UTC)",
    }
    told = (found["title"], found["match"], found["per"], found["limits"], found["sessions"])
    assert told == ("Each user", {"team": ["a", "b"]}, ["user"], {"max_tokens": 1000}, 1)
    assert [one["group"] for one in found["groups"]] == [{"user": "ann"}]


def test_a_budget_without_groups_tells_how_it_stands(three: TestClient) -> None:
    found = three.get("/v1/budgets/research").json()
    assert (found["group"], found["resources"]["tokens"]["used"]) == ({}, 900)
    assert three.get("/v1/budgets/research?group=").json() == found


def test_a_budget_by_group_lists_its_groups(three: TestClient) -> None:
    found = three.get("/v1/budgets/users").json()
    assert "resources" not in found
    assert (len(found["groups"]), found["groups_total"]) == (5, 5)
    nobody = three.get("/v1/budgets/weekend").json()
    assert (nobody["groups"], nobody["groups_total"]) == ([], 0)


@pytest.mark.parametrize(
    ("query", "group"),
    [
        ("group=user=ann", {"user": "ann"}),
        ("group=user%3Dann", {"user": "ann"}),
        ("group=user=", {"user": ""}),
        ("group=user=(none)", {"user": ""}),
        (urlencode({"group": "user=a%2Cb"}), {"user": "a,b"}),
        ("group=user=a%2Cb", {"user": "a,b"}),  # as limit_from has it, pasted
        ("group=user=a%252Cb", {"user": "a,b"}),
        ("group=other", {"other": "true"}),
    ],
)
def test_a_group_is_asked_for_as_limit_from_names_it(
    three: TestClient, query: str, group: dict[str, str]
) -> None:
    assert three.get(f"/v1/budgets/users?{query}").json()["group"] == group


def test_a_user_who_is_called_none_is_found(three: TestClient, host: Host) -> None:
    host.budgets = reports(report(BY_USER, {("",): 1, ("(none)",): 2}))
    found = three.get("/v1/budgets/users?group=user=(none)").json()
    assert found["resources"]["tokens"]["used"] == 2


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("research-x", 404, "no budget 'research-x' is configured here; did you mean research?"),
        ("..%2Fetc", 404, "is there|is configured|nothing at"),
        ("%00", 404, r"no budget '\\x00' is configured here"),
        ("x" * 500, 404, "no budget 'x{63}' is configured here$"),
        ("users?group=user=anna", 404, "in group 'user=anna' of users; did you mean user=ann?"),
        ("users?group=user=" + "x" * 5000, 404, "in group 'user=x+' of users$"),
        ("users?group=", 400, "group: '' is not allowed; allowed: user=VALUE, or other"),
        ("users?group=ann", 400, "^group: "),
        ("users?group=team=a", 400, "^group: "),
        ("users?group=user=ann,team=a", 400, "^group: "),
        ("users?group=user=%FF", 404, "in group"),
        ("users?group=user=%25zz", 404, "in group"),
        ("research?group=user=ann", 400, "research has no groups"),
        ("research?group=other", 400, "research has no groups"),
        ("users?limit=0", 400, "^limit: "),
        ("users?limit=1001", 400, "^limit: "),
        ("users?limit=x", 400, "^limit: "),
        ("users?cursor=", 400, "^cursor: .*next_cursor"),
        ("users?cursor=users/team=a", 400, "^cursor: "),
        ("users?cursor=%00", 400, "^cursor: "),
    ],
)
def test_what_is_not_there_or_not_understood_is_said(
    three: TestClient, path: str, status: int, words: str
) -> None:
    said = assert_problem(three.get(f"/v1/budgets/{path}"), status)["detail"]
    assert re.search(words.replace("?", r"\?"), said), said


def test_a_sidecar_without_budgets_says_how_to_have_one(client: TestClient) -> None:
    assert client.get("/v1/budgets").json() == {"budgets": [], "next_cursor": None}
    said = assert_problem(client.get("/v1/budgets/research"), 404)["detail"]
    assert said == "no budget 'research' is configured here; none is: add `budgets` to its file"


def test_before_the_first_step_nothing_is_known(client: TestClient, host: Host) -> None:
    host.budgets = None
    assert_problem(client.get("/v1/budgets"), 503)
    assert_problem(client.get("/v1/budgets/research"), 503)


def test_pages_follow_one_another_over_budgets(three: TestClient) -> None:
    everything = three.get("/v1/budgets").json()["budgets"]
    for limit in (1, 2, 3, 6, 7):
        found: list[Any] = []
        cursor: str | None = ""
        while cursor is not None:
            more = {"cursor": cursor} if cursor else {}
            page = three.get(f"/v1/budgets?{urlencode({'limit': limit, **more})}").json()
            assert 1 <= len(page["budgets"]) <= limit
            found, cursor = found + page["budgets"], page["next_cursor"]
        assert found == everything


def test_a_thousand_groups_are_told_in_pages(client: TestClient, host: Host) -> None:
    host.budgets = reports(report(BY_USER, {(f"user-{i:04}",): i for i in range(1000)}))
    page = client.get("/v1/budgets/users?limit=999").json()
    rest = client.get(f"/v1/budgets/users?cursor={quote(page['next_cursor'])}").json()
    assert (len(page["groups"]), len(rest["groups"]), rest["next_cursor"]) == (999, 1, None)
    assert rest["groups"][0]["group"] == {"user": "user-0999"}
    assert len(client.get("/v1/budgets").json()["budgets"]) == 100


def test_a_page_may_begin_at_a_group_or_budget_that_is_gone(three: TestClient) -> None:
    after = three.get("/v1/budgets?cursor=users/user=az").json()["budgets"]
    assert after[0]["group"] == {"user": "bob"}
    after = three.get("/v1/budgets?cursor=tea/user=az").json()["budgets"]
    assert after[0]["name"] == "users"


@pytest.fixture(scope="module")
def asked() -> DescribedClient:
    host = Host()
    host.budgets = reports(report(BY_USER, {("ann",): 1}), report(RESEARCH, {(): 1}))
    return DescribedClient(build_app(VerdictBroadcaster(LEASE, SteadyClock()), host, "1.2.3"))


@given(st.binary(max_size=60), st.sampled_from(["users", "research"]))
@example(b"user=%", "users")
@example(b"user=ann&group=x", "users")
def test_whatever_is_asked_is_answered_as_described(
    asked: DescribedClient, hostile: bytes, name: str
) -> None:
    text = quote(hostile, safe="=,&/+;%")
    paths = [f"{name}?group={text}", f"{name}?{text}", f"{name}?cursor={name}/{text}"]
    if hostile.strip(b"./?"):
        paths.append(quote(hostile, safe=""))
    for path in paths:
        assert asked.get(f"/v1/budgets/{path}").status_code in (200, 400, 404)


def test_times_are_told_in_the_zone_of_the_budget(client: TestClient, host: Host) -> None:
    berlin = Window(
        WindowKind.CALENDAR, every="month", zone="Europe/Berlin", tz=ZoneInfo("Europe/Berlin"),
        at=dt.time(6), day=31,
    )  # fmt: skip
    cost = {semconv.TOKENS: 1000, semconv.COST: Decimal("2.50")}
    monthly = budget(window=berlin, mode=Mode.SHADOW, limits=cost, weights={"cache_read": 100})
    host.budgets = reports(report(monthly, {(): 5}))
    found = client.get("/v1/budgets/research").json()
    assert found["resets_at"] == "2023-11-15T23:13:20.000+01:00"
    assert found["counted_from"] == "2023-11-14T23:13:20.000+01:00"
    assert found["mode"] == "shadow"
    assert found["limits"] == {"max_tokens": 1000, "max_cost_usd": "2.50"}
    assert found["weights"] == {"cache_read": 0.1}


def test_what_is_forecast_is_told(client: TestClient, host: Host) -> None:
    groups: dict[Group, Any] = {
        (): group_report(RESEARCH, used=5, exhaustion_seconds={semconv.TOKENS: 90.0})
    }
    host.budgets = reports(BudgetReport(RESEARCH, groups, START))
    found = client.get("/v1/budgets/research").json()
    assert found["exhaustion_seconds"] == {"tokens": 90.0}


def test_budgets_are_read_with_the_read_token(guarded: TestClient, host: Host) -> None:
    host.budgets = reports(report(RESEARCH, {(): 5}))
    assert_problem(guarded.get("/v1/budgets"), 401)
    for role in ("read", "admin"):
        headers = {"Authorization": f"Bearer {token_of(role)}"}
        assert guarded.get("/v1/budgets", headers=headers).status_code == 200
