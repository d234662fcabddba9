"""``/v1/reservations``: what is asked, and what is answered."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from starlette.testclient import TestClient

from otel_budget import semconv
from otel_budget.core.reservation import ReservationRefusal, ReservationRefusedError
from otel_budget.ledger.holds import Claim, Hold, HoldState
from otel_budget.sidecar.reservations import Commit, Extend, Release, Reserve, Reserved
from tests.support.api import Host, assert_problem, token_of

PATH = "/v1/reservations"
KEY = {"Idempotency-Key": "k-1"}
BODY: dict[str, Any] = {"session_id": "a", "resources": {"tokens": 500, "cost": "0.25"}}
HOLD = Hold(
    "h1", "k-1", "", "a", 1.0, {semconv.TOKENS: 500, semconv.COST: Decimal("0.25")},
    (Claim("research", (), "", 10.0),), 60.0, 100.0,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _holds(host: Host) -> None:
    host.reserves = Reserved(HOLD, 59.9996)


def refuse(host: Host, refusal: ReservationRefusal, **members: Any) -> None:
    host.reserves = ReservationRefusedError(refusal, "why", **members)


def test_a_reservation_is_answered_with_its_id_and_what_is_left_of_its_lease(
    client: TestClient, host: Host
) -> None:
    answer = client.post(PATH, json=BODY, headers=KEY)
    assert answer.status_code == 201
    assert answer.json() == {
        "id": "h1", "session_id": "a", "state": "held",
        "resources": {"tokens": 500, "cost": "0.25"}, "budgets": ["research"],
        "remaining_lease_seconds": 60.0,
    }  # fmt: skip
    (order,) = host.orders
    assert isinstance(order, Reserve)
    assert (order.request.key, order.request.lease_seconds) == ("k-1", 60.0)
    assert order.request.amounts == HOLD.amounts


def test_what_was_used_is_passed_on_and_unknown_amounts_are_left_out(
    client: TestClient, host: Host
) -> None:
    used = {semconv.TOKENS: 7}
    host.reserves = Reserved(Hold(**{**_fields(), "state": HoldState.COMMITTED, "used": used}), 5.0)
    body = {"used": {"tokens": 7, "cost": None}, "seconds_ago": 0.5}
    answer = client.post(f"{PATH}/h1/commit", json=body)
    assert (answer.status_code, answer.json()["used"]) == (200, {"tokens": 7})
    assert host.orders == [Commit("h1", used, 0.5)]


def test_a_lease_is_extended_and_a_reservation_given_back(client: TestClient, host: Host) -> None:
    assert client.post(f"{PATH}/h1/extend", json={"lease_seconds": 9}).status_code == 200
    answer = client.delete(f"{PATH}/h1")
    assert (answer.status_code, answer.content) == (204, b"")
    assert host.orders == [Extend("h1", 9.0), Release("h1")]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ([], "a JSON object"),
        ({**BODY, "more": 1}, "more"),
        ({**BODY, "session_id": "../x"}, "session_id"),
        ({"resources": {"tokens": 1}}, "session_id"),
        ({**BODY, "resources": {}}, "resources"),
        ({**BODY, "resources": {"duration": 1}}, "resources.duration"),
        ({**BODY, "resources": {"tokens": -1}}, "resources.tokens"),
        ({**BODY, "resources": {"tokens": 2**53 + 1}}, "resources.tokens"),
        ({**BODY, "resources": {"tokens": None}}, "resources.tokens"),
        ({**BODY, "resources": {"tokens": True}}, "resources.tokens"),
        ({**BODY, "resources": {"cost": "1e3"}}, "resources.cost"),
        ({**BODY, "lease_seconds": 0}, "lease_seconds"),
        ({**BODY, "lease_seconds": 3601}, "lease_seconds"),
        ({**BODY, "lease_seconds": "60"}, "lease_seconds"),
    ],
)
def test_what_is_wrong_with_a_request_is_named(
    client: TestClient, host: Host, body: Any, named: str
) -> None:
    answer = client.post(PATH, json=body, headers=KEY)
    assert named in assert_problem(answer, 400)["detail"]
    assert not host.orders


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "used"),
        ({"used": {"calls": 1}}, "used.calls"),
        ({"used": {"tokens": 1.5}}, "used.tokens"),
        ({"used": {}, "seconds_ago": -1}, "seconds_ago"),
        ({"used": {}, "seconds_ago": 1e9}, "seconds_ago"),
    ],
)
def test_what_is_wrong_with_a_commit_is_named(client: TestClient, body: Any, named: str) -> None:
    answer = client.post(f"{PATH}/h1/commit", json=body)
    assert named in assert_problem(answer, 400)["detail"]


def test_without_a_key_nothing_is_held(client: TestClient, host: Host) -> None:
    said = assert_problem(client.post(PATH, json=BODY), 400)["detail"]
    assert said.startswith("Idempotency-Key: is missing")
    assert not host.orders


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (ReservationRefusal.UNKNOWN_RUN, 404),
        (ReservationRefusal.UNKNOWN, 404),
        (ReservationRefusal.RUN_ENDED, 409),
        (ReservationRefusal.KEY_REUSED, 409),
        (ReservationRefusal.LEASE_ENDED, 409),
        (ReservationRefusal.TOO_MANY, 429),
        (ReservationRefusal.NOT_STORED, 503),
    ],
)
def test_each_refusal_names_itself(
    client: TestClient, host: Host, refusal: ReservationRefusal, status: int
) -> None:
    refuse(host, refusal)
    answer = client.post(PATH, json=BODY, headers=KEY)
    found = answer.json()
    assert (answer.status_code, found["type"], found["reason"]) == (status, refusal, refusal)
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_budget_that_is_busy_is_told_from_one_that_is_used_up(
    client: TestClient, host: Host
) -> None:
    """The one says when to ask again, the other when it is reset."""
    refuse(host, ReservationRefusal.BUSY, budgets=["budget:research"], retry_after=0.25)
    busy = client.post(PATH, json=BODY, headers=KEY)
    said = busy.json()
    assert (busy.status_code, said["reason"], said["retry_after"]) == (409, "budget_busy", 0.25)
    assert busy.headers["retry-after"] == "1"
    reset = "2026-01-02T00:00:00.000+00:00"
    refuse(host, ReservationRefusal.EXCEEDED, budgets=["budget:research"], resets_at=reset)
    used_up = client.post(PATH, json=BODY, headers=KEY)
    said = used_up.json()
    assert (used_up.status_code, said["reason"]) == (409, "budget_exceeded")
    assert (said["resets_at"], said["budgets"]) == (reset, ["budget:research"])
    assert "retry-after" not in used_up.headers


def test_who_may_read_may_reserve_and_nobody_else(guarded: TestClient, host: Host) -> None:
    """As with a nudge: a run has no other token."""
    assert guarded.post(PATH, json=BODY, headers=KEY).status_code == 401
    assert not host.orders
    token = {"Authorization": f"Bearer {token_of('read')}"}
    assert guarded.post(PATH, json=BODY, headers={**KEY, **token}).status_code == 201


def test_before_anything_is_known_nothing_is_held(client: TestClient, host: Host) -> None:
    host.budgets = None
    assert client.post(PATH, json=BODY, headers=KEY).status_code == 503


def _fields() -> dict[str, Any]:
    return {name: getattr(HOLD, name) for name in HOLD.__dataclass_fields__}
