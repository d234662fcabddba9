"""The id of a run that was given none."""

import pytest

from otel_budget import ResourceMonitor
from otel_budget.errors import InvalidValueError
from otel_budget.sdk import run_name


@pytest.fixture(autouse=True)
def _nobody_has_taken_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_name, "_free", [run_name.ENV_SESSION])


@pytest.mark.parametrize("variable", ["OTEL_BUDGET_SESSION_ID", "BUDGET_SESSION_ID"])
def test_the_first_run_of_the_process_has_the_name_that_the_environment_gives(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "issue-42")
    assert ResourceMonitor(session_id="mine").session_id == "mine"
    assert ResourceMonitor().session_id == "issue-42"
    assert ResourceMonitor().session_id.startswith("run-"), "another one is another run"


def test_without_it_a_name_is_made_up() -> None:
    assert ResourceMonitor().session_id.startswith("run-")


def test_a_name_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BUDGET_SESSION_ID", "a/b")
    with pytest.raises(InvalidValueError, match="OTEL_BUDGET_SESSION_ID"):
        ResourceMonitor()
