"""What docs/money.md says is run."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

from otel_budget import Prices
from otel_budget.sdk.usage_arguments import OperationUsage
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "money.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    """Return the page's one block of a language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


def test_the_call_on_the_page_is_priced() -> None:
    """5,000 new tokens at $2.50, 27,000 cached ones at $0.25, 900 out at $15."""
    names: dict[str, Any] = {}
    exec(block("python"), names)  # noqa: S102 - our own page
    monitor = names["monitor"]
    assert monitor.get_usage_report().cost_usd == Decimal("0.03275")
    monitor.close(timeout=0)


def test_the_prices_on_the_page_are_read_and_mean_what_it_says(tmp_path: Path) -> None:
    """Names, patterns, providers, and what is free."""
    path = tmp_path / "prices.yaml"
    path.write_text(block("yaml"), encoding="utf-8")
    cost_of = Prices.from_yaml(path).cost_of
    call = OperationUsage(2_000_000, 1_000_000, 1_000_000, api_call=True)
    assert cost_of("my-model", None, call) == Decimal("7.5")
    assert cost_of("my-model-2", None, call) == Decimal("2.5")
    assert cost_of("local/llama", None, call) == 0
    assert cost_of("search", None, call) == Decimal("2.005")
    assert cost_of("gpt-4o", "az.ai.openai", call) == 10
    assert cost_of("gpt-4o", "openai", call) == Decimal("12.5")
