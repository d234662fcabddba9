"""What is read of runs only where a configuration makes use of it: labels, kinds of tokens."""

from __future__ import annotations

import json

import pytest

from otel_budget.core.observation import RunObservation
from otel_budget.core.owner_labels import NO_DETAILS, Details
from otel_budget.core.token_kinds import KIND_COUNTERS
from otel_budget.presets.loader import shipped
from otel_budget.sources.exposition import PageLimits
from otel_budget.sources.incremental.prometheus_answer import PrometheusAnswer
from otel_budget.sources.incremental.scrape_page import ScrapePage
from otel_budget.sources.prometheus_vector import (
    ANSWERS,
    MARK,
    SAMPLED,
    history_selector,
    whole_query,
)

PAGE = """\
otel_budget_tokens_total{session_id="r"} 110
otel_budget_session_info{session_id="r",team="a",tenant="t"} 1
otel_budget_incarnation_start_timestamp_seconds{session_id="r"} 5
otel_budget_phase_tokens_total{session_id="r",phase="p",model="m",token_type="input"} 60
otel_budget_phase_tokens_total{session_id="r",phase="q",model="m",token_type="input"} 40
otel_budget_phase_tokens_total{session_id="r",phase="p",model="m",token_type="unspecified"} 10
otel_budget_phase_token_details_total{session_id="r",phase="p",model="m",detail="cache_read"} 50
"""
ALL = Details(("tenant",), token_kinds=True)


def kinds(run: RunObservation) -> dict[str, object]:
    """Return what a run shows of each kind, parts in their wholes."""
    found: dict[str, object] = {}
    for kind, name in KIND_COUNTERS.items():
        values = [value for (counter, _), value in run.counters.items() if counter == name]
        if values:
            found[kind] = sum(values)
    return found


def read(text: str, details: Details) -> RunObservation:
    """Return the run of a page."""
    page = ScrapePage("http://a/metrics", PageLimits(), 60.0, details)
    (run,) = page.read(text.encode(), "text/plain", 1.0).sessions
    return run


def test_a_page_shows_scope_labels_and_kinds_where_they_are_asked_for() -> None:
    run = read(PAGE, ALL)
    assert run.attributes.labels == {"team": "a", "tenant": "t"}
    assert kinds(run) == {"input": 100, "cache_read": 50}


def test_without_being_asked_for_they_cost_nothing() -> None:
    run = read(PAGE, NO_DETAILS)
    assert run.attributes.labels == {"team": "a"}
    assert len(run.counters) == 1


@pytest.mark.parametrize("value", ["NaN", "-1", "1e300"])
def test_a_kind_that_cannot_be_read_is_of_no_known_kind_and_the_run_is_judged(value: str) -> None:
    """Its tokens count whole; of the total itself nothing is unknown."""
    text = PAGE.replace('detail="cache_read"} 50', f'detail="cache_read"}} {value}')
    page = ScrapePage("http://a/metrics", PageLimits(), 60.0, ALL)
    found = page.read(text.encode(), "text/plain", 1.0)
    (run,) = found.sessions
    assert not run.implausible
    assert kinds(run) == {"input": 100}
    assert found.dropped == {"implausible": 1}


def test_a_page_of_nothing_but_kinds_shows_no_run() -> None:
    page = ScrapePage("http://a/metrics", PageLimits(), 60.0, ALL)
    text = "".join(line for line in PAGE.splitlines(keepends=True) if "_phase_token" in line)
    assert not page.read(text.encode(), "text/plain", 1.0).sessions


def answer(**target: str) -> RunObservation:
    """Return the run of a Prometheus's answer that scraped that page. target: its labels."""
    place = {"job": "agents", "instance": "h:1", **target}
    rows = [({"__name__": "up", ANSWERS: MARK, **place}, "1")]
    rows.append(({SAMPLED: MARK, "session_id": "r", **place}, "100"))
    for line in PAGE.splitlines():
        name, _, rest = line.partition("{")
        labels, _, value = rest.partition("} ")
        pairs = (pair.split("=") for pair in labels.split(","))
        own = {key: text.strip('"') for key, text in pairs}
        renamed = {f"exported_{key}" if key in target else key: text for key, text in own.items()}
        rows.append(({"__name__": name, **renamed, **place}, value))
    result = [{"metric": labels, "value": [200, value]} for labels, value in rows]
    data = {"status": "success", "data": {"resultType": "vector", "result": result}}
    taken = PrometheusAnswer(None, details=ALL)
    taken.update(json.dumps(data, separators=(",", ":")).encode())
    (run,) = taken.found(lambda _target, _session_id: 0.0).sessions
    return run


def test_a_prometheus_shows_the_same() -> None:
    assert kinds(answer()) == {"input": 100, "cache_read": 50}
    assert answer().attributes.labels == {"team": "a", "tenant": "t"}


def test_a_label_that_a_prometheus_gives_to_a_target_says_whose_its_runs_are() -> None:
    """The run's own word counts before it."""
    found = answer(project="of-target", team="of-target")
    assert found.attributes.labels == {"team": "a", "tenant": "t", "project": "of-target"}


def test_a_prometheus_is_asked_for_kinds_only_where_they_are_weighed() -> None:
    for query in (whole_query, history_selector):
        assert "phase_token" not in query((), None)
        assert "phase_token" in query((), None, details=ALL)
    claude = shipped()["claude_code"]
    assert whole_query((), claude) == whole_query((), claude, details=ALL)


def test_a_million_values_of_a_label_are_a_label_of_each_run_and_nothing_more() -> None:
    """What one run says last is all that is kept of it."""
    page = ScrapePage("http://a/metrics", PageLimits(), 60.0, ALL)
    for number in range(2000):
        text = PAGE.replace('tenant="t"', f'tenant="t{number}"')
        (run,) = page.read(text.encode(), "text/plain", 1.0 + number).sessions
        assert run.attributes.labels == {"team": "a", "tenant": f"t{number}"}
    assert sum(1 for _ in page._diff) == 7
    assert len(page._index._kinds) <= 1000
