"""What a top-up may ask for."""

import json
from decimal import Decimal
from typing import Any

import pytest

from otel_budget import semconv
from otel_budget.core.budget import Budget, Window, WindowKind
from otel_budget.core.top_up import LONGEST_TOP_UP, key_from, top_up_from
from otel_budget.errors import InvalidValueError

NOW = 1_767_268_800.0
BUDGET = Budget(
    "research",
    Window(WindowKind.TOTAL),
    {semconv.TOKENS: 1000, semconv.COST: Decimal(5)},
    per=("user",),
)
BODY: dict[str, Any] = {
    "group": {"user": "ann"},
    "amounts": {"tokens": 500},
    "reason": "a larger release",
}
NO_ENDS: list[Any] = [
    "", "never", 0, -1, None, True, [], float("nan"), "9" * 400, LONGEST_TOP_UP * 2,
    "2025-12-31T00:00:00Z", "2026-01-01T13:00:00", "2026-13-01T13:00:00Z",
]  # fmt: skip


def test_a_top_up_is_read_as_it_was_asked_for() -> None:
    amounts = {"max_tokens": 500, "cost": "2.50"}
    asked = top_up_from(BUDGET, "k", {**BODY, "amounts": amounts, "by": "ann", "until": "2h"}, NOW)
    assert (asked.budget, asked.group, asked.by) == ("research", ("ann",), "ann")
    assert asked.amounts == {semconv.TOKENS: 500, semconv.COST: Decimal("2.50")}
    assert asked.until == NOW + 7200


@pytest.mark.parametrize(
    ("until", "ends"),
    [
        ("reset", None),
        (60, NOW + 60),
        ("90", NOW + 90),
        ("1h30m", NOW + 5400),
        ("2026-01-01T13:00:00Z", NOW + 3600),
        ("2026-01-01T14:00:00+01:00", NOW + 3600),
    ],
)
def test_a_top_up_ends_at_the_reset_after_a_time_or_at_one(until: object, ends: object) -> None:
    assert top_up_from(BUDGET, "k", {**BODY, "until": until}, NOW).until == ends


def test_a_top_up_is_spelled_alike_however_it_was_asked_for_and_whenever() -> None:
    one = top_up_from(BUDGET, "k", {**BODY, "until": "2h"}, NOW)
    amounts = {"max_tokens": 500}
    other = {"until": "2h", **BODY, "group": "user=ann", "amounts": amounts}
    assert top_up_from(BUDGET, "k", other, NOW + 60).asked == one.asked
    assert top_up_from(BUDGET, "k", {**BODY, "until": "3h"}, NOW).asked != one.asked
    assert json.loads(one.asked)["amounts"] == {"tokens": 500}


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ([], "a JSON object with group, amounts"),
        ({"group": {"user": "ann"}, "amounts": {"tokens": 5}}, "^reason"),
        ({**BODY, "by": ""}, "^by"),
        ({**BODY, "much": 1}, "^much: 1 is not allowed; allowed: one of the keys"),
        ({**BODY, "group": {}}, "^group: .*user=VALUE"),
        ({**BODY, "group": {"team": "a"}}, "^group"),
        ({**BODY, "group": None}, "^group"),
        ({**BODY, "group": "ann"}, "^group"),
        ({**BODY, "amounts": {}}, "^amounts: .*tokens, cost"),
        ({**BODY, "amounts": {"tool_calls": 5}}, "^amounts.tool_calls: .*research limits"),
        ({**BODY, "amounts": {"duration": 5}}, "^amounts.duration"),
        ({**BODY, "amounts": {"tokens": 5, "max_tokens": 5}}, "^amounts.max_tokens: .*once"),
        *(({**BODY, "amounts": {"tokens": bad}}, "^amounts.tokens")
          for bad in (0, -5, 1.5, True, None, "5", 2**53 + 1, float("nan"))),
        *(({**BODY, "amounts": {"cost": bad}}, "^amounts.cost")
          for bad in (0, "0.00", "-1", "1e5", -1, None)),
        *(({**BODY, "until": bad}, "^until: .*allowed: reset") for bad in NO_ENDS),
    ],
)  # fmt: skip
def test_what_is_no_top_up_is_refused_by_name(data: object, named: str) -> None:
    with pytest.raises(InvalidValueError, match=named):
        top_up_from(BUDGET, "k", data, NOW)


def test_a_key_may_be_quoted() -> None:
    assert key_from("a-1") == key_from('"a-1"') == "a-1"


@pytest.mark.parametrize("bad", [None, "", "a b", "é", "x" * 129, '""'])
def test_what_is_no_key_is_refused(bad: str | None) -> None:
    with pytest.raises(InvalidValueError, match="Idempotency-Key"):
        key_from(bad)
