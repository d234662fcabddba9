"""``/v1/usage``: what the runs of each owner used."""

from decimal import Decimal

import pytest
from starlette.testclient import TestClient

from otel_budget import semconv
from otel_budget.ledger.owner_use import OwnerUse
from tests.support.api import Host, assert_problem

ANN = OwnerUse(
    "ann", 3, 1, 2, {semconv.TOKENS: 12, semconv.COST: Decimal("1.75")}, frozenset({semconv.COST})
)


def test_the_use_of_owners_is_told_as_described(client: TestClient, host: Host) -> None:
    host.owners = [ANN]
    assert client.get("/v1/usage?by=user").json() == {
        "by": "user",
        "owners": [
            {
                "value": "ann", "runs": 3, "over": 1, "stopped": 2,
                "used": {"tokens": 12, "cost": "1.75"}, "at_least": ["cost"],
            }
        ],
    }  # fmt: skip


def test_of_very_many_owners_those_are_told_that_used_most(client: TestClient, host: Host) -> None:
    host.owners = [ANN._replace(value=f"user-{i}") for i in range(1003)]
    told = client.get("/v1/usage?by=team").json()
    assert (len(told["owners"]), told["left_off"]) == (1000, 3)


@pytest.mark.parametrize("query", ["", "?by=", "?by=tenant", "?by=session_id", "?user=ann"])
def test_a_label_that_is_not_read_is_refused(client: TestClient, query: str) -> None:
    said = assert_problem(client.get(f"/v1/usage{query}"), 400)["detail"]
    assert "'workflow' or 'team' or 'project' or 'user' or 'agent'" in said


def test_before_the_first_reading_nothing_is_known(client: TestClient, host: Host) -> None:
    host.ready = False
    assert_problem(client.get("/v1/usage?by=user"), 503)
