"""The expressions that more than one dashboard is made of.

Names come from ``semconv``. What must live here: how runs are selected, joined and added up. Two
rules: an empty answer never becomes a 0 (a 0 is only shown where something is there to say so), and
whatever is shown of a run is aggregated by ``session_id``, so that a second sidecar or a restarted
process is not a second run. All of it runs on Prometheus 2.42 and later.
"""

from __future__ import annotations

from otel_budget import semconv
from otel_budget.core.resources import RESOURCES

#: States of a run that is not there any more, as far as anybody knows.
OVER = "|".join(semconv.OVER_STATES)
#: Label matchers for the dashboard's choice of workflow and team.
CHOSEN = 'workflow=~"$workflow",team=~"$team"'
SESSION = 'session_id="$session"'


def select(metric: semconv.Metric, *matchers: str, suffix: str = "") -> str:
    """Return an instant selector. suffix: of a histogram's series, ``_bucket`` and the like."""
    inside = ",".join(matcher for matcher in matchers if matcher)
    return f"{metric.name}{suffix}" + (f"{{{inside}}}" if inside else "")


def equal(label: str, value: str) -> str:
    """Return the matcher for one value of a label."""
    return f'{label}="{value}"'


def resource(name: str) -> str:
    """Return the matcher for one resource."""
    return equal(semconv.RESOURCE, name)


def chosen(expression: str) -> str:
    """Keep of an expression by session what the dashboard's variables choose.

    A program that says no workflow has no ``otel_budget_session_info``. Its verdict has no label
    ``workflow``, so that it is matched by "All" (which matches an empty label) and by nothing else.
    """
    verdict = select(semconv.VERDICT, CHOSEN)
    return f"({expression}) and on (session_id) ({owners()} or {verdict})"


def owners() -> str:
    """Return whose the chosen runs are. A run that fell silent has not changed hands."""
    return f"last_over_time({select(semconv.SESSION_INFO, CHOSEN)}[1h])"


def judged(*matchers: str, by: str = "session_id") -> str:
    """Return the runs that are judged and have not ended or vanished, by ``session_id``."""
    live = select(semconv.VERDICT_INFO, *matchers, f'run_state!~"{OVER}"')
    return f"max by ({by}) ({live})"


def running() -> str:
    """Return the runs whose own process says that they go on, by ``session_id``."""
    state = select(semconv.SESSION_STATE, 'state=~"running|paused|waiting"')
    return f"max by (session_id) ({state} == 1)"


def number_of(expression: str) -> str:
    """Count what the variables choose; 0 if there is none and a sidecar is there to say so."""
    return f"count({chosen(expression)}) or sum({semconv.SIDECAR_SESSIONS.name}) * 0"


def since(series: str, window: str) -> str:
    """Return what was added to counters without resets within a window, by each.

    ``increase`` does not see what a series began with, and a counter that is born with the event it
    counts begins with that.
    """
    last = f"last_over_time({series}[{window}])"
    before = f"last_over_time({series}[1h] offset {window})"
    return f"({last} - ({before} or {last} * 0))"


def grown(metric: semconv.Metric, window: str, by: str, *matchers: str) -> str:
    """Return how often something happened within a window, by labels; whole numbers."""
    series = select(metric, *matchers)
    counted = f"(increase({series}[{window}]) and resets({series}[{window}]) > 0)"
    return f"round(sum by ({by}) ({counted} or {since(series, window)}))"


def spent(metric: semconv.Metric, *matchers: str, by: str = "", window: str = "$__range") -> str:
    """Return what was added to counters within a window, by labels.

    ``increase`` alone does not see what a series began with, which of a short run is most of it,
    and stretches two samples over more time than they cover. So a series without a reset counts
    from its value at the window's begin, or from 0 if it was not there yet; one with resets (its
    process came back under the same address) by ``increase``, where that error is small.
    """
    series = select(metric, *matchers)
    counted = f"(increase({series}[{window}]) and resets({series}[{window}]) > 0)"
    counted = f"{counted} or {since(series, window)}"
    return f"sum{f' by ({by})' if by else ''} ({counted})"


def recorded_rate(metric: semconv.Metric, by: str) -> str:
    """Return the rate of a process counter over 5 minutes, by one of workflow, team and model.

    From the recording rule, which is cheap over weeks of processes that came and went; where the
    rules are not loaded, from the counters themselves.
    """
    name = f"workflow_team_model:{metric.name.removesuffix('_total')}:rate5m"
    return f"sum by ({by}) ({name}{{{CHOSEN}}}) or {usage_rate(metric, CHOSEN, by=by)}"


def per_second(metric: semconv.Metric, *matchers: str, by: str = "") -> str:
    """Return the rate of a sidecar's counters, by labels."""
    rate = f"rate({select(metric, *matchers)}[$__rate_interval])"
    return f"sum{f' by ({by})' if by else ''} ({rate})"


def usage_rate(metric: semconv.Metric, *matchers: str, by: str = "") -> str:
    """Return the rate of the processes' counters over 5 minutes, by labels.

    Not by ``rate``: of a process that was scraped once or twice it sees nothing, or half.
    """
    return f"{spent(metric, *matchers, by=by, window='5m')} / 300"


# --- one run; the variable ``session`` ------------------------------------------------------------
_OWN_COUNTERS = {row.name: row.counter for row in RESOURCES.values() if row.counter is not None}


def used(name: str) -> str:
    """Return the use of a resource: as the sidecar judges it, or else as the run says."""
    return f"max({select(semconv.USED, SESSION, resource(name))}) or {own_use(name)}"


def own_use(name: str) -> str:
    """Return the use of a resource as the run itself says, which is ahead of the sidecar's view."""
    if name == semconv.DURATION:
        return f"max({select(semconv.DURATION_SECONDS, SESSION)})"
    if name == semconv.ACTIVE_DURATION:
        return f"max({select(semconv.ACTIVE_SECONDS, SESSION)})"
    carried = select(semconv.CARRIED_OVER, SESSION, resource(name))
    return f"(sum({select(_OWN_COUNTERS[name], SESSION)}) + max({carried}))"


def limit(name: str) -> str:
    """Return the limit that counts: the sidecar's view, or else the run's own."""
    effective = select(semconv.EFFECTIVE_LIMIT, SESSION, resource(name))
    return f"min({effective}) or min({select(semconv.LIMIT, SESSION, resource(name))})"


def warning(name: str) -> str:
    """Return the use from which a resource is approaching its limit."""
    effective = select(semconv.WARNING_LIMIT, SESSION, resource(name))
    own = f"min({select(semconv.LIMIT, SESSION, resource(name))})"
    share = f"min({select(semconv.WARNING_THRESHOLD, SESSION, resource(name))})"
    return f"min({effective}) or ({own} * {share})"


def utilization(name: str) -> str:
    """Return use over limit."""
    ratio = select(semconv.UTILIZATION, SESSION, resource(name))
    return f"max({ratio}) or (({used(name)}) / ({limit(name)}))"


def or_zero(expression: str) -> str:
    """Return 0 where a part of a run's use has no series, as long as the run is there.

    By contract a part that is 0 has none.
    """
    return f"{expression} or max({select(semconv.SESSION_TOKENS, SESSION)}) * 0"
