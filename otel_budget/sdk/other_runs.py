"""Verdicts on other runs of the same id: which of them are for this run, too."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from otel_budget.logs.once import Once

if TYPE_CHECKING:
    from otel_budget.core.verdict import Verdict

logger = logging.getLogger("otel_budget")

#: Seconds. Some stores of metrics keep some 15 digits of a value: a start time comes back rounded.
_SAME_START = 0.0005


class OtherRuns:
    """Tells whether a verdict is for this run; says once that it is for others as well."""

    def __init__(self) -> None:
        """Have heard of none."""
        self._once = Once()

    def is_for(self, verdict: Verdict, started_at: float) -> bool:
        """Tell whether a verdict is for the run that began at this Unix time."""
        judged, also = verdict.started_at, verdict.also_started_at
        if judged is not None and not any(
            abs(start - started_at) <= _SAME_START for start in (judged, *also)
        ):
            logger.debug(
                "session %s: the sidecar judges the run of %s, this one began at %s",
                verdict.session_id, judged, started_at,
            )  # fmt: skip
            return False
        if also and self._once.first("also"):
            logger.warning(
                "session %s: other processes run under this id at the same time (%d runs in all): "
                "the sidecar counts them together, and its verdict is on the sum; give each run an "
                "id of its own", verdict.session_id, len(also) + 1,
            )  # fmt: skip
        return True
