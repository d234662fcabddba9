"""What the demo shows: bars for each resource of each run, verdicts as they change, a summary.

On a terminal the bars move; piped to a file there are plain lines and the summary.
"""

from __future__ import annotations

import time
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from otel_budget import semconv
from otel_budget.core.verdict import LimitStatus
from otel_budget.demo.scenario import CEILING_TOKENS
from otel_budget.policy.format import amount, percent

if TYPE_CHECKING:
    from otel_budget.core.verdict import BudgetResource, ResourceState, Verdict
    from otel_budget.demo.scenario import Replay

_SHOWN = (semconv.TOKENS, semconv.COST, semconv.API_CALLS, semconv.DURATION)
_COLOUR = {
    LimitStatus.OK: "green",
    LimitStatus.APPROACHING: "yellow",
    LimitStatus.EXCEEDED: "red",
    LimitStatus.INCONCLUSIVE: "magenta",
}
_NEWS_COLOUR = {"approaching": "yellow", "stop": "red", "done": "green"}
_BAR_WIDTH = 18  # everything in 80 columns


class Screen:
    """Bars, news and summary on one console."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, soft_wrap=True)
        self._began = time.monotonic()

    def say(self, run: str, kind: str, news: str) -> None:
        """Print one line of news; finished calls only where no bars show them."""
        if kind == "call" and self.console.is_terminal:
            return
        elapsed = time.monotonic() - self._began
        line = Text(f"{elapsed:6.1f} s  ")
        line.append(f"{run:<15}", style="bold")
        line.append(news, style=_NEWS_COLOUR.get(kind, ""))
        self.console.print(line)

    def live(self, replays: list[Replay]) -> Live:
        """Return the bars, a context manager; they move on a terminal only."""
        return Live(
            get_renderable=lambda: bars(replays),
            console=self.console,
            refresh_per_second=8,
            transient=not self.console.is_terminal,
            auto_refresh=self.console.is_terminal,
        )


def bars(replays: list[Replay]) -> Group:
    """Return the bars of all runs."""
    table = Table(box=None, padding=(0, 1), show_header=False)
    for replay in replays:
        verdict = replay.verdict or replay.monitor.verdict
        for index, name in enumerate(_SHOWN):
            run = Text(replay.plan.name, style="bold") if index == 0 else Text("")
            table.add_row(run, name, *_bar(name, _known(name, verdict.resources[name])))
        done = f"{len(replay.results)} of {len(replay.calls)} calls"
        colour = _COLOUR[verdict.status] if verdict.should_continue else "red"
        reason = str(verdict.reason).removesuffix("_progress_unknown")
        said = Text(f"{verdict.action} ({reason})", style=colour, overflow="ellipsis")
        table.add_row(Text(f"  {replay.outcome}", style="dim"), "progress", Text(done), said, "")
        table.add_row()
    for name, state in _shared(replays).items():
        table.add_row(Text(name, style="bold"), semconv.TOKENS, *_bar(semconv.TOKENS, state))
    return Group(Text(""), table)


def _shared(replays: list[Replay]) -> dict[str, BudgetResource]:
    """Return how budgets stand that some of the runs share, by name: the newest word on each."""
    found: dict[str, BudgetResource] = {}
    for replay in replays:
        for budget in replay.monitor.verdict.budgets:
            tokens = budget.resources.get(semconv.TOKENS)
            known = found.get(budget.name)
            if tokens is not None and (known is None or tokens.used > known.used):
                found[budget.name] = tokens
    return found


def _known(name: str, state: ResourceState) -> ResourceState:
    """Return a state against the limit that will count: the run does not know the ceiling."""
    ceiling = CEILING_TOKENS
    if name != semconv.TOKENS or state.limit is None or state.limit <= ceiling:
        return state
    return state._replace(limit=ceiling, ratio=float(state.used) / ceiling)


def _bar(name: str, state: ResourceState | BudgetResource) -> tuple[ProgressBar, Text, Text]:
    colour = _COLOUR[state.status]
    limit = float(state.limit) if state.limit is not None else 1.0
    bar = ProgressBar(
        total=limit or 1.0,
        completed=min(float(state.used), limit),
        width=_BAR_WIDTH,
        complete_style=colour,
        finished_style=colour,
    )
    of = "unlimited" if state.limit is None else amount(name, state.limit)
    share = "" if state.ratio is None else percent(state.ratio)
    return bar, Text(f"{_used(name, state)} of {of}"), Text(share, style=colour)


def _used(name: str, state: ResourceState | BudgetResource) -> str:
    """Say what was used, money in whole cents; with a sign where it may be more."""
    used = state.used
    if isinstance(used, Decimal):
        used = used.quantize(Decimal("0.01"), ROUND_HALF_UP)
    return ("≥" if state.at_least else "") + amount(name, used)


def summary(replays: list[Replay]) -> Table:
    """Return one row for each run: how it ended, why, and what it had used."""
    table = Table(box=SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
    for heading in ("run", "ended", "reason", "decided by"):
        table.add_column(heading, no_wrap=True)
    for heading in ("calls", "tokens", "cost", "cached"):
        table.add_column(heading, justify="right", no_wrap=True)
    for replay in replays:
        verdict = replay.verdict or replay.monitor.verdict
        usage = replay.monitor.get_usage_report()
        table.add_row(
            replay.plan.name,
            Text(replay.outcome, style="green" if replay.outcome == "completed" else "red"),
            *_why(replay.outcome, verdict),
            f"{len(replay.results)}/{len(replay.calls)}",
            f"{usage.tokens:,}",
            _used(semconv.COST, replay.monitor.check_limits().resources[semconv.COST]),
            f"{usage.cache_read_tokens / usage.tokens if usage.tokens else 0.0:.0%}",
        )
    return table


def _why(outcome: str, verdict: Verdict) -> tuple[str, str]:
    """Return why a run ended, and who decided it."""
    if outcome == "interrupted":
        return outcome, "you"
    return str(verdict.reason), "own limits" if verdict.lease_seconds is None else "the sidecar"
