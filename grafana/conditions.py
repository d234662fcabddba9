"""What alerts are about: the one table out of which Prometheus's and Grafana's rules are made.

What must live here: conditions and their words, nothing about either system. Rules of the table:
- A condition is an expression that is empty while all is well. Its labels are those that identify
  the notice (``labels``), aggregated over everything else, so that a second sidecar, a restart or
  another reason is not a second notice.
- Every text has both numbers: what is, and what was allowed. ``{value}`` is the expression's own,
  the others are ``numbers``; ``{session_id}`` and the like are labels.
"""

from __future__ import annotations

from grafana.condition import (
    NOT_TIME,
    OWN,
    RUNS_THERE,
    Condition,
    Form,
    Number,
    burn,
    in_time,
    latest_exhaustion,
    live,
    per_resource,
)
from grafana.promql import equal, grown, select
from otel_budget import semconv
from otel_budget.core.resources import FURTHER

#: Seconds within which the forecast alert wants to be heard, of a run that has lasted as long: a
#: short one would raise it from its first call on, and pass its warning line before anybody looks.
FORECAST_SECONDS = 900
#: Burn rates and their two windows each: gone in a sixth, or a third, of the time that was meant.
FAST_BURN = ((6, "5m", "1m"), (3, "30m", "5m"))
_RUN = (semconv.SESSION_ID,)
_RUN_RESOURCE = (semconv.SESSION_ID, semconv.RESOURCE)
_LIMIT = Number(
    "limit", f"max by (session_id, resource) ({semconv.EFFECTIVE_LIMIT.name}{{{OWN}}})", "amount"
)
_USED = Number("used", f"max by (session_id, resource) ({semconv.USED.name}{{{OWN}}})", "amount")
_SHARE = Number(
    "share",
    f"max by (session_id, resource) ({semconv.UTILIZATION.name}{{{OWN}}})",
    "humanizePercentage",
)


def _nearest(words: str) -> Number:
    """Return the share of the nearest limit in these words; nothing for a run without limits."""
    share = f"max by (session_id) ({semconv.UTILIZATION.name}{{{OWN}}})"
    return Number("share", share, "humanizePercentage", words, otherwise="")


def _approaching() -> Condition:
    return Condition(
        "OtelBudgetApproaching",
        # Also while exceeded: getting worse is no recovery.
        live(per_resource(f"{semconv.USED.name} >= {semconv.WARNING_LIMIT.name}")),
        "warning",
        "{session_id} is near its limit: {resource} at {value} of {limit} ({share})",
        "Past the warning line. It finishes if it is nearly done, else it stops with partial "
        "results; without progress it goes on to the limit.",
        labels=_RUN_RESOURCE,
        form="amount",
        numbers=(_LIMIT, _SHARE),
    )


def _exceeded() -> Condition:
    return Condition(
        "OtelBudgetExceeded",
        live(per_resource(f"{semconv.USED.name} >= {semconv.EFFECTIVE_LIMIT.name}")),
        "warning",
        "{session_id} is at its limit: {resource} at {value} of {limit} ({share})",
        "The limit is reached and the run is still there. It has been told to stop.",
        labels=_RUN_RESOURCE,
        form="amount",
        numbers=(_LIMIT, _SHARE),
    )


def _stopped() -> Condition:
    gone = select(semconv.VERDICT_INFO, f'run_state=~"completed|{semconv.VANISHED}"')
    # One that is stopped for want of data has an alert for that already.
    blind = select(semconv.VERDICT_INFO, 'status="inconclusive"')
    return Condition(
        "OtelBudgetStopped",
        f"max by (session_id) ({semconv.VERDICT.name} == bool 0) > 0 "
        f"unless on (session_id) {gone} unless on (session_id) {blind}",
        "info",
        "{session_id} was told to stop{share}",
        "The verdict is stop. Its partial results are in its last checkpoint. Cleared 10 minutes "
        "after its end, or when it may go on.",
        labels=_RUN,
        numbers=(_nearest(", with its nearest limit at {}"),),
    )


def _not_obeyed() -> Condition:
    # What it spends after two minutes of being told to: the last call may take its time.
    spent = f"max by (session_id) (delta({select(semconv.USED, NOT_TIME)}[1m]) > 0)"
    verdict = semconv.VERDICT.name
    told = f"(max_over_time({verdict}[2m]) == 0 and {verdict} offset 2m == 0)"
    return Condition(
        "OtelBudgetStopNotObeyed",
        live(f"{spent} and on (session_id) {told}"),
        "critical",
        "{session_id} was told to stop 2m ago and goes on{tokens}{api_calls}{cost}"
        + "".join(f"{{{name}}}" for name in FURTHER)
        + "{share}",
        "The guard is cooperative: code that does not ask is not stopped. Stop it from outside.",
        labels=_RUN,
        numbers=(
            _within(semconv.TOKENS, ": {} tokens"),
            _within(semconv.API_CALLS, ", {} calls"),
            _within(semconv.COST, ", ${} within 1m"),
            *(_within(row.name, f", {{}} {row.title.lower()}") for row in FURTHER.values()),
            _nearest("; its nearest limit is at {}"),
        ),
    )


def _within(resource: str, words: str) -> Number:
    """Return what a run used of a resource within a minute, in these words."""
    used = f'{semconv.USED.name}{{resource="{resource}",{OWN}}}'
    form: Form = "money" if resource == semconv.COST else "humanize"
    return Number(resource, f"max by (session_id) (delta({used}[1m]))", form, words, otherwise="")


def _waiting() -> Condition:
    asks = f'run_state="{semconv.WAITING}"'
    told = select(semconv.VERDICT_INFO, asks, 'status!="inconclusive"')
    says = select(semconv.SESSION_STATE, equal(semconv.STATE, semconv.WAITING))
    since = f"max by (session_id) (time() - {semconv.WAITING_SINCE.name}{{{OWN}}})"
    return Condition(
        "OtelBudgetWaiting",
        live(f"max by (session_id) ({told} or {says} == 1)"),
        "warning",
        "{session_id} was told to stop and waits for more{since}{share}",
        "It stands still until somebody lets it go on, or refuses it: "
        "otel-budget session limits, or session stop.",
        wait="1m",
        labels=_RUN,
        numbers=(
            Number("since", since, "humanizeDuration", ", for {}", otherwise=""),
            _nearest(", with its nearest limit at {}"),
        ),
    )


def _forecast() -> Condition:
    soon = f"{latest_exhaustion()} < {FORECAST_SECONDS} > 0"
    time = select(semconv.USED, equal(semconv.RESOURCE, semconv.DURATION))
    lasted = f"max by (session_id) ({time})"
    near = per_resource(f"{semconv.USED.name} >= {semconv.WARNING_LIMIT.name}")
    calls = f"max by (session_id, resource) (floor({semconv.CALLS_LEFT.name}{{{OWN}}}))"
    return Condition(
        "OtelBudgetForecast",
        # A deadline always comes, a short run is always near its end, and one that will be done
        # before needs nobody. At the late end of the range: whom it wakes has a reason to be up.
        live(
            f"(({soon}) and on (session_id) ({lasted} >= {FORECAST_SECONDS})) "
            f"unless {near} unless ({in_time(latest_exhaustion())})"
        ),
        "warning",
        "{session_id} runs out of {resource} within {value}{calls}: {used} of {limit} used",
        f"Within {FORECAST_SECONDS // 60} minutes at the late end of the forecast's range, and "
        "before the run would be done.",
        wait="1m",
        labels=_RUN_RESOURCE,
        form="humanizeDuration",
        numbers=(_USED, _LIMIT, Number("calls", calls, words=", about {} calls", otherwise="")),
    )


def _fast_burn() -> Condition:
    pairs = " or ".join(
        f"(({burn(long)}) >= {rate} and ({burn(short)}) >= {rate})"
        for rate, long, short in FAST_BURN
    )
    return Condition(
        "OtelBudgetFastBurn",
        live(f"({pairs}) unless ({in_time()})"),
        "warning",
        "{session_id} spends {resource} {value} times faster than its time limit allows: {used} of "
        "{limit} used",
        "The budget is meant to last as long as the run may take. At this rate it is gone in a "
        "sixth of that (5m and 1m) or a third (30m and 5m), and before the run would be done: most "
        "often a loop.",
        labels=_RUN_RESOURCE,
        numbers=(_USED, _LIMIT),
    )


def _no_data() -> Condition:
    blind = select(semconv.VERDICT_INFO, 'status="inconclusive"')
    # A source that is down has an alert of its own: it makes all its runs blind.
    blind += f" unless on (job, instance) {semconv.SOURCE_UP.name} == 0"
    return Condition(
        "OtelBudgetNoData",
        live(f"max by (session_id) ({blind})"),
        "warning",
        "{session_id} has had no data for 1m{share}",
        "The sidecar cannot tell what it uses. The last action is held, then on_no_data applies.",
        wait="1m",
        labels=_RUN,
        numbers=(_nearest("; the last known use is {} of its nearest limit"),),
    )


def _not_judged() -> Condition:
    running = select(semconv.SESSION_STATE, 'state="running"')
    judged = f"max_over_time({semconv.VERDICT.name}[1m])"
    ever = f"count(last_over_time({semconv.SIDECAR_SESSIONS.name}[1d]))"
    return Condition(
        "OtelBudgetRunNotJudged",
        f"(max by (session_id) ({running} == 1) unless on (session_id) {judged}) and on () {ever}",
        "critical",
        "{session_id} has run for 2m without a verdict from any sidecar, and used {tokens} tokens",
        "Prometheus sees it, no sidecar does. Limits from outside do nothing for it.",
        wait="2m",
        labels=_RUN,
        numbers=(
            Number("tokens", f"sum by (session_id) ({semconv.SESSION_TOKENS.name}{{{OWN}}})"),
        ),
    )


def _checkpoint_overdue() -> Condition:
    # Of each process by itself: what another one shows of the run is no checkpoint of this one.
    written = f"({semconv.LAST_CHECKPOINT.name} or {semconv.INCARNATION_START.name})"
    interval = f"min by (session_id) ({semconv.CHECKPOINT_INTERVAL.name}{{{OWN}}})"
    return Condition(
        "OtelBudgetCheckpointOverdue",
        f"max by (session_id) (time() - {written} > 2 * {semconv.CHECKPOINT_INTERVAL.name} "
        f"and {RUNS_THERE})",
        "warning",
        "{session_id} has written no checkpoint for {value}; one is due every {interval}",
        "A crash now loses what it did since then.",
        wait="1m",
        labels=_RUN,
        form="humanizeDuration",
        numbers=(Number("interval", interval, "humanizeDuration"),),
    )


def _checkpoint_failed() -> Condition:
    return Condition(
        "OtelBudgetCheckpointFailed",
        f"{grown(semconv.CHECKPOINT_FAILURES, '10m', 'session_id')} > 0",
        "warning",
        "{session_id} could not write {value} checkpoints within 10m; {written} were written",
        "Disk full, read-only or not permitted. The run goes on and could not be resumed.",
        labels=_RUN,
        numbers=(Number("written", f"sum by (session_id) ({semconv.CHECKPOINTS.name}{{{OWN}}})"),),
    )


def _doubt(
    name: str, metric: semconv.Metric, resource: str, calls: str, description: str
) -> Condition:
    limited = select(semconv.LIMIT, f'resource="{resource}"')
    effective = select(semconv.EFFECTIVE_LIMIT, f'resource="{resource}"')
    return Condition(
        name,
        f"(sum by (session_id) ({metric.name}) > 0) and on (session_id) ({effective} or {limited})",
        "warning",
        f"{{session_id}} made {{value}} of {{calls}} calls {calls}: "
        f'its use of {resource} is "at least"',
        description,
        labels=_RUN,
        numbers=(
            Number("calls", f"sum by (session_id) ({semconv.SESSION_API_CALLS.name}{{{OWN}}})"),
        ),
    )


def conditions_of_runs() -> tuple[Condition, ...]:
    """Return what can be wrong with a run."""
    return (
        _approaching(), _exceeded(), _stopped(), _not_obeyed(), _waiting(), _forecast(),
        _fast_burn(), _no_data(), _not_judged(), _checkpoint_overdue(), _checkpoint_failed(),
        _doubt(
            "OtelBudgetUnpricedCalls", semconv.UNPRICED_CALLS, semconv.COST, "without a price",
            "Its limit on cost cannot be relied on: give the model a price, see docs/money.md.",
        ),
        _doubt(
            "OtelBudgetUnknownUsage", semconv.UNKNOWN_USAGE_CALLS, semconv.TOKENS,
            "without a token count",
            "Its limit on tokens cannot be relied on: have the provider send usage.",
        ),
    )  # fmt: skip
