"""What the doctor finds of shared budgets, from what the sidecar tells of them."""

from __future__ import annotations

from typing import Any

import pytest

from otel_budget import semconv
from otel_budget.doctor.budgets import Item, findings
from otel_budget.doctor.finding import State
from otel_budget.sidecar.api.budget_body import GROUP_EXAMPLE

Figures = dict[tuple[str, ...], float]
RUNS: Figures = {(semconv.SIDECAR_SESSIONS.name,): 4.0}
EXPORTED: Figures = {**RUNS, (semconv.USED.name, "r1", semconv.TOKENS, "tokens"): 5.0}


def group(**others: Any) -> Item:
    """Return a group as the API tells it."""
    return {**GROUP_EXAMPLE, **others}


def of(*groups: Item, figures: Figures = EXPORTED) -> list[tuple[State, str]]:
    """Return what is found, state and words."""
    return [(one.state, one.message) for one in findings(groups, figures)]


def test_one_that_counts_is_well() -> None:
    assert of(group()) == []


def test_one_that_no_run_matches_guards_nobody() -> None:
    idle = group(group=None, sessions=0)
    words = "research-month guards nobody: none of 4 runs has team=research"
    assert of(idle) == [(State.WARNING, words)]
    waits = [(State.OK, "research-month waits for runs with team=research")]
    assert of(idle, figures={}) == waits


def test_one_in_shadow_stops_nobody() -> None:
    ((state, words),) = of(group(mode="shadow"))
    assert state is State.WARNING
    assert words.endswith("counted since 2026-01-01T00:00:00.000+01:00: it stops nobody")


def test_groups_past_the_cap_share_one_limit() -> None:
    words = "research-month has no more room than for 1,000 groups: 7 runs share one limit"
    found = of(group(), group(group={"other": "true"}, sessions=7))
    assert found == [(State.WARNING, words)]


@pytest.mark.parametrize("alone", [True, False])
def test_a_label_that_no_run_has_makes_one_group_of_all(*, alone: bool) -> None:
    """Of several, some without it, each that has one has its own."""
    groups = [group(group={"user": ""})] if alone else [group(group={"user": ""}), group()]
    words = "no run of research-month says its user: all of them share one limit"
    assert of(*groups) == ([(State.WARNING, words)] if alone else [])


def test_a_limit_on_what_nobody_exports_never_holds() -> None:
    figures: Figures = {**RUNS, (semconv.USED.name, "r1", semconv.API_CALLS, "calls"): 5.0}
    words = "research-month limits tokens, and no run exports any: that never holds"
    assert of(group(), figures=figures) == [(State.WARNING, words)]


def test_samples_that_are_late_by_much_of_a_window_miss_it() -> None:
    window = {"start": "2026-01-01T10:00:00+00:00", "end": "2026-01-01T11:00:00+00:00"}
    late: Figures = {**EXPORTED, (semconv.SOURCE_DELAY.name, "prometheus"): 400.0}
    ((_, words),) = of(group(window=window), figures=late)
    assert words.startswith("samples come 400 s late, and a window of research-month lasts 3600 s")
    assert of(group(), figures=late) == [], "a month has room for it"
    endless = {"start": "2026-01-01T10:00:00+00:00", "end": None}
    assert of(group(window=endless), figures=late) == []
