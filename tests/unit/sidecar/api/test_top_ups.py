"""``POST /v1/budgets/{name}/top-ups``: who may add to a budget, and what is answered."""

import json
from decimal import Decimal
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from otel_budget import semconv
from otel_budget.core.budget import Window, WindowKind
from otel_budget.core.resources import COUNTED, RESOURCES
from otel_budget.core.top_up import TopUpRefusal, TopUpRefusedError, top_up_from
from otel_budget.core.validation import MAX_COUNT
from otel_budget.errors import InvalidValueError
from otel_budget.sidecar.api.app import description
from otel_budget.sidecar.budget_report import BudgetReport
from tests.support.api import Host, assert_problem, token_of
from tests.support.budgets import budget, report

DOCUMENT = description("1.2.3")
ALL = {semconv.COST: Decimal(5), semconv.TOKENS: 1000, semconv.API_CALLS: 9, semconv.TOOL_CALLS: 9}
RESEARCH = budget("research", limits=ALL)
BY_USER = budget("users", "user")
BODY: dict[str, Any] = {"amounts": {"max_tokens": 500}, "reason": "late release", "by": "bob"}
ADMIN = {"Authorization": f"Bearer {token_of('admin')}", "Idempotency-Key": "k-1"}
_TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=201)
_NUMBERS = st.one_of(
    st.none(), st.booleans(), st.integers(-1, 2**53 + 1), st.floats(-1, 2**54),
    st.sampled_from([0, 1, 1.5, 5.0, MAX_COUNT, MAX_COUNT + 1]),
    st.sampled_from(["2.50", "", "-1", "1e5", "nan", " 1", "1_0", "007", "0.00"]),
)  # fmt: skip
_BODIES = st.fixed_dictionaries(
    {
        "amounts": st.one_of(
            st.none(),
            *(st.fixed_dictionaries({RESOURCES[name].limit_key: _NUMBERS}) for name in COUNTED),
            *(st.fixed_dictionaries({name: _NUMBERS}) for name in COUNTED),
            st.sampled_from([{}, {"max_things": 1}, {"tokens": 1, "max_tokens": 1}]),
        )
    },
    optional={
        "reason": st.one_of(_TEXTS, st.just("because"), st.none()),
        "by": st.one_of(_TEXTS, st.just("ann"), st.none()),
        "group": st.sampled_from([{}, ""]),
        "until": st.sampled_from(["reset", "2h", 60, 0.5, 0, -1, None, True, 400 * 86_400 + 1]),
        "max_tokens": st.just(1),
    },
)


@pytest.fixture(autouse=True)
def _budgets(host: Host) -> None:
    host.budgets = {
        "research": report(RESEARCH, {(): 900}),
        "users": report(BY_USER, {("ann",): 1200, ("",): 3, None: 7}),
    }


@given(body=st.one_of(_BODIES, st.just([]), st.none()))
def test_the_schema_of_a_top_up_accepts_what_the_core_accepts_and_no_more(body: Any) -> None:
    try:
        top_up_from(RESEARCH, "k", body, 0.0)
    except InvalidValueError:
        is_taken = False
    else:
        is_taken = True
    path = DOCUMENT["paths"]["/v1/budgets/{name}/top-ups"]["post"]
    schema = path["requestBody"]["content"]["application/json"]["schema"]
    valid = jsonschema.Draft202012Validator({**DOCUMENT, **schema}).is_valid(body)
    assert valid == is_taken


def test_a_top_up_is_given_and_told(guarded: TestClient, host: Host) -> None:
    answer = guarded.post("/v1/budgets/research/top-ups", json=BODY, headers=ADMIN)
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() == {
        "key": "k-1",
        "budget": "research",
        "group": {},
        "amounts": {"tokens": 500},
        "reason": "late release",
        "by": "bob",
        "at": "1970-01-01T00:16:40.000+00:00",
        "until": "reset",
    }
    assert host.topped_up[0][1] == "testclient"


@pytest.mark.parametrize(
    ("group", "told"),
    [
        ({"user": "ann"}, {"user": "ann"}),
        ("user=ann", {"user": "ann"}),
        ({"user": ""}, {"user": ""}),
        ("other", {"other": "true"}),
    ],
)
def test_a_top_up_is_for_one_group(guarded: TestClient, group: object, told: object) -> None:
    body = {**BODY, "group": group}
    answer = guarded.post("/v1/budgets/users/top-ups", json=body, headers=ADMIN)
    assert (answer.status_code, answer.json()["group"]) == (201, told)


def test_a_budget_over_each_run_by_itself_can_be_raised_though_it_lists_no_group(
    guarded: TestClient, host: Host
) -> None:
    each = budget("each", window=Window(WindowKind.RUN))
    host.budgets = {"each": BudgetReport(each, {}, 0.0, sessions=3)}
    body = {**BODY, "until": "2h"}
    assert guarded.post("/v1/budgets/each/top-ups", json=body, headers=ADMIN).status_code == 201


@pytest.mark.parametrize(
    ("name", "body", "status", "words"),
    [
        ("reserach", {}, 404, "did you mean research?"),
        ("users", {"group": {"user": "anne"}}, 404, "did you mean user=ann?"),
        ("users", {}, 400, "group: {} is not allowed; allowed: user=VALUE, or other"),
        ("research", {"group": {"user": "ann"}}, 400, "research has no groups"),
        ("research", {"amounts": {"tokens": 0}}, 400, "amounts.tokens: 0 is not allowed"),
        ("research", {"reason": ""}, 400, "reason: "),
        ("research", {"until": "yesterday"}, 400, "until: 'yesterday' is not allowed"),
        ("research", {"x": 1}, 400, "x: 1 is not allowed"),
    ],
)
def test_a_top_up_that_cannot_be_is_refused_by_name(
    guarded: TestClient, name: str, body: dict[str, Any], status: int, words: str
) -> None:
    answer = guarded.post(f"/v1/budgets/{name}/top-ups", json={**BODY, **body}, headers=ADMIN)
    assert words in assert_problem(answer, status)["detail"]


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (TopUpRefusal.UNKNOWN_BUDGET, 404),
        (TopUpRefusal.UNKNOWN_GROUP, 404),
        (TopUpRefusal.KEY_REUSED, 409),
        (TopUpRefusal.NOT_STORED, 503),
    ],
)
def test_what_the_sidecar_refuses_is_told(
    guarded: TestClient, host: Host, refusal: TopUpRefusal, status: int
) -> None:
    host.refuses = TopUpRefusedError(refusal, "because")
    answer = guarded.post("/v1/budgets/research/top-ups", json=BODY, headers=ADMIN)
    assert assert_problem(answer, status)["detail"] == "because"


@pytest.mark.parametrize("key", ["", "x" * 129, "a b", None])
def test_a_key_is_needed(guarded: TestClient, host: Host, key: str | None) -> None:
    headers = {name: value for name, value in ADMIN.items() if name != "Idempotency-Key"}
    if key is not None:
        headers["Idempotency-Key"] = key
    answer = guarded.post("/v1/budgets/research/top-ups", json=BODY, headers=headers)
    assert "Idempotency-Key: " in assert_problem(answer, 400)["detail"]
    assert not host.topped_up


@pytest.mark.parametrize(("token", "status"), [("read", 403), ("", 401), ("wrong", 401)])
def test_the_read_token_adds_nothing(
    guarded: TestClient, host: Host, token: str, status: int
) -> None:
    headers = {"Idempotency-Key": "k"}
    if token:
        headers["Authorization"] = f"Bearer {token_of(token)}"
    answer = guarded.post("/v1/budgets/research/top-ups", json=BODY, headers=headers)
    assert_problem(answer, status)
    assert not host.topped_up


def test_without_an_admin_token_nobody_adds(client: TestClient) -> None:
    headers = {"Idempotency-Key": "k"}
    answer = client.post("/v1/budgets/research/top-ups", json=BODY, headers=headers)
    assert_problem(answer, 403)


def test_before_the_first_step_nothing_is_added(guarded: TestClient, host: Host) -> None:
    host.budgets = None
    assert_problem(guarded.post("/v1/budgets/research/top-ups", json=BODY, headers=ADMIN), 503)


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (json.dumps({"reason": "x" * 70_000}), "application/json", 413),
        (json.dumps(BODY), "text/plain", 415),
        ("{", "application/json", 400),
        ('{"amounts": {"tokens": 5}, "reason": "\\ud800"}', "application/json", 400),
    ],
)
def test_a_body_that_is_too_large_or_of_another_type_is_refused(
    guarded: TestClient, content: str, kind: str, status: int
) -> None:
    headers = {**ADMIN, "Content-Type": kind}
    answer = guarded.post("/v1/budgets/research/top-ups", content=content, headers=headers)
    assert_problem(answer, status)
