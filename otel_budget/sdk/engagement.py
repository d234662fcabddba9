"""Whether the sidecar judges this run: one that answers and never sees the run guards nothing."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from otel_budget.core import validation
from otel_budget.core.reasons import Action, Reason
from otel_budget.core.verdict import LimitStatus
from otel_budget.errors import InvalidValueError
from otel_budget.logs.logger import logger
from otel_budget.runtime.environment import setting
from otel_budget.runtime.fork import ProcessLock, in_child
from otel_budget.sdk.metrics.visibility import PAGES
from otel_budget.sdk.sidecar_client.lease import FIRST_VERDICT, WARN_AFTER

if TYPE_CHECKING:
    from otel_budget.core.verdict import Verdict
    from otel_budget.sdk.sidecar_client.lease import Lease

ENV_TIMEOUT: Final = "OTEL_BUDGET_FIRST_VERDICT_TIMEOUT"
_PAGE: Final = "docs/web-servers-and-workers.md"


def first_verdict_seconds(given: float | None) -> float:
    """Return the seconds for a first verdict: given, of the environment, or the default."""
    text = setting(ENV_TIMEOUT)
    if given is not None or not text:
        wanted = FIRST_VERDICT if given is None else given
        return validation.seconds("first_verdict_timeout", wanted, positive=True)
    try:
        return validation.seconds(ENV_TIMEOUT, float(text), positive=True)
    except ValueError as exc:
        raise InvalidValueError(ENV_TIMEOUT, text, "a number of seconds above 0") from exc


class ShortRuns:
    """Runs of this process that ended before it was worth saying that nothing judges them.

    One after the other they may spend as much as a long one: said once for all of them.
    """

    def __init__(self) -> None:
        self._lock = ProcessLock()
        self._reset()
        in_child(self._reset)

    def _reset(self) -> None:
        self._runs, self._seconds = 0, 0.0

    def judged(self) -> None:
        """Take note that the sidecar sees a run of this process: it can see the others."""
        with self._lock:
            self._reset()

    def ended(self, session_id: str, seconds: float, enough: float) -> None:
        """Take note of one that ended without a verdict. enough: seconds of all that are worth it.

        seconds: for which the sidecar answered meanwhile.
        """
        with self._lock:
            self._runs, self._seconds = self._runs + 1, self._seconds + seconds
            runs, total = self._runs, self._seconds
            if total < enough:
                return
            self._seconds = -math.inf
        logger.warning(
            "the sidecar answers but has seen none of the %d runs of this process that ended "
            "within %.0f s, the last of them run %r: %s (said once; %s)",
            runs, total, session_id, PAGES.why_unseen(), _PAGE,
        )  # fmt: skip


SHORT_RUNS: Final = ShortRuns()


class Engagement:
    """Says once that a sidecar which answers has no verdict on a run, and once that it has."""

    def __init__(self, session_id: str, lease: Lease, *, stops: bool) -> None:
        """Begin with nothing heard. stops: a run without a verdict is stopped in the end."""
        self._session_id, self._lease, self._stops = session_id, lease, stops
        self._answered = self._said = self._given_up = False
        self.other_start: float | None = None
        """When the run began that the sidecar judges under this id in place of this one."""

    @property
    def without(self) -> str:
        """What comes of a run whose sidecar is not there, for the log."""
        if self._stops:
            return "on_sidecar_loss is 'stop': the run is stopped if no verdict comes in time"
        return "the run goes on under its own limits"

    def sidecar_answered(self) -> bool:
        """Take note that the sidecar answers; True, once, when it had its time for a verdict."""
        self._answered = True
        self._lease.sidecar_answered()
        if self._lease.overdue and not self._said:
            self._said = True
            logger.warning("run %r: %s%s", self._session_id, self.problem(), self._what_holds())
        news = self._lease.is_given_up and not self._given_up
        self._given_up |= news
        return news

    def judged(self) -> None:
        """Take note of a verdict on this run."""
        self.other_start, self._given_up = None, False
        SHORT_RUNS.judged()
        if self._said:
            self._said = False
            logger.warning("run %r: the sidecar judges this run now", self._session_id)

    def ended(self) -> None:
        """Take note of the run's end."""
        if self._answered and not self._said and not self._lease.has_verdict:
            worth_saying = self._lease.first_verdict * WARN_AFTER
            SHORT_RUNS.ended(self._session_id, self._lease.waited(), worth_saying)

    def problem(self) -> str:
        """Return what is wrong, and what to do; empty while there is a verdict, or time for one."""
        lease = self._lease
        if not lease.overdue:
            return ""
        seconds = f"{lease.unjudged_for:.0f} s"
        if self.other_start is not None:
            return (
                f"for {seconds} the sidecar has judged another run under this id, which began at "
                f"{self.other_start:.3f}: give each run its own id"
            )
        if lease.has_verdict:
            said = f"the sidecar answers but has had no new verdict on this run for {seconds}"
        else:
            said = f"the sidecar answers but has not seen this run within {seconds}"
        return f"{said}: {PAGES.why_unseen()} ({_PAGE})"

    def _what_holds(self) -> str:
        if not self._stops:
            return "; until it is judged, only the run's own limits apply"
        if self._lease.has_verdict:
            return "; on_sidecar_loss is 'stop': the run is stopped"
        return (
            "; on_sidecar_loss is 'stop': without a verdict the run is stopped after "
            f"{self._lease.first_verdict:g} s"
        )


def sidecar_lost(own: Verdict, lease: Lease) -> Verdict:
    """Return a stop for want of a sidecar, for a run that asked for it."""
    why = "no sidecar, no lease"
    if lease.is_given_up:
        why = f"no verdict of the sidecar on this run within {lease.first_verdict:g} s"
    elif lease.unjudged_for:
        why = "the sidecar answers, but its last verdict on this run has run out"
    return replace(
        own,
        action=Action.STOP,
        status=LimitStatus.INCONCLUSIVE,
        reason=Reason.SIDECAR_LOST,
        message=f"{why}, and on_sidecar_loss is 'stop': stop",
    )


def unjudged(own: Verdict, lease: Lease) -> Verdict:
    """Return the run's own verdict, which says so if a sidecar answers and does not judge it."""
    if not lease.overdue:
        return own
    return replace(own, message=f"{own.message}; the sidecar answers but does not judge this run")
