"""Runs that are pushed: what is taken, what is new, what is bounded."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import pytest

from otel_budget import semconv
from otel_budget.core.observation import RunObservation
from otel_budget.presets.loader import preset, shipped
from otel_budget.sources.otlp import contract, runs
from otel_budget.sources.otlp import run as run_module
from otel_budget.sources.otlp import runs as runs_module
from otel_budget.sources.otlp.pushed_runs import PushedRuns
from tests.support.otlp_fixtures import PEER, Request, case, pushed_runs
from tests.support.otlp_messages import attributes, counter, gauge, logs, metrics, point, record

TOKENS = "claude_code.token.usage"
CONTRACT = ("otel_budget_tokens_total", "otel_budget_api_calls_total")


def claude(*values: float, session: str = "s1", start: int = 0, delta: bool = True) -> Request:
    """Return a request of Claude Code's with its input tokens, a point for each value."""
    points = [point(float(v), start, session__id=session, type="input") for v in values]
    return metrics(counter(TOKENS, *points, delta=delta), service__name="claude-code")


def used(runs: tuple[RunObservation, ...], resource: str = semconv.TOKENS) -> dict[str, object]:
    """Return what each run used of a resource, by all of its series."""
    found: dict[str, object] = {}
    for run in runs:
        values = [value for (what, _), value in run.counters.items() if what == resource]
        if values:
            found[run.session_id] = sum(values)
    return found


def amounts(pushed: PushedRuns, session_id: str) -> Mapping[str, object]:
    """Return the amounts of a run that has one view."""
    (found,) = pushed.amounts_of(session_id).values()
    return found


def test_a_pushed_run_is_drained_once_and_whole_with_each_change() -> None:
    """Claude Code's metrics: tokens and money add up, and each drain shows all of them."""
    pushed, recorded = pushed_runs(), case("claude_code/delta_pb")
    metrics = [request for request in recorded.requests if not request.is_logs]
    for now, request in enumerate(metrics, start=1):
        taken = request.push(pushed, float(now))
        assert not taken.repeated
        assert not taken.dropped
    (run,) = pushed.drain(10.0).sessions
    assert run.session_id == recorded.session_id
    assert run.target == f'otlp://{PEER}{{signal="metrics",preset="claude_code"}}'
    assert run.process == f"otlp://{PEER}/claude_code"
    assert run.attributes.idle_after == 1800
    assert run.sampled_at == float(len(metrics))
    assert used((run,)) == {recorded.session_id: recorded.expected["tokens"]}
    assert pushed.drain(11.0).sessions == ()
    assert pushed.observation_of(recorded.session_id) == (run,)


def test_what_names_a_run_is_asked_in_order() -> None:
    """What the operator named, our own attribute, the agent's own, and then its peer."""
    pushed = pushed_runs("b", "budget.run")
    named = point(1.0, session__id="of-point", type="input")
    bare = point(1.0, type="input")
    everything = {"otel_budget__session_id": "ours", "session__id": "of-resource"}
    metrics(counter(TOKENS, named), budget__run="named", **everything).push(pushed, 1.0)
    metrics(counter(TOKENS, named), **everything).push(pushed, 1.0)
    metrics(counter(TOKENS, named), session__id="of-resource").push(pushed, 1.0)
    metrics(counter(TOKENS, bare), session__id="of-resource").push(pushed, 1.0)
    metrics(counter(TOKENS, bare)).push(pushed, 1.0)
    found = used(pushed.drain(100.0).sessions)
    assert set(found) == {"named", "ours", "of-point", "of-resource", f"claude_code@{PEER}"}


def test_a_label_that_a_preset_names_comes_before_the_agents_own() -> None:
    """A user's own choice of what a run is."""
    own = preset({"extends": "kong_ai", "session": {"labels": ["consumer"]}})
    pushed = PushedRuns((own,), boot="b")
    at = point(5, consumer="team-a", session__id="x", token_type="prompt_tokens")  # noqa: S106 - no secret
    metrics(counter("ai.llm.tokens", at), session__id="y").push(pushed, 1.0)
    assert used(pushed.drain(2.0).sessions) == {"team-a": 5}


def test_what_cannot_name_a_run_is_dropped_and_counted() -> None:
    """It is not added to anybody else's."""
    pushed = pushed_runs()
    assert claude(5, session="not an id").push(pushed, 1.0).dropped == {"session_id": 1}
    found = pushed.drain(2.0)
    assert found.sessions == ()
    assert found.dropped == {"session_id": 1}


def test_deltas_add_up_and_a_restarted_receiver_goes_on_beside_what_was() -> None:
    """Its counters have another name in the ledger: nothing is taken for a reset."""
    first, second = pushed_runs("b1"), pushed_runs("b2")
    claude(5).push(first, 1.0)
    claude(7).push(first, 2.0)
    claude(5).push(second, 3.0)
    (before,), (after,) = first.drain(4.0).sessions, second.drain(4.0).sessions
    assert used((before,)) == {"s1": 12}
    assert before.counters.keys().isdisjoint(after.counters)


def test_a_new_start_is_another_series_and_an_older_value_lowers_none() -> None:
    """Cumulative: the value counts whole. With a start it only grows."""
    pushed = pushed_runs()
    for value, start in ((100, 1), (250, 1), (240, 1), (30, 2)):
        claude(value, start=start, delta=False).push(pushed, 1.0)
    (run,) = pushed.drain(2.0).sessions
    assert sorted(run.counters.values()) == [30, 250]


def test_a_resource_that_is_completed_as_its_program_goes_makes_no_second_stream() -> None:
    """The same stream of the same start counts once, by its larger value."""
    pushed = pushed_runs()
    at = point(100, 7, session__id="s", type="input")
    metrics(counter(TOKENS, at)).push(pushed, 1.0)
    metrics(counter(TOKENS, {**at, "asInt": 120}), host__name="h").push(pushed, 2.0)
    assert used(pushed.drain(3.0).sessions) == {"s": 120}


def test_without_a_start_a_cumulative_value_is_taken_as_it_is() -> None:
    """A drop is the ledger's to judge."""
    pushed = pushed_runs()
    for value in (250, 30):
        claude(value, delta=False).push(pushed, 1.0)
    assert used(pushed.drain(2.0).sessions) == {"s1": 30}


def test_other_presets_change_no_name_of_a_series() -> None:
    """With another configuration, too, the ledger goes on with what it knows."""
    alone = PushedRuns((shipped()["claude_code"],), boot="b1")
    beside = pushed_runs("b2", "model", "query_source")
    at = point(5, 7, session__id="s1", type="input", gen_ai__system="x", otel_budget_x="y")
    for pushed in (alone, beside):
        metrics(counter(TOKENS, at)).push(pushed, 1.0)
    assert alone.drain(2.0).sessions[0].counters == beside.drain(2.0).sessions[0].counters


def test_a_cumulative_value_without_a_start_is_the_same_series_after_a_restart() -> None:
    """Else all of it would count again."""
    first, second = pushed_runs("b1"), pushed_runs("b2")
    for pushed in (first, second):
        claude(250, delta=False).push(pushed, 1.0)
    (before,), (after,) = first.drain(2.0).sessions, second.drain(2.0).sessions
    assert before.counters == after.counters


def test_what_is_added_up_again_after_its_page_went_has_another_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So many processes push that the first one's page is gone when it comes back."""
    monkeypatch.setattr(run_module, "PAGES_MOST", 2)
    pushed, seen = pushed_runs(), dict[tuple[str, str], object]()
    for number in (1, 2, 3, 1):
        at = point(10.0 * number, len(seen), session__id="s", type="input")
        metrics(counter(TOKENS, at, delta=True), number=number).push(pushed, 1.0)
        seen.update(pushed.drain(2.0).sessions[0].counters)
    assert sorted(map(str, seen.values())) == ["10", "10", "20", "30"]


def test_two_families_of_one_process_count_once_and_two_processes_twice() -> None:
    """Streams that begin at other times are of one process if they are pushed together."""
    pushed = pushed_runs()
    usage, tokens = "gen_ai.client.token.usage", "gen_ai.client.inference.usage.input_tokens"
    for start in (1_000, 9_000):
        old = point(70, start, **{"session__id": "s", "gen_ai__token.type": "input"})
        new = point(70, start + 5, session__id="s")
        metrics(counter(usage, old, unit="{token}"), counter(tokens, new)).push(pushed, 1.0)
        # Alone, the one that began later is still of its process.
        metrics(counter(tokens, {**new, "asInt": 71})).push(pushed, 2.0)
    (run,) = pushed.drain(3.0).sessions
    assert sorted(run.counters.values()) == [71, 71]


@pytest.mark.parametrize("value", ["NaN", "Infinity", -1.0, 2.0**54])
def test_a_value_that_cannot_be_is_unknown_and_not_0(value: object) -> None:
    """A cumulative one until the next; an addition for good."""
    pushed = pushed_runs()
    labels = {"session__id": "s1", "type": "input"}
    bad = counter(TOKENS, point(value, 1, **labels))
    service = {"service__name": "claude-code"}
    assert metrics(bad, **service).push(pushed, 1.0).dropped == {"implausible": 1}
    (run,) = pushed.drain(1.0).sessions
    assert run.implausible == ("claude_code_token_usage_total",)
    claude(5, start=1, delta=False).push(pushed, 2.0)
    assert not pushed.drain(2.0).sessions[0].implausible
    lost = counter(TOKENS, point(value, 1, **labels), delta=True)
    assert metrics(lost, **service).push(pushed, 3.0).dropped == {"implausible": 1}
    (run,) = pushed.drain(3.0).sessions
    assert run.attributes.unknown_usage_calls == 1
    assert used((run,)) == {"s1": 5}


def test_a_cost_that_cannot_be_is_unpriced() -> None:
    """And the tokens beside it count."""
    pushed = pushed_runs()
    cost = counter("claude_code.cost.usage", point(-1.0, session__id="s1"), delta=True)
    metrics(cost, counter(TOKENS, point(2, session__id="s1", type="output"))).push(pushed, 1.0)
    (run,) = pushed.drain(1.0).sessions
    assert run.attributes.unpriced_calls == 1
    assert run.attributes.unknown_usage_calls is None


def test_money_is_exact_however_many_additions_there_are() -> None:
    """Each is taken as its shortest decimal."""
    pushed = pushed_runs()
    for number in range(1000):
        cost = counter("claude_code.cost.usage", point(0.1, number, session__id="s"), delta=True)
        metrics(cost).push(pushed, 1.0)
    assert used(pushed.drain(1.0).sessions, semconv.COST) == {"s": Decimal("100.0")}


def test_a_type_of_tokens_that_nobody_knows_is_said_and_makes_them_at_least() -> None:
    """Once for what was pushed."""
    pushed = pushed_runs()
    known = point(3, session__id="s", type="input")
    metrics(counter(TOKENS, known, point(4, session__id="s", type="new"))).push(pushed, 1.0)
    found = pushed.drain(1.0)
    assert found.sessions[0].attributes.unknown_usage_calls == 1
    assert found.dropped == {"token_type": 1}
    (words,) = found.uncounted.values()
    assert "not a type that preset claude_code knows" in words
    claude(1, session="other").push(pushed, 2.0)
    assert not pushed.drain(2.0).uncounted


@pytest.mark.parametrize("kind", ["histogram", "exponentialHistogram", "summary"])
@pytest.mark.parametrize("temporality", [1, 2])
def test_of_a_histogram_sum_and_count_are_taken(kind: str, temporality: int) -> None:
    """Added up, or as they are; one without a sum has none."""
    pushed = pushed_runs()
    for total in (10.0, 25.0):
        named = attributes({"gen_ai.token.type": "input", "session.id": "s"})
        at = {"sum": total, "count": "2", "startTimeUnixNano": "9", "attributes": named}
        data = {"dataPoints": [at], "aggregationTemporality": temporality}
        metrics({"name": "gen_ai.client.token.usage", "unit": "{token}", kind: data},
                number=1).push(pushed, 1.0)  # fmt: skip
    found = pushed.drain(2.0).sessions
    added = temporality == 1 and kind != "summary"  # of which there are no deltas
    assert used(found) == {"s": 35 if added else 25}
    assert used(found, semconv.API_CALLS) == {"s": 4 if added else 2}


def test_a_gauge_counts_only_where_a_preset_says_so() -> None:
    """Else it is of a contradictory type, and the run in doubt."""
    own = preset({"metrics": [{"names": "my_tokens", "counts": "input", "gauge": True}]})
    pushed = PushedRuns((own,), boot="b")
    metrics(gauge("my.tokens", point(3, session__id="s"))).push(pushed, 1.0)
    assert used(pushed.drain(2.0).sessions) == {"s": 3}
    strict = preset({"metrics": [{"names": "my_tokens", "counts": "input"}]})
    pushed = PushedRuns((strict,), boot="b")
    metrics(gauge("my.tokens", point(3, session__id="s"))).push(pushed, 1.0)
    assert pushed.drain(2.0).sessions[0].implausible == ("my_tokens",)


def test_an_event_with_an_id_counts_once_and_one_without_each_time() -> None:
    """By peer: nobody can have another's events left out."""
    pushed = pushed_runs()
    known = {"session__id": "s", "input_tokens": 10, "output_tokens": "5", "cost_usd": 0.25}
    once = record("claude_code.api_request", request_id="r1", **known)
    for number in range(3):
        assert not logs({**once, "timeUnixNano": number}).push(pushed, 1.0).dropped
    assert amounts(pushed, "s") == {
        "calls": 1, "input": 10, "output": 5, "tokens": 15, "cost_usd": Decimal("0.25"),
    }  # fmt: skip
    assert pushed.drain(1.0).dropped == {"duplicate": 2}
    logs(once).push(pushed, 2.0, peer="10.0.0.2")
    logs(*[record("claude_code.api_request", **known)] * 2).push(pushed, 2.0)
    by_peer = {run.target: run for run in pushed.drain(2.0).sessions}
    assert {used((run,), semconv.API_CALLS)["s"] for run in by_peer.values()} == {1, 3}


def test_an_events_name_may_stand_in_three_places() -> None:
    """In its attribute, its field, or its body."""
    pushed = pushed_runs()
    told = {"conversation__id": "s", "event__kind": "response.completed", "input_token_count": "3"}
    fields = record("x", **told)
    logs(
        {**fields, "body": {"stringValue": "codex.sse_event"}},
        {**fields, "eventName": "codex.sse_event"},
        {**fields, "eventName": "something.else"},
    ).push(pushed, 1.0)
    assert amounts(pushed, "s")["calls"] == 2


def test_a_call_without_readable_tokens_is_a_call_of_unknown_use() -> None:
    """Absent is unknown, and so is what cannot be."""
    pushed = pushed_runs()
    logs(
        record("gemini_cli.api_response", session__id="s"),
        record("gemini_cli.api_response", session__id="s", input_token_count=-4),
        record("gemini_cli.api_response", session__id="s", input_token_count=True),
        record("gemini_cli.api_response", session__id="s", input_token_count=4),
    ).push(pushed, 1.0)
    found = pushed.drain(1.0)
    (run,) = found.sessions
    assert run.attributes.unknown_usage_calls == 3
    assert used((run,)) == {"s": 4}
    assert found.dropped == {"implausible": 2}


def test_failed_calls_and_calls_of_tools_count_as_log_records_tell_them() -> None:
    """A call of a tool that the user refused is none; what a tool was told is not looked at."""
    pushed = pushed_runs()
    logs(
        record("claude_code.api_error", session__id="s", status_code="529"),
        record("claude_code.tool_result", session__id="s", tool_use_id="t1"),
        record("claude_code.tool_result", session__id="s", tool_use_id="t1"),
        record("codex.api_request", session__id="s", http__response__status_code=500),
        record("codex.api_request", session__id="s", http__response__status_code=200),
        record("codex.tool_result", session__id="s", arguments="SECRET", output="SECRET"),
        record("gemini_cli.tool_call", session__id="s", decision="reject"),
        record("gemini_cli.tool_call", session__id="s", decision="accept", function_args="SECRET"),
    ).push(pushed, 1.0)
    found = pushed.drain(1.0).sessions
    assert [used((run,), semconv.API_CALLS) for run in found] == [{"s": 1}, {"s": 1}, {}]
    assert [used((run,), semconv.TOOL_CALLS) for run in found] == [{"s": 1}] * 3


def test_programs_of_two_kinds_under_one_id_are_two_processes() -> None:
    """One by its metrics alone, one by its records alone: both count."""
    pushed = pushed_runs()
    claude(100, session="s").push(pushed, 1.0)
    logs(
        record("codex.sse_event", conversation__id="s", event__kind="response.completed",
               input_token_count=30)
    ).push(pushed, 1.0)  # fmt: skip
    assert len({run.process for run in pushed.drain(1.0).sessions}) == 2


def codex(value: float = 40) -> Request:
    """Return Codex's metrics, which name no session."""
    labels = attributes({"token_type": "input"})
    at = {"attributes": labels, "sum": value, "count": "1"}
    histogram = {"name": "codex.turn.token_usage", "histogram": {
        "dataPoints": [at], "aggregationTemporality": 1}}  # fmt: skip
    return metrics(histogram, service__name="codex_exec")


def test_metrics_without_a_run_wait_for_another_signal_that_names_it() -> None:
    """For some seconds; then they are their peer's."""
    pushed = pushed_runs()
    codex().push(pushed, 1.0)
    assert pushed.drain(10.9).sessions == ()
    assert used(pushed.drain(11.0).sessions) == {f"codex@{PEER}": 40}


def test_metrics_without_a_run_do_not_count_beside_records_that_name_it() -> None:
    """Of the same service; whichever comes first."""
    for logs_first in (True, False):
        pushed = pushed_runs()
        told = logs(record("codex.user_prompt", conversation__id="c1"), service__name="codex_exec")
        for request in (told, codex()) if logs_first else (codex(), told):
            request.push(pushed, 1.0)
        assert pushed.drain(60.0).sessions == ()
        codex(50).push(pushed, 61.0)
        assert pushed.drain(120.0).sessions == ()
    other = metrics(counter("codex.api_request", point(3)), service__name="codex_other")
    other.push(pushed, 121.0)
    assert used(pushed.drain(140.0).sessions, semconv.API_CALLS) == {f"codex@{PEER}": 3}


def test_a_run_may_bring_its_own_limits_in_its_resource() -> None:
    """As text, as an environment variable has them; a newer process may have others."""
    pushed = pushed_runs()
    own = {"otel_budget__max_tokens": "60000", "otel_budget__max_cost_usd": "2.50",
           "otel_budget__token_warning_threshold": "0.9",
           "otel_budget__wrap_up_calls": "2"}  # fmt: skip
    at = point(1, session__id="s", type="input")
    metrics(counter(TOKENS, at), **own).push(pushed, 1.0)
    (run,) = pushed.drain(1.0).sessions
    assert run.attributes.limits == {semconv.TOKENS: 60000, semconv.COST: Decimal("2.50")}
    assert run.attributes.thresholds == {semconv.TOKENS: 0.9}
    assert (run.attributes.wrap_up_calls, run.attributes.optional_series) == (2, 3)
    logs(record("claude_code.tool_result", session__id="s"),
         otel_budget__max_tokens="90000").push(pushed, 2.0)  # fmt: skip
    for run in pushed.drain(2.0).sessions:  # both views say so
        assert run.attributes.limits == {semconv.TOKENS: 90000}


def test_who_says_no_limits_takes_none_away() -> None:
    """A second program of a run, started without them, would lift a stop otherwise."""
    pushed = pushed_runs()
    metrics(
        counter(TOKENS, point(1, session__id="s", type="input")), otel_budget__max_tokens="500"
    ).push(pushed, 1.0)
    claude(1, session="s").push(pushed, 2.0)
    (run,) = pushed.drain(2.0).sessions
    assert run.attributes.limits == {semconv.TOKENS: 500}


_LIST: dict[str, object] = {"arrayValue": {"values": [{"intValue": "500"}]}}


@pytest.mark.parametrize(
    "value", ["lots", "-5", "1e999", "nan", True, "²", _LIST, {"bytesValue": "NQ=="}]
)
def test_a_limit_that_cannot_be_read_leaves_the_run_in_doubt(value: object) -> None:
    """Without it the run would be unlimited."""
    pushed = pushed_runs()
    at = point(1, session__id="s", type="input")
    metrics(counter(TOKENS, at), otel_budget__max_tokens=value).push(pushed, 1.0)
    assert pushed.drain(1.0).sessions[0].implausible == (semconv.LIMIT.name,)


def own_page(value: float, session: str = "run-1", *, delta: bool = False) -> list[object]:
    """Return what an agent of this project pushes of a run."""
    began = gauge(semconv.INCARNATION_START.name, point(1000.0, session_id=session))
    return [
        counter(name, point(value, 5, session_id=session), delta=delta) for name in CONTRACT
    ] + [
        began,
        gauge(semconv.LIMIT.name, point(500.0, session_id=session, resource="tokens")),
    ]


def test_our_own_series_are_read_as_a_page_and_nothing_else_of_their_process_counts() -> None:
    """The calls are in them: spans' and libraries' metrics say them again."""
    pushed = pushed_runs()
    library = counter("gen_ai.client.inference.usage.input_tokens", point(70, session__id="other"))
    metrics(*own_page(7), library, service__instance__id="i1").push(pushed, 1.0)
    metrics(library, service__instance__id="i1", host="h").push(pushed, 1.0)
    (run,) = pushed.drain(30.0).sessions
    assert run.session_id == "run-1"
    assert run.target == f'otlp://{PEER}{{signal="metrics"}}'
    assert run.counters == {(semconv.TOKENS, ""): 7, (semconv.API_CALLS, ""): 7}
    assert run.attributes.incarnation_at == 1000
    assert run.attributes.limits == {semconv.TOKENS: 500}
    assert run.attributes.idle_after is None
    assert pushed.observation_of("run-1") == (run,)


def test_our_own_series_must_be_cumulative() -> None:
    """Additions are not read: the run is there, and in doubt."""
    pushed = pushed_runs()
    metrics(*own_page(7, delta=True)).push(pushed, 1.0)
    found = pushed.drain(1.0)
    assert found.sessions[0].implausible == tuple(sorted(CONTRACT))
    assert found.dropped == {semconv.BAD_TYPE: 2}


def test_a_hook_is_a_third_view_and_of_the_peer_that_pushes_the_run() -> None:
    """Gemini CLI's hooks tell of a call seconds before its metrics do."""
    pushed = pushed_runs()
    logs(
        record("gemini_cli.api_response", session__id="s", input_token_count=4)
    ).push(pushed, 1.0, peer="laptop")  # fmt: skip
    pushed.drain(1.0)
    assert pushed.take_hook_usage("s", PEER, "gemini_cli", 40, 2.0).sessions == ("s",)
    pushed.take_hook_usage("s", PEER, "gemini_cli", 2, 3.0)
    (run,) = pushed.drain(3.0).sessions
    assert run.target == 'otlp://laptop{signal="hooks",preset="gemini_cli"}'
    assert run.process == "otlp://laptop/gemini_cli"
    assert used((run,)) == {"s": 42}
    pushed.take_hook_usage("new", PEER, "gemini_cli", 1, 4.0)
    assert used(pushed.drain(4.0).sessions) == {"new": 1}


def test_runs_are_bounded_for_each_peer_and_idle_ones_make_room() -> None:
    """Past the limit a new run is refused and counted; other peers have their own."""
    pushed = PushedRuns(tuple(shipped().values()), boot="b", session_limit=2, idle_after=100.0)
    for session in ("a", "b"):
        claude(1, session=session).push(pushed, 1.0)
    assert claude(1, session="c").push(pushed, 1.0).dropped == {"session_limit": 1}
    assert claude(1, session="c").push(pushed, 1.0, peer="10.0.0.2").sessions == ("c",)
    assert claude(2, session="a").push(pushed, 50.0).sessions == ("a",)
    pushed.drain(60.0)
    assert claude(1, session="d").push(pushed, 102.0).sessions == ("d",)  # in place of b
    assert claude(3, session="b").push(pushed, 102.0).dropped == {"session_limit": 1}


@pytest.mark.parametrize("own", [False, True])
def test_who_pushes_is_bounded_as_well(own: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001
    """Nobody gets further runs by further addresses; who is known goes on."""
    for module in (runs, contract):
        monkeypatch.setattr(module, "PEERS_MOST", 2)
    pushed = PushedRuns(tuple(shipped().values()), boot="b", idle_after=10.0)
    page = [counter(name, point(5, session_id="one"), delta=False) for name in CONTRACT]
    for peer in ("10.0.0.1", "10.0.0.2"):
        request = metrics(*page, host=peer) if own else claude(1)
        assert request.push(pushed, 1.0, peer=peer).sessions
    request = metrics(*page) if own else claude(1)
    third = request.push(pushed, 1.0, peer="10.0.0.3")
    assert (third.sessions, set(third.dropped)) == ((), {"session_limit"})
    request = metrics(*page, again="yes") if own else claude(2)
    assert request.push(pushed, 2.0, peer="10.0.0.1").sessions
    pushed.drain(2.0)
    pushed.drain(60.0)
    assert claude(3).push(pushed, 60.0, peer="10.0.0.4").sessions, "who is silent makes room"


def test_a_run_that_is_forgotten_begins_again_beside_what_it_was() -> None:
    """Its counters have another name: what it used since is not hidden by what it had."""
    pushed = PushedRuns(tuple(shipped().values()), boot="b", idle_after=10.0)
    claude(100).push(pushed, 1.0)
    (before,) = pushed.drain(1.0).sessions
    pushed.drain(22.0)
    assert pushed.observation_of("s1") == ()
    claude(30).push(pushed, 23.0)
    (after,) = pushed.drain(23.0).sessions
    assert used((after,)) == {"s1": 30}
    assert before.counters.keys().isdisjoint(after.counters)


def test_series_are_bounded_for_each_peer() -> None:
    """What is past that is unknown of its run, and counted."""
    pushed = PushedRuns(tuple(shipped().values()), boot="b", series_limit=3)
    points = [point(1, session__id="s", type="input", model=f"m{i}") for i in range(5)]
    assert metrics(counter(TOKENS, *points)).push(pushed, 1.0).dropped == {"series_limit": 2}
    (run,) = pushed.drain(1.0).sessions
    assert used((run,)) == {"s": 3}
    assert run.attributes.unknown_usage_calls == 2


def test_series_that_go_make_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of processes that are not kept apart any more, of a run that is withdrawn, or idle."""
    monkeypatch.setattr(run_module, "PAGES_MOST", 1)
    pushed = PushedRuns(tuple(shipped().values()), boot="b", series_limit=2, idle_after=100.0)
    for start in range(1, 6):
        assert not claude(start, start=start, delta=False).push(pushed, 1.0).dropped
    told = logs(record("codex.user_prompt", conversation__id="c1"), service__name="codex_exec")
    for number in range(3):
        peer = f"10.0.0.{number}"
        assert not codex(number).push(pushed, 1.0, peer).dropped
        told.push(pushed, 1.0, peer)
    pushed.drain(2.0)
    pushed.drain(300.0)
    assert not claude(1, session="s2").push(pushed, 301.0).dropped
    assert not pushed._runs._peers.keys() - {PEER}
    assert pushed._runs._peers[PEER].series == 1


def test_processes_of_a_run_are_bounded_and_what_the_oldest_used_is_the_ledgers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A series that is gone stays counted there."""
    monkeypatch.setattr(run_module, "PAGES_MOST", 3)
    pushed = pushed_runs()
    for start in range(1, 6):
        claude(start, start=start, delta=False).push(pushed, float(start))
    (run,) = pushed.drain(9.0).sessions
    assert sorted(run.counters.values()) == [3, 4, 5]


def test_a_program_of_which_nothing_counts_is_told_of_once() -> None:
    """By its name, as one short line; not one that is recognised."""
    pushed = pushed_runs()
    metrics(counter("unheard.of", point(1)), service__name="my\napp").push(pushed, 1.0)
    logs(record("unheard.of"), service__name="my\napp").push(pushed, 1.0)
    # An agent that is not used yet says only that it is there.
    start = counter("claude_code.session.count", point(1, session__id="s"))
    metrics(start, service__name="claude-code").push(pushed, 1.0)
    logs(record("x") | {"body": {"stringValue": "claude_code.plugin_loaded"}},
         service__name="claude-code").push(pushed, 1.0, peer="10.0.0.2")  # fmt: skip
    assert not pushed.drain(60.0).unmatched
    words = "my app pushes nothing that can be counted"
    assert pushed.drain(61.0).unmatched == {f"otlp://{PEER}": words}
    assert not pushed.drain(200.0).unmatched


def test_nothing_that_is_not_asked_for_is_anywhere_afterwards() -> None:
    """Neither in the state, nor in what is drained."""
    pushed = pushed_runs()
    hidden = {"stringValue": "SECRET"}
    fields = {"session__id": "s", "request_id": "r", "input_tokens": 1, "prompt": "SECRET"}
    told = {**record("claude_code.api_request", **fields), "body": hidden}
    args = {"arrayValue": {"values": [hidden]}}
    logs(told, record("SECRET"), process__command_args=args).push(pushed, 1.0)
    metrics(
        counter(TOKENS, point(1, session__id="s", type="input", tool="SECRET")),
        process__command_args=args, scope="x",
    ).push(pushed, 1.0)  # fmt: skip
    assert "SECRET" not in _all_of(pushed)
    assert "SECRET" not in repr(pushed.drain(1.0))


def _all_of(thing: object, depth: int = 12) -> str:
    """Return all there is in an object and what it refers to, as text."""
    if depth == 0 or isinstance(thing, str | bytes | int | float | Decimal | type(None)):
        return repr(thing)
    if isinstance(thing, Mapping):
        return "".join(_all_of(one, depth - 1) for pair in thing.items() for one in pair)
    if isinstance(thing, list | tuple | set | frozenset):
        return "".join(_all_of(one, depth - 1) for one in thing)
    names = [*getattr(thing, "__dict__", ()), *getattr(type(thing), "__slots__", ())]
    if not type(thing).__module__.startswith("otel_budget"):
        return ""
    return "".join(_all_of(getattr(thing, name, None), depth - 1) for name in names)


def test_a_request_that_failed_half_way_is_new_when_it_is_sent_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is no repetition of what was taken: that would be an answer of 200 for nothing."""
    pushed, request = pushed_runs(), claude(5)

    def fail(*_: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as broken:
        broken.setattr(run_module.PushedRun, "limit", fail)
        with pytest.raises(RuntimeError):
            request.push(pushed, 1.0)
    assert not request.push(pushed, 2.0).repeated
    assert pushed.drain(2.0).sessions


def test_the_only_run_of_a_peer_makes_room_for_the_next_one() -> None:
    """The peer is still known, with what is counted of it."""
    pushed = PushedRuns(tuple(shipped().values()), boot="b", session_limit=1, idle_after=100.0)
    claude(1, session="a").push(pushed, 1.0)
    pushed.drain(1.0)
    assert not claude(2, session="b").push(pushed, 102.0).dropped
    assert used(pushed.drain(102.0).sessions) == {"b": 2}


def test_the_series_of_one_run_are_bounded_for_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """All are read again with each push to it; other runs of its peer have room still."""
    monkeypatch.setattr(runs_module, "SERIES_OF_RUN_MOST", 3)
    pushed = pushed_runs()
    points = [point(1.0, session__id="wide", type="input", z=str(n)) for n in range(5)]
    assert metrics(counter(TOKENS, *points)).push(pushed, 1.0).dropped == {"series_limit": 2}
    assert not claude(7, session="other").push(pushed, 1.0).dropped
    assert used(pushed.drain(1.0).sessions) == {"wide": 3, "other": 7}
