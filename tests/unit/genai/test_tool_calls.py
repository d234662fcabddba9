"""Calls of tools: each counted once, whoever reports it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Status, StatusCode

from otel_budget import ResourceMonitor
from otel_budget.genai.reported_call import ReportedTool
from tests.support.monitors import Make

NAMED = {"gen_ai.tool.name": "search"}


@contextmanager
def tool(provider: TracerProvider, scope: str = "lib.a", **attributes: Any) -> Iterator[Any]:
    """Open the span of a call of a tool."""
    said = {"gen_ai.operation.name": "execute_tool", **NAMED}
    said |= {key.replace("__", "."): value for key, value in attributes.items()}
    with provider.get_tracer(scope).start_as_current_span("execute_tool search") as span:
        span.set_attributes({key: value for key, value in said.items() if value is not None})
        yield span


def counted(monitor: ResourceMonitor) -> int:
    """Return the calls of tools that were counted."""
    return monitor.get_usage_report().tool_calls


@pytest.mark.parametrize("attributes", [
    {"gen_ai.operation.name": "execute_tool"},
    {"openinference.span.kind": "TOOL", "tool.name": "search"},
    {"traceloop.span.kind": "tool", "traceloop.entity.name": "search"},
])  # fmt: skip
def test_the_span_of_a_tool_is_a_call_of_a_tool_and_no_call_of_a_model(
    provider: TracerProvider, make: Make, attributes: dict[str, str]
) -> None:
    """Also one that failed."""
    tracer = provider.get_tracer("lib.a")
    with make() as monitor:
        for code in (StatusCode.OK, StatusCode.ERROR):
            with tracer.start_as_current_span("search", attributes=attributes) as span:
                span.set_status(Status(code))
    assert (counted(monitor), monitor.get_usage_report().api_calls) == (2, 0)


def test_what_two_libraries_record_of_one_call_counts_once(
    provider: TracerProvider, make: Make
) -> None:
    """Within one another, in either order, and with a call id on one of them or on both."""
    ids = ("call_1", "call_2", "call_3", None)
    with make() as monitor:
        for outer, inner in (("lib.a", "lib.b"), ("lib.b", "lib.a")):
            for number, call_id in enumerate(ids):
                own = None if call_id is None else f"{outer} {call_id}"
                with (
                    tool(provider, outer, gen_ai__tool__call__id=own),
                    tool(provider, inner, gen_ai__tool__call__id=own if number else None),
                ):
                    pass
    assert counted(monitor) == 2 * len(ids)


def test_calls_at_the_same_time_are_not_one(provider: TracerProvider, make: Make) -> None:
    """Of one library each is its own; of two, each stands for one of the other's."""
    with make() as monitor:
        with tool(provider), tool(provider):
            pass
        assert counted(monitor) == 2
        with tool(provider), tool(provider, "lib.b"), tool(provider), tool(provider, "lib.b"):
            pass
        assert counted(monitor) == 4
        with (
            tool(provider, gen_ai__tool__call__id="x"),
            tool(provider, "lib.b", gen_ai__tool__call__id="y"),
        ):
            pass
    assert counted(monitor) == 6


def test_calls_one_after_the_other_are_not_one(provider: TracerProvider, make: Make) -> None:
    with make() as monitor:
        for scope in ("lib.a", "lib.b"):
            with tool(provider, scope):
                pass
    assert counted(monitor) == 2


def test_the_tools_of_an_agent_inside_a_tool_are_calls_of_their_own(
    provider: TracerProvider, make: Make
) -> None:
    """Though another library reports them, under the same name."""
    agent = {"gen_ai.operation.name": "invoke_agent"}
    with make() as monitor, tool(provider):
        tracer = provider.get_tracer("lib.b")
        with (
            tracer.start_as_current_span("invoke_agent", attributes=agent),
            tool(provider, "lib.b"),
        ):
            pass
    assert counted(monitor) == 2


def test_an_adapter_and_a_span_of_one_call_count_once(provider: TracerProvider, make: Make) -> None:
    with make() as monitor:
        told = ReportedTool("otel_budget.some", monitor, "search")
        with tool(provider):
            told.close()
        told.close()
    assert counted(monitor) == 1


def test_what_an_operation_says_is_not_counted_beside_what_was_seen_inside(
    provider: TracerProvider, make: Make
) -> None:
    """The rest of it is."""
    with make() as monitor:
        with monitor.operation("step", api_call=False) as operation:
            with tool(provider):
                pass
            operation.record(tool_calls=3)
        assert counted(monitor) == 3
        with monitor.operation("step", api_call=False) as operation:
            operation.record(tool_calls=2)
    assert (counted(monitor), monitor.get_usage_report().tokens) == (5, 0)
