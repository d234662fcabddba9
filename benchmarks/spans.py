"""What counting from spans adds to a span, beside what the SDK itself takes for one."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from opentelemetry.sdk.trace import TracerProvider

from benchmarks.report import Goal, Report
from benchmarks.rounds import Contestant, take_turns
from otel_budget import ResourceLimits, ResourceMonitor, instrument

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.util.types import AttributeValue

    from benchmarks.rounds import Timings

_START: dict[str, AttributeValue] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o-mini",
    "server.address": "api.example",
    "server.port": 443,
}
_END: dict[str, AttributeValue] = {
    "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
    "gen_ai.response.finish_reasons": ("stop",),
    "gen_ai.usage.input_tokens": 1000,
    "gen_ai.usage.output_tokens": 300,
    "gen_ai.usage.cache_read.input_tokens": 600,
    "gen_ai.usage.reasoning.output_tokens": 120,
}
_MESSAGES: dict[str, AttributeValue] = {
    f"gen_ai.prompt.{number}.content": "words " * 20 for number in range(100)
}
_NUMBERS = count()
_SCOPE = "opentelemetry.instrumentation.genai.openai"

_CALL, _CALL_ALONE = "a model call, counted and priced", "a model call, the SDK alone"
_LARGE, _LARGE_ALONE = "a call with 100 messages, counted", "a call with 100 messages, alone"
_OTHER, _OTHER_ALONE = "another span, passed over", "another span, the SDK alone"
#: Microseconds beside the SDK's own.
_AT_MOST = 30.0


def run(*, quick: bool) -> Report:
    """Measure one span of each kind, with and without the processor."""
    counted = TracerProvider()
    instrument(counted)
    alone = TracerProvider()
    contestants = [
        Contestant(_CALL, _calls(counted, {})),
        Contestant(_CALL_ALONE, _calls(alone, {})),
        Contestant(_LARGE, _calls(counted, _MESSAGES)),
        Contestant(_LARGE_ALONE, _calls(alone, _MESSAGES)),
        Contestant(_OTHER, _others(counted)),
        Contestant(_OTHER_ALONE, _others(alone)),
    ]
    rounds = 30 if quick else 300
    with ResourceMonitor(ResourceLimits(max_tokens=None, max_api_calls=None)):
        timings = take_turns(contestants, rounds=rounds, turn=0.005, label="one span")
    return _report(timings, rounds)


def _report(timings: Timings, rounds: int) -> Report:
    rows = []
    goals = []
    for name, beside in ((_CALL, _CALL_ALONE), (_LARGE, _LARGE_ALONE), (_OTHER, _OTHER_ALONE)):
        ours, theirs = timings.seconds(name), timings.seconds(beside)
        added = (ours.median - theirs.median) * 1e6
        rows += [
            (name, ours.text(1e6), timings.ratio(name, beside).text(), f"{added:.1f}"),
            (beside, theirs.text(1e6), "1", ""),
        ]
        goals.append(Goal(f"{name}: what it adds, in µs", added, _AT_MOST, digits=1))
    return Report(
        title="Counting from spans",
        about=(
            "A span from its start to its end, with 11 attributes, with 100 more, and one that is "
            "no model call; with otel-budget's span processor and without any. What it adds has "
            f"the count, its price and the look for duplicates in it. {rounds} rounds."
        ),
        columns=("", "µs", "of the SDK alone", "added, µs"),
        rows=tuple(rows),
        goals=tuple(goals),
    )


def _calls(provider: TracerProvider, more: dict[str, AttributeValue]) -> Callable[[int], None]:
    tracer = provider.get_tracer(_SCOPE)

    def work(times: int) -> None:
        for _ in range(times):
            span = tracer.start_span("chat gpt-4o-mini", attributes=_START)
            span.set_attributes(more)
            span.set_attributes(_END)
            span.set_attribute("gen_ai.response.id", f"chatcmpl-{next(_NUMBERS)}")
            span.end()

    return work


def _others(provider: TracerProvider) -> Callable[[int], None]:
    tracer = provider.get_tracer("opentelemetry.instrumentation.httpx")

    def work(times: int) -> None:
        for _ in range(times):
            tracer.start_span("GET", attributes={"http.request.method": "GET"}).end()

    return work
