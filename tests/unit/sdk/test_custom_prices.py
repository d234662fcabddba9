"""Own prices in YAML: what they say, and every refusal with file, line and key."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from otel_budget import Prices, ResourceLimits, ResourceMonitor
from otel_budget.errors import ConfigFileError, InvalidValueError
from otel_budget.sdk.pricing.prices import ENV_PRICES
from otel_budget.sdk.usage_arguments import OperationUsage
from tests.support.monitors import Make

CALL = OperationUsage(1_100_000, 1_000_000, 100_000, 400_000, 100_000, 0, api_call=True)

TEXT = """\
currency: USD
prices:
  my-model: {input: 1, output: 10, cache_read: 0.1, cache_write: 2, per_request: 0.25}
  My-Model-*: {input: 3, output: 3}
  my-model-small: {input: 0.5, output: 0.5}
  free-?b: {input: 0, output: 0}
  embed: {input: 1}
  gpt-4o:
    - {provider: azure.ai.openai, input: 1, output: 1}
    - {input: 2, output: 2}
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file above."""
    path = tmp_path / "prices.yaml"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("model", "provider", "want"),
    [
        ("my-model", None, "0.5 0.04 0.2 1 0.25"),
        ("MY-MODEL", "whoever", "0.5 0.04 0.2 1 0.25"),
        ("my-model-large", None, "3.3"),
        ("my-model-small", None, "0.55"),
        ("free-7b", None, "0"),
        ("gpt-4o", "az.ai.openai", "1.1"),
        ("gpt-4o", "openai", "2.2"),
        ("gpt-4o", None, "2.2"),
    ],
)
def test_own_prices_come_before_all_others(
    path: Path, model: str, provider: str | None, want: str
) -> None:
    """A name before a pattern, one with the provider before one without; parts at their price."""
    cost = Prices.from_yaml(path).cost_of(model, provider, CALL)
    assert cost == sum(map(Decimal, want.split()))


def test_what_the_file_does_not_name_has_the_bundled_price(path: Path) -> None:
    """It overrides, and does not replace."""
    assert Prices.from_yaml(path).cost_of("gpt-4.1", "openai", CALL) is not None


@pytest.mark.parametrize("model", ["free-70b", "embed"])
def test_tokens_of_a_kind_without_a_price_are_unpriced(path: Path, model: str) -> None:
    """Unknown is not zero; free is written as 0."""
    assert Prices.from_yaml(path).cost_of(model, None, CALL) is None


def test_input_alone_may_have_a_price(path: Path) -> None:
    """As embeddings do."""
    used = OperationUsage(2_000_000, 2_000_000, api_call=True)
    assert Prices.from_yaml(path).cost_of("embed", None, used) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prices: {m: {inptu: 1}}", r":1: prices\.m\.inptu: .* did you mean 'input'"),
        ("prices:\n  m:\n    input: -1", r":3: prices\.m\.input: -1 is not allowed; .*US dollars"),
        ("prices:\n  m: {input: .nan}", r":2: prices\.m\.input: nan"),
        ("prices: {m: {input: true}}", r":1: prices\.m\.input: True"),
        ("prices: {m: {input: 'a lot'}}", r":1: prices\.m\.input: 'a lot'"),
        ("prices: {m: {input: 1.0e-30}}", r":1: prices\.m\.input: .* 20 decimal places"),
        ("prices: {m: {input: [1]}}", r":1: prices\.m\.input: \[1\]"),
        ("prices: {m: {}}", r":1: prices\.m: \{\} is not allowed; allowed: a mapping of prices"),
        ("prices: {m: 5}", r":1: prices\.m: 5"),
        ("prices: {m: []}", r":1: prices\.m: \[\]"),
        ("prices: {m: {provider: openai}}", r":1: prices\.m: .* one of the prices input"),
        ("prices: {m: {provider: 1, input: 1}}", r":1: prices\.m\.provider: 1"),
        ("prices:\n  m:\n    - input: 1\n    - outptu: 1", r":4: prices\.m\[1\]\.outptu"),
        ("prices:\n  4.1: {input: 1}", r":2: prices\.4\.1: 4\.1 .* a text"),
        ("prices: [m]", r":1: prices: \['m'\] is not allowed; allowed: a mapping"),
        ("prices: {}\ncurrency: EUR", r":2: currency: 'EUR' is not allowed; allowed: USD"),
        ("prices: {}\ncurrency:", r":2: currency: None"),
        ("prises: {}", r":1: prises: .* did you mean 'prices'"),
        ("{}", r"prices: the section is missing"),
        ("prices: {m: {input: 1}, m: {input: 2}}", r":1: .*second time"),
    ],
)
def test_what_is_not_allowed_is_refused_with_file_line_and_key(
    tmp_path: Path, text: str, message: str
) -> None:
    """A slip in a price is found before the first call, not on the bill."""
    path = tmp_path / "p.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidValueError, match=message):
        Prices.from_yaml(path)


def test_limits_may_stand_in_the_same_file(path: Path) -> None:
    """One file for a run's money."""
    text = path.read_text(encoding="utf-8") + "resource_limits: {max_cost_usd: 5}\n"
    path.write_text(text, encoding="utf-8")
    assert Prices.from_yaml(path).cost_of("embed", None, OperationUsage(1, 1)) is not None
    assert ResourceLimits.from_yaml(path).max_cost_usd == 5


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """At once, not at the first call."""
    with pytest.raises(ConfigFileError, match="cannot be read"):
        ResourceMonitor(prices=tmp_path / "none.yaml")


@pytest.mark.parametrize("wrong", [5, {}, True, object()])
def test_a_monitor_refuses_what_are_no_prices(wrong: object) -> None:
    """Naming the argument."""
    with pytest.raises(InvalidValueError, match=r"prices: .* a Prices, the path"):
        ResourceMonitor(prices=wrong)  # type: ignore[arg-type] # the point of the test


@pytest.mark.parametrize("how", ["argument", "path", "environment"])
def test_a_monitor_takes_prices_as_they_are_from_a_path_or_the_environment(
    make: Make, path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All the same prices."""
    given = {"argument": Prices.from_yaml(path), "path": str(path), "environment": None}[how]
    if how == "environment":
        monkeypatch.setenv(ENV_PRICES, str(path))
    monitor = make(prices=given)
    monitor.record_operation(
        api_call=True, model="my-model-x", input_tokens=1_000_000, output_tokens=1_000_000
    )
    assert monitor.get_usage_report().cost_usd == 6


def test_a_file_that_changed_is_read_again(make: Make, path: Path) -> None:
    """By the next monitor."""
    make(prices=path)
    path.write_text("prices: {my-model: {input: 7}}", encoding="utf-8")
    monitor = make(prices=path)
    monitor.record_operation(api_call=True, model="my-model", input_tokens=1_000_000)
    assert monitor.get_usage_report().cost_usd == 7
