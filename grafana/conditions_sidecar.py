"""The other half of the table: what can be wrong with the sidecars themselves."""

from __future__ import annotations

from grafana.board import SIDECAR
from grafana.condition import OWN, RUNS_THERE, Condition, Number
from grafana.conditions import conditions_of_runs
from grafana.conditions_budgets import conditions_of_budgets
from grafana.promql import OVER, grown, select
from otel_budget import semconv

_AT = ("job", "instance")
_SOURCE = (*_AT, semconv.SOURCE)
#: Seconds from which the newest sample of a source is old, whatever the scrape interval.
STALE_SECONDS = 60
_SESSIONS = Number("sessions", f"max by (job, instance) ({semconv.SIDECAR_SESSIONS.name}{{{OWN}}})")


def _down() -> Condition:
    known = f"last_over_time({semconv.SIDECAR_SESSIONS.name}[1h])"
    return Condition(
        "OtelBudgetSidecarDown",
        # Whatever its job is called: what exported a sidecar's metrics within the hour is one.
        f"max by (job, instance) (up == 0 and on (job, instance) {known})",
        "critical",
        "The sidecar at {instance} has not answered for 1m; it judged {sessions} runs before",
        "Runs go on under their own limits, the last verdicts hold until their lease ends.",
        wait="1m",
        labels=_AT,
        numbers=(
            Number(
                "sessions",
                f"max by (job, instance) "
                f"(last_over_time({semconv.SIDECAR_SESSIONS.name}{{{OWN}}}[1h]))",
            ),
        ),
        dashboard=SIDECAR,
    )


def _unreachable() -> Condition:
    return Condition(
        "OtelBudgetSidecarUnreachable",
        f"count(max by (session_id) ({semconv.SIDECAR_REACHABLE.name} == 0 and {RUNS_THERE}))",
        "warning",
        "{value} of {runs} runs have not reached their sidecar for 1m",
        "As the runs see it: a network between them, a wrong URL, or the sidecar is down.",
        wait="1m",
        numbers=(
            Number(
                "runs", f"count(max by (session_id) ({semconv.SIDECAR_REACHABLE.name}{{{OWN}}}))"
            ),
        ),
        dashboard=SIDECAR,
    )


def _not_judged() -> Condition:
    return Condition(
        "OtelBudgetNotJudged",
        f"count(max by (session_id) ({semconv.SIDECAR_JUDGED.name} == 0 "
        f"unless {semconv.SIDECAR_REACHABLE.name} == 0 and {RUNS_THERE}))",
        "warning",
        "{value} of {runs} runs reach their sidecar and have had no verdict from it for 2m",
        "It answers, and does not see them: only their own limits hold. Each logs why.",
        wait="2m",
        numbers=(
            Number("runs", f"count(max by (session_id) ({semconv.SIDECAR_JUDGED.name}{{{OWN}}}))"),
        ),
        dashboard=SIDECAR,
    )


def _limit_unjudged() -> Condition:
    labels = (*_AT, semconv.RESOURCE)
    over = select(semconv.VERDICT_INFO, f'run_state=~"{OVER}"')
    return Condition(
        "OtelBudgetLimitUnjudged",
        f"count by ({', '.join(labels)}) "
        f"({semconv.LIMIT_UNJUDGED.name} unless on (session_id) {over})",
        "warning",
        "{value} of {sessions} runs at {instance} have a limit on {resource}, which they do not "
        "export: that limit does not hold",
        "Limit what the program exports; `otel-budget read URL` shows what counts.",
        wait="5m",
        labels=labels,
        numbers=(_SESSIONS,),
        dashboard=SIDECAR,
    )


def _source_down() -> Condition:
    # Targets that answered before, and of which nothing runs any more: jobs that are over.
    scraped = 'source="scrape"'
    idle = f"max_over_time({select(semconv.SOURCE_UP, scraped)}[1d]) == 1"
    live = select(semconv.VERDICT_INFO, f'run_state!~"{OVER}"')
    return Condition(
        "OtelBudgetSourceDown",
        f"max by (job, instance, source) ({semconv.SOURCE_UP.name} == 0 "
        f"unless ({idle} unless on (job, instance) {live}))",
        "critical",
        "The source {source} of the sidecar at {instance} has failed for 1m; {sessions} runs wait "
        "for data",
        "No new data: runs become inconclusive, their last action is held, then on_no_data "
        "applies to all of them.",
        wait="1m",
        labels=_SOURCE,
        numbers=(_SESSIONS,),
        dashboard=SIDECAR,
    )


def _stale() -> Condition:
    # Nothing is late where nothing runs; a run whose target is down has an alert of its own.
    live = select(semconv.VERDICT_INFO, f'run_state!~"{OVER}",reason!="source_error"')
    return Condition(
        "OtelBudgetStaleData",
        # And so has a source that is.
        # Where samples are steadily late, they are old by that much more.
        f"((max by (job, instance, source) ({semconv.DATA_AGE.name} > {STALE_SECONDS}) "
        f"unless on (job, instance, source) "
        f"{semconv.DATA_AGE.name} - {semconv.SOURCE_DELAY.name} <= {STALE_SECONDS}) "
        f"and on (job, instance) {live}) "
        f"unless on (job, instance, source) {semconv.SOURCE_UP.name} == 0",
        "warning",
        f"The newest sample of {{source}} at {{instance}} is {{value}} old, {STALE_SECONDS}s are "
        "allowed; {sessions} runs are judged by it",
        "The source answers, with old data: the targets behind it are gone or not scraped.",
        wait="30s",
        labels=_SOURCE,
        form="humanizeDuration",
        numbers=(_SESSIONS,),
        dashboard=SIDECAR,
    )


def _unmatched() -> Condition:
    return Condition(
        "OtelBudgetNothingMatched",
        f"max by (job, instance, source) ({semconv.UNMATCHED_TARGETS.name} > 0)",
        "warning",
        "{value} targets of {source} at {instance} have answered for 15m and shown nothing that "
        "counts; {sessions} runs are judged",
        "Runs behind them are not judged: a wrong address, matcher, tenant, preset or name. The "
        "sidecar's log says why.",
        wait="15m",
        labels=_SOURCE,
        numbers=(_SESSIONS,),
        dashboard=SIDECAR,
    )


def _inconclusive() -> Condition:
    return Condition(
        "OtelBudgetInconclusive",
        f"{grown(semconv.INCONCLUSIVE, '15m', 'reason')} > 3",
        "warning",
        "Runs became inconclusive {value} times within 15m for {reason}; 3 are allowed, {total} "
        "since the start",
        "Once is an agent that died. This often it is a target that flaps, or a failing source.",
        labels=(semconv.REASON,),
        numbers=(Number("total", f"sum by (reason) ({semconv.INCONCLUSIVE.name}{{{OWN}}})"),),
        dashboard=SIDECAR,
    )


def _growing(
    name: str, metric: semconv.Metric, window: str, summary: str, description: str, **others: str
) -> Condition:
    return Condition(
        name,
        f"{grown(metric, window, 'job, instance')} > 0",
        "critical" if metric is semconv.TICK_FAILURES else "warning",
        summary,
        description,
        wait=others.get("wait", "0s"),
        labels=_AT,
        numbers=(_SESSIONS,),
        dashboard=SIDECAR,
    )


def _refused() -> Condition:
    reasons = f'reason=~"{semconv.BOUND_ELSEWHERE}|{semconv.CARRIED_ELSEWHERE}"'
    return Condition(
        "OtelBudgetRunShownElsewhere",
        f"{grown(semconv.DROPPED_SAMPLES, '5m', 'job, instance, reason', reasons)} > 0",
        "warning",
        "{value} samples within 5m were refused at {instance} ({reason}): a target shows runs that "
        "belong to another one; {sessions} runs are judged",
        "The sidecar's log names both targets. Is the binding wrong, or is an id used by another "
        "program?",
        labels=(*_AT, semconv.REASON),
        numbers=(_SESSIONS,),
        dashboard=SIDECAR,
    )


def _reload_failed() -> Condition:
    return Condition(
        "OtelBudgetConfigReloadFailed",
        f"max by (job, instance) ({semconv.RELOAD_OK.name} == 0)",
        "warning",
        "The sidecar at {instance} refused its new configuration; {sessions} runs are judged by "
        "the old one",
        "`otel-budget config check FILE` says what is wrong, with file and line.",
        labels=_AT,
        numbers=(_SESSIONS,),
        dashboard=SIDECAR,
    )


def conditions() -> tuple[Condition, ...]:
    """Return the whole table."""
    return (
        *conditions_of_runs(),
        *conditions_of_budgets(),
        _down(),
        _unreachable(),
        _not_judged(),
        _limit_unjudged(),
        _source_down(),
        _stale(),
        _unmatched(),
        _inconclusive(),
        _growing(
            "OtelBudgetTickFailing", semconv.TICK_FAILURES, "5m",
            "{value} ticks of the sidecar at {instance} failed within 5m; {sessions} runs get no "
            "new verdict from a failed tick",
            "Nothing is published that is not on disk: most often the disk is full. See the log.",
        ),
        _growing(
            "OtelBudgetRunFailing", semconv.RUN_FAILURES, "5m",
            "The sidecar at {instance} failed {value} times within 5m at single runs; {sessions} "
            "runs are judged",
            "A defect of the sidecar. Each of these runs keeps its verdict for the hold time, "
            "then on_no_data applies to it (internal_error). The log names them.",
        ),
        _growing(
            "OtelBudgetStorageDamaged", semconv.UNREADABLE_ROWS, "15m",
            "{value} rows of the storage of the sidecar at {instance} could not be read within "
            "15m; {sessions} runs are judged",
            "Only part of what their runs used may be known (\"at least\"). Look at the disk.",
        ),
        _growing(
            "OtelBudgetStorageRenewed", semconv.STORAGE_RENEWALS, "15m",
            "The storage of the sidecar at {instance} was recreated {value} times within 15m; "
            "{sessions} runs are judged",
            "Its file was moved, removed, replaced or damaged while in use. Live runs were written "
            "again; the archive of earlier ones may be gone.",
        ),
        _growing(
            "OtelBudgetTickOverrun", semconv.TICK_OVERRUNS, "5m",
            "{value} ticks of the sidecar at {instance} outlasted their interval within 5m, with "
            "{sessions} runs",
            "It lags: fewer targets for each sidecar, or a longer interval.",
            wait="10m",
        ),
        _growing(
            "OtelBudgetRestartLoop", semconv.RESTART_LOOPS, "15m",
            "Runs were started again {value} times within 15m at the sidecar at {instance} after "
            "others of their id that did not complete; {sessions} runs are judged",
            "Each begins at 0: a program that crashes, or is stopped, and is started again under "
            "one id spends its limit each time. The sidecar's log names it.",
        ),
        _refused(),
        _reload_failed(),
    )  # fmt: skip
