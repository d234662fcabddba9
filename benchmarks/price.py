"""What a price costs, beside the price list's own ``calc_price``."""

from __future__ import annotations

from itertools import cycle, islice
from typing import TYPE_CHECKING

import genai_prices

from benchmarks.report import Goal, Report
from benchmarks.rounds import Contestant, take_turns
from otel_budget import Prices, ResourceLimits, ResourceMonitor
from otel_budget.sdk.usage_arguments import OperationUsage

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.rounds import Timings

#: Plain, with a tier by the length of the input, and with a price that depends on the time.
_MODELS = (
    ("gpt-4o-mini-2024-07-18", "openai"),
    ("claude-sonnet-4-5-20250929", "anthropic"),
    ("gemini-2.5-pro", "google"),
    ("deepseek-chat", "deepseek"),
)
_CALL = OperationUsage(1200, 1000, 200, 600, 100, 50, api_call=True)

_PRICE = "a price"
_RECORD = "record, in detail, priced by its model"
_RECORD_GIVEN = "record, in detail, cost_usd given"
_LIST = "genai_prices.calc_price, Usage ready"
_LIST_BUILT = "genai_prices.calc_price, Usage built"
#: Microseconds.
_AT_MOST = 2.0


def run(*, quick: bool) -> Report:
    """Measure one price."""
    monitor = ResourceMonitor(ResourceLimits(max_tokens=None, max_api_calls=None))
    contestants = [
        Contestant(_PRICE, _ours()),
        Contestant(_LIST, _lists_own(built=False)),
        Contestant(_LIST_BUILT, _lists_own(built=True)),
        Contestant(_RECORD, _record(monitor, given=False)),
        Contestant(_RECORD_GIVEN, _record(monitor, given=True)),
    ]
    rounds = 30 if quick else 300
    timings = take_turns(contestants, rounds=rounds, turn=0.003, label="one price")
    monitor.close(timeout=0)
    return _report(timings, contestants, rounds)


def _report(timings: Timings, contestants: list[Contestant], rounds: int) -> Report:
    rows = tuple(
        (
            one.name,
            timings.seconds(one.name).text(1e6),
            timings.ratio(one.name, _LIST).text(digits=3),
        )
        for one in contestants
    )
    goal = Goal("a price, in µs", timings.seconds(_PRICE).median * 1e6, _AT_MOST)
    return Report(
        title="The price of a call",
        about=(
            f"Of {len(_MODELS)} models in turn, by their dated names and with their providers: "
            "cached input, a write to the cache and reasoning; one of them has a tier by the "
            "length of the input. Both find the model once and remember it. Beside it what it "
            f"adds to a record. {rounds} rounds."
        ),
        columns=("", "µs", "of calc_price"),
        rows=rows,
        goals=(goal,),
    )


def _ours() -> Callable[[int], None]:
    cost_of = Prices().cost_of

    def work(times: int) -> None:
        for model, provider in islice(cycle(_MODELS), times):
            cost_of(model, provider, _CALL)

    return work


def _lists_own(*, built: bool) -> Callable[[int], None]:
    def usage() -> genai_prices.Usage:
        return genai_prices.Usage(
            input_tokens=_CALL.input_tokens,
            output_tokens=_CALL.output_tokens,
            cache_read_tokens=_CALL.cache_read_tokens,
            cache_write_tokens=_CALL.cache_write_tokens,
            output_reasoning_tokens=_CALL.reasoning_tokens,
        )

    ready = usage()

    def work(times: int) -> None:
        for model, provider in islice(cycle(_MODELS), times):
            genai_prices.calc_price(usage() if built else ready, model, provider_id=provider)

    return work


def _record(monitor: ResourceMonitor, *, given: bool) -> Callable[[int], None]:
    cost = Prices().cost_of(*_MODELS[0], _CALL) if given else None

    def work(times: int) -> None:
        count = monitor.record_operation
        for model, provider in islice(cycle(_MODELS), times):
            count(
                api_call=True,
                input_tokens=_CALL.input_tokens,
                output_tokens=_CALL.output_tokens,
                cache_read_tokens=_CALL.cache_read_tokens,
                cache_write_tokens=_CALL.cache_write_tokens,
                reasoning_tokens=_CALL.reasoning_tokens,
                model=model,
                provider=provider,
                cost_usd=cost,
            )

    return work
