"""Recording: every argument, the parts inside their wholes, and refusals that count nothing."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from decimal import Decimal, FloatOperation, Inexact, localcontext
from pathlib import Path
from typing import Any

import pytest

from otel_budget import ResourceMonitor
from otel_budget.core.usage import ResourceUsage
from otel_budget.errors import InvalidValueError
from otel_budget.testing import FakeClock
from tests.support.monitors import Make

MOST = 2**53


def counted(usage: ResourceUsage) -> dict[str, Any]:
    """Return what is not zero of all that an operation may count."""
    names = [name for name in asdict(usage) if name.endswith(("tokens", "calls")) or "cost" in name]
    return {name: getattr(usage, name) for name in names if getattr(usage, name)}


@pytest.mark.parametrize(
    ("said", "want"),
    [
        ({}, {}),
        ({"tokens": 5}, {"tokens": 5}),
        ({"tokens": MOST // 2}, {"tokens": MOST // 2}),
        ({"tokens": 5, "api_call": True}, {"tokens": 5, "api_calls": 1, "unpriced_calls": 1}),
        ({"input_tokens": 7, "output_tokens": 3},
         {"tokens": 10, "input_tokens": 7, "output_tokens": 3}),
        ({"tokens": 10, "input_tokens": 7}, {"tokens": 10, "input_tokens": 7}),
        ({"tokens": None, "input_tokens": 7}, {"tokens": 7, "input_tokens": 7}),
        ({"tokens": None, "api_call": True},
         {"api_calls": 1, "unknown_usage_calls": 1, "unpriced_calls": 1}),
        ({"tokens": 10, "cache_read_tokens": 4, "cache_write_tokens": 6},
         {"tokens": 10, "cache_read_tokens": 4, "cache_write_tokens": 6}),
        ({"input_tokens": 10, "output_tokens": 4, "cache_read_tokens": 9, "reasoning_tokens": 4},
         {"tokens": 14, "input_tokens": 10, "output_tokens": 4, "cache_read_tokens": 9,
          "reasoning_tokens": 4}),
        ({"cost_usd": 0.1, "api_call": True}, {"api_calls": 1, "cost_usd": Decimal("0.1")}),
        ({"cost_usd": 2}, {"cost_usd": Decimal(2)}),
        ({"cost_usd": Decimal("1E-20")}, {"cost_usd": Decimal("1E-20")}),
        ({"cost_usd": 0, "api_call": True}, {"api_calls": 1}),
        ({"api_call": True, "outcome": "error"},
         {"api_calls": 1, "failed_api_calls": 1, "unpriced_calls": 1}),
        ({"outcome": "error"}, {}),
        ({"tokens": 3, "model": "m", "provider": "p"}, {"tokens": 3, "unpriced_calls": 1}),
    ],
)  # fmt: skip
def test_an_operation_counts_what_was_said_of_it(
    said: dict[str, Any], want: dict[str, Any], make: Make
) -> None:
    """Once, each number where it belongs; unknown is counted as unknown, never as 0."""
    monitor = make()
    monitor.record_operation(**said)
    assert counted(monitor.get_usage_report()) == want
    monitor.record_operation(**said)
    assert counted(monitor.get_usage_report()) == {name: value * 2 for name, value in want.items()}


@pytest.mark.parametrize(
    ("said", "named", "allowed"),
    [
        ({"tokens": -1}, "tokens: -1", "from 0 to 2^53"),
        ({"tokens": 1.0}, "tokens: 1.0", "an integer"),
        ({"tokens": float("nan")}, "tokens: nan", "an integer"),
        ({"tokens": float("inf")}, "tokens: inf", "an integer"),
        ({"tokens": True}, "tokens: True", "an integer"),
        ({"tokens": "5"}, "tokens: '5'", "an integer"),
        ({"tokens": MOST + 1}, "tokens", "2^53"),
        ({"api_call": 1}, "api_call: 1", "True or False"),
        ({"input_tokens": -1}, "input_tokens: -1", "from 0"),
        ({"output_tokens": 0.5}, "output_tokens: 0.5", "an integer"),
        ({"cache_read_tokens": True}, "cache_read_tokens: True", "an integer"),
        ({"cache_write_tokens": "1"}, "cache_write_tokens", "an integer"),
        ({"reasoning_tokens": -2}, "reasoning_tokens", "from 0"),
        ({"input_tokens": MOST, "output_tokens": 1}, "together", "2^53"),
        ({"tokens": 5, "input_tokens": 4, "output_tokens": 2}, "together: 6", "tokens=5"),
        ({"input_tokens": 4, "cache_read_tokens": 5}, "cache_write_tokens together: 5",
         "input_tokens=4"),
        ({"output_tokens": 4, "reasoning_tokens": 5}, "reasoning_tokens: 5", "output_tokens=4"),
        ({"tokens": 5, "output_tokens": 3, "cache_read_tokens": 3}, "together: 3", "tokens=2"),
        ({"cost_usd": -0.01}, "cost_usd: -0.01", "US dollars"),
        ({"cost_usd": float("nan")}, "cost_usd: nan", "US dollars"),
        ({"cost_usd": Decimal("sNaN")}, "cost_usd", "US dollars"),
        ({"cost_usd": Decimal("Infinity")}, "cost_usd", "US dollars"),
        ({"cost_usd": "1"}, "cost_usd: '1'", "US dollars"),
        ({"cost_usd": True}, "cost_usd: True", "US dollars"),
        ({"outcome": "failed"}, "outcome: 'failed'", "'ok' or 'error'"),
        ({"tokens": 1, "model": 4}, "model: 4", "a text"),
        ({"tokens": 1, "provider": b"x"}, "provider: b'x'", "a text"),
    ],
)  # fmt: skip
def test_a_refused_operation_counts_nothing(
    said: dict[str, Any], named: str, allowed: str, make: Make
) -> None:
    """Not even the part of it that was fine; and the refusal names argument and value."""
    monitor = make()
    with pytest.raises(InvalidValueError) as caught:
        monitor.record_operation(**{"tokens": 7, "api_call": True, **said})
    assert named in str(caught.value)
    assert allowed in str(caught.value)
    assert counted(monitor.get_usage_report()) == {}


def test_money_adds_up_exactly_whatever_decimal_context_the_caller_has_set(make: Make) -> None:
    """Three digits of precision, and every trap there is, change nothing."""
    monitor = make(max_cost_usd=Decimal("1000.1"))
    with localcontext() as context:
        context.prec = 3
        context.traps[Inexact] = context.traps[FloatOperation] = True
        for _ in range(10):
            monitor.record_operation(cost_usd=Decimal("100.0100001"), api_call=True)
        usage = monitor.get_usage_report()
        assert not monitor.should_continue()
    assert usage.cost_usd == Decimal("1000.1000010")
    assert usage.api_calls == 10


def test_ten_thousand_times_a_tenth_of_a_cent_is_ten_dollars(make: Make) -> None:
    """A float's error doesn't add up."""
    monitor = make()
    for _ in range(10_000):
        monitor.record_operation(cost_usd=0.001)
    assert monitor.get_usage_report().cost_usd == 10


def test_a_recorded_operation_that_its_exception_ended_is_a_failed_call(make: Make) -> None:
    """It used what it said, and nothing if it said nothing."""
    monitor = make()
    with suppress(RuntimeError), monitor.operation() as operation:
        operation.record(input_tokens=5)
        raise RuntimeError
    with suppress(KeyboardInterrupt), monitor.operation():
        raise KeyboardInterrupt
    assert counted(monitor.get_usage_report()) == {
        "tokens": 5, "input_tokens": 5, "api_calls": 2, "failed_api_calls": 2, "unpriced_calls": 2,
    }  # fmt: skip


def test_a_call_that_said_nothing_has_unknown_usage_and_anything_else_used_nothing(
    make: Make,
) -> None:
    """A tool that needs no model leaves the total exact."""
    monitor = make()
    with monitor.operation("read_file", api_call=False):
        pass
    assert counted(monitor.get_usage_report()) == {}
    with monitor.operation():
        pass
    assert counted(monitor.get_usage_report()) == {
        "api_calls": 1, "unknown_usage_calls": 1, "unpriced_calls": 1,
    }  # fmt: skip


def test_an_operation_refuses_at_once_what_it_will_not_count(make: Make) -> None:
    """Where the caller sees it; and what was said before it stays."""
    monitor = make()
    with monitor.operation() as operation:
        operation.record(tokens=5)
        for wrong in ({"tokens": -1}, {"model": 3}, {"speed": 1}, {"reasoning_tokens": 9}):
            with pytest.raises(InvalidValueError, match=next(iter(wrong))):
                operation.record(**wrong)
        operation.record(cost_usd=1)
    with pytest.raises(InvalidValueError, match="model"), monitor.operation(model=3):  # type: ignore[arg-type]
        pass
    assert counted(monitor.get_usage_report()) == {
        "tokens": 5, "api_calls": 1, "cost_usd": Decimal(1),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("first", "second", "key"),
    [
        ({"tokens": 2**53}, {"tokens": 1}, "tokens"),
        ({"tokens": 2**53 - 5}, {"input_tokens": 4, "output_tokens": 2}, "tokens"),
        ({"cost_usd": 2**53}, {"cost_usd": Decimal("0.01")}, "cost_usd"),
    ],
    ids=str,
)
def test_a_total_that_no_reader_would_take_is_refused(
    first: dict[str, Any], second: dict[str, Any], key: str, make: Make, tmp_path: Path
) -> None:
    """It would make a checkpoint that cannot be read again; what was counted before stays."""
    monitor = make(session_id="totals", project_root=tmp_path, max_tokens=None)
    monitor.record_operation(**first)
    with pytest.raises(InvalidValueError, match=f"^{key}: .* within 2\\^53"):
        monitor.record_operation(**second, api_call=True)
    monitor.record_operation(0, api_call=True)
    monitor.close("failed", timeout=0)
    resumed = ResourceMonitor.resume("totals", tmp_path)
    used = resumed.get_usage_report()
    assert (used.tokens, used.api_calls) == (first.get("tokens", 0), 1)
    with pytest.raises(InvalidValueError, match=f"^{key}: .* within 2\\^53"):
        resumed.record_operation(**second, api_call=True)
    assert resumed.get_usage_report().api_calls == 1
    resumed.close(timeout=0)


def test_calls_past_two_to_the_53_are_refused(clock: FakeClock) -> None:
    """Nobody gets there but by a checkpoint that says so."""
    carried = ResourceUsage("many-calls", started_at=clock.clock.time(), api_calls=2**53 - 1)
    monitor = ResourceMonitor(session_id="many-calls", clock=clock.clock, _carried=carried)
    monitor.record_operation(3, api_call=True)
    with pytest.raises(InvalidValueError, match=r"^api_call: True .* within 2\^53"):
        monitor.record_operation(3, api_call=True)
    monitor.record_operation(4)
    assert monitor.get_usage_report().tokens == 7
    monitor.close(timeout=0)
