"""A verdict in words, for the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_budget import semconv
from otel_budget.core import verdict_json
from otel_budget.core.budget import Mode
from otel_budget.logs.text import printable
from otel_budget.policy.budget_words import describe_resource, moment, of_group
from otel_budget.policy.format import amount, describe, last_calls, rest_of

if TYPE_CHECKING:
    from otel_budget.core.verdict import BudgetState, Verdict


def in_words(verdict: Verdict) -> str:
    """Return a verdict as some lines for people."""
    first = f"{verdict.session_id}: {verdict.action} ({verdict.reason}): {verdict.message}"
    if verdict.run_state in semconv.ENDED_STATES:
        first += f" (the run has ended: {verdict.run_state})"
    if verdict.run_state == semconv.VANISHED:
        first += " (the run is no longer seen, and never reported its end)"
    lines = [first, f"  {_when(verdict)}", *asking_in_words(verdict)]
    if verdict.wrap_up is not None:
        lines.append(f"  {'last calls':<11} {last_calls(verdict.wrap_up)}, to finish")
    if (would := verdict.would) is not None:
        origin = "" if would.limit_from is None else f", by {would.limit_from}"
        lines.append(
            f"  {'shadow':<11} would be {would.action} ({would.reason}{origin}): {would.message}"
        )
    for name, state in verdict.resources.items():
        owner = "run" if state.limit_from == "session" else state.limit_from
        origin = "" if owner is None else f", limit of the {owner}"
        rest = "" if state.forecast is None else rest_of(state.forecast)
        first_of = ", the first to end" if name == verdict.ends_first else ""
        left = f"; {rest}{first_of}" if rest else ""
        lines.append(f"  {state.status:<11} {describe(name, state)}{origin}{left}")
    lines += [f"  {_budget_line(budget)}" for budget in verdict.budgets]
    lines += [f"  {'not judged':<11} {name}: nothing exports it" for name in verdict.unjudged]
    return "\n".join(map(printable, lines))


def asking_in_words(verdict: Verdict) -> list[str]:
    """Say that a run asks for more, and which limits of its own an operator's stand in for."""
    lines = []
    if verdict.waiting_since is not None:
        since = verdict_json.timestamp(verdict.waiting_since)
        lines.append(f"  {'waiting':<11} since {since}: it waits until it may go on")
    if verdict.own_limits_replaced:
        names = ", ".join(verdict.own_limits_replaced)
        lines.append(f"  {'outside':<11} an operator's limits hold in place of its own: {names}")
    return lines


def _budget_line(budget: BudgetState) -> str:
    """Say how a budget stands, until when, and whether it decided."""
    shadow = " (shadow)" if budget.mode is Mode.SHADOW else ""
    resets = budget.window.resets_at
    until = "" if resets is None else f", resets {moment(resets, budget.tz)}"
    binds = "; it decided" if budget.binds else ""
    return f"{budget.status:<11} {nearest_of(budget, shadow)}{until}{binds}"


def nearest_of(budget: BudgetState, note: str = "") -> str:
    """Say which budget it is, and the resource that is nearest to its limit. note: after its
    name.
    """
    name, one = max(budget.resources.items(), key=lambda each: each[1].ratio)
    return f"budget {budget.name}{of_group(budget)}{note}: {describe_resource(name, one)}"


def _when(verdict: Verdict) -> str:
    """Say how old the data were when the verdict was made, and when the run began."""
    data = "no data yet"
    if verdict.data_at is not None:
        age = amount(semconv.DURATION, max(0.0, verdict.evaluated_at - verdict.data_at))
        data = f"data {age} old when judged at {verdict_json.timestamp(verdict.evaluated_at)}"
    if verdict.started_at is None:
        return f"{data}; the run does not say when it began"
    return f"{data}; the run began at {verdict_json.timestamp(verdict.started_at)}"
