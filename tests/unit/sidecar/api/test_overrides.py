"""``/v1/sessions``: a run with its overrides, and what an operator may do."""

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from otel_budget.core.override import OverrideKind, override_from
from otel_budget.core.resources import RESOURCES
from otel_budget.core.validation import MAX_COUNT
from otel_budget.errors import InvalidValueError
from otel_budget.sidecar.api.app import description
from tests.support.api import EXPIRED_OF_A, assert_problem, token_of
from tests.support.sidecar_fixtures import LEASE, SteadyClock

DOCUMENT = description("1.2.3")
ADMIN = {"Authorization": f"Bearer {token_of('admin')}"}
_TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=201)
_NUMBERS = st.one_of(
    st.none(), st.booleans(), st.integers(-1, 2**53 + 1), st.floats(-1, 2**54),
    st.sampled_from([0, 1.5, 5.0, 2_592_000, 2_592_001, MAX_COUNT, MAX_COUNT + 1]),
    st.sampled_from(["2.50", "", "-1", "1e5", "nan", " 1", "1_0", "007"]),
)  # fmt: skip
_BODIES = st.fixed_dictionaries(
    {},
    optional={
        "reason": st.one_of(_TEXTS, st.just("because"), st.none()),
        "by": st.one_of(_TEXTS, st.just("ann"), st.none()),
        "for_seconds": _NUMBERS,
        "now": st.sampled_from([True, False, None, 1]),
        **{row.limit_key: _NUMBERS for row in RESOURCES.values()},
        "max_things": st.just(1),
    },
)


@given(kind=st.sampled_from(OverrideKind), body=st.one_of(_BODIES, st.just([]), st.none()))
def test_the_schema_of_a_request_accepts_what_the_core_accepts_and_no_more(
    kind: OverrideKind, body: Any
) -> None:
    """The models only describe: what counts is what the core makes of a body."""
    try:
        override_from(kind, body, 0.0)
    except InvalidValueError:
        is_taken = False
    else:
        is_taken = True
    content = DOCUMENT["paths"][f"/v1/sessions/{{session_id}}/{kind}"]["post"]["requestBody"]
    schema = {**DOCUMENT, **content["content"]["application/json"]["schema"]}
    assert jsonschema.Draft202012Validator(schema).is_valid(body) == is_taken


def test_a_request_may_set_a_ceiling_on_every_resource() -> None:
    limits = DOCUMENT["components"]["schemas"]["LimitsRequest"]
    named = {row.limit_key for row in RESOURCES.values()}
    assert set(limits["properties"]) == {"reason", "by", "for_seconds"} | named
    assert set(limits["dependentRequired"]) == named


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("a/stop", {"reason": "because"}, 200),
        ("a/stop", {"reason": "because", "now": True}, 200),
        ("a/stop", {"reason": "because", "now": "yes"}, 400),
        ("a/release", {"reason": "because", "by": "ann"}, 200),
        ("a/limits", {"reason": "because", "for_seconds": 60, "max_tokens": 5}, 200),
        ("other/stop", {"reason": "because"}, 404),
        ("a/stop", {}, 400),
        ("a/stop", {"reason": "because", "max_tokens": 5}, 400),
    ],
)
def test_an_operator_is_answered_as_described(
    guarded: TestClient, path: str, body: object, status: int
) -> None:
    answer = guarded.post(f"/v1/sessions/{path}", json=body, headers=ADMIN)
    assert answer.status_code == status
    if status == 200:
        assert (answer.json()["changes"], answer.json()["notes"]) == (False, ["it was stopped"])


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (json.dumps({"reason": "x" * 70_000}), "application/json", 413),
        ('{"reason": "x"}', "text/plain", 415),
        ("{", "application/json", 400),
    ],
)
def test_a_body_that_is_too_large_or_of_another_type_is_refused(
    guarded: TestClient, content: str, kind: str, status: int
) -> None:
    headers = {**ADMIN, "Content-Type": kind}
    assert_problem(guarded.post("/v1/sessions/a/stop", content=content, headers=headers), status)


def test_a_run_past_its_lease_shows_its_orders_all_the_same(
    client: TestClient, clock: SteadyClock
) -> None:
    clock.advance(LEASE)
    known = client.get("/v1/sessions/a").json()
    assert (known["verdict"], known["expired"]) == (None, EXPIRED_OF_A)
    assert [order["reason"] for order in known["orders"]] == ["because"]
