"""Which verdicts are for this run: not those on other runs of its id, or on the process before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_budget import semconv
from otel_budget.core.reasons import LIMIT_STOPS, NO_DATA
from otel_budget.logs.logger import logger
from otel_budget.logs.once import Once
from otel_budget.policy.bounds import OWN

if TYPE_CHECKING:
    from otel_budget.core.verdict import Verdict

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
                "run %r: the sidecar judges the run of %s, this one began at %s",
                verdict.session_id, judged, started_at,
            )  # fmt: skip
            return False
        if also and self._once.first("also"):
            logger.warning(
                "run %r: other processes use this id at the same time (%d runs in all): the "
                "sidecar adds them up, and its verdict is on the sum; give each run its own id",
                verdict.session_id, len(also) + 1,
            )  # fmt: skip
        return True


class Predecessor:
    """Tells verdicts on the process before a resumed run's from those on this one.

    Until a sidecar sees this process, its verdict is on the one before: that had other limits, or
    was silent since. Such a stop is not for the run that was resumed because of it. What binds it
    all the same is an operator's stop, and what holds for every run: the sidecar's own ceilings.
    """

    def __init__(self) -> None:
        self._seen = False
        self._data_at: float | None = None
        """As of when the first verdict heard knew the run; the sidecar's clock."""
        self._heard = False

    def is_meant(self, verdict: Verdict) -> bool:
        """Tell whether a verdict is on the process before, and does not bind this one."""
        if self._seen:
            return False
        if not self._heard:
            self._heard, self._data_at = True, verdict.data_at
        newer = verdict.data_at is not None and verdict.data_at > (self._data_at or 0.0)
        self._seen = newer and verdict.run_state not in semconv.ENDED_STATES
        return not self._seen and not _binds(verdict)


def _binds(verdict: Verdict) -> bool:
    """Tell whether a verdict holds for every process of a run, seen or not."""
    if verdict.should_continue or verdict.reason in NO_DATA:
        return False
    if verdict.reason in LIMIT_STOPS:
        return verdict.origins != {OWN}
    return True
