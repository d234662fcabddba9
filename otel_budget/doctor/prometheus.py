"""A Prometheus between the runs and the sidecar: does it scrape them, and what did it get?"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from otel_budget import semconv
from otel_budget.doctor.finding import broken, counted, ok, warning
from otel_budget.sdk.sidecar_client.request import AskError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otel_budget.doctor.finding import Finding
    from otel_budget.sdk.sidecar_client.request import Asker

#: Seconds. Between the clocks of two machines; and the age of a sample: twice the default interval.
MOST_SKEW, MOST_AGE = 5.0, 120.0
#: Resets of one counter within the window that no run has that is only restarted.
MOST_RESETS: Final = 3
WINDOW: Final = "5m"
_TOKENS: Final = semconv.SESSION_TOKENS.name
_SHOWN: Final = 3


def look_at(server: Asker) -> Iterator[Finding]:
    """Yield how a Prometheus is, up to the first broken link."""
    try:
        yield from _findings(server)
    except (AskError, ValueError, KeyError, IndexError, TypeError) as exc:
        text = (
            str(exc)
            if isinstance(exc, AskError)
            else f"{server.url} does not answer like a Prometheus"
        )
        yield broken("prometheus", text, "check --prometheus and --prometheus-token-file")


def _findings(server: Asker) -> Iterator[Finding]:
    skew = _scalar(server, "time()") - time.time()
    yield ok("prometheus", f"answers at {server.url}")
    if abs(skew) > MOST_SKEW:
        text = f"clock skew: its clock is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}"
        yield warning("prometheus", text, "set both by NTP")
    yield from _targets(server)
    known = _vector(server, f"count({_TOKENS})")
    if not known:
        text = f"series missing: {server.url} has no {_TOKENS}"
        yield broken("prometheus", text, "does one of its scrape jobs have the run's /metrics?")
        return
    yield ok("prometheus", f"has {known[0][1]:.0f} series of {_TOKENS}")
    age = _vector(server, f"max(time() - timestamp({_TOKENS}))")[0][1]
    if age > MOST_AGE:
        text = f"stale: the newest sample of some run is {age:.0f} s old"
        yield warning("prometheus", text, "has that run ended, or is it no longer scraped?")
    yield from _shape(server)


def _targets(server: Asker) -> Iterator[Finding]:
    try:
        answer = json.loads(server.get("/api/v1/targets?state=active"))
        active: list[dict[str, Any]] = answer["data"]["activeTargets"]
    except (AskError, ValueError, KeyError, TypeError):
        return  # what only speaks its query API has none
    down = [target for target in active if target.get("health") == "down"]
    if down:
        visible = "; ".join(f"{t.get('scrapeUrl')}: {t.get('lastError')}" for t in down[:_SHOWN])
        text = f"scrape failing: {len(down)} of {len(active)} targets down: {visible}"
        yield warning("prometheus", text, "is one of them a run's /metrics?")


def _shape(server: Asker) -> Iterator[Finding]:
    """Yield whether series are duplicated, or drop all the time."""
    session = semconv.SESSION_ID
    twice = _vector(server, f"count by ({session}) ({semconv.INCARNATION_START.name}) > 1")
    if twice:
        text = f"duplicated series: {counted(len(twice), 'run')} at several targets: {_some(twice)}"
        yield warning("prometheus", text, "is a target in two jobs, or an id given to two runs?")
    dropping = _vector(server, f"sum by ({session}) (resets({_TOKENS}[{WINDOW}])) > {MOST_RESETS}")
    if dropping:
        text = f"delta temporality: counters dropped again and again: {_some(dropping)}"
        yield broken(
            "prometheus",
            text,
            "export cumulative counters: the sidecar adds up what follows a reset",
        )


def _some(rows: list[tuple[str, float]]) -> str:
    more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
    return ", ".join(f"{session} ({value:.0f})" for session, value in rows[:_SHOWN]) + more


def _vector(server: Asker, query: str) -> list[tuple[str, float]]:
    """Return session id, empty if there is none, and value of each series."""
    found = _result(server, query)
    return [(row["metric"].get(semconv.SESSION_ID, ""), float(row["value"][1])) for row in found]


def _scalar(server: Asker, query: str) -> float:
    return float(_result(server, query)[1])


def _result(server: Asker, query: str) -> Any:
    answer = json.loads(server.get(f"/api/v1/query?{urlencode({'query': query, 'nocache': 1})}"))
    return answer["data"]["result"]
