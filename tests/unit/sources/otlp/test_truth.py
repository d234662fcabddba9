"""What real agents pushed comes to exactly what was served to them, however it came.

Each recorded run is pushed whole and in part, in other orders, with a receiver that is restarted
between any two requests while the ledger goes on, named by the operator and by itself.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Sequence
from decimal import Decimal

import pytest
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otel_budget import semconv
from otel_budget.core.observation import Observation
from otel_budget.ledger.ledger import Ledger
from otel_budget.sources.otlp.pushed_runs import PushedRuns
from tests.support.otlp_fixtures import CASES, Case, Request, case, pushed_runs

NAMED = "budget.run"
PARTS = ("input", "cached", "cache_write", "output", "reasoning")
#: What an agent's telemetry has no word for.
NEVER_TOLD = {
    "claude_code": {"reasoning"},
    "codex": set[str](),
    "gemini_cli": {"cache_write"},
}
RECORDED = [case(name) for name in CASES]


def whole(recorded: Case) -> list[dict[str, int]]:
    """Return the usage of each call that was not cut off: an agent cannot report that one."""
    calls = [request["usage"] for request in recorded.expected["requests"]]
    return calls[:-1] if "interrupted" in recorded.name else calls


def served(recorded: Case) -> dict[str, int]:
    """Return what was served, by role."""
    calls = whole(recorded)
    roles = {role: sum(call[role] for call in calls) for role in PARTS}
    tokens = roles["input"] + roles["output"]
    return {**roles, "calls": len(calls), "tokens": tokens}


def stated_cost(recorded: Case) -> Decimal | None:
    """Return the cost as the agent states it with each call, in whole millionths of a dollar."""
    found, known = Decimal(0), False
    for request in recorded.requests:
        if not request.is_logs:
            continue
        if request.content_type.endswith("json"):
            body = json.loads(request.body)
        else:
            message = ExportLogsServiceRequest()
            message.ParseFromString(request.body)
            body = MessageToDict(message)
        for record in (r for one in body["resourceLogs"] for s in one["scopeLogs"]
                       for r in s["logRecords"]):  # fmt: skip
            for pair in record["attributes"]:
                if pair["key"] == "cost_usd_micros":
                    known, micros = True, Decimal(str(pair["value"]["intValue"]))
                    found += micros / 1_000_000
    return found if known else None


class Sidecar:
    """A ledger, and a receiver before it that may be restarted."""

    def __init__(self, *run_attributes: str) -> None:
        self.ledger, self.run_attributes = Ledger(), run_attributes
        self.now, self.boots = 1000.0, 0
        self.restart()

    def restart(self) -> None:
        """Begin with a new receiver. The ledger is what it was, as the storage has it."""
        self.boots += 1
        self.pushed: PushedRuns = pushed_runs(f"boot-{self.boots}", *self.run_attributes)

    def push(self, request: Request) -> None:
        """Push a request, and judge."""
        self.now += 0.1
        request.push(self.pushed, self.now)
        self.tick()

    def tick(self, seconds: float = 0.0) -> None:
        """Let the ledger take in what is new."""
        self.now += seconds
        new = self.pushed.drain(self.now)
        self.ledger.apply(
            Observation("otlp", self.now, new.sessions, dropped=new.dropped, spacing=60.0)
        )

    def used(self, session_id: str) -> dict[str, object]:
        """Return what the ledger knows of a run; it must be of no other one."""
        assert list(self.ledger.runs) == [session_id]
        assert not self.ledger.findings
        assert not self.ledger.failures
        return dict(self.ledger.runs[session_id].totals())


def check(recorded: Case, sidecar: Sidecar, session_id: str, *, calls: bool = True) -> None:
    """Hold what the ledger knows against what was served."""
    used, truth = sidecar.used(session_id), served(recorded)
    assert used[semconv.TOKENS] == truth["tokens"]
    if calls:
        assert used[semconv.API_CALLS] == truth["calls"]
    cost = stated_cost(recorded)
    if cost is None:
        assert semconv.COST not in used
    else:
        found = used[semconv.COST]
        assert isinstance(found, Decimal)
        assert round(found, 9) == cost


def check_parts(recorded: Case, sidecar: Sidecar, session_id: str, *signals: str) -> None:
    """Hold what each view says by role against what was served."""
    truth, seen = served(recorded), set()
    agent = recorded.name.partition("/")[0]
    for target, amounts in sidecar.pushed.amounts_of(session_id).items():
        signal = target.partition('signal="')[2].partition('"')[0]
        seen.add(signal)
        for role in PARTS:
            if role not in NEVER_TOLD[agent]:
                assert amounts[role] == truth[role], (target, role)
    assert seen == set(signals)


def of(recorded: Case, signal: str) -> list[Request]:
    """Return a run's requests of one signal."""
    return [one for one in recorded.requests if one.path.endswith(signal)]


def names(recorded: Case) -> Iterable[tuple[tuple[str, ...], str]]:
    """Yield what the operator names a run by, and the id that it has then."""
    yield (), recorded.session_id
    yield (NAMED,), recorded.expected[f"resource {NAMED}"]


@pytest.fixture(params=RECORDED, ids=lambda one: one.name)
def recorded(request: pytest.FixtureRequest) -> Case:
    """Return each recorded run in turn."""
    found: Case = request.param
    return found


def run(sidecar: Sidecar, requests: Sequence[Request]) -> Sidecar:
    """Push requests one after the other."""
    for request in requests:
        sidecar.push(request)
    return sidecar


def test_metrics_and_logs_together_are_what_was_served(recorded: Case) -> None:
    """The same use is said twice, and counts once."""
    for attributes, session_id in names(recorded):
        sidecar = run(Sidecar(*attributes), recorded.requests)
        check(recorded, sidecar, session_id)
        if recorded.name == "codex/interrupted_pb":
            continue  # its metrics have no tokens of a turn that was cut off
        unnamed = recorded.name.startswith("codex") and not attributes
        check_parts(recorded, sidecar, session_id, "logs", *(() if unnamed else ("metrics",)))


def test_log_records_alone_are_what_was_served(recorded: Case) -> None:
    """Calls, tokens and money."""
    for attributes, session_id in names(recorded):
        sidecar = run(Sidecar(*attributes), of(recorded, "logs"))
        check(recorded, sidecar, session_id)
        check_parts(recorded, sidecar, session_id, "logs")


def test_metrics_alone_are_what_was_served(recorded: Case) -> None:
    """Claude Code has no counter of calls; Codex names no session, and is its peer's."""
    codex = recorded.name.startswith("codex")
    for attributes, named in names(recorded):
        session_id = "codex@127.0.0.1" if codex and not attributes else named
        sidecar = run(Sidecar(*attributes), of(recorded, "metrics"))
        sidecar.tick(11.0)
        if recorded.name == "codex/interrupted_pb":  # the tokens of a turn that is cut off are lost
            assert sidecar.used(session_id) == {semconv.API_CALLS: 4}
            continue
        check(recorded, sidecar, session_id, calls=not recorded.name.startswith("claude"))
        check_parts(recorded, sidecar, session_id, "metrics")


@pytest.mark.parametrize("seed", range(6))
def test_the_order_of_requests_does_not_matter(recorded: Case, seed: int) -> None:
    """Signals are pushed apart, and a retry comes late. Metrics first, logs first, any order."""
    requests = [*of(recorded, "metrics"), *of(recorded, "logs")]
    if seed == 1:
        requests = [*of(recorded, "logs"), *of(recorded, "metrics")]
    elif seed == 2:
        requests = list(reversed(recorded.requests))
    elif seed:
        random.Random(seed).shuffle(requests)
    for attributes, session_id in names(recorded):
        check(recorded, run(Sidecar(*attributes), requests), session_id)


def test_a_receiver_may_restart_between_any_two_requests(recorded: Case) -> None:
    """What only says what was added adds up in the ledger, and what is cumulative counts once."""
    for attributes, session_id in names(recorded):
        for at in range(len(recorded.requests) + 1):
            sidecar = run(Sidecar(*attributes), recorded.requests[:at])
            sidecar.restart()
            check(recorded, run(sidecar, recorded.requests[at:]), session_id)


def test_a_receiver_may_restart_after_every_request(recorded: Case) -> None:
    """The same, as often as may be."""
    for attributes, session_id in names(recorded):
        sidecar = Sidecar(*attributes)
        for request in recorded.requests:
            sidecar.push(request)
            sidecar.restart()
        check(recorded, sidecar, session_id)


def test_a_request_that_is_pushed_again_counts_once(recorded: Case) -> None:
    """An exporter that heard no answer sends the same bytes again."""
    for attributes, session_id in names(recorded):
        sidecar = Sidecar(*attributes)
        for request in recorded.requests:
            sidecar.push(request)
            assert request.push(sidecar.pushed, sidecar.now).repeated
        check(recorded, sidecar, session_id)


@pytest.mark.parametrize("signal", ["metrics", "logs", "both"])
def test_a_resumed_session_is_the_sum_of_both_processes(signal: str) -> None:
    """Claude Code's new process counts from 0 under the same id."""
    first, second = case("claude_code/delta_pb"), case("claude_code/resumed_pb")
    assert first.session_id == second.session_id
    sidecar = Sidecar()
    for recorded in (first, second):
        chosen = recorded.requests if signal == "both" else of(recorded, signal)
        run(sidecar, chosen)
    used = sidecar.used(first.session_id)
    assert used[semconv.TOKENS] == served(first)["tokens"] + served(second)["tokens"]
    if signal != "metrics":
        assert used[semconv.API_CALLS] == 8


def test_a_process_that_resumes_with_cumulative_counters_is_another_one() -> None:
    """Its counters begin again with a start time of its own: nothing is lost, not even past the
    first one's last value.
    """
    first = case("claude_code/cumulative_json")
    resumed = [
        Request(one.path, one.body.replace(b"17959481", b"17959490"), one.content_type)
        for one in of(first, "metrics")
    ]
    assert all(a.body != b.body for a, b in zip(resumed, of(first, "metrics"), strict=True))
    for restart in (False, True):
        sidecar = run(Sidecar(), of(first, "metrics"))
        if restart:
            sidecar.restart()
        run(sidecar, resumed[-1:])  # past what the first one showed, at once
        assert sidecar.used(first.session_id)[semconv.TOKENS] == 2 * served(first)["tokens"]
