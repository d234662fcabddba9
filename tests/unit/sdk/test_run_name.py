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


@pytest.mark.parametrize("variable", ["OTEL_BUDGET_PARENT_SESSION_ID", "BUDGET_PARENT_SESSION_ID"])
def test_a_run_is_below_the_one_that_the_environment_names_unless_it_is_given_another(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "lead")
    assert ResourceMonitor(session_id="below")._record.parent == "lead"
    assert ResourceMonitor(session_id="other", parent="mine")._record.parent == "mine"


def test_a_run_is_below_the_monitor_that_it_is_given() -> None:
    lead = ResourceMonitor(session_id="lead")
    assert ResourceMonitor(session_id="below", parent=lead)._record.parent == "lead"
    assert ResourceMonitor(session_id="alone")._record.parent is None


def test_a_run_that_names_itself_is_refused_or_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(InvalidValueError, match="another run than the run itself"):
        ResourceMonitor(session_id="me", parent="me")
    monkeypatch.setenv("OTEL_BUDGET_PARENT_SESSION_ID", "me")
    assert ResourceMonitor(session_id="me")._record.parent is None
    assert "names the run itself" in caplog.text


def test_the_run_that_a_process_was_started_for_has_no_parent_and_the_others_are_below_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """So ``otel-budget run`` sets them: what the program begins besides is below its run."""
    monkeypatch.setenv("OTEL_BUDGET_SESSION_ID", "issue-42")
    monkeypatch.setenv("OTEL_BUDGET_PARENT_SESSION_ID", "issue-42")
    lead = ResourceMonitor()
    assert lead._record.parent is None
    assert ResourceMonitor()._record.parent == lead.session_id == "issue-42"
    assert not caplog.text


@pytest.mark.parametrize("wrong", ["a/b", 7, ""])
def test_a_parent_that_is_no_session_id_is_refused(wrong: object) -> None:
    with pytest.raises(InvalidValueError, match="parent"):
        ResourceMonitor(session_id="me", parent=wrong)  # type: ignore[arg-type] # that is the test


def test_a_parent_in_the_environment_that_is_no_session_id_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_BUDGET_PARENT_SESSION_ID", "a/b")
    with pytest.raises(InvalidValueError, match="OTEL_BUDGET_PARENT_SESSION_ID"):
        ResourceMonitor()


def test_a_child_process_is_told_its_parent_and_not_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_BUDGET_SESSION_ID", "issue-42")
    monkeypatch.setenv("BUDGET_SESSION_ID", "issue-42")
    environ = ResourceMonitor(sidecar="http://127.0.0.1:1").child_environment()
    assert environ["OTEL_BUDGET_PARENT_SESSION_ID"] == "issue-42"
    assert environ["BUDGET_PARENT_SESSION_ID"] == "issue-42"
    assert environ["OTEL_BUDGET_SIDECAR_URL"] == "http://127.0.0.1:1"
    assert not {"OTEL_BUDGET_SESSION_ID", "BUDGET_SESSION_ID"} & environ.keys()
    assert "PATH" in environ
    assert "PATH" not in ResourceMonitor(session_id="other").child_environment({})
