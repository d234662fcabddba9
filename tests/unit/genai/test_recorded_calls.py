"""Recorded spans of real libraries, through the real processor: what a correct reader gets."""

import json
from pathlib import Path
from typing import Any

import pytest

from otel_budget.testing import replay_spans
from tests.support.paths import TESTS

FOLDER = TESTS / "genai_cases"
CASES = [
    pytest.param(case, id=f"{case['library']}/{case['scenario']}")
    for path in sorted(FOLDER.glob("*.json"))
    for case in json.loads(path.read_text("utf-8"))
]


@pytest.mark.parametrize("case", CASES)
def test_a_recording_is_counted_as_a_correct_reader_counts_it(case: dict[str, Any]) -> None:
    counted = replay_spans(case)
    best = case["expected"]["best_from_spans"]
    assert counted == {key: best[key] for key in counted}


def test_recordings_of_many_libraries_are_there() -> None:
    assert len(CASES) > 200
    assert len({case.values[0]["library"] for case in CASES}) >= 35  # type: ignore[index]


def test_a_recording_may_be_given_as_a_file(tmp_path: Path) -> None:
    case = CASES[0].values[0]
    path = tmp_path / "case.json"
    path.write_text(json.dumps(case))
    assert replay_spans(path) == replay_spans(case)  # type: ignore[arg-type]
