"""docs/choosing-limits.md out of docs/limits.json: what is shown is in the folder evaluation."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from evaluation.limits_page import page, read


def choosing_limits_page() -> str:
    """Return the page."""
    return page(read())
