"""What a call costs: resolving names once, and what nobody knows."""

from __future__ import annotations

import logging
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from otel_budget import Prices
from otel_budget.sdk.pricing import bundled, prices
from otel_budget.sdk.usage_arguments import OperationUsage
from tests.support.monitors import Make

#: 1,000 in, 500 of them cached and 100 written to the cache; 100 out.
CALL = OperationUsage(1100, 1000, 100, 500, 100, 20, api_call=True)
NOW = datetime(2026, 11, 25, tzinfo=UTC).timestamp()


def fresh() -> Prices:
    """Return prices that nothing was looked up in yet."""
    return Prices(clock=lambda: NOW)


def test_cached_input_and_reasoning_are_priced_as_the_provider_does() -> None:
    """Claude Opus: 400 at $5, 500 read at $0.50, 100 written at $6.25, 100 out at $25."""
    want = Decimal("0.002") + Decimal("0.00025") + Decimal("0.000625") + Decimal("0.0025")
    assert fresh().cost_of("claude-opus-4-8", "anthropic", CALL) == want


@pytest.mark.parametrize(
    ("model", "provider", "same"),
    [
        ("gpt-4o", "openai", ("gpt-4o", "openai")),
        ("gpt-4o-2024-08-06", "openai", ("gpt-4o", "openai")),
        ("GPT-4o", "OpenAI", ("gpt-4o", "openai")),
        ("gpt-4o", None, ("gpt-4o", "openai")),
        ("gpt-4o", "a-gateway-of-ours", ("gpt-4o", "openai")),
        ("openai/gpt-4o", None, ("gpt-4o", "openai")),
        ("openai/gpt-4o", "openai", ("gpt-4o", "openai")),
        ("openai/gpt-4o", "litellm", ("gpt-4o", "openai")),
        ("gpt-4o", "azure.ai.openai", ("gpt-4o", "azure")),
        ("gpt-4o", "az.ai.openai", ("gpt-4o", "azure")),
        ("gemini-2.5-pro", "gcp.gemini", ("gemini-2.5-pro", "google")),
        ("gemini-2.5-pro", "gcp.vertex_ai", ("gemini-2.5-pro", "google")),
        ("claude-sonnet-4-5-20250929", "anthropic", ("claude-sonnet-4-5", "anthropic")),
        ("deepseek-chat", "openai", ("deepseek-chat", "deepseek")),
        ("grok-4", "x_ai", ("grok-4", "x-ai")),
        ("mistral-large-latest", "mistral_ai", ("mistral-large-latest", "mistral")),
        ("command-r-plus", "cohere", ("command-r-plus", "cohere")),
        ("llama-3.3-70b-versatile", "groq", ("llama-3.3-70b-versatile", "groq")),
        ("sonar", "perplexity", ("sonar", "perplexity")),
        (
            "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
            "aws.bedrock",
            ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "aws"),
        ),
    ],
)
def test_a_model_is_found_however_telemetry_spells_it_and_its_provider(
    model: str, provider: str | None, same: tuple[str, str]
) -> None:
    """Dates, prefixes, the conventions' names of providers, and none at all."""
    data = pytest.importorskip("genai_prices")
    usage = data.Usage(
        input_tokens=1000, output_tokens=100, cache_read_tokens=500, cache_write_tokens=100
    )
    at = datetime.fromtimestamp(NOW, UTC)
    want = data.calc_price(usage, same[0], provider_id=same[1], genai_request_timestamp=at)
    assert fresh().cost_of(model, provider, CALL) == want.total_price


def test_a_fine_tuned_model_has_its_own_price() -> None:
    """It is dearer than the model it was made of."""
    tuned, plain = (
        fresh().cost_of(name, "openai", CALL)
        for name in ("ft:gpt-4o-mini-2024-07-18:org::id", "gpt-4o-mini-2024-07-18")
    )
    assert tuned is not None
    assert plain is not None
    assert tuned > plain


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("a-model", None),
        ("gpt-4o", "aws.bedrock"),  # where it is not sold
        ("whisper-1", "openai"),  # sold by the hour
        ("", None),
        ("m" * 10_000_000, "openai"),
        ("gpt-4o", "p" * 10_000_000),
        ("\ud800", "\0"),
    ],
)
def test_what_has_no_price_is_unpriced_and_not_free(model: str, provider: str | None) -> None:
    """Unknown is not zero."""
    assert fresh().cost_of(model, provider, CALL) is None


@pytest.mark.parametrize(
    "amounts",
    [
        OperationUsage(1100, api_call=True),
        OperationUsage(1100, 1000, 99, api_call=True),
        OperationUsage(api_call=True, usage_unknown=True),
        OperationUsage(api_call=True, failed=True, usage_unknown=True),
    ],
)
def test_tokens_that_are_not_told_apart_have_no_price(amounts: OperationUsage) -> None:
    """Input and output differ too much in price to guess."""
    assert fresh().cost_of("gpt-4o", "openai", amounts) is None


def test_a_failed_call_that_used_nothing_costs_nothing() -> None:
    """Also where a request has a price: providers charge answers. Of an unknown model: unknown."""
    failed = OperationUsage(api_call=True, failed=True)
    assert fresh().cost_of("gpt-4o", "openai", failed) == 0
    assert fresh().cost_of("sonar", "perplexity", failed) == 0
    assert fresh().cost_of("a-model", None, failed) is None


def test_a_failed_call_that_used_tokens_costs_what_they_cost() -> None:
    """A stream that was cut had its input read."""
    used = OperationUsage(1000, 1000, api_call=True, failed=True)
    assert fresh().cost_of("gpt-4o", "openai", used) == Decimal("0.0025")


def test_only_a_call_pays_for_the_request() -> None:
    """Tokens that are booked apart from their call don't."""
    call, none = (
        fresh().cost_of("sonar", "perplexity", CALL._replace(api_call=flag))
        for flag in (True, False)
    )
    assert call is not None
    assert none is not None
    assert call > none


def test_a_name_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown one, too."""
    asked: list[str] = []
    look_up = bundled.look_up

    def counted(model: str, *others: Any) -> Any:
        asked.append(model)
        return look_up(model, *others)

    monkeypatch.setattr(bundled, "look_up", counted)
    found = fresh()
    for _ in range(3):
        found.cost_of("gpt-4o", "openai", CALL)
        found.cost_of("a-model", None, CALL)
    assert asked == ["gpt-4o", "a-model"]


def test_what_is_remembered_is_bounded() -> None:
    """An agent that makes up a name for each call does not fill the memory."""
    found = fresh()
    for number in range(prices._MOST_KNOWN * 2 + 5):
        found.cost_of(f"m-{number}", "a-gateway-of-ours", CALL)
    assert len(found._known) <= prices._MOST_KNOWN


def test_without_the_price_list_calls_are_unpriced_and_it_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With what to install."""
    monkeypatch.setitem(sys.modules, "otel_budget.sdk.pricing.bundled", None)
    monkeypatch.delattr("otel_budget.sdk.pricing.bundled", raising=False)
    found = fresh()
    with caplog.at_level(logging.WARNING, "otel_budget"):
        assert found.cost_of("gpt-4o", "openai", CALL) is None
        assert found.cost_of("gpt-4.1", "openai", CALL) is None
    assert len(caplog.records) == 1
    assert "pip install '.[prices]'" in caplog.text


def test_a_price_list_that_fails_costs_a_price_and_not_the_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A version of it that we do not know, say."""

    def broken(*_: object) -> None:
        raise AttributeError("no such name")

    monkeypatch.setattr(bundled, "look_up", broken)
    assert fresh().cost_of("gpt-4o", "openai", CALL) is None
    assert "no such name" in caplog.text


def test_a_process_that_prices_nothing_does_not_load_the_price_list() -> None:
    """It takes some tenths of a second, and brings pydantic and an HTTP client."""
    code = (
        "import sys\n"
        "from otel_budget import ResourceMonitor\n"
        "m = ResourceMonitor()\n"
        "m.record_operation(5, api_call=True)\n"
        "m.close(timeout=0)\n"
        "print([n for n in ('genai_prices', 'pydantic', 'h11') if n in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_monitor_prices_its_calls(make: Make) -> None:
    """By model, with and without a provider; what the caller says of the cost goes first."""
    monitor = make(max_cost_usd=1)
    use: dict[str, Any] = {"input_tokens": 1000, "output_tokens": 100}
    monitor.record_operation(api_call=True, model="gpt-4o", **use)
    monitor.record_operation(api_call=True, model="gpt-4o", provider="openai", cost_usd=1, **use)
    with monitor.operation(model="gpt-4o") as operation:
        operation.record(**use)
    usage = monitor.get_usage_report()
    assert usage.cost_usd == Decimal("1.007")
    assert usage.unpriced_calls == 0
    assert monitor.get_usage_summary()["cost"]["percentage"] == pytest.approx(100.7)


def test_a_call_without_a_model_is_unpriced_as_before(make: Make) -> None:
    """Nobody knows what it cost."""
    monitor = make()
    monitor.record_operation(api_call=True, input_tokens=5, output_tokens=5)
    monitor.record_operation(5, api_call=True)
    assert monitor.get_usage_report().unpriced_calls == 2


def test_a_failed_call_of_a_known_model_is_not_unpriced(make: Make) -> None:
    """It used nothing, so it costs nothing; of an unknown model nobody knows."""
    monitor = make()
    for model in ("gpt-4o", "a-model"):
        with pytest.raises(OSError, match="cut off"), monitor.operation(model=model):
            raise OSError("cut off")
    usage = monitor.get_usage_report()
    assert (usage.failed_api_calls, usage.unpriced_calls) == (2, 1)
    assert usage.cost_usd == 0
