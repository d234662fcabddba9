"""What real libraries make of what a provider bills: charges, nulls, tiers, repeated usage."""

from __future__ import annotations

import json
import os
import subprocess
from decimal import Decimal
from typing import Any

import pytest

from tests.libraries.environments import ROOT, NoEnvironmentError, python_of
from tests.support.real import REQUIRE

pytestmark = pytest.mark.libraries

#: 1,000 in at $0.25 for a million, 100 out at $2.
PRICE = Decimal("0.00045")
WANTED = {
    "charged": Decimal("0.0421"),
    "charged_nothing": Decimal(0),
    "details_null": PRICE,
    "flex": PRICE / 2,
    "standard": PRICE,
    "repeated": PRICE,
}


@pytest.mark.parametrize(
    ("library", "environment"),
    [
        ("langchain", "langchain"),
        ("litellm", "litellm"),
        ("pydantic_ai", "sdks"),
        ("openai_sdk", "sdks"),
    ],
)
def test_a_call_costs_what_was_charged_or_what_its_parts_do(library: str, environment: str) -> None:
    """Plain and streamed; each call once, its tokens as they were served."""
    try:
        python = python_of(environment)
    except NoEnvironmentError as error:
        if os.environ.get(REQUIRE) == "1":
            raise
        pytest.skip(f"NOT TESTED FOR REAL: {error}")
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
    kept["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it asks its makers for prices
    done = subprocess.run(
        [python, "-m", "tests.libraries.drivers.billing", library],
        capture_output=True, text=True, timeout=120, check=False, cwd=ROOT, env=kept,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    rows: list[list[Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 2 * len(WANTED)
    for case, stream, counts, (cost, unpriced) in rows:
        assert counts == [1, 1000, 100], (case, stream)
        assert (Decimal(cost), unpriced) == (WANTED[case], 0), (case, stream)
