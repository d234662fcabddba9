"""A verdict says whose limit decided."""

from collections.abc import Mapping

import pytest

from otel_budget.core.reasons import Action, Reason
from otel_budget.core.verdict import LimitStatus, ResourceState, Verdict

OK, APPROACHING, EXCEEDED = LimitStatus.OK, LimitStatus.APPROACHING, LimitStatus.EXCEEDED


def state(status: LimitStatus, origin: str | None, *, at_least: bool = False) -> ResourceState:
    """Return a resource with a limit of somebody's; None: without a limit."""
    limit = None if origin is None else 100
    return ResourceState(50, limit, None, None, status, origin, at_least=at_least)


def verdict(
    status: LimitStatus,
    resources: Mapping[str, ResourceState],
    reason: Reason = Reason.LIMIT_EXCEEDED,
) -> Verdict:
    """Return a verdict on these resources."""
    return Verdict("r1", Action.STOP, status, reason, "", resources, evaluated_at=0.0)


def test_nothing_is_named_while_no_limit_is_near() -> None:
    """Although there is one."""
    found = verdict(OK, {"tokens": state(OK, "session")}, Reason.WITHIN_LIMITS)
    assert found.limit_from is None


def test_the_limit_that_is_exceeded_is_named_and_not_one_that_is_near() -> None:
    """The status comes from it."""
    states = {"tokens": state(APPROACHING, "session"), "cost": state(EXCEEDED, "sidecar")}
    assert verdict(EXCEEDED, states).limit_from == "sidecar"


@pytest.mark.parametrize(
    ("origins", "named"),
    [
        (("sidecar", "session", "operator"), "operator"),
        (("suggested", "sidecar", "session"), "session"),
        (("suggested", "sidecar"), "sidecar"),
        (("budget:b", "suggested"), "suggested"),
        (("budget:b", "budget:a"), "budget:a"),
    ],
)
def test_of_equals_operator_session_sidecar_come_first_then_others_by_name(
    origins: tuple[str, ...], named: str
) -> None:
    """Whatever the order of the resources."""
    names = ("tokens", "api_calls", "cost")
    states = {name: state(EXCEEDED, origin) for name, origin in zip(names, origins, strict=False)}
    assert verdict(EXCEEDED, states).limit_from == named


def test_calls_of_unknown_usage_are_stopped_by_the_limit_they_may_have_passed() -> None:
    """The status stays what the known numbers say, so it does not tell."""
    states = {"tokens": state(OK, "sidecar", at_least=True), "api_calls": state(OK, "session")}
    assert verdict(OK, states, Reason.UNKNOWN_USAGE).limit_from == "sidecar"
    states = {"cost": state(OK, "sidecar"), "tokens": state(OK, None, at_least=True)}
    assert verdict(OK, states, Reason.UNKNOWN_USAGE).limit_from == "sidecar"
    assert verdict(OK, states, Reason.UNPRICED_CALLS).limit_from == "sidecar"


def test_for_want_of_data_no_limit_decides() -> None:
    """What is near or not is not known."""
    states = {"tokens": state(APPROACHING, "session")}
    assert verdict(LimitStatus.INCONCLUSIVE, states, Reason.STALE_DATA).limit_from is None


def test_an_operators_stop_is_the_operators() -> None:
    """Whatever the numbers say."""
    states = {"tokens": state(EXCEEDED, "session")}
    assert verdict(EXCEEDED, states, Reason.OPERATOR_STOP).limit_from == "operator"
