"""Our price of a call is the price list's own, for every model in it, at every moment."""

from __future__ import annotations

import decimal
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_budget.core.extras import Extras, extras_of
from otel_budget.sdk.pricing.prices import Prices
from otel_budget.sdk.usage_arguments import OperationUsage

genai_prices = pytest.importorskip("genai_prices")
data = pytest.importorskip("genai_prices.data")

MODELS = [(provider.id, model.id) for provider in data.providers for model in provider.models]
#: From before the first price that begins at a date to after the last.
MOMENTS = st.floats(
    datetime(2023, 1, 1, tzinfo=UTC).timestamp(), datetime(2029, 1, 1, tzinfo=UTC).timestamp()
)


@st.composite
def calls(draw: st.DrawFn) -> OperationUsage:
    """Draw the use of one call; parts are inside their wholes."""
    into = draw(st.integers(0, 2_000_000))
    out = draw(st.integers(0, 200_000))
    cached = draw(st.integers(0, into))
    written = draw(st.integers(0, into - cached))
    reasoning = draw(st.integers(0, out))
    return OperationUsage(into + out, into, out, cached, written, reasoning, api_call=True)


@st.composite
def calls_with_extras(draw: st.DrawFn) -> OperationUsage:
    """Draw the use of one call with what is billed beside its plain tokens."""
    amounts = draw(calls())
    _, into, out, cached, written, reasoning, *_ = amounts
    from_cache = draw(st.integers(0, cached))
    audio = draw(st.integers(0, into - cached - written))
    counts = {
        "input_audio_tokens": audio + from_cache,
        "cache_audio_read_tokens": from_cache,
        "input_image_tokens": draw(st.integers(0, into - cached - written - audio)),
        "cache_write_1h_tokens": draw(st.integers(0, written)),
        "output_audio_tokens": draw(st.integers(0, out - reasoning)),
        "web_searches": draw(st.integers(0, 10)),
    }
    chosen = draw(st.sets(st.sampled_from(sorted(counts))))
    tier = draw(st.sampled_from([None, "batch", "flex", "priority", "fast"]))
    extras = extras_of({name: counts[name] for name in chosen}, tier)
    return amounts._replace(extras=extras)


def listed(model: str, provider: str | None, amounts: OperationUsage, at: float) -> Decimal | None:
    """Return what genai-prices itself says, where all that was used has a price there."""
    extras = amounts.extras or Extras({})
    usage = genai_prices.Usage(
        input_tokens=amounts.input_tokens,
        output_tokens=amounts.output_tokens,
        cache_read_tokens=amounts.cache_read_tokens,
        cache_write_tokens=amounts.cache_write_tokens,
        output_reasoning_tokens=amounts.reasoning_tokens,
        **extras.counts,
    )
    moment = datetime.fromtimestamp(at, UTC)
    keys = ("service_tier", "processing", "speed")
    context = dict.fromkeys(keys, extras.service_tier) if extras.service_tier else None
    found = genai_prices.calc_price(
        usage, model, provider_id=provider, genai_request_timestamp=moment, price_context=context
    )
    prices = found.model_price
    if amounts.input_tokens and prices.input_mtok is None:
        return None
    if amounts.output_tokens and prices.output_mtok is None:
        return None
    total: Decimal = found.total_price
    return total


@given(st.sampled_from(MODELS), calls(), MOMENTS)
def test_every_price_is_the_lists_own(
    named: tuple[str, str], amounts: OperationUsage, at: float
) -> None:
    """Tiers by the length of the input, cached parts, reasoning, dates and times of day."""
    provider, model = named
    try:
        want = listed(model, provider, amounts, at)
    except LookupError:
        return  # an id that its own provider does not match
    assert Prices(clock=lambda: at).cost_of(model, provider, amounts) == want


@given(st.sampled_from(MODELS), calls_with_extras(), MOMENTS)
def test_a_price_that_covers_the_extras_is_the_lists_own(
    named: tuple[str, str], amounts: OperationUsage, at: float
) -> None:
    """Audio, pictures, the dearer cache, searches, service tiers; no price is only for a part."""
    provider, model = named
    prices = Prices(clock=lambda: at)
    worth = prices.worth(model, provider, amounts)
    if worth.covered:
        assert worth.cost == listed(model, provider, amounts, at)
    assert prices.cost_of(model, provider, amounts) == worth.cost


@given(st.sampled_from(MODELS), calls(), st.lists(MOMENTS, min_size=2, max_size=6))
def test_a_remembered_price_is_the_one_that_holds_now(
    named: tuple[str, str], amounts: OperationUsage, moments: list[float]
) -> None:
    """Prices change at dates and at times of day; what was looked up before does not outlive it."""
    provider, model = named
    now = [0.0]
    prices = Prices(clock=lambda: now[0])
    for at in sorted(moments):
        now[0] = at
        try:
            want = listed(model, provider, amounts, at)
        except LookupError:
            return
        assert prices.cost_of(model, provider, amounts) == want


@given(st.sampled_from(MODELS), calls(), st.integers(2, 28))
def test_the_callers_decimal_context_changes_no_price(
    named: tuple[str, str], amounts: OperationUsage, digits: int
) -> None:
    """A run that counts with six digits is charged the same."""
    provider, model = named
    with decimal.localcontext(decimal.Context(prec=digits, traps=[])):
        narrow = Prices(clock=lambda: 1.8e9).cost_of(model, provider, amounts)
    assert narrow == Prices(clock=lambda: 1.8e9).cost_of(model, provider, amounts)


@given(st.text(max_size=300), st.none() | st.text(max_size=30), calls())
def test_no_name_makes_it_raise(model: str, provider: str | None, amounts: OperationUsage) -> None:
    """Telemetry holds anything."""
    cost = Prices(clock=lambda: 1.8e9).cost_of(model, provider, amounts)
    assert cost is None or cost >= 0
