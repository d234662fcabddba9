"""What a condition is, and the expressions that several are made of. The table is conditions.py."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from grafana.board import SESSION
from grafana.promql import OVER, select
from otel_budget import semconv
from otel_budget.core.resources import TIMES

Severity = Literal["critical", "warning", "info"]
#: How a number is written; but for amount functions that both template languages have. An amount is
#: in the unit of the alert's resource: tokens, calls, US dollars, seconds.
Form = Literal["humanize", "humanizePercentage", "humanizeDuration", "amount", "money"]

#: Stands in a number's expression for the matchers of the alert's own labels.
OWN = "OWN"
#: Whose a run is; labels of every alert about one.
OWNER = (semconv.WORKFLOW, *semconv.SCOPE_LABELS)
#: What that is recorded under, and what reads it. Whatever a page shows by this name has a job; two
#: of one run, as where a pair of Prometheus writes into one store, would fail the rule for all.
OWNERS = "session_id:otel_budget_session_info:first"
RECORDED_OWNERS = f'{OWNERS}{{job=""}}'
#: Leaves out limits on time: they are spent at the same rate by every run.
NOT_TIME = f'resource!~"{"|".join(TIMES)}"'
#: Keeps of what processes say of their runs the series of those in which the run goes on. Each
#: process speaks for itself: what a stranger shows of a run silences nobody else's word.
RUNS_THERE = f'ignoring (state) {semconv.SESSION_STATE.name}{{state="running"}} == 1'


@dataclass(frozen=True, slots=True)
class Number:
    """A further number in the words of an alert."""

    name: str
    expr: str
    """Aggregated by labels of the alert; ``OWN`` stands for the matchers of this one alert."""
    form: Form = "humanize"
    words: str = "{}"
    """What is written with the number, in place of braces."""
    otherwise: str = "?"
    """What is written where there is none: no limit, say."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels it is aggregated by: those of the alert that it has as well."""
        by = re.match(r"\w+ by \(([^)]*)\)", self.expr)
        return tuple(by[1].split(", ")) if by else ()


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing to be told of."""

    name: str
    expr: str
    severity: Severity
    summary: str
    description: str
    wait: str = "0s"
    """How long it must hold before it is told."""
    labels: tuple[str, ...] = ()
    form: Form = "humanize"
    """How the expression's own value is written."""
    numbers: tuple[Number, ...] = ()
    dashboard: str = SESSION
    """Uid of the dashboard to look at."""

    @property
    def routed(self) -> str:
        """The expression, with whose run it is as further labels where that is known."""
        if semconv.SESSION_ID not in self.labels:
            return self.expr
        one = f"topk by (session_id) (1, {RECORDED_OWNERS})"
        joined = f"on (session_id) group_left ({', '.join(OWNER)}) {one}"
        return f"({self.expr}) * {joined} or on ({', '.join(self.labels)}) ({self.expr})"


def owners() -> str:
    """Return whose each run is: what was known of it first, for as long as it is known.

    Recorded, and made of what was recorded before: a run that falls silent, or is resumed under
    another name, is no second notice.
    """
    labels = f"session_id, {', '.join(OWNER)}"
    said = f"max by ({labels}) (last_over_time({semconv.SESSION_INFO.name}[1h]))"
    known = f"last_over_time({RECORDED_OWNERS}[10m])"
    first = f"{known} or on (session_id) topk by (session_id) (1, {said})"
    there = f"{semconv.VERDICT.name} or last_over_time({semconv.SESSION_INFO.name}[10m])"
    return f"({first}) and on (session_id) ({there})"


def live(expr: str) -> str:
    """Leave out runs that have ended or vanished: nobody can do anything about them."""
    over = select(semconv.VERDICT_INFO, f'run_state=~"{OVER}"')
    return f"({expr}) unless on (session_id) {over}"


def per_resource(expr: str) -> str:
    """Aggregate to one series for each run and resource."""
    return f"max by (session_id, resource) ({expr})"


def burn(window: str) -> str:
    """Return how many times faster than its time limit allows a run spends each resource.

    1 is a budget that lasts exactly as long as the run may take; after Google's SRE workbook,
    "Alerting on SLOs", with the run's time limit as the period. A run younger than the window
    counts as if it had spent nothing before: lower, never higher.
    """
    unit = {"s": 1, "m": 60}[window[-1]] * int(window[:-1])
    spent = f"delta({select(semconv.USED, NOT_TIME)}[{window}]) / {unit}"
    share = per_resource(f"{spent} / ({select(semconv.EFFECTIVE_LIMIT, NOT_TIME)} > 0)")
    time = select(semconv.EFFECTIVE_LIMIT, 'resource="duration"')
    return f"{share} * on (session_id) group_left () max by (session_id) ({time})"


def latest_exhaustion() -> str:
    """Return the seconds within which a limit will be reached, in nine cases of ten.

    A forecast that is exact has no range: then it is the forecast itself.
    """
    high, value = (select(m, NOT_TIME) for m in (semconv.EXHAUSTION_HIGH, semconv.EXHAUSTION))
    return per_resource(f"{high} or {value}")


def in_time(left: str = per_resource(select(semconv.EXHAUSTION, NOT_TIME))) -> str:
    """Return the runs that will be done before the limit, by their own progress so far.

    left: seconds until the limit, by run and resource. Of several that say a progress the least
    counts: a stranger's silences nobody's alert.
    """
    progress = f"min by (session_id) ({semconv.PROGRESS.name})"
    lasted = f"max by (session_id) ({semconv.DURATION_SECONDS.name})"
    finish = f"{lasted} * (1 - {progress}) / ({progress} > 0)"
    return f"{left} > on (session_id) group_left () ({finish})"
