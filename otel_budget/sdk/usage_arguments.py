"""What one operation used: the one type that is counted, and how arguments become it.

The rules: cached tokens are inside the input, reasoning inside the output, input and output inside
the tokens; a part larger than its whole is refused, because then a part is counted beside its
whole. ``tokens=None`` means used but unknown, which is not 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from otel_budget.core import validation
from otel_budget.core.extras import (
    CACHE_WRITE_1H,
    CACHED_KINDS,
    INPUT_KINDS,
    OUTPUT_KINDS,
    checked,
)
from otel_budget.errors import InvalidValueError
from otel_budget.sdk.phase_counters import NOTHING_FURTHER, Further

if TYPE_CHECKING:
    from collections.abc import Mapping
    from decimal import Decimal

    from otel_budget.core.extras import Extras
    from otel_budget.core.quantities import Number

OUTCOMES = ("ok", "error")


class OperationUsage(NamedTuple):
    """One operation, checked and ready to be added. Parts are inside their wholes.

    A tuple, because one is made for every operation: a frozen dataclass takes five times as long.
    """

    tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    api_call: bool = False
    failed: bool = False
    usage_unknown: bool = False
    cost_usd: Decimal | None = None
    """None: the price of this call is not known."""
    estimated: bool = False
    """The tokens are the mean of other calls."""
    extras: Extras | None = None
    """What is billed beside plain tokens and is not in ``cost_usd``; None: nothing."""
    further: Further = NOTHING_FURTHER
    """Further resources by name, each above 0."""


def operation_usage(
    tokens: int | None,
    api_call: bool,  # noqa: FBT001 - the public signature has it
    *,
    input_tokens: int | None,
    output_tokens: int | None,
    cache_read_tokens: int | None,
    cache_write_tokens: int | None,
    reasoning_tokens: int | None,
    cost_usd: Number | None,
    outcome: str,
    extras: Mapping[str, int] | None,
    service_tier: str | None,
    further: Further = NOTHING_FURTHER,
) -> OperationUsage:
    """Return what one operation used. Raises InvalidValueError naming the argument."""
    if not isinstance(api_call, bool):
        raise InvalidValueError("api_call", api_call, "True or False")
    if outcome not in OUTCOMES:
        raise InvalidValueError("outcome", outcome, " or ".join(map(repr, OUTCOMES)))
    into = 0 if input_tokens is None else validation.count("input_tokens", input_tokens)
    out = 0 if output_tokens is None else validation.count("output_tokens", output_tokens)
    parts_known = input_tokens is not None or output_tokens is not None
    total = validation.count("input_tokens and output_tokens together", into + out)
    if tokens is not None and (validation.count("tokens", tokens) or not parts_known):
        total = tokens
        _inside("input_tokens and output_tokens together", into + out, "tokens", total)
    cached = written = reasoning = 0
    if cache_read_tokens is not None or cache_write_tokens is not None:
        cached = _given("cache_read_tokens", cache_read_tokens)
        written = _given("cache_write_tokens", cache_write_tokens)
        whole = ("tokens", total - out) if input_tokens is None else ("input_tokens", into)
        _inside("cache_read_tokens and cache_write_tokens together", cached + written, *whole)
    if reasoning_tokens is not None:
        reasoning = validation.count("reasoning_tokens", reasoning_tokens)
        whole = ("tokens", total - into) if output_tokens is None else ("output_tokens", out)
        _inside("reasoning_tokens", reasoning, *whole)
    cost = None if cost_usd is None else validation.money("cost_usd", cost_usd)
    failed, unknown = api_call and outcome == "error", tokens is None and not parts_known
    apart = None
    if extras is not None or service_tier is not None:
        apart = checked(extras, service_tier)
        if apart is not None:
            _extras_inside(apart.counts, into, out, cached, written)
    if cost is not None:
        apart = None  # it is of all of the operation
    # Not by name: that takes twice as long, and this is done for every operation.
    return OperationUsage._make(
        (
            total,
            into,
            out,
            cached,
            written,
            reasoning,
            api_call,
            failed,
            unknown,
            cost,
            False,
            apart,
            further,
        )
    )


def further_of(**given: int | None) -> Further:
    """Return what a caller gives of further resources. Raises InvalidValueError naming it."""
    checked_ones = {
        name: validation.count(name, value) for name, value in given.items() if value is not None
    }
    return {name: value for name, value in checked_ones.items() if value}


def _extras_inside(
    counts: Mapping[str, int], into: int, out: int, cached: int, written: int
) -> None:
    """Refuse extras larger than what they are part of."""
    for names, whole, limit in (
        (INPUT_KINDS, "input_tokens", into),
        (CACHED_KINDS, "cache_read_tokens", cached),
        ((CACHE_WRITE_1H,), "cache_write_tokens", written),
        (OUTPUT_KINDS, "output_tokens", out),
    ):
        part = " and ".join(name for name in names if name in counts)
        _inside(part, sum(counts.get(name, 0) for name in names), whole, limit)


def named(key: str, value: str | None) -> str | None:
    """Return a name that may be absent. Raises InvalidValueError for anything but a text."""
    if value is not None and not isinstance(value, str):
        raise InvalidValueError(key, value, "a text, or None")
    return value


def _given(key: str, value: int | None) -> int:
    return 0 if value is None else validation.count(key, value)


def _inside(part: str, value: int, whole: str, limit: int) -> None:
    if value > limit:
        raise InvalidValueError(
            part,
            value,
            f"at most {whole}={limit}: cached tokens are part of the input, reasoning tokens part "
            "of the output, and both part of tokens. Where a provider reports cached tokens apart "
            "(Anthropic's API does), add them to input_tokens first",
        )
