"""What a sidecar's refusal says."""

from __future__ import annotations

import json
from typing import Final

from otel_budget.logs.text import one_line

#: Characters.
_LONGEST: Final = 500


def detail_of(body: bytes) -> str:
    """Return what a problem+json answer says, as one printable line; empty for anything else."""
    try:
        return one_line(str(json.loads(body)["detail"]), _LONGEST)
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""
