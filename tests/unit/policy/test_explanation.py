"""Every verdict there can be has its row of the table, and says what would make it another one."""

import dataclasses
import re

import pytest

from otel_budget.core.reasons import Action, Basis, Reason
from otel_budget.core.verdict import LimitStatus, Verdict
from otel_budget.policy.explanation import otherwise, row_of
from tests.support.paths import ROOT
from tests.unit.core.test_verdict_json import JUDGED


def verdict(reason: str, **fields: object) -> Verdict:
    """Return a verdict with this reason."""
    return dataclasses.replace(JUDGED, reason=reason, **fields)  # type: ignore[arg-type] # as given


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_row_and_something_that_would_change_it(reason: Reason) -> None:
    row = row_of(verdict(reason))
    assert row is not None
    assert row.reason == reason
    assert otherwise(verdict(reason))


@pytest.mark.parametrize("reason", [r for r in Reason if r.basis is Basis.NUMBERS][:4])
def test_rows_have_the_words_of_the_design(reason: Reason) -> None:
    """Where status and progress of a row are one word each."""
    row = row_of(verdict(reason))
    assert row is not None
    progress = row.progress.replace(">=", "≥")
    table = (ROOT / "docs/design.md").read_text()
    assert re.search(
        rf"^\| {row.status} \| {re.escape(progress)} \| .*`{reason}`", table, re.MULTILINE
    )


def test_a_reason_of_a_newer_sidecar_is_not_explained() -> None:
    assert (row_of(verdict("out_of_luck")), otherwise(verdict("out_of_luck"))) == (None, ())


def test_a_stop_by_a_limit_says_which_would_have_had_to_be_higher_and_whose_it_is() -> None:
    tokens = JUDGED.resources["tokens"]._replace(
        used=1_000_001, status=LimitStatus.EXCEEDED, limit_from="session"
    )
    stopped = verdict(
        "limit_exceeded", action=Action.STOP, status=LimitStatus.EXCEEDED,
        resources={**JUDGED.resources, "tokens": tokens},
    )  # fmt: skip
    assert otherwise(stopped) == (
        "a limit on tokens above the 1,000,001 used (only the run's code can raise it)",
    )


def test_a_graceful_stop_says_from_which_progress_it_might_go_on() -> None:
    first, second = otherwise(verdict("approaching_limit"))
    assert first.startswith("a progress of 80.0% or more")
    assert second.startswith("tokens below 800,000")
