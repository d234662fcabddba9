"""Whose pushed runs are, by points, records and resources; and the kinds of their tokens."""

from __future__ import annotations

import pytest

from otel_budget.core.observation import RunObservation
from otel_budget.core.owner_labels import Details
from otel_budget.core.token_kinds import KIND_COUNTERS
from otel_budget.presets.loader import shipped
from otel_budget.sources.otlp.pushed_runs import PushedRuns
from tests.support.otlp_fixtures import Request, case
from tests.support.otlp_messages import counter, logs, metrics, point, record

DETAILS = Details(("organization", "tenant"), token_kinds=True)


def receiver(details: Details = DETAILS) -> PushedRuns:
    """Return one with all presets."""
    return PushedRuns(tuple(shipped().values()), boot="b", details=details)


def pushed(*requests: Request, details: Details = DETAILS) -> tuple[RunObservation, ...]:
    """Return what is known after these requests."""
    runs = receiver(details)
    for now, request in enumerate(requests, start=1):
        request.push(runs, float(now))
    return runs.drain(100.0).sessions


def call(session: str = "s", **fields: object) -> Request:
    """Return a log record of a call of Claude Code's."""
    usage = {"input_tokens": 10, "cache_read_tokens": 80, "output_tokens": 5}
    return logs(record("claude_code.api_request", session__id=session, **usage, **fields))


def test_log_records_say_whose_a_run_is() -> None:
    (run,) = pushed(call(user__email="ann@example.com", organization__id="o"))
    assert run.attributes.labels == {"user": "ann@example.com", "organization": "o"}


def test_points_say_it_and_resources_as_well() -> None:
    one = point(10.0, session__id="s", type="input", user__email="ann@example.com")
    (run,) = pushed(metrics(counter("claude_code.token.usage", one), team="research", tenant="t"))
    assert run.attributes.labels == {"user": "ann@example.com", "team": "research", "tenant": "t"}


def test_the_newest_word_counts_for_all_that_is_pushed_of_a_run() -> None:
    """Somebody else logs in: both views of the run say so."""
    one = point(10.0, session__id="s", type="input", user__email="ann")
    runs = pushed(metrics(counter("claude_code.token.usage", one)), call(user__email="bob"))
    assert len(runs) == 2
    assert [run.attributes.labels for run in runs] == [{"user": "bob"}] * 2


def test_who_says_nothing_takes_nothing_away() -> None:
    (run,) = pushed(call(user__email="ann"), call(request_id="2"))
    assert run.attributes.labels == {"user": "ann"}


def test_the_run_of_all_that_name_none_is_nobodys() -> None:
    """Two sessions without a name at one peer are one run."""
    fields = {"event__kind": "response.completed", "input_token_count": 5}
    records = [
        record("codex.sse_event", user__email=user, **fields) for user in ("ann", "bob", "ann")
    ]
    (run,) = pushed(logs(*records, team="t"))
    assert run.attributes.labels == {"team": "t"}


@pytest.mark.parametrize("value", ["", "x" * 300, "a\nb"])
def test_a_value_that_cannot_say_it_is_left_out(value: str) -> None:
    (run,) = pushed(call(user__email=value, organization__id="o"))
    assert run.attributes.labels == {"organization": "o"}


def kinds(run: RunObservation) -> dict[str, int]:
    """Return what a run shows of each kind, parts in their wholes."""
    found = {
        kind: sum(int(n) for (counter, _), n in run.counters.items() if counter == name)
        for kind, name in KIND_COUNTERS.items()
    }
    return {kind: number for kind, number in found.items() if number}


@pytest.mark.parametrize(
    "name", ["claude_code/delta_pb", "codex/delta_pb", "gemini_cli/cumulative_json"]
)
def test_what_real_agents_pushed_is_of_the_kinds_that_were_served(name: str) -> None:
    recorded = case(name)
    spelled = {"input": "input", "cache_read": "cached", "cache_write": "cache_write",
               "output": "output", "reasoning": "reasoning"}  # fmt: skip
    runs = [run for run in pushed(*recorded.requests) if 'signal="logs"' in run.target]
    (run,) = runs
    served = recorded.expected["served"]
    for kind, number in kinds(run).items():
        assert number == served[spelled[kind]], kind
    assert "input" in kinds(run)


def test_metrics_and_logs_show_the_same_kinds() -> None:
    recorded = case("claude_code/delta_pb")
    one, other = (kinds(run) for run in pushed(*recorded.requests))
    assert one == other


def test_kinds_are_not_kept_where_nothing_weighs_them() -> None:
    (run,) = pushed(call(), details=Details())
    assert not kinds(run)


def test_our_own_series_are_pushed_with_their_labels_and_kinds() -> None:
    own = metrics(
        counter("otel_budget_tokens_total", point(110.0, session_id="r")),
        counter("otel_budget_phase_tokens_total",
                point(100.0, session_id="r", phase="p", token_type="input")),  # noqa: S106 - a label
        counter("otel_budget_phase_token_details_total",
                point(60.0, session_id="r", phase="p", model="m", detail="cache_read")),
    )  # fmt: skip
    (run,) = pushed(own)
    assert kinds(run) == {"input": 100, "cache_read": 60}
