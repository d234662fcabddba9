"""``record_operation`` and ``should_continue``, beside what else counts a model call."""

from __future__ import annotations

from decimal import Decimal
from importlib import import_module
from typing import TYPE_CHECKING, Any

from opentelemetry import trace
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, Counter

from benchmarks.report import Goal, Report
from benchmarks.rounds import Contestant, take_turns
from otel_budget import LimitStatus, ResourceLimits, ResourceMonitor, serve_metrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.rounds import Timings

_INPUT, _OUTPUT, _CACHED, _COST = 1000, 200, 800, Decimal("0.0125")
_TOKENS = _INPUT + _OUTPUT
_FAR = 10**15

_STOPPED = "the run was told to stop, so nothing was measured"

_BOTH = "record + check"
_NEAR = "record + check, a limit near"
_RESERVED = "record, in a reservation"
_DETAIL = "record + check, in detail, priced"
_PYDANTIC_AI = "pydantic-ai"
_PYDANTIC_AI_BUILT = "pydantic-ai, RequestUsage built"
_PYDANTIC_AI_DETAIL = "pydantic-ai, in detail, priced"
_OTEL = "two OpenTelemetry Counter.add"
_PROMETHEUS = "two prometheus_client inc"
_BESIDE = {
    _PYDANTIC_AI: "of pydantic-ai",
    _PYDANTIC_AI_DETAIL: "of the same in detail",
    _OTEL: "of two Counter.add",
    _PROMETHEUS: "of two inc",
}
#: Ours, beside whom, at most how many times as long. The same goal for every way to count.
_GOALS = (
    (_BOTH, _PYDANTIC_AI, 0.7),
    (_BOTH, _OTEL, 0.2),
    (_NEAR, _PYDANTIC_AI, 1.0),
    (_NEAR, _OTEL, 0.2),
    (_DETAIL, _PYDANTIC_AI_DETAIL, 1.0),
    (_DETAIL, _OTEL, 0.2),
)


def run(*, quick: bool) -> Report:
    """Measure one operation."""
    trace.set_tracer_provider(_tracer_provider())
    with serve_metrics(port=0):
        calm, near = _monitor("bench"), _monitor("bench-near")
        near.record_operation(tokens=_FAR * 85 // 100)
        if near.check_limits().status is not LimitStatus.APPROACHING:
            raise RuntimeError("the run that should be near a limit is not")
        ours = _ours(calm, near)
        contestants = [*ours, *_pydantic_ai(), _opentelemetry(), _prometheus()]
        rounds = 30 if quick else 300
        timings = take_turns(contestants, rounds=rounds, turn=0.003, label="one operation")
        calm.close(timeout=0)
        near.close(timeout=0)
    return _report(timings, contestants, rounds)


def _report(timings: Timings, contestants: list[Contestant], rounds: int) -> Report:
    rows = tuple(
        (
            one.name,
            timings.seconds(one.name).text(1e6),
            *(timings.ratio(one.name, other).text(digits=3) for other in _BESIDE),
        )
        for one in contestants
    )
    return Report(
        title="One operation: counted, checked, ready to be scraped",
        about=(
            "should_continue(progress) and record_operation(tokens, api_call), with /metrics open "
            "and an OpenTelemetry SDK tracer provider set; all limits are far away unless the row "
            "says otherwise. In detail: input, output and cached tokens and the model. Beside it "
            "pydantic-ai's check_before_request, incr and check_tokens, which export nothing: with "
            "a ready RequestUsage, the cheapest way, with one built for each call, and in detail "
            "with cached tokens, cost and check_cost. The two counters of the others have one "
            f"label, session_id, and check nothing. {rounds} rounds."
        ),
        columns=("", "µs", *_BESIDE.values()),
        rows=rows,
        goals=(
            *(
                Goal(f"{name}, {_BESIDE[other]}", timings.ratio(name, other).median, at_most, 3)
                for name, other, at_most in _GOALS
            ),
            Goal(f"{_RESERVED}, of {_BOTH}", timings.ratio(_RESERVED, _BOTH).median, 3.0, 3),
        ),
    )


def _tracer_provider() -> TracerProvider:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(InMemorySpanExporter()))
    return provider


def _monitor(session_id: str) -> ResourceMonitor:
    limits = ResourceLimits(
        max_duration_seconds=10**6,
        max_tokens=_FAR,
        max_api_calls=_FAR,
        max_cost_usd=Decimal(_FAR),
    )
    return ResourceMonitor(limits, session_id=session_id)


def _ours(calm: ResourceMonitor, near: ResourceMonitor) -> list[Contestant]:
    def in_phase(times: int) -> None:
        with calm.phase("plan"):
            _record_and_check(calm, 0.4, times)

    def record(times: int) -> None:
        count = calm.record_operation
        for _ in range(times):
            count(tokens=_TOKENS, api_call=True)

    def reserve(times: int) -> None:
        count = calm.record_operation
        for _ in range(times):
            with calm.reserve():
                count(tokens=_TOKENS, api_call=True)

    def check(times: int) -> None:
        ask = calm.should_continue
        for _ in range(times):
            ask(0.4)

    return [
        Contestant(_BOTH, lambda times: _record_and_check(calm, 0.4, times)),
        Contestant("record + check, in a phase", in_phase),
        Contestant("record alone", record),
        Contestant("check alone", check),
        Contestant(_RESERVED, reserve),
        Contestant(_NEAR, lambda n: _record_and_check(near, 0.9, n)),
        Contestant("record + check, in detail", _in_detail(calm, cost=None)),
        Contestant(_DETAIL, _in_detail(calm, cost=_COST)),
    ]


def _record_and_check(monitor: ResourceMonitor, progress: float, times: int) -> None:
    ask, count = monitor.should_continue, monitor.record_operation
    for _ in range(times):
        if not ask(progress):
            raise RuntimeError(_STOPPED)
        count(tokens=_TOKENS, api_call=True)


def _in_detail(monitor: ResourceMonitor, *, cost: Decimal | None) -> Callable[[int], None]:
    def work(times: int) -> None:
        ask, count = monitor.should_continue, monitor.record_operation
        for _ in range(times):
            if not ask(0.4):
                raise RuntimeError(_STOPPED)
            count(
                api_call=True,
                input_tokens=_INPUT,
                output_tokens=_OUTPUT,
                cache_read_tokens=_CACHED,
                model="a-model",
                cost_usd=cost,
            )

    return work


def _pydantic_ai() -> list[Contestant]:
    """Return what pydantic-ai's agent loop does around one model request, in its order."""
    # Not an import statement: the static checks run without the bench extra.
    usage: Any = import_module("pydantic_ai.usage")
    limits = usage.UsageLimits(
        request_limit=_FAR, total_tokens_limit=_FAR, cost_limit=Decimal(_FAR)
    )
    ready = usage.RequestUsage(input_tokens=_INPUT, output_tokens=_OUTPUT)
    total, built_total = usage.RunUsage(), usage.RunUsage()
    request = usage.RequestUsage

    def plain(times: int) -> None:
        for _ in range(times):
            limits.check_before_request(total)
            total.requests += 1
            total.incr(ready)
            limits.check_tokens(total)

    def built(times: int) -> None:
        for _ in range(times):
            limits.check_before_request(built_total)
            built_total.requests += 1
            built_total.incr(request(input_tokens=_INPUT, output_tokens=_OUTPUT))
            limits.check_tokens(built_total)

    return [
        Contestant(_PYDANTIC_AI, plain),
        Contestant(_PYDANTIC_AI_BUILT, built),
        Contestant(_PYDANTIC_AI_DETAIL, _pydantic_ai_detail(limits, request, usage.RunUsage())),
    ]


def _pydantic_ai_detail(limits: Any, request: Any, total: Any) -> Callable[[int], None]:
    def work(times: int) -> None:
        for _ in range(times):
            limits.check_before_request(total)
            total.requests += 1
            used = request(
                input_tokens=_INPUT,
                output_tokens=_OUTPUT,
                cache_read_tokens=_CACHED,
                cost=_COST,
            )
            total.incr(used)
            limits.check_tokens(total)
            limits.check_cost(total, warn_if_cost_unavailable=False)

    return work


def _opentelemetry() -> Contestant:
    reader = PrometheusMetricReader(registry=CollectorRegistry())
    meter = MeterProvider(metric_readers=[reader]).get_meter("benchmarks")
    tokens, calls = meter.create_counter("tokens"), meter.create_counter("calls")
    attributes = {"session_id": "bench"}

    def work(times: int) -> None:
        for _ in range(times):
            tokens.add(_TOKENS, attributes)
            calls.add(1, attributes)

    return Contestant(_OTEL, work)


def _prometheus() -> Contestant:
    registry = CollectorRegistry()
    tokens = Counter("tokens", "Tokens.", ["session_id"], registry=registry)
    calls = Counter("calls", "Calls.", ["session_id"], registry=registry)

    def work(times: int) -> None:
        for _ in range(times):
            tokens.labels("bench").inc(_TOKENS)
            calls.labels("bench").inc()

    return Contestant(_PROMETHEUS, work)
