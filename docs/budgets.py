"""docs/budgets.md with the tables of docs/pool.json: what is shown is in the folder evaluation."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from evaluation.pool_tables import read, with_tables


def budgets_page() -> str:
    """Return the page; what is written by hand is as it is."""
    page = Path(__file__).parent / "budgets.md"
    return with_tables(page.read_text(encoding="utf-8"), read())
