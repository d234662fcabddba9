"""Which answers of a client were cut short: they say so themselves."""

from __future__ import annotations

from typing import Any

from otel_budget.adapters.ending import MARK, CutShort
from otel_budget.genai.values import field


def cut_short(answer: Any) -> CutShort | None:
    """Return why an answer of a guarded client is a run's last one; None: it is an ordinary one.

    answer: also a stream, the object of a stream helper, a piece of a stream, a raw response, or an
    answer that was made a mapping (``to_dict()``, ``model_dump()``).
    """
    for each in (answer, field(answer, "_raw_stream"), field(answer, "message", "response")):
        found = None if isinstance(each, str) else field(each, MARK)
        if isinstance(found, dict):
            return CutShort.in_metadata({MARK: found})
    return None
