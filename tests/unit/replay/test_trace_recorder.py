"""A history as a trace, and as a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from otel_budget import semconv
from otel_budget.core.observation import Observation, RunAttributes, RunObservation
from otel_budget.errors import InvalidValueError
from otel_budget.ledger.ledger import Ledger
from otel_budget.replay.trace import TraceLine
from otel_budget.replay.trace_files import read_traces
from otel_budget.replay.trace_recorder import TraceRecorder
from otel_budget.replay.trace_writer import TraceWriteError, TraceWriter
from otel_budget.sdk.pricing.prices import Prices

BEGIN = 1_700_000_000.0


def seen(
    at: float, tokens: int, said: Mapping[str, Any] | None = None, *, target: str = "agents/a"
) -> RunObservation:
    """Return a run as a target shows it so many seconds after the beginning."""
    counters = {("tokens", ""): tokens, ("api_calls", ""): tokens // 100}
    attributes = RunAttributes(**{"started_at": BEGIN, "incarnation_at": BEGIN, **(said or {})})
    return RunObservation("r", target, BEGIN + at, counters, attributes)


def recorded(*readings: Sequence[RunObservation]) -> tuple[list[TraceLine], TraceRecorder]:
    """Return the trace of these readings."""
    ledger, recorder, lines = Ledger(), TraceRecorder(), []
    labels = {"r": {"__name__": "otel_budget_session_info", "job": "agents", "instance": "a",
                    "session_id": "r", "workflow": "nightly", "team": "x"}}  # fmt: skip
    for sessions in readings:
        at = max(session.sampled_at for session in sessions)
        ledger.apply(Observation("prometheus", at, tuple(sessions)))
        lines += recorder.note(ledger.runs.values(), labels)
    every = [*recorder.starts, *lines, *recorder.ends()]
    return sorted(every, key=lambda line: line.at), recorder


def used(lines: Sequence[TraceLine], session_id: str = "r") -> list[object]:
    """Return the tokens of each line that has some."""
    found = [line.use for line in lines if line.use is not None and line.session_id == session_id]
    return [use.amounts.get("tokens") for use in found]


def test_uses_are_what_came_from_sample_to_sample() -> None:
    lines, recorder = recorded([seen(5, 300)], [seen(10, 300)], [seen(15, 700)])
    start, *uses = lines
    assert (start.at, start.start, start.labels) == (
        BEGIN,
        True,
        {"workflow": "nightly", "team": "x"},
    )
    assert [(line.at - BEGIN, line.use and line.use.amounts) for line in uses] == [
        (5, {"tokens": 300, "api_calls": 3}), (15, {"tokens": 400, "api_calls": 4}),
    ]  # fmt: skip
    assert not recorder.remarks


def test_a_process_that_begins_anew_adds_what_it_counts() -> None:
    again = {"incarnation_at": BEGIN + 8, "carried_over": {"tokens": 300, "api_calls": 3}}
    lines, _ = recorded([seen(5, 300)], [seen(10, 50, again)])
    assert used(lines) == [300, 50]


def test_a_counter_that_drops_adds_what_it_counted_since() -> None:
    lines, _ = recorded([seen(5, 300)], [seen(10, 100)])
    assert used(lines) == [300, 100]


def test_a_process_that_is_seen_at_two_targets_counts_once() -> None:
    lines, _ = recorded([seen(5, 300), seen(5, 300, target="agents/b")], [seen(10, 400)])
    assert used(lines) == [300, 100]


def test_limits_and_thresholds_are_those_of_the_start() -> None:
    own = {"limits": {"tokens": 1000, "cost": Decimal("2.5")}, "thresholds": {"tokens": 0.5},
           "completion_threshold": 0.7}  # fmt: skip
    lines, recorder = recorded(
        [seen(5, 300, own)], [seen(10, 400, {**own, "limits": {"tokens": 2000}})]
    )
    limits = lines[0].limits
    assert limits is not None
    assert (limits.max_tokens, limits.max_cost_usd, limits.max_api_calls) == (
        1000, Decimal("2.5"), None,
    )  # fmt: skip
    assert (limits.token_warning_threshold, limits.completion_threshold) == (0.5, 0.7)
    assert "limits changed on the way" in " ".join(recorder.remarks)


def test_a_progress_stands_where_the_run_was_when_it_reported_it() -> None:
    said = {"progress": 0.5, "progress_tokens": 200.0, "progress_api_calls": 2.0}
    lines, _ = recorded([seen(5, 100)], [seen(10, 500, said)])
    assert used(lines) == [100, 100, 300]
    assert [line.progress for line in lines] == [None, None, 0.5, None]


def test_the_end_comes_last_and_is_taken_back_if_the_run_goes_on() -> None:
    done = {"state": semconv.COMPLETED}
    lines, _ = recorded([seen(5, 300)], [seen(10, 400, done)])
    assert [(line.at - BEGIN, line.end) for line in lines][-1] == (10, "completed")
    lines, _ = recorded(
        [seen(5, 300, done)], [seen(10, 400, done)], [seen(15, 500, done)]
    )  # fmt: skip
    assert [line.end for line in lines if line.end] in ([], ["completed"])
    assert lines[-1].use is not None or lines[-1].end == "completed"


def test_another_run_of_the_same_id_has_its_own_start() -> None:
    done = {"state": semconv.COMPLETED}
    after = {"started_at": BEGIN + 20, "incarnation_at": BEGIN + 20}
    lines, recorder = recorded([seen(5, 300)], [seen(10, 300, done)], [seen(25, 70, after)])
    assert [line.session_id for line in lines if line.start] == ["r", "r"]
    assert used(lines) == [300, 70]
    assert not recorder.remarks


def test_another_run_while_one_is_not_over_has_another_name() -> None:
    after = {"started_at": BEGIN + 20, "incarnation_at": BEGIN + 20}
    lines, recorder = recorded([seen(5, 300)], [seen(25, 70, after)], [seen(30, 90, after)])
    assert [line.session_id for line in lines if line.start] == ["r", "r:2"]
    assert used(lines, "r:2") == [70, 20] or used(lines, "r:2") == [90]
    assert "it stands as ID:2" in " ".join(recorder.remarks)


def test_a_file_is_there_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    ledger, recorder = Ledger(), TraceRecorder()
    with TraceWriter(str(path), recorder) as writer:
        for at, tokens in ((5, 300), (10, 400)):
            ledger.apply(Observation("prometheus", BEGIN + at, (seen(at, tokens),)))
            writer.note(ledger.runs.values(), {})
        assert not path.exists()
        writer.finish()
    assert [file.name for file in tmp_path.iterdir()] == ["t.jsonl"]
    lines = list(read_traces([str(path)], Prices()))
    assert used(lines) == [300, 100]
    assert lines[0].start


def test_a_replay_that_fails_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    with pytest.raises(RuntimeError), TraceWriter(str(path), TraceRecorder()):
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text("mine\n")
    with pytest.raises(InvalidValueError, match="is not overwritten"):
        TraceWriter(str(path), TraceRecorder())
    assert path.read_text() == "mine\n"


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TraceWriteError, match="cannot be written"):
        TraceWriter(str(tmp_path / "none" / "t.jsonl"), TraceRecorder())


def test_whose_descendant_a_run_is_stands_on_its_first_line() -> None:
    (start, *_), _ = recorded([seen(5, 300, said={"parent": "lead"})])
    assert start.parent == "lead"
    assert "parent_session_id" not in start.labels


def test_kinds_of_tokens_stand_in_the_trace_where_they_are_read() -> None:
    """Each token once, also where a progress was reported in between."""

    def of_kinds(at: float, tokens: int, cached: int, **said: Any) -> RunObservation:
        run = seen(at, tokens, said)
        kinds = {("tokens:input", ""): tokens, ("tokens:cache_read", ""): cached}
        return run._replace(counters={**run.counters, **kinds})

    progress = {"progress": 0.5, "progress_tokens": 400.0}
    lines, _ = recorded([of_kinds(5, 300, 100)], [of_kinds(15, 700, 450, **progress)])
    uses = [line.use for line in lines if line.use is not None]
    assert [use.amounts["tokens"] for use in uses] == [300, 100, 300]
    assert sum(use.kinds["input"] for use in uses) == 700
    assert sum(use.kinds.get("cache_read", 0) for use in uses) == 450
    assert all(use.kinds["input"] <= use.amounts["tokens"] for use in uses)
