"""The table of reasons: all that follows from a row."""

from __future__ import annotations

import pickle

import pytest

from otel_budget.core.reasons import LIMIT_STOPS, NO_DATA, Action, Basis, Reason
from otel_budget.policy.decision_table import DECISIONS, FINAL


@pytest.mark.parametrize("reason", Reason)
def test_each_reason_has_a_meaning_for_people_and_at_least_one_action(reason: Reason) -> None:
    assert reason.meaning
    assert reason.actions
    assert set(reason.actions) <= set(Action)


@pytest.mark.parametrize("reason", Reason)
def test_a_reason_goes_to_another_process_and_back_as_itself(reason: Reason) -> None:
    assert pickle.loads(pickle.dumps(reason)) is reason  # noqa: S301 - made right here
    assert Reason(str(reason)) is reason


@pytest.mark.parametrize("reason", [r for r in Reason if r.advice])
def test_the_advice_of_a_reason_can_be_filled_in(reason: Reason) -> None:
    words = reason.advice.format(action="stop", reason=reason, calls="2 calls")
    assert "{" not in words


def test_what_is_final_stops_a_run() -> None:
    assert {action for action, _ in FINAL} == {Action.STOP}
    assert [str(reason) for _, reason in FINAL] == [
        "budget_low",
        "wrap_up",
        "limit_exceeded",
        "unpriced_calls",
        "unknown_usage",
        "parent_stopped",
    ]


def test_all_decisions_but_those_of_the_run_alone_are_known_to_the_sidecar() -> None:
    missing = {reason for reason in Reason if reason not in {r for _, r in DECISIONS}}
    assert missing == {Reason.SIDECAR_LOST, Reason.BUDGET_BUSY}
    assert [action for action, reason in DECISIONS if reason in NO_DATA] == [
        Action.CONTINUE,
        Action.STOP,
    ] * len(NO_DATA)


def test_a_stop_by_numbers_is_one_for_a_limit() -> None:
    assert LIMIT_STOPS == (
        Reason.APPROACHING_LIMIT,
        Reason.BUDGET_LOW,
        Reason.WRAP_UP,
        Reason.LIMIT_EXCEEDED,
    )
    assert all(reason.basis is Basis.NUMBERS for reason in LIMIT_STOPS)
