"""The recorded runs, as a trace that can be replayed."""

from decimal import Decimal

from evaluation.runs import MINI_SWE, mini_swe_runs
from evaluation.traces import share_of_calls, trace


def test_every_recorded_call_is_in_the_trace_once_in_order() -> None:
    """Nothing is lost or doubled on the way from the file to the lines."""
    lines = list(trace(mini_swe_runs(), {"max_tokens": 10**6}))
    times = [line["t"] for line in lines]
    assert times == sorted(times)
    uses = [line["use"] for line in lines if "use" in line]
    with MINI_SWE.open(encoding="utf-8") as file:
        rows = [line.split(",") for line in file.read().splitlines()[1:]]
    assert len(uses) == len(rows)
    assert sum(use["input_tokens"] for use in uses) == sum(int(row[3]) for row in rows)
    assert sum(use["output_tokens"] for use in uses) == sum(int(row[5]) for row in rows)
    starts = [line for line in lines if "start" in line]
    assert len(starts) == len(mini_swe_runs())
    assert all(line["limits"] == {"max_tokens": 10**6} for line in starts)


def test_a_cached_token_costs_a_tenth() -> None:
    """The first call on record: 1,716 uncached, 320 cached, 77 out, at 1, 0.1 and 5 a million."""
    assert mini_swe_runs()[0].calls[0].cost == Decimal("0.002133")


def test_progress_is_told_only_by_those_who_tell_it() -> None:
    """An agent that says nothing of its progress has none in the trace."""
    run = mini_swe_runs()[0]
    assert not [line for line in trace([run]) if "progress" in line]
    told = [line["progress"] for line in trace([run], progress=share_of_calls) if "use" in line]
    assert told[0] == 1 / len(run.calls)
    assert told[-1] == 1
