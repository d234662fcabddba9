"""Expressions about budgets that dashboards and alerts share."""

from __future__ import annotations

from grafana.promql import equal, select
from otel_budget import semconv
from otel_budget.core.budget import Mode

#: What tells one limit of one group of one budget from all others.
EACH = "budget, group, resource"
#: A window that slides, and never ends; as core.budget_text says it.
ROLLING = "the last .+"


def enforced(expr: str) -> str:
    """Keep what budgets that are enforced say."""
    return _of_mode(expr, Mode.ENFORCE)


def from_shadow(expr: str) -> str:
    """Keep what budgets in shadow say."""
    return _of_mode(expr, Mode.SHADOW)


def _of_mode(expr: str, mode: Mode) -> str:
    return f"({expr}) and on (budget) {select(semconv.BUDGET_INFO, equal('mode', str(mode)))}"


def window_seconds(*matchers: str) -> str:
    """Return how long the present window of each group is; nothing where it never ends."""
    start, end = (select(m, *matchers) for m in (semconv.BUDGET_WINDOW_START, semconv.BUDGET_RESET))
    rolling = select(semconv.BUDGET_INFO, f'window=~"{ROLLING}"')
    return (
        f"max by (budget, group) ({end} - {start} or (time() - {start}) and on (budget) {rolling})"
    )


def burn(window: str, *matchers: str) -> str:
    """Return how many times faster than its window allows a group spends each limit.

    1 is a budget that lasts exactly as long as its window; after Google's SRE workbook, "Alerting
    on SLOs", with the budget's window as the period. Where use begins at 0 again a window has
    ended, and what came before counts, too; of a window that slides, what it lets go of is taken
    off. A series younger than the window counts as if nothing had been spent before: lower, never
    higher.
    """
    unit = {"m": 60, "h": 3600}[window[-1]] * int(window[:-1])
    used = f"{select(semconv.BUDGET_USED, *matchers)}[{window}]"
    limit, reset = (select(m, *matchers) for m in (semconv.BUDGET_LIMIT, semconv.BUDGET_RESET))
    resets = f"(increase({used}) and on (job, instance, budget, group) {reset})"
    share = f"max by ({EACH}) (({resets} or delta({used})) / ({limit} > 0)) / {unit}"
    return f"{share} * on (budget, group) group_left () {window_seconds(*matchers)}"
