"""The table, the results and the verdicts that the live tests and the page of accuracy rest on."""

import json
from typing import Any

import pytest

from tests.libraries.configurations import BY_NAME
from tests.libraries.table import RESULTS, read_table, unexpected
from tests.libraries.verdicts import verdict

NOTHING = {"calls": 0, "failed": 0, "input": 0, "output": 0, "cached": 0, "cache_write": 0,
           "reasoning": 0}  # fmt: skip
ONE_CALL = NOTHING | {"calls": 1, "input": 111, "output": 23, "cached": 60}


def outcome(counted: dict[str, int], outside: dict[str, int] | None = None) -> dict[str, Any]:
    """Return the outcome of one run that was served one call."""
    runs = [{"served": ONE_CALL, "counted": {"unknown": 0} | counted}]
    return {"error": None, "runs": runs, "outside": outside or {}}


@pytest.mark.parametrize(
    ("counted", "outside", "wanted"),
    [
        (ONE_CALL, {}, "exact"),
        (ONE_CALL | {"cached": 0}, {}, "parts missing: cached"),
        (ONE_CALL | {"output": 24}, {}, "wrong: output +1"),
        (ONE_CALL | {"failed": 1}, {}, "wrong: failed +1"),
        (NOTHING | {"calls": 1, "unknown": 1}, {}, "unknown: 1 call"),
        (NOTHING | {"failed": 1}, {}, "counted as failed: 1 call"),
        (NOTHING, {}, "not seen: calls -1, input -111, output -23, cached -60"),
        (NOTHING, ONE_CALL, "outside the run: 1 call"),
    ],
)
def test_a_verdict_says_what_is_missing_or_too_much(
    counted: dict[str, int], outside: dict[str, int], wanted: str
) -> None:
    """Against one call served."""
    assert verdict(outcome(counted, outside)) == wanted


def test_runs_at_once_that_lose_different_calls_have_one_verdict() -> None:
    """Which run loses which call is chance."""
    both = outcome(ONE_CALL)
    both["runs"] += outcome(NOTHING)["runs"]
    assert verdict(both) == "exact | not seen"


def test_every_configuration_has_results_and_nothing_else_has() -> None:
    """Renew them with OTEL_BUDGET_UPDATE_GOLDEN=1 make test-libraries."""
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert list(results) == list(BY_NAME)
    assert read_table().keys() <= BY_NAME.keys()


@pytest.mark.parametrize("name", BY_NAME)
def test_the_results_of_the_last_full_run_are_those_of_the_table(name: str) -> None:
    """So the page of accuracy shows a reason for whatever is not exact."""
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert not unexpected(results[name]["scenarios"], read_table().get(name, {}))
