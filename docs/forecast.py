"""docs/forecast.md out of docs/forecast.json: what is shown is in the folder evaluation."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from evaluation.page import page, read


def forecast_page() -> str:
    """Return the page."""
    return page(read())
