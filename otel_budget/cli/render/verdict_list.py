"""What is known of many runs, and of one run's overrides, as lines for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from otel_budget.cli.render.verdict import nearest_of
from otel_budget.logs.text import printable
from otel_budget.policy.format import describe, rest_of, time_left

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otel_budget.core.verdict import Verdict

_WORST_FIRST: Final = ("exceeded", "approaching", "inconclusive", "ok")
_HEADER: Final = ("RUN", "STATE", "VERDICT", "REASON", "NEAREST TO A LIMIT", "FIRST TO END")


def table(verdicts: Sequence[Verdict], expired: Sequence[Mapping[str, Any]]) -> str:
    """Return a line for each run, the worst first; before them those without a verdict."""
    rows = [
        (str(run["session_id"]), "?", "unknown", "-", expired_in_words(run), "") for run in expired
    ]
    ordered = sorted(verdicts, key=lambda v: (_WORST_FIRST.index(v.status), v.session_id))
    rows += map(_row, ordered)
    if not rows:
        return "no runs"
    rows.insert(0, _HEADER)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
    return "\n".join(map(printable, lines))


def expired_in_words(run: Mapping[str, Any]) -> str:
    """Say what the last verdict on a run was, and since when it no longer holds."""
    return (
        f"no verdict since {run['valid_until']}: the last, {run['last_action']} "
        f"({run['last_reason']}) of {run['evaluated_at']}, is past its lease"
    )


def override_in_words(override: Mapping[str, Any]) -> str:
    """Return an override, as the sidecar's JSON has it, on one line."""
    by = override["by"] or "an operator"
    kind = f"{override['kind']}{' now' if override.get('now') else ''}"
    until = "" if override["until"] is None else f", until {override['until']}"
    limits = "".join(
        f", {name} {'none' if limit is None else limit}"
        for name, limit in override["limits"].items()
    )
    return f"{kind} at {override['at']} by {by}{until}{limits}: {override['reason']}"


def _row(verdict: Verdict) -> tuple[str, str, str, str, str, str]:
    limited = {n: s.ratio for n, s in verdict.resources.items() if s.ratio is not None}
    nearest = max(limited, key=limited.__getitem__, default=None)
    usage = "no limit" if nearest is None else describe(nearest, verdict.resources[nearest])
    bound = next((b for b in verdict.budgets if b.origin == verdict.limit_from), None)
    if bound is not None and bound.resources:
        usage = nearest_of(bound)
    state = verdict.run_state or "?"
    if verdict.waiting_since is not None:
        state += f" {time_left(max(0.0, verdict.evaluated_at - verdict.waiting_since))}"
    return verdict.session_id, state, verdict.action, str(verdict.reason), usage, _first(verdict)


def _first(verdict: Verdict) -> str:
    """Say what ends first, and how much of it is left; empty where nothing can be told."""
    state = verdict.resources.get(verdict.ends_first or "")
    if state is None or state.forecast is None:
        return ""
    return f"{verdict.ends_first}: {rest_of(state.forecast)}"
