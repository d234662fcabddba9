"""The sidecar: is it there, does it let us in, do the clocks agree, does its source answer?"""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from prometheus_client.parser import text_string_to_metric_families

from otel_budget import semconv
from otel_budget.doctor.finding import State, broken, counted, ok, warning
from otel_budget.sdk.sidecar_client.request import AskError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from otel_budget.doctor.finding import Finding
    from otel_budget.sdk.sidecar_client.exchange import Answer
    from otel_budget.sdk.sidecar_client.request import Asker

#: Seconds. The lease runs by each reader's own clock; the times people read in logs do not.
MOST_SKEW: Final = 5.0
_SHOWN: Final = 3
_NO_ENTRY: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)

#: The metrics of a sidecar: name and label values, in the order of the contract, to value.
Figures = dict[tuple[str, ...], float]
_LABELS: Final = {metric.name: metric.labels for metric in semconv.SIDECAR_METRICS}


def look_at(asker: Asker) -> Iterator[Finding]:
    """Yield how the way to the sidecar is, up to the first broken link."""
    try:
        healthy = asker.ask("GET", "/-/healthy")
    except AskError as exc:
        advice = "start it with `otel-budget sidecar`, or give its address with --sidecar"
        yield broken("sidecar", exc.problem, advice)
        return
    if not healthy.body.startswith(b"healthy"):
        advice = "give the sidecar's address with --sidecar"
        yield broken("sidecar", f"what answers at {asker.url} is no sidecar", advice)
        return
    yield ok("sidecar", f"answers at {asker.url}")
    yield _clock(healthy)
    try:
        asker.get("/openapi.json")
    except AskError as exc:
        if exc.status in _NO_ENTRY:
            advice = "put the read token into the file that OTEL_BUDGET_SIDECAR_TOKEN_FILE names"
            yield broken("token", exc.problem, advice)
        else:
            yield broken("sidecar", exc.problem, "the sidecar's log says why")
        return
    sent = asker.address.credentials.token_file is not None
    yield ok("token", "the token is accepted" if sent else "no token is needed")


def figures_of(asker: Asker) -> Figures:
    """Return the sidecar's metrics. Raises AskError."""
    try:
        text = asker.get("/metrics").decode()
        families = list(text_string_to_metric_families(text))
    except ValueError as exc:
        raise AskError(f"{asker.url}/metrics is not a metrics page: {exc}") from exc
    return {
        # A page has labels by their names; of a metric that is not known here any order will do.
        (s.name, *(s.labels.get(name, "") for name in _LABELS.get(s.name, s.labels))): s.value
        for family in families
        for s in family.samples
    }


def source(figures: Figures) -> Iterator[Finding]:
    """Yield how each source of the sidecar is."""
    up = _labelled(figures, semconv.SOURCE_UP)
    age = _labelled(figures, semconv.DATA_AGE)
    failing = _labelled(figures, semconv.TARGETS_FAILING)
    for name, value in up.items():
        if not value:
            advice = "the sidecar's log names the target or server, and what went wrong"
            yield broken("source", f"scrape failing: the source {name} gives nothing", advice)
        elif name in age:
            yield ok("source", f"{name} answers; its newest sample is {age[name]:.1f} s old")
        elif failing.get(name):
            one = failing[name] == 1
            targets = "1 target does" if one else f"{failing[name]:.0f} targets do"
            text = f"{targets} not answer, and no live run is on {'it' if one else 'them'}"
            yield ok("source", f"{name} is read; {text}")
        else:
            yield ok("source", f"{name} answers; it has not shown a run yet")
    yield from _odd_answers(figures)
    if not up:
        yield broken("source", "nothing has been read yet", "is it still starting? try again")
    unjudged = [key[1:] for key in figures if key[0] == semconv.LIMIT_UNJUDGED.name]
    if unjudged:
        visible = ", ".join(f"{resource} of {session}" for session, resource in unjudged[:_SHOWN])
        text = f"{len(unjudged):,} limits are not judged: nothing exports {visible}"
        advice = "limit what the program does export: `otel-budget read URL` shows what counts"
        yield warning("limits", text, advice)
    yield from _families(figures)
    if not figures.get((semconv.AUDIT_FILE_UP.name,), 1.0):
        text = "the audit log cannot be written to audit.file; it is whole in the storage"
        yield warning("audit", text, "is its disk full? the sidecar's log says what went wrong")
    if not figures.get((semconv.RELOAD_OK.name,), 1.0):
        advice = "`otel-budget config check FILE` says what is wrong with it"
        yield warning("source", "the sidecar refused its new file and keeps the old one", advice)


def _families(figures: Figures) -> Iterator[Finding]:
    """Yield what was wrong with the parents that runs name."""
    wrong = {
        why: times for why, times in _labelled(figures, semconv.IGNORED_PARENTS).items() if times
    }
    if wrong:
        reasons = ", ".join(f"{why} {times:.0f}" for why, times in wrong.items())
        text = f"runs name parents that do not hold for them: {reasons}"
        yield warning("families", text, "the sidecar's log says which; see docs/families.md")


def _odd_answers(figures: Figures) -> Iterator[Finding]:
    """Yield what is odd about the answers of a source that answers."""
    for name, targets in _labelled(figures, semconv.UNMATCHED_TARGETS).items():
        if targets:
            text = f"nothing to count on {counted(targets, 'target')} of {name}, which answers"
            yield warning("source", text, "the sidecar's log says which, and why")
    for name, delay in _labelled(figures, semconv.SOURCE_DELAY).items():
        if delay:
            text = f"samples of {name} are always {delay:.0f} s late, so limits act that much later"
            advice = "does the store get samples late, or does a proxy drop nocache=1 from queries?"
            yield warning("source", text, advice)


def read_after_all(finding: Finding) -> Finding:
    """Return a finding on a source, now that it has read the trial run."""
    if finding.state is not State.BROKEN:
        return finding
    return warning(finding.link, f"{finding.message}, but it read the trial run", finding.advice)


def meanwhile(before: Figures, after: Figures) -> Iterator[Finding]:
    """Yield what the sidecar counted in between that is wrong."""
    grown = {key: value - before.get(key, 0.0) for key, value in after.items()}
    duplicates = grown.get((semconv.DROPPED_SAMPLES.name, semconv.DUPLICATE), 0.0)
    resets = grown.get((semconv.RESETS.name, semconv.COUNTER_RESET), 0.0)
    crowded = grown.get((semconv.DROPPED_SAMPLES.name, semconv.SESSION_LIMIT), 0.0)
    if duplicates:
        text = f"duplicated series: {counted(duplicates, 'sample')} came twice while this ran"
        advice = "is one target listed twice, or do two exporters show the same runs?"
        yield warning("series", text, advice)
    if resets:
        text = f"{counted(resets, 'counter')} dropped while this ran: is there delta temporality?"
        advice = "counters must be cumulative: OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"
        yield warning("series", text, advice)
    if crowded:
        text = f"{counted(crowded, 'sample')} refused: a target has more runs than session_limit"
        yield warning("series", text, "does it make up a session id for every request?")
    for reason in (semconv.BOUND_ELSEWHERE, semconv.CARRIED_ELSEWHERE):
        refused = grown.get((semconv.DROPPED_SAMPLES.name, reason), 0.0)
        if refused:
            text = f"{counted(refused, 'sample')} refused ({reason}): a target shows runs of others"
            yield warning("series", text, "the sidecar's log names the runs and both targets")
    failures = grown.get((semconv.TICK_FAILURES.name,), 0.0)
    if failures:
        yield broken(
            "storage",
            f"{counted(failures, 'tick')} failed while this ran",
            "the sidecar's log says why",
        )


def _clock(answer: Answer) -> Finding:
    given = answer.headers.get("date", "")
    try:
        theirs = parsedate_to_datetime(given).timestamp()
    except ValueError:
        return warning("clock", "the sidecar does not tell the time", "is a proxy in between?")
    skew = theirs + 0.5 - time.time()  # the header has whole seconds
    if abs(skew) <= MOST_SKEW:
        return ok("clock", "the sidecar's clock agrees with this one")
    text = (
        f"clock skew: the sidecar's clock is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}"
    )
    return warning("clock", text, "set both by NTP: leases hold anyway, but times in logs mislead")


def _labelled(figures: Mapping[tuple[str, ...], float], metric: semconv.Metric) -> dict[str, float]:
    return {key[1]: value for key, value in figures.items() if key[0] == metric.name}
