"""Verdicts on other runs of the same id, as a run hears them."""

from dataclasses import replace

import pytest

from otel_budget.core import verdict_json
from otel_budget.sdk.verdict_filter import OtherRuns
from tests.support.sidecar_fixtures import START, verdict

OWN = START + 5


def test_a_verdict_on_several_runs_is_for_each_of_them(caplog: pytest.LogCaptureFixture) -> None:
    """Which is said once, with what to do."""
    together = replace(verdict(started_at=START), also_started_at=(OWN, OWN + 1))
    others = OtherRuns()
    assert others.is_for(together, OWN)
    assert others.is_for(together, START)
    assert not others.is_for(together, START + 1)
    (said,) = caplog.messages
    assert "other processes use this id at the same time (3 runs in all)" in said
    assert "give each run its own id" in said


def test_a_verdict_on_the_run_before_is_not_for_this_one(caplog: pytest.LogCaptureFixture) -> None:
    """And is nothing to warn of."""
    assert not OtherRuns().is_for(verdict(started_at=START), OWN)
    assert OtherRuns().is_for(verdict(started_at=None), OWN)
    assert caplog.messages == []


def test_the_other_starts_go_over_the_wire_and_are_absent_if_there_are_none() -> None:
    """A reader that does not know them drops the verdict, as it did before."""
    exclusively = verdict()
    together = replace(exclusively, also_started_at=(OWN, OWN + 0.25))
    assert "also_started_at" not in verdict_json.to_dict(exclusively)
    assert verdict_json.from_json(verdict_json.to_json(together)).also_started_at == (
        OWN,
        OWN + 0.25,
    )
