"""An agent's /metrics page: does it show whole runs, and does the sidecar know them?"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from otel_budget import semconv
from otel_budget.core import verdict_json
from otel_budget.core.samples import Assembled
from otel_budget.doctor.finding import broken, counted, ok, warning
from otel_budget.errors import InvalidValueError
from otel_budget.sdk.sidecar_client.address import Credentials, SidecarAddress
from otel_budget.sdk.sidecar_client.request import Asker, AskError
from otel_budget.sources.exposition import ACCEPT, ExpositionError, PageLimits, PageReader
from otel_budget.sources.session_assembly import NEEDED, assemble

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from otel_budget.core.observation import RunObservation
    from otel_budget.core.quantities import Number
    from otel_budget.doctor.finding import Finding

#: Seconds between two looks at one page.
BETWEEN: Final = 1.0
_SHOWN: Final = 3


def look_at(url: str, sidecar: Asker, wait: float) -> Iterator[Finding]:
    """Yield how an agent's page is. wait: seconds that the sidecar may take to catch up."""
    try:
        first = _read(url)
        time.sleep(BETWEEN)
        second = _read(url)
    except (AskError, ExpositionError, InvalidValueError) as exc:
        advice = (
            "is the run up, and does it serve metrics there (OTEL_METRICS_EXPORTER=prometheus)?"
        )
        yield broken("page", f"scrape failing: {exc}", advice)
        return
    if not second.sessions:
        text = f"series missing: {url} shows no run of otel-budget"
        advice = "`otel-budget read URL` tells what it shows; another program needs a preset"
        yield broken("page", text, advice)
        return
    yield ok("page", f"{url} shows {counted(len(second.sessions), 'run')}")
    yield from _sound(url, first, second)
    yield from _known(first, sidecar, wait)


def shows_runs(url: str) -> bool:
    """Tell whether a page is there, and has runs of otel-budget on it."""
    try:
        return bool(_read(url).sessions)
    except (AskError, ExpositionError, InvalidValueError):
        return False


def _read(url: str) -> Assembled:
    # Without the sidecar's token: it is not for the page.
    asker = Asker(url, SidecarAddress.parse(url, Credentials()))
    answer = asker.ask("GET", "", accept=ACCEPT)
    reader = PageReader(NEEDED, PageLimits(), 10.0)
    samples = reader.read(answer.body, answer.headers.get("content-type", ""))
    return assemble(samples, url, time.time())


def _sound(url: str, first: Assembled, second: Assembled) -> Iterator[Finding]:
    if second.dropped.get(semconv.DUPLICATE):
        text = f"duplicated series: {second.dropped[semconv.DUPLICATE]} on {url} come twice"
        yield warning("page", text, "is a registry, or a reader, installed twice?")
    for reason in (semconv.IMPLAUSIBLE, semconv.BAD_TYPE, semconv.BAD_SESSION_ID):
        if second.dropped.get(reason):
            text = f"{second.dropped[reason]} samples on {url} are refused: {reason}"
            yield warning("page", text, "`otel-budget read URL` shows what counts")
    before = _counters(first)
    lower = [key[0] for key, value in _counters(second).items() if value < before.get(key, value)]
    if lower:
        text = f"delta temporality: counters went down within {BETWEEN:g} s: {_some(lower)}"
        yield broken("page", text, "export cumulative counters; or was the run just restarted?")


def _known(first: Assembled, sidecar: Asker, wait: float) -> Iterator[Finding]:
    """Yield whether the sidecar has caught up with what a page showed."""
    behind: Mapping[str, str] = {}
    until = time.monotonic() + wait
    while True:
        behind = {s.session_id: why for s in first.sessions if (why := _behind(s, sidecar))}
        if not behind or time.monotonic() >= until:
            break
        time.sleep(BETWEEN)
    if not behind:
        yield ok("verdict", "the sidecar's verdicts have at least what the page showed")
        return
    text = f"{len(behind)} of {len(first.sessions)} runs: " + "; ".join(
        f"{session_id} {why}" for session_id, why in list(behind.items())[:_SHOWN]
    )
    yield broken(
        "verdict", text, "is this page among the targets of the sidecar, or of its Prometheus?"
    )


def _behind(session: RunObservation, sidecar: Asker) -> str:
    """Return how the sidecar's verdict on a run is behind its page; empty if it is not."""
    try:
        text = sidecar.get(f"/v1/verdicts/{quote(session.session_id, safe='')}")
        verdict = verdict_json.from_json(text)
    except AskError as exc:
        return exc.problem
    except InvalidValueError as exc:
        return f"has a verdict that cannot be read: {exc}"
    visible: dict[str, Number] = {}
    for (resource, _), value in session.counters.items():
        visible[resource] = visible.get(resource, 0) + value  # type: ignore[operator]
    for resource, value in visible.items():
        state = verdict.resources.get(resource)
        if state is None or state.used < value:
            seen = "nothing" if state is None else state.used
            return f"is stale: {resource} are {value} on the page, {seen} in the verdict"
    return ""


def _counters(page: Assembled) -> dict[tuple[str, str, str], Number]:
    return {
        (session.session_id, *key): value
        for session in page.sessions
        for key, value in session.counters.items()
    }


def _some(names: list[str]) -> str:
    found = list(dict.fromkeys(names))
    more = len(found) - _SHOWN
    return ", ".join(found[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
