"""Why a verdict was what it was, as lines for a terminal."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from otel_budget import semconv
from otel_budget.cli.render.audit import line
from otel_budget.core import budget_json, verdict_json
from otel_budget.logs.text import printable
from otel_budget.policy.format import amount, describe, last_calls, percent

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping

    from otel_budget.cli.explanation import Explanation
    from otel_budget.core.verdict import BudgetState, Verdict

_WIDTH: Final = 12


def in_words(found: Explanation) -> str:
    """Return an explanation as some lines for people."""
    verdict = found.verdict
    at = verdict_json.timestamp(verdict.evaluated_at)
    first = f"{verdict.session_id}: {verdict.action} ({verdict.reason}) at {at}: {verdict.message}"
    rows = [*_numbers(verdict), *_rule(found), *_policy(found)]
    rows += [("order", line(entry)) for entry in found.orders]
    rows += [("top-up", line(entry)) for entry in found.top_ups]
    rows += [("otherwise", text) for text in found.otherwise]
    rows += _around(found)
    lines = [first]
    before = ""
    for name, text in rows:
        lines.append(f"  {'' if name == before else name:<{_WIDTH}}{text}")
        before = name
    return "\n".join(map(printable, lines))


def _numbers(verdict: Verdict) -> Iterator[tuple[str, str]]:
    for name, state in verdict.resources.items():
        near = ""
        if state.warning_at is not None:
            near = f", near from {amount(name, state.warning_at)}, limit of {state.limit_from}"
        yield "numbers", f"{state.status}: {describe(name, state)}{near}"
    if verdict.waiting_since is not None:
        since = verdict_json.timestamp(verdict.waiting_since)
        yield "waits", f"since {since}, until it may go on"
    if verdict.own_limits_replaced:
        names = ", ".join(verdict.own_limits_replaced)
        yield "outside", f"an operator's limits hold in place of its own: {names}"
    for name in verdict.unjudged:
        yield "numbers", f"not judged: {name}, which nothing exports"
    progress = "unknown" if verdict.progress is None else percent(verdict.progress)
    threshold = verdict.completion_threshold
    may = "" if threshold is None else f"; it may finish from {percent(threshold)}"
    yield "progress", f"{progress}{may}"
    for budget in verdict.budgets:
        yield "budget", _budget(budget)
    if not verdict.should_continue:
        allowed = "none" if verdict.wrap_up is None else last_calls(verdict.wrap_up)
        yield "last calls", allowed
    yield "limit from", verdict.limit_from or "none: nothing binds"
    age = "there were none"
    if verdict.data_at is not None:
        seconds = max(0.0, verdict.evaluated_at - verdict.data_at)
        age = (
            f"{amount(semconv.DURATION, seconds)} old, of {verdict_json.timestamp(verdict.data_at)}"
        )
    yield "data", age


def _budget(budget: BudgetState) -> str:
    used = ", ".join(
        f"{name} {percent(state.ratio)} ({amount(name, state.used)} of {amount(name, state.limit)}"
        f"{_made_of(name, state)})"
        for name, state in budget.resources.items()
    )
    start = budget_json.local_time(budget.window.start, budget.tz) or "its begin"
    resets = budget_json.local_time(budget.window.resets_at, budget.tz) or "never"
    binds = "; it decided" if budget.binds else ""
    return f"{budget.origin}, {budget.mode}: {used}, from {start}, resets {resets}{binds}"


def _made_of(name: str, state: Any) -> str:
    more = [
        f"{amount(name, value)} {what}"
        for what, value in (("topped up", state.top_up), ("carried over", state.carried))
        if value
    ]
    return f", with {' and '.join(more)}" if more else ""


def _rule(found: Explanation) -> Iterator[tuple[str, str]]:
    row = found.row
    if row is None:
        yield "rule", f"{found.verdict.reason}: of a newer version"
        return
    yield "rule", f"status {row.status}; progress {row.progress}: {row.action}, {row.reason}"


def _policy(found: Explanation) -> Iterator[tuple[str, str]]:
    revision = found.verdict.policy_revision
    entry = found.configuration
    if entry is None:
        yield "policy", f"{revision}, which the log does not have any more"
        return
    yield "policy", f"{revision}, taken at {entry.get('at')}"
    concerned = {budget.name for budget in found.verdict.budgets}
    for key, section in _sections(entry["body"].get("policy"), concerned):
        yield "policy", f"{key}: {section}"


def _sections(text: object, budgets: Container[str]) -> Iterator[tuple[str, str]]:
    """Yield what is set in each section of a policy; what is not is left out.

    budgets: names of those that concern the run, each of which is a section; others do not matter.
    """
    try:
        policy = json.loads(str(text))
        items: Mapping[str, Any] = policy if isinstance(policy, dict) else {}
    except ValueError:
        items = {}
    for key, section in items.items():
        if key == "budgets" and isinstance(section, dict):
            for name, one in section.items():
                if name in budgets:
                    yield f"budget {name}", json.dumps(_set(one))
            continue
        yield key, json.dumps(_set(section))


def _set(section: object) -> object:
    """Return a section of a policy without what is not set, at any depth."""
    if not isinstance(section, dict):
        return section
    kept = {name: _set(value) for name, value in section.items() if value is not None}
    return {name: value for name, value in kept.items() if value not in ({}, [], False, "")}


def _around(found: Explanation) -> Iterator[tuple[str, str]]:
    before = found.entry["body"].get("before")
    if isinstance(before, dict):
        yield "before", f"{before.get('action')} ({before.get('reason')})"
    else:
        yield "before", "nothing: it was the first verdict on the run"
    would = found.verdict.would
    if would is not None:
        origin = "" if would.limit_from is None else f", by {would.limit_from}"
        yield "shadow", f"would be {would.action} ({would.reason}{origin}): {would.message}"
    if found.since is not None:
        yield "then", line(found.since)
