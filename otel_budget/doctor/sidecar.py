"""The sidecar: is it there, does it let us in, does its source answer, do the clocks agree."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from prometheus_client.parser import text_string_to_metric_families

from otel_budget import semconv
from otel_budget.doctor.finding import State, broken, ok, warning
from otel_budget.sdk.sidecar_client.request import AskError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from otel_budget.doctor.finding import Finding
    from otel_budget.sdk.sidecar_client.request import Answer, Asker

#: Seconds. The lease runs by each reader's own clock; the times people read in logs do not.
MOST_SKEW: Final = 5.0
_SHOWN: Final = 3
_NO_ENTRY: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)

#: The metrics of a sidecar: name and label values to value.
Figures = dict[tuple[str, ...], float]


def look_at(asker: Asker) -> Iterator[Finding]:
    """Yield what there is to say of the way to the sidecar, up to the first broken link."""
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
            yield broken("sidecar", exc.problem, "its log says why")
        return
    sent = asker.address.credentials.token_file is not None
    yield ok("token", "the token is known" if sent else "no token is asked for")


def figures_of(asker: Asker) -> Figures:
    """Return the sidecar's metrics. Raises AskError."""
    try:
        text = asker.get("/metrics").decode()
        families = list(text_string_to_metric_families(text))
    except ValueError as exc:
        raise AskError(f"{asker.url}/metrics is no exposition: {exc}") from exc
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


def source(figures: Figures) -> Iterator[Finding]:
    """Yield how the sidecar's source is."""
    up = _labelled(figures, semconv.SOURCE_UP)
    age = _labelled(figures, semconv.DATA_AGE)
    failing = _labelled(figures, semconv.TARGETS_FAILING)
    for name, value in up.items():
        if not value:
            advice = "its log names the target, or the server, and what went wrong"
            yield broken("source", f"scrape failing: the source {name} gives nothing", advice)
        elif name in age:
            yield ok("source", f"{name} answers; its newest sample is {age[name]:.1f} s old")
        elif failing.get(name):
            one = failing[name] == 1
            many = "1 target does" if one else f"{failing[name]:.0f} targets do"
            said = f"{many} not answer, and no live run is on {'it' if one else 'them'}"
            yield ok("source", f"{name} is read; {said}")
        else:
            yield ok("source", f"{name} answers; it has shown no run yet")
    yield from _of_its_answers(figures)
    if not up:
        yield broken("source", "nothing was read yet", "is it still starting? try again")
    unjudged = [key[1:] for key in figures if key[0] == semconv.LIMIT_UNJUDGED.name]
    if unjudged:
        shown = ", ".join(f"{resource} of {session}" for session, resource in unjudged[:_SHOWN])
        said = f"{len(unjudged):,} limits are not judged: nothing exports {shown}"
        advice = "limit what the program exports: `otel-budget read URL` shows what counts"
        yield warning("limits", said, advice)
    if not figures.get((semconv.RELOAD_OK.name,), 1.0):
        advice = "`otel-budget config check FILE` says what is wrong with it"
        yield warning("source", "the sidecar's file was refused; an older one holds", advice)


def _of_its_answers(figures: Figures) -> Iterator[Finding]:
    """Yield what is odd about the answers of a source that answers."""
    for name, targets in _labelled(figures, semconv.UNMATCHED_TARGETS).items():
        if targets:
            said = f"nothing that counts: {targets:.0f} targets of {name} answer and show no series"
            yield warning("source", said, "its log says which, and why")
    for name, delay in _labelled(figures, semconv.SOURCE_DELAY).items():
        if delay:
            said = f"samples of {name} are steadily {delay:.0f} s late: limits act that much later"
            advice = "does the store get samples late, or a proxy drop nocache=1 from queries?"
            yield warning("source", said, advice)


def read_anyway(finding: Finding) -> Finding:
    """Return what was found of a source, now that it has read the test session."""
    if finding.state is not State.BROKEN:
        return finding
    return warning(finding.link, f"{finding.said}, but it read the test session", finding.advice)


def since(before: Figures, after: Figures) -> Iterator[Finding]:
    """Yield what the sidecar counted meanwhile that should not have been."""
    grown = {key: value - before.get(key, 0.0) for key, value in after.items()}
    duplicates = grown.get((semconv.DROPPED_SAMPLES.name, semconv.DUPLICATE), 0.0)
    resets = grown.get((semconv.RESETS.name, semconv.COUNTER_RESET), 0.0)
    crowded = grown.get((semconv.DROPPED_SAMPLES.name, semconv.SESSION_LIMIT), 0.0)
    if duplicates:
        said = f"duplicated series: {duplicates:.0f} samples were there twice while this ran"
        advice = "is one target listed twice, or do two exporters show the same runs?"
        yield warning("series", said, advice)
    if resets:
        said = f"{resets:.0f} counters dropped while this ran: is there delta temporality?"
        advice = "counters must be cumulative: OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"
        yield warning("series", said, advice)
    if crowded:
        said = f"{crowded:.0f} samples were refused: a target has more runs than session_limit"
        yield warning("series", said, "does it make up a session id for each request?")
    for reason in (semconv.BOUND_ELSEWHERE, semconv.CARRIED_ELSEWHERE):
        refused = grown.get((semconv.DROPPED_SAMPLES.name, reason), 0.0)
        if refused:
            said = f"{refused:.0f} samples were refused ({reason}): a target shows others' runs"
            yield warning("series", said, "the sidecar's log names the runs and both targets")
    failures = grown.get((semconv.TICK_FAILURES.name,), 0.0)
    if failures:
        yield broken("storage", f"{failures:.0f} ticks failed while this ran", "its log says why")


def _clock(answer: Answer) -> Finding:
    given = answer.headers.get("date", "")
    try:
        theirs = parsedate_to_datetime(given).timestamp()
    except ValueError:
        return warning("clock", "the sidecar does not say what time it is", "is a proxy between?")
    skew = theirs + 0.5 - time.time()  # the header has whole seconds
    if abs(skew) <= MOST_SKEW:
        return ok("clock", "the sidecar's clock agrees with this one")
    said = (
        f"clock skew: the sidecar's clock is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}"
    )
    return warning("clock", said, "set both by NTP; leases hold anyway, times in logs mislead")


def _labelled(figures: Mapping[tuple[str, ...], float], metric: semconv.Metric) -> dict[str, float]:
    return {key[1]: value for key, value in figures.items() if key[0] == metric.name}
