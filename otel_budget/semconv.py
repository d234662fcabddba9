"""Every name this project gives to the outside: metrics, labels, units, span attributes, events.

The exporter, the sources, the dashboards, the alerts and the tests take names from here. A metric
name written as a literal anywhere else is a defect: that is how dashboards come to ask for metrics
that do not exist.
"""

from dataclasses import dataclass
from typing import Final, Literal

# --- resources: what is limited; all else about them is in core/resources.py --------------------
DURATION: Final = "duration"
TOKENS: Final = "tokens"
API_CALLS: Final = "api_calls"
COST: Final = "cost"
ACTIVE_DURATION: Final = "active_duration"
TOOL_CALLS: Final = "tool_calls"

# --- labels -----------------------------------------------------------------------------------
SESSION_ID: Final = "session_id"
RESOURCE: Final = "resource"
UNIT: Final = "unit"
PHASE: Final = "phase"
MODEL: Final = "model"
TOKEN_TYPE: Final = "token_type"  # noqa: S105 - a label name, not a secret
DETAIL: Final = "detail"
OUTCOME: Final = "outcome"
SIGNAL: Final = "signal"
WORKFLOW: Final = "workflow"
STATE: Final = "state"
RUN_STATE: Final = "run_state"
STATUS: Final = "status"
REASON: Final = "reason"
ACTION: Final = "action"
LIMIT_FROM: Final = "limit_from"
SOURCE: Final = "source"
VERSION: Final = "version"
LABEL: Final = "label"
BUDGET: Final = "budget"
GROUP: Final = "group"
MODE: Final = "mode"
WINDOW: Final = "window"
WHEN_LOW: Final = "when_low"
TITLE: Final = "title"

#: Names the run whose descendant a run is: not whose it is, and no label of what is counted.
PARENT_SESSION_ID: Final = "parent_session_id"

#: Bounded labels that say to whom a run belongs.
SCOPE_LABELS: Final = ("team", "project", "user", "agent")

#: Stands where a caller named no phase, no model, or gave one number for all tokens.
UNSPECIFIED: Final = "unspecified"
#: Stands for label values past their cap.
OTHER: Final = "other"
#: The workflow under which calls are counted that were made outside of every run.
UNATTRIBUTED: Final = "unattributed"

SESSION_STATES: Final = ("running", "paused", "waiting", "completed", "stopped", "failed")
RUNNING: Final = "running"
PAUSED: Final = "paused"
#: It was told to stop, and waits until it may go on.
WAITING: Final = "waiting"
COMPLETED: Final = "completed"
STOPPED: Final = "stopped"
FAILED: Final = "failed"
ENDED_STATES: Final = (COMPLETED, STOPPED, FAILED)
#: Of a run that did not say that it ended, and whose target was taken away in order, or answers and
#: does not show it any more. The sidecar's word, no run says it of itself.
VANISHED: Final = "vanished"
RUN_STATES: Final = (*SESSION_STATES, VANISHED)
#: A run in one of these is not there any more, as far as anybody knows.
OVER_STATES: Final = (*ENDED_STATES, VANISHED)

#: What came of a run's last calls: values of the label ``outcome``. At least one was made; an
#: exception ended them; one was refused, or more was used than was allowed; none was made.
WRAP_UP_OUTCOMES: Final = ("done", "failed", "over", "unused")

#: Why a sample is refused, and what becomes of a counter: values of the label ``reason``.
DUPLICATE: Final = "duplicate"
IMPLAUSIBLE: Final = "implausible"
NO_TIMESTAMP: Final = "no_timestamp"
OLD_RUN: Final = "old_run"
BAD_ROW: Final = "row"
BAD_SESSION_ID: Final = "session_id"
SESSION_LIMIT: Final = "session_limit"
SERIES_LIMIT: Final = "series_limit"
BAD_TYPE: Final = "type"
BOUND_ELSEWHERE: Final = "bound_elsewhere"
CARRIED_ELSEWHERE: Final = "carried_elsewhere"
DROP_REASONS: Final = (DUPLICATE, IMPLAUSIBLE, NO_TIMESTAMP, OLD_RUN, BAD_ROW, BAD_SESSION_ID,
                       BAD_TYPE, SESSION_LIMIT, SERIES_LIMIT, BOUND_ELSEWHERE,
                       CARRIED_ELSEWHERE)  # fmt: skip
COUNTER_RESET: Final = "counter"
NEW_INCARNATION: Final = "incarnation"
RESET_REASONS: Final = (COUNTER_RESET, NEW_INCARNATION)
REFUSAL_REASONS: Final = (
    "connections", "host", "malformed", "nudges", "reader", "request", "streams", "token",
)  # fmt: skip
#: What programs push, and what becomes of a request with it: values of ``signal``, ``outcome``.
PUSH_SIGNALS: Final = ("logs", "metrics", "traces")
PUSH_OUTCOMES: Final = ("taken", "ignored", "refused", "busy", "unstored")

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of the contract.

    name: as Prometheus sees it, ``_total`` included. labels: besides ``session_id`` for the metrics
    of a session. otel_name, otel_unit: where it is an OpenTelemetry instrument, else empty.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    otel_name: str = ""
    otel_unit: str = ""


_declared: list[Metric] = []


def _declare(metric: Metric) -> Metric:
    _declared.append(metric)
    return metric


def _all_declared() -> tuple[Metric, ...]:
    """Return what was declared since the last call: a section of the table, in its order."""
    section = tuple(_declared)
    _declared.clear()
    return section


def _counter(name: str, text: str, *labels: str) -> Metric:
    return _declare(Metric(name, "counter", text, labels))


def _gauge(name: str, text: str, *labels: str) -> Metric:
    return _declare(Metric(name, "gauge", text, labels))


def _histogram(name: str, text: str, *labels: str) -> Metric:
    return _declare(Metric(name, "histogram", text, labels))


def _instrument(otel_name: str, otel_unit: str, text: str, *labels: str) -> Metric:
    """Return an OpenTelemetry counter; its Prometheus name is what the exporter makes of it."""
    name = f"otel_budget_{otel_name.replace('.', '_')}_total"
    return _declare(Metric(name, "counter", text, labels, f"otel_budget.{otel_name}", otel_unit))


# One metric, two lines: the table is to be read as a whole.
# fmt: off
# --- per session, from the agent ----------------------------------------------------------------
SESSION_TOKENS: Final = _counter("otel_budget_tokens_total",
    "Tokens used by this process of the run, input and output.")
SESSION_API_CALLS: Final = _counter("otel_budget_api_calls_total",
    "API calls made by this process of the run, failed ones included.")
SESSION_COST: Final = _counter("otel_budget_cost_usd_total",
    "Known cost of this process of the run in US dollars; unpriced calls are not in it.")
SESSION_TOOL_CALLS: Final = _counter("otel_budget_tool_calls_total",
    "Calls of tools by this process of the run, failed ones included; absent for a run that "
    "neither counts nor limits them.")
CARRIED_OVER: Final = _gauge("otel_budget_carried_over",
    "What a resumed run brought along from its checkpoint; 0 for a new run.", RESOURCE, UNIT)
PHASE_TOKENS: Final = _counter("otel_budget_phase_tokens_total",
    "The same tokens by phase, model and type; sums to otel_budget_tokens_total.",
    PHASE, MODEL, TOKEN_TYPE)
PHASE_TOKEN_DETAILS: Final = _counter("otel_budget_phase_token_details_total",
    "Parts of the input and output tokens; never to be added to them.", PHASE, MODEL, DETAIL)
PHASE_API_CALLS: Final = _counter("otel_budget_phase_api_calls_total",
    "API calls by phase, model and outcome.", PHASE, MODEL, OUTCOME)
PHASE_COST: Final = _counter("otel_budget_phase_cost_usd_total",
    "Known cost in US dollars by phase and model.", PHASE, MODEL)
PHASE_TOOL_CALLS: Final = _counter("otel_budget_phase_tool_calls_total",
    "Calls of tools by phase; sums to otel_budget_tool_calls_total.", PHASE)
UNPRICED_CALLS: Final = _counter("otel_budget_unpriced_calls_total",
    "API calls whose price is unknown, in whole or in part.")
UNKNOWN_USAGE_CALLS: Final = _counter("otel_budget_unknown_usage_calls_total",
    "API calls whose tokens are unknown.")
ESTIMATED_CALLS: Final = _counter("otel_budget_estimated_calls_total",
    "API calls whose tokens, and cost, are estimated: the run's own mean for the model.")
DURATION_SECONDS: Final = _gauge("otel_budget_duration_seconds",
    "Seconds since the run began, pauses and downtime included.")
ACTIVE_SECONDS: Final = _gauge("otel_budget_active_seconds",
    "Seconds the run was active, without pauses, downtime and the machine's sleep.")
CHECKPOINTS: Final = _counter("otel_budget_checkpoints_total",
    "Checkpoints written by this process of the run.")
CHECKPOINT_FAILURES: Final = _counter("otel_budget_checkpoint_failures_total",
    "Checkpoints that could not be written.")
LAST_CHECKPOINT: Final = _gauge("otel_budget_last_checkpoint_timestamp_seconds",
    "Unix time of the newest checkpoint; absent before the first.")
CHECKPOINT_INTERVAL: Final = _gauge("otel_budget_checkpoint_interval_seconds",
    "Seconds between automatic checkpoints; absent for a run that writes none.")
PROGRESS: Final = _gauge("otel_budget_progress_ratio",
    "Progress last reported by the run, 0 to 1; absent when unknown.")
PROGRESS_TOKENS: Final = _gauge("otel_budget_progress_tokens",
    "Tokens this process had used when the run last reported its progress: a progress from "
    "before a line was crossed is not used after it.")
PROGRESS_API_CALLS: Final = _gauge("otel_budget_progress_api_calls",
    "API calls this process had made when the run last reported its progress.")
PROGRESS_COST: Final = _gauge("otel_budget_progress_cost_usd",
    "Known cost in US dollars of this process when the run last reported its progress.")
PROGRESS_TOOL_CALLS: Final = _gauge("otel_budget_progress_tool_calls",
    "Calls of tools this process had made when the run last reported its progress.")
LIMIT: Final = _gauge("otel_budget_limit",
    "The run's own limit; absent when unlimited.", RESOURCE, UNIT)
WRAP_UP_CALLS: Final = _gauge("otel_budget_wrap_up_calls",
    "Calls that the run keeps back for its end; absent when it keeps none.")
OPTIONAL_SERIES: Final = _gauge("otel_budget_optional_series",
    "Series of otel_budget_limit, otel_budget_wrap_up_calls and otel_budget_progress_ratio that "
    "the run has: where fewer are seen, the others are missing, not lifted.")
WARNING_THRESHOLD: Final = _gauge("otel_budget_warning_threshold_ratio",
    "Share of the limit from which a resource counts as approaching it.", RESOURCE)
COMPLETION_THRESHOLD: Final = _gauge("otel_budget_completion_threshold_ratio",
    "Progress from which an approaching run may finish.")
SESSION_START: Final = _gauge("otel_budget_session_start_timestamp_seconds",
    "Unix time at which the run began.")
INCARNATION_START: Final = _gauge("otel_budget_incarnation_start_timestamp_seconds",
    "Unix time at which the process that carries the run began or resumed it.")
SESSION_INFO: Final = _gauge("otel_budget_session_info",
    "Always 1; says what the run is and to whom it belongs. A run that another one started has the "
    "label parent_session_id.", WORKFLOW, *SCOPE_LABELS, PARENT_SESSION_ID)
SESSION_STATE: Final = _gauge("otel_budget_session_state",
    "1 for the state the run is in, 0 for the others.", STATE)
FOLLOWS_COMPLETED: Final = _gauge("otel_budget_follows_completed",
    "1 if the run before it under this id, in the same process, completed: no scrape may have come "
    "between the two. Absent otherwise.")
LIMITS_FROM_OUTSIDE: Final = _gauge("otel_budget_limits_from_outside",
    "1 if the run lets an operator's limits take the place of its own; absent otherwise.")
WAITING_SINCE: Final = _gauge("otel_budget_waiting_since_timestamp_seconds",
    "Unix time since when the run waits until it may go on; absent while it does not wait.")
SIDECAR_REACHABLE: Final = _gauge("otel_budget_sidecar_reachable",
    "1 if the run reaches the sidecar, else 0; absent without a sidecar.")
SIDECAR_JUDGED: Final = _gauge("otel_budget_sidecar_judged",
    "1 while a verdict of the sidecar on this run is in force, else 0; absent without a sidecar.")

SESSION_METRICS: Final = _all_declared()

# --- per process, from the agent, through the OpenTelemetry SDK ----------------------------------
#: OpenTelemetry's service.instance.id, one for each process: a process that comes back under the
#: address of another does not go on with its counters. Where it begins past their last value, no
#: reset could be seen.
SERVICE_INSTANCE_ID: Final = "service_instance_id"
_OWNER: Final = (SERVICE_INSTANCE_ID, WORKFLOW, *SCOPE_LABELS)
USAGE_TOKENS: Final = _instrument("usage.tokens", "{token}",
    "Tokens used by all runs of this process.", *_OWNER, MODEL, TOKEN_TYPE)
USAGE_API_CALLS: Final = _instrument("usage.api_calls", "{call}",
    "API calls made by all runs of this process.", *_OWNER, MODEL, OUTCOME)
USAGE_COST: Final = _instrument("usage.cost_usd", "{USD}",
    "Known cost of all runs of this process in US dollars.", *_OWNER, MODEL)
USAGE_TOKEN_DETAILS: Final = _instrument("usage.token_details", "{token}",
    "Parts of the tokens of all runs of this process; never to be added to them.",
    *_OWNER, MODEL, DETAIL)
USAGE_UNPRICED_CALLS: Final = _instrument("usage.unpriced_calls", "{call}",
    "API calls of all runs of this process whose price is unknown, in whole or in part.", *_OWNER,
    MODEL)
USAGE_UNKNOWN_CALLS: Final = _instrument("usage.unknown_usage_calls", "{call}",
    "API calls of all runs of this process whose tokens are unknown.", *_OWNER, MODEL)
USAGE_TOOL_CALLS: Final = _instrument("usage.tool_calls", "{call}",
    "Calls of tools by all runs of this process.", *_OWNER)
WRAP_UPS: Final = _instrument("wrap_ups", "{wrap_up}",
    "Wrap-ups of all runs of this process, the last calls after a stop in time, by what came of "
    "them.", *_OWNER, OUTCOME)
USAGE_METRICS: Final = _all_declared()
FOLDED_LABELS: Final = _instrument("folded_labels", "{value}",
    "Label values past their cap that were counted as 'other'.", LABEL)
PROCESS_METRICS: Final = (*USAGE_METRICS, *_all_declared())

# --- from the sidecar -----------------------------------------------------------------------------
VERDICT: Final = _gauge("otel_budget_verdict", "1 continue, 0 stop.", SESSION_ID)
VERDICT_INFO: Final = _gauge("otel_budget_verdict_info",
    "Always 1; why the verdict is what it is, and the state that the run reported.",
    SESSION_ID, STATUS, REASON, RUN_STATE)
VERDICT_LAST_CALLS: Final = _gauge("otel_budget_verdict_last_calls",
    "Calls that a run which is told to stop may still make, to finish with what it has; absent if "
    "it may make none, or is not stopped.", SESSION_ID)
VERDICT_WOULD: Final = _gauge("otel_budget_verdict_would",
    "What the verdict would be if budgets and ceilings in shadow were enforced: 1 continue, 0 "
    "stop; absent when that is the same, or nothing is in shadow.",
    SESSION_ID, STATUS, REASON, LIMIT_FROM)
USED: Final = _gauge("otel_budget_used",
    "What the run has used, as judged.", SESSION_ID, RESOURCE, UNIT)
REMAINING: Final = _gauge("otel_budget_remaining",
    "What the run may still use; absent when unlimited.", SESSION_ID, RESOURCE, UNIT)
EFFECTIVE_LIMIT: Final = _gauge("otel_budget_effective_limit",
    "The limit that counted: the stricter of the run's own and the sidecar's.",
    SESSION_ID, RESOURCE, UNIT)
WARNING_LIMIT: Final = _gauge("otel_budget_effective_warning_limit",
    "The smallest use that counts as approaching the limit.", SESSION_ID, RESOURCE, UNIT)
UTILIZATION: Final = _gauge("otel_budget_utilization_ratio",
    "Used over limit; absent when unlimited.", SESSION_ID, RESOURCE)
EXHAUSTION: Final = _gauge("otel_budget_exhaustion_seconds",
    "Forecast seconds until the limit if the run goes on as it does; absent when it is not being "
    "spent.", SESSION_ID, RESOURCE)
EXHAUSTION_LOW: Final = _gauge("otel_budget_exhaustion_low_seconds",
    "Low end of the forecast: in one case of ten it takes less. Absent where it is exact.",
    SESSION_ID, RESOURCE)
EXHAUSTION_HIGH: Final = _gauge("otel_budget_exhaustion_high_seconds",
    "High end of the forecast: in one case of ten it takes longer. Absent where it is exact.",
    SESSION_ID, RESOURCE)
CALLS_LEFT: Final = _gauge("otel_budget_calls_left",
    "Forecast calls until the limit; of the one that reaches it, the part that still fits counts. "
    "Absent when it cannot be told.", SESSION_ID, RESOURCE)
CALLS_LEFT_LOW: Final = _gauge("otel_budget_calls_left_low",
    "Low end of the forecast: in one case of ten there are fewer. Absent where it is exact.",
    SESSION_ID, RESOURCE)
CALLS_LEFT_HIGH: Final = _gauge("otel_budget_calls_left_high",
    "High end of the forecast: in one case of ten there are more. Absent where it is exact.",
    SESSION_ID, RESOURCE)
LIMIT_UNJUDGED: Final = _gauge("otel_budget_limit_unjudged",
    "Always 1: the resource is limited, and nothing exports the run's use of it.",
    SESSION_ID, RESOURCE)
VERDICT_CHANGES: Final = _counter("otel_budget_verdict_changes_total",
    "Verdicts that changed.", ACTION, REASON)
TICK_DURATION: Final = _histogram("otel_budget_sidecar_tick_duration_seconds",
    "Seconds one tick took: reading, accounting, judging, storing.")
SOURCE_UP: Final = _gauge("otel_budget_sidecar_source_up",
    "1 if the source was read and a target answered, or no live run depends on one.", SOURCE)
TARGETS_FAILING: Final = _gauge("otel_budget_sidecar_targets_failing",
    "Targets that gave nothing at the last reading.", SOURCE)
UNMATCHED_TARGETS: Final = _gauge("otel_budget_sidecar_unmatched_targets",
    "Targets that answer and show nothing that can be counted; of a Prometheus 1 if the query "
    "matches nothing there. And bindings that have matched no run for five minutes.", SOURCE)
DATA_AGE: Final = _gauge("otel_budget_sidecar_data_age_seconds",
    "Age of the newest sample from the source.", SOURCE)
SOURCE_DELAY: Final = _gauge("otel_budget_sidecar_source_delay_seconds",
    "Seconds by which samples of the source arrive late, steadily, the most of any run: limits act "
    "that much later, and stale_after: auto allows for it. 0 if there is no such delay.", SOURCE)
INCONCLUSIVE: Final = _counter("otel_budget_sidecar_inconclusive_total",
    "Times a run became inconclusive.", REASON)
DROPPED_SAMPLES: Final = _counter("otel_budget_sidecar_dropped_samples_total",
    "Samples refused.", REASON)
RESETS: Final = _counter("otel_budget_sidecar_resets_total", "Counter resets seen.", REASON)
CONCURRENT: Final = _counter("otel_budget_sidecar_concurrent_processes_total",
    "Processes that were found to be alive under one id at the same time; all are counted.")
SECOND_TARGETS: Final = _counter("otel_budget_sidecar_second_targets_total",
    "Targets that were found to show a run beside the one that carries it: other ways to its "
    "process, or another program's page.")
GOING_ON: Final = _counter("otel_budget_sidecar_ended_runs_going_on_total",
    "Runs that reported their end and went on all the same; they are judged as running.")
RESTART_LOOPS: Final = _counter("otel_budget_sidecar_restart_loops_total",
    "Runs that took the place of another one of their id that did not complete, from the third in "
    "a row on: each begins at 0, together they may spend a limit many times over.")
ALTERNATING: Final = _counter("otel_budget_sidecar_alternating_series_total",
    "Times a series was found to be written by several processes in turn: its total is only "
    "about right.")
IGNORED_PARENTS: Final = _counter("otel_budget_sidecar_ignored_parents_total",
    "Times a run was found to name a parent that does not hold for it: its own descendant, one "
    "that nobody shows or that was over, or too deep below others.", REASON)
VANISHED_RUNS: Final = _counter("otel_budget_sidecar_vanished_runs_total",
    "Runs that did not report an end, and whose target was removed in order, or answers and no "
    "longer shows them.")
TICK_OVERRUNS: Final = _counter("otel_budget_sidecar_tick_overruns_total",
    "Ticks that outlasted their interval.")
TICK_FAILURES: Final = _counter("otel_budget_sidecar_tick_failures_total",
    "Ticks that failed and published no verdict.")
RUN_FAILURES: Final = _counter("otel_budget_sidecar_run_failures_total",
    "Times the sidecar failed at one run because of a defect. That run's last action is "
    "held, then on_no_data applies (internal_error); the others are judged.")
UNREADABLE_ROWS: Final = _counter("otel_budget_sidecar_unreadable_rows_total",
    "Rows of the storage that could not be read. Each is set aside; what its run used is known at "
    "best in part, and shown as at least that.")
STORAGE_RENEWALS: Final = _counter("otel_budget_sidecar_storage_renewals_total",
    "Times the storage's file was found moved, removed, replaced or damaged while it was used, and "
    "was recreated with all that is known.")
UNKEPT_RUNS: Final = _counter("otel_budget_sidecar_unkept_runs_total",
    "Runs that were forgotten and whose use is not kept for 30 days either, because the archive is "
    "as large as storage.archive_size, or their target's share of it, allows.")
STORAGE_SIZE: Final = _gauge("otel_budget_sidecar_storage_size_bytes",
    "Bytes of the storage's file and of its log.")
AUDIT_DROPPED: Final = _counter("otel_budget_sidecar_audit_dropped_entries_total",
    "Entries of the audit log that were deleted for their age, or for want of room.")
AUDIT_FILE_UP: Final = _gauge("otel_budget_sidecar_audit_file_up",
    "1 if entries of the audit log can be written to audit.file, 0 if they wait in the storage; "
    "absent without such a file.")
ABSENT_SECONDS: Final = _counter("otel_budget_sidecar_absent_seconds_total",
    "Seconds the sidecar's process did not run (stopped, asleep, starved); held against no run.")
SUGGESTION_RUNS: Final = _gauge("otel_budget_sidecar_suggestion_runs",
    "Where limits are suggested: runs of a workflow that ended well and are known, up to 100. With "
    "fewer than 10 none is suggested, and at_most alone holds.", WORKFLOW)
SUGGESTED_LIMIT: Final = _gauge("otel_budget_sidecar_suggested_limit",
    "The limit that is suggested for runs of a workflow, and holds beside at_most.",
    WORKFLOW, RESOURCE, UNIT)
SUGGESTION_CHANGES: Final = _counter("otel_budget_sidecar_suggestion_changes_total",
    "Times a suggested limit began to hold, changed, or ceased to hold.")
SIDECAR_SESSIONS: Final = _gauge("otel_budget_sidecar_sessions", "Sessions in the ledger.")
EXPIRED_VERDICTS: Final = _gauge("otel_budget_sidecar_expired_verdicts",
    "Runs without a verdict in force: the last one is past its lease, and its series are absent.")
SUBSCRIBERS: Final = _gauge("otel_budget_sidecar_subscribers", "Open verdict streams.")
RELOAD_OK: Final = _gauge("otel_budget_sidecar_config_last_reload_successful",
    "1 if the last configuration reload succeeded.")
REFUSED_REQUESTS: Final = _counter("otel_budget_sidecar_refused_requests_total",
    "Requests and connections refused, or cut off.", REASON)
PUSHED_REQUESTS: Final = _counter("otel_budget_sidecar_pushed_requests_total",
    "Requests with which programs pushed something, by what became of them; ignored: traces.",
    SIGNAL, OUTCOME)
PUSHED_ITEMS: Final = _counter("otel_budget_sidecar_pushed_items_total",
    "Points and log records that were pushed and counted as usage.", SIGNAL)
PUSHED_REJECTED: Final = _counter("otel_budget_sidecar_pushed_rejected_items_total",
    "Points and log records that were pushed and refused: implausible, or past a bound.", SIGNAL)
BUILD_INFO: Final = _gauge("otel_budget_build_info", "Always 1; says which version runs.", VERSION)

# Of budgets that runs share; ``group`` as in core.budget.Budget.group_text.
_GROUP_RESOURCE: Final = (BUDGET, GROUP, RESOURCE, UNIT)
BUDGET_INFO: Final = _gauge("otel_budget_budget_info",
    "Always 1; says what a budget is. One in mode shadow stops nobody.",
    BUDGET, MODE, WINDOW, WHEN_LOW, TITLE)
BUDGET_USED: Final = _gauge("otel_budget_budget_used",
    "What a group has used of a budget in its present window.", *_GROUP_RESOURCE)
BUDGET_AT_LEAST: Final = _gauge("otel_budget_budget_at_least",
    "1 where a group has used more in its present window than is counted, by calls of unknown use "
    "or without a price, or by rows of the storage that were lost; absent elsewhere.",
    *_GROUP_RESOURCE)
BUDGET_LIMIT: Final = _gauge("otel_budget_budget_limit",
    "The limit that counts for a group: the budget's own, top-ups and what was carried over.",
    *_GROUP_RESOURCE)
BUDGET_WARNING: Final = _gauge("otel_budget_budget_warning_limit",
    "The smallest use at which a group's budget counts as low.", *_GROUP_RESOURCE)
BUDGET_REMAINING: Final = _gauge("otel_budget_budget_remaining",
    "What a group may still use in its present window; never below 0.", *_GROUP_RESOURCE)
BUDGET_HELD: Final = _gauge("otel_budget_budget_held",
    "What runs have reserved of a budget and is not counted yet; absent where nothing is. Only "
    "reservations mind it.", *_GROUP_RESOURCE)
BUDGET_HOLDS_REFUSED: Final = _counter("otel_budget_budget_holds_refused_total",
    "Reservations that were refused: what was left did not suffice, or others held it.",
    BUDGET, REASON)
BUDGET_UTILIZATION: Final = _gauge("otel_budget_budget_utilization_ratio",
    "Used over limit; 1 for a limit of 0.", *_GROUP_RESOURCE)
BUDGET_EXHAUSTION: Final = _gauge("otel_budget_budget_exhaustion_seconds",
    "Seconds until a group's budget is used up if it is spent as of late; absent if it is not "
    "being spent, or lasts until it is reset.", *_GROUP_RESOURCE)
BUDGET_TOP_UP: Final = _gauge("otel_budget_budget_top_up",
    "The part of a limit that top-ups granted; absent where none is in force.", *_GROUP_RESOURCE)
BUDGET_CARRIED: Final = _gauge("otel_budget_budget_carried",
    "The part of a limit that the window before left, below 0 for an overrun; absent where "
    "nothing was carried over.", *_GROUP_RESOURCE)
BUDGET_RESET: Final = _gauge("otel_budget_budget_reset_timestamp_seconds",
    "Unix time at which a group's window ends and its use begins at 0; absent where that never "
    "happens at once.", BUDGET, GROUP)
BUDGET_WINDOW_START: Final = _gauge("otel_budget_budget_window_start_timestamp_seconds",
    "Unix time at which a group's present window began.", BUDGET, GROUP)
BUDGET_COUNTED_FROM: Final = _gauge("otel_budget_budget_counted_from_timestamp_seconds",
    "Unix time since which use is counted; what was used before is in no book of this budget.",
    BUDGET, GROUP)
BUDGET_SESSIONS: Final = _gauge("otel_budget_budget_sessions",
    "Runs that are known and count towards a group's budget, those that are over among them.",
    BUDGET, GROUP)
BUDGET_GROUPS: Final = _gauge("otel_budget_budget_groups",
    "Groups of a budget that are counted apart.", BUDGET)
BUDGET_GROUPS_MAX: Final = _gauge("otel_budget_budget_groups_max",
    "Most groups of a budget that are counted apart: runs of any further one share the group "
    "'other'.", BUDGET)
BUDGET_GROUPS_REFUSED: Final = _counter("otel_budget_budget_groups_refused_total",
    "Times that there was no place for a run's own group, so that it counts in the group 'other'.",
    BUDGET)
BOUND_RUNS: Final = _gauge("otel_budget_sidecar_bound_runs",
    "Live runs that are near a limit or stopped by one, by whose limit it is: session, sidecar, "
    "operator, suggested, parent, or budget:NAME.", LIMIT_FROM, ACTION)

SIDECAR_METRICS: Final = _all_declared()

# fmt: on
#: Labels that tell the replicas of a Prometheus apart, as Thanos, Mimir and the Prometheus operator
#: name them.
REPLICA_LABELS: Final = (
    "replica",
    "prometheus_replica",
    "__replica__",
    "receive_replica",
    "rule_replica",
    "thanos_ruler_replica",
    "prometheus",
)  # fmt: skip
# --- spans: names, attributes, events -----------------------------------------------------------
SCOPE_NAME: Final = "otel_budget"

SPAN_RUN: Final = "otel_budget.run"
SPAN_PHASE: Final = "otel_budget.phase"
SPAN_OPERATION: Final = "otel_budget.operation"

ATTR_SESSION_ID: Final = "otel_budget.session_id"
ATTR_PHASE: Final = "otel_budget.phase"
ATTR_OPERATION: Final = "otel_budget.operation"
ATTR_MODEL: Final = "otel_budget.model"
ATTR_PROVIDER: Final = "otel_budget.provider"
ATTR_OUTCOME: Final = "otel_budget.outcome"
ATTR_TOKENS: Final = "otel_budget.tokens"
ATTR_INPUT_TOKENS: Final = "otel_budget.input_tokens"
ATTR_OUTPUT_TOKENS: Final = "otel_budget.output_tokens"
ATTR_CACHE_READ_TOKENS: Final = "otel_budget.cache_read_tokens"
ATTR_CACHE_WRITE_TOKENS: Final = "otel_budget.cache_write_tokens"
ATTR_REASONING_TOKENS: Final = "otel_budget.reasoning_tokens"
ATTR_API_CALLS: Final = "otel_budget.api_calls"
ATTR_FAILED_API_CALLS: Final = "otel_budget.failed_api_calls"
ATTR_TOOL_CALLS: Final = "otel_budget.tool_calls"
ATTR_COST_USD: Final = "otel_budget.cost_usd"
ATTR_USAGE_UNKNOWN: Final = "otel_budget.usage_unknown"
ATTR_USAGE_ESTIMATED: Final = "otel_budget.usage_estimated"
ATTR_DURATION: Final = "otel_budget.duration_seconds"
ATTR_PROGRESS: Final = "otel_budget.progress"
ATTR_RESUMED: Final = "otel_budget.resumed"
ATTR_STATUS: Final = "otel_budget.status"
ATTR_RESOURCE: Final = "otel_budget.resource"
ATTR_USED: Final = "otel_budget.used"
ATTR_LIMIT: Final = "otel_budget.limit"
ATTR_ACTION: Final = "otel_budget.action"
ATTR_REASON: Final = "otel_budget.reason"
ATTR_MESSAGE: Final = "otel_budget.message"
ATTR_DECISION_ID: Final = "otel_budget.decision_id"
ATTR_LIMIT_FROM: Final = "otel_budget.limit_from"
ATTR_CHECKPOINT_PATH: Final = "otel_budget.checkpoint.path"
ATTR_CHECKPOINT_ERROR: Final = "otel_budget.checkpoint.error"
#: Baggage that carries a run's name to the spans of its model calls, across threads and tasks.
BAGGAGE_SESSION_ID: Final = "otel_budget.session_id"
EVENT_STATUS_CHANGED: Final = "otel_budget.status_changed"
EVENT_VERDICT: Final = "otel_budget.verdict"
EVENT_CHECKPOINT: Final = "otel_budget.checkpoint"
EVENT_CHECKPOINT_FAILED: Final = "otel_budget.checkpoint_failed"
EVENT_SIDECAR_LOST: Final = "otel_budget.sidecar_lost"
EVENT_SIDECAR_FOUND: Final = "otel_budget.sidecar_found"
EVENT_WRAP_UP: Final = "otel_budget.wrap_up"
