"""What the reliability tests saw, in figures, for docs/reliability.md.

``make reliability`` runs them at full length and writes the figures down; in ``make test`` they are
shorter, and write nothing.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

#: The file that figures are added to, one line of JSON for each; unset: none are kept.
FIGURES = "OTEL_BUDGET_FIGURES"
#: "1" runs everything at full length.
FULL = "OTEL_BUDGET_FULL"


def length(short: int, full: int) -> int:
    """Return how often to do something: less in ``make test`` than in ``make reliability``.

    And a share of that where it is another Python or another version that is tried.
    """
    if os.environ.get(FULL) == "1":
        return full
    return min(short, max(1, short * examples() // 100))


def examples() -> int:
    """Return how many examples a property takes: OTEL_BUDGET_EXAMPLES, by default 100."""
    return int(os.environ.get("OTEL_BUDGET_EXAMPLES", "100"))


def note(section: str, done: str, seen: str, test: str | None = None) -> None:
    """Write down what was done to the real thing, and what was seen, with the figures in both.

    section: the heading it stands under. test: what shows it, by default the test that is running.
    Call it after the assertions that make it true.
    """
    file = os.environ.get(FIGURES)
    if file is None:
        return
    if test is None:
        test = os.environ["PYTEST_CURRENT_TEST"].partition(" ")[0]
    with Path(file).open("a", encoding="utf-8") as out:
        line = {"section": section, "done": done, "seen": seen, "test": test}
        out.write(json.dumps(line) + "\n")
