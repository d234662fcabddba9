"""One process seen along several ways, and several processes that look alike."""

from __future__ import annotations

import json
from typing import Any

import pytest

from otel_budget import semconv
from otel_budget.core.observation import Observation
from otel_budget.ledger.ledger import Ledger
from otel_budget.presets.loader import shipped
from otel_budget.sources.prometheus_vector import SAMPLED, take_apart
from otel_budget.sources.target_process import process_at, process_of

CLAUDE = shipped()["claude_code"]
SESSION = "cc-session"
NOW = 1_700_000_000.0
HOST = {"job": "collector", "instance": "c:8889"}


def rows(place: dict[str, str], tokens: int, name: str, at: float) -> list[dict[str, Any]]:
    """Return what a Prometheus answers of one session seen at one place."""
    labels = {**place, "session_id": SESSION, "type": "input"}
    return [
        {"metric": {"__name__": name, **labels}, "value": [at, str(tokens)]},
        {"metric": {SAMPLED: "1", **labels}, "value": [at, str(at)]},
    ]


def used(
    *places: dict[str, str],
    tokens: tuple[int, ...] = (700_000,),
    own: bool = False,
    replica_labels: tuple[str, ...] = semconv.REPLICA_LABELS,
) -> object:
    """Return what the ledger counts of a session seen at these places, twice, after some growth."""
    ledger = Ledger()
    name = semconv.SESSION_TOKENS.name if own else "claude_code_token_usage_tokens_total"
    for step in range(2):
        at, result = NOW + step, []
        for number, place in enumerate(places):
            # Copies are not of the same moment.
            shown = tokens[number % len(tokens)] - (1 - step) * 1000 - number * (1 - step)
            result += rows(place, shown, name, at)
        answer = {"status": "success", "data": {"resultType": "vector", "result": result}}
        _, found = take_apart(json.dumps(answer).encode(), None if own else CLAUDE, replica_labels)
        dated = tuple(session._replace(sampled_at=at) for session in found.sessions)
        ledger.apply(Observation("prometheus", at, dated))
    return ledger.runs[SESSION].totals()[semconv.TOKENS]


COPIES = {
    "one alone": [HOST],
    "a pair of Prometheus servers": [
        {**HOST, "prometheus_replica": "a"}, {**HOST, "prometheus_replica": "b"},
    ],
    "a pair of Thanos receivers": [
        {**HOST, "receive_replica": "0"}, {**HOST, "receive_replica": "1"},
    ],
    "a replica with a label and one without": [HOST, {**HOST, "replica": "b"}],
    "two servers of the operator": [
        {**HOST, "prometheus": "monitoring/a", "prometheus_replica": "a-0"},
        {**HOST, "prometheus": "monitoring/b", "prometheus_replica": "b-0"},
    ],
    "two jobs for one target": [HOST, {**HOST, "job": "again"}],
    "one target by three addresses": [
        {"job": "a", "instance": "127.0.0.1:9464"}, {"job": "a", "instance": "localhost:9464"},
        {"job": "b", "instance": "[::1]:9464"},
    ],
    "directly and by federation": [
        HOST,
        {"job": "federate", "instance": "prom:9090", "exported_job": "collector",
         "exported_instance": "c:8889"},
    ],
    "by the federation of a pair": [
        {"job": "federate", "instance": f"prom-{server}:9090", "exported_job": "collector",
         "exported_instance": "c:8889"}
        for server in "ab"
    ],
    "pushed, with a job and no instance": [{"job": "agent"}, {"job": "agent", "replica": "b"}],
}  # fmt: skip
OTHERS = {
    "two hosts": [HOST, {**HOST, "instance": "d:8889"}],
    "two ports": [HOST, {**HOST, "instance": "c:8890"}],
    "a label of the emitter": [{**HOST, "worker": "1"}, {**HOST, "worker": "2"}],
    "two clusters": [{**HOST, "cluster": "eu"}, {**HOST, "cluster": "us"}],
    "two processes behind a collector": [
        {**HOST, "exported_job": "claude", "exported_instance": number} for number in "12"
    ],
    "two hosts' own servers, federated": [
        {"job": "federate", "instance": f"{host}:9090", "exported_job": "agent",
         "exported_instance": "localhost:9464"}
        for host in ("one", "two")
    ],
    "two jobs that push": [{"job": "one"}, {"job": "two"}],
}  # fmt: skip


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("places", COPIES.values(), ids=COPIES)
def test_one_process_counts_once(places: list[dict[str, str]], own: bool) -> None:  # noqa: FBT001 - a parameter
    """By the larger of its copies, also of our own metrics without a start time."""
    assert used(*places, own=own) == 700_000


@pytest.mark.parametrize("places", OTHERS.values(), ids=OTHERS)
def test_other_processes_add_up(places: list[dict[str, str]]) -> None:
    """Whatever cannot be told apart counts twice, never not at all."""
    assert used(*places, tokens=(700_000, 300_000)) == 1_000_000


def test_the_labels_of_replicas_can_be_chosen() -> None:
    """Also none: then what differs in them is another process."""
    places = ({**HOST, "zone": "a"}, {**HOST, "zone": "b"})
    assert used(*places) == 1_400_000
    assert used(*places, replica_labels=("zone",)) == 700_000
    pair = ({**HOST, "replica": "a"}, {**HOST, "replica": "b"})
    assert used(*pair, replica_labels=()) == 1_400_000


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://0.0.0.0:9464/metrics", "http://localhost:9464/metrics", True),
        ("http://127.0.0.1:9464/metrics", "http://localhost:9464/metrics", True),
        ("http://[::1]:9464/metrics", "http://LOCALHOST.:9464/metrics", True),
        ("http://a/metrics", "http://a:80/metrics", True),
        ("http://a:9464/metrics", "http://a:9465/metrics", False),
        ("http://a:9464/metrics", "http://a:9464/other", False),
        ("http://a:9464/metrics?of=1", "http://a:9464/metrics?of=2", False),
        ("http://127.0.0.2:9464/metrics", "http://127.0.0.1:9464/metrics", False),
    ],
)
def test_a_url_names_a_process(one: str, other: str, same: bool) -> None:  # noqa: FBT001 - a parameter
    """By its address, not by its spelling."""
    assert (process_at(one) == process_at(other)) is same


def test_what_names_no_process_is_the_targets_own() -> None:
    """Nothing to go by."""
    assert process_of({}) == ""
