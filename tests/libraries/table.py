"""The table of what is expected, beside the results of the last full run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from tests.libraries.verdicts import EXACT

RESULTS: Final = Path(__file__).parent / "results.json"
TABLE: Final = Path(__file__).parent / "expected.yaml"


def read_table() -> dict[str, dict[str, dict[str, str]]]:
    """Return configuration to scenario to verdict (``is``) and reason (``why``).

    What is not in it is exact. Raises ValueError for a scenario that has two verdicts.
    """
    table: dict[str, dict[str, dict[str, str]]] = {}
    for group in yaml.safe_load(TABLE.read_text(encoding="utf-8")):
        for scenario, names in group["where"].items():
            for name in names:
                expected = table.setdefault(name, {})
                if scenario in expected:
                    raise ValueError(f"{TABLE.name}: {name}, {scenario}: two verdicts")
                expected[scenario] = {"is": group["is"], "why": group["why"]}
    return table


def unexpected(scenarios: dict[str, Any], expected: dict[str, dict[str, str]]) -> list[str]:
    """Return a line for each scenario that is not as expected, or expected and not there."""
    lines = []
    for name, found in scenarios.items():
        wanted = expected.get(name, {}).get("is", EXACT)
        if found["verdict"] != wanted:
            lines.append(
                f"{name}: expected {wanted!r}, is {found['verdict']!r}"
                f"\n    served  {found['served']}\n    counted {found['counted']}"
                f" outside {found.get('outside', {})}"
            )
    missing = expected.keys() - scenarios.keys()
    return lines + [f"{name}: in the table, but there is no such scenario" for name in missing]
