"""How dashboards and alerts tell one kind of a budget's windows from another."""

from __future__ import annotations

import re

import pytest

from grafana.budget_promql import ROLLING
from otel_budget.core.budget import Window, WindowKind
from otel_budget.core.budget_text import window_text


@pytest.mark.parametrize("kind", list(WindowKind))
def test_a_rolling_window_alone_is_taken_for_one(kind: WindowKind) -> None:
    """By the words of the label ``window``, which are the same wherever people read them."""
    window = Window(kind, seconds=86_400, every="day")
    assert bool(re.fullmatch(ROLLING, window_text(window))) is (kind is WindowKind.ROLLING)
