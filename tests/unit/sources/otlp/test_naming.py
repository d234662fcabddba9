"""OTLP's names, as the Collector and Prometheus write them."""

from __future__ import annotations

import pytest

from otel_budget.sources.otlp import naming
from otel_budget.sources.otlp.messages import GAUGE, SUM


@pytest.mark.parametrize(
    ("name", "unit", "kind", "full", "short"),
    [
        ("claude_code.token.usage", "tokens", "counter",
         "claude_code_token_usage_tokens_total", "claude_code_token_usage_total"),
        ("claude_code.cost.usage", "USD", "counter",
         "claude_code_cost_usage_USD_total", "claude_code_cost_usage_total"),
        ("otel_budget_tokens_total", "{token}", "counter",
         "otel_budget_tokens_total", "otel_budget_tokens_total"),
        ("otel_budget.usage.cost_usd", "{USD}", "counter",
         "otel_budget_usage_cost_usd_total", "otel_budget_usage_cost_usd_total"),
        ("otel_budget_duration_seconds", "s", "gauge",
         "otel_budget_duration_seconds", "otel_budget_duration_seconds"),
        ("system.memory.utilization", "1", "gauge",
         "system_memory_utilization_ratio", "system_memory_utilization"),
        ("queue.size", "1", "sum", "queue_size", "queue_size"),
        ("net.io", "By/s", "counter", "net_io_bytes_per_second_total", "net_io_total"),
        ("(lambda).function.executions(#)", "", "counter",
         "lambda_function_executions_total", "lambda_function_executions_total"),
        ("2xx.answers", "", "counter", "_2xx_answers_total", "_2xx_answers_total"),
    ],
)  # fmt: skip
def test_a_name_has_the_spellings_of_prometheus(
    name: str, unit: str, kind: str, full: str, short: str
) -> None:
    """With the unit, and without."""
    found = naming.spellings(
        name, unit, GAUGE if kind == "gauge" else SUM, monotonic=kind == "counter"
    )
    assert found[0] == full
    assert short in found


def test_the_spelling_that_somebody_knows_is_taken() -> None:
    """The full one first; of a histogram its sum and its count, each by itself."""
    known = {"a_b_total", "h_seconds_sum", "h_count"}
    assert naming.known_name("a.b", "s", SUM, monotonic=True, known=known) == "a_b_total"
    assert naming.known_name("a.b", "s", SUM, monotonic=False, known=known) is None
    assert naming.known_names("h", "s", known) == ("h_seconds_sum", "h_count")
    assert naming.known_names("other", "s", known) == (None, None)


def test_an_attribute_is_spelt_as_a_label() -> None:
    """Dots and dashes are underscores; a label begins with no digit."""
    assert naming.label("session.id") == "session_id"
    assert naming.label("gen_ai.token-type") == "gen_ai_token_type"
    assert naming.label("5xx") == "key_5xx"
