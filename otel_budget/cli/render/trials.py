"""What several policies would have done, as tables for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.table import Table
from rich.text import Text

from otel_budget import semconv
from otel_budget.core.resources import RESOURCES
from otel_budget.policy.format import amount
from otel_budget.replay.wording import percent, short_amount

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from otel_budget.replay.comparison import Pair
    from otel_budget.replay.frontier import Curve, Outcome, Point
    from otel_budget.replay.summary import Summary

#: Columns of a bar that is full.
_BAR: Final = 20
_FULL, _EMPTY = "\u2588", "\u2591"
#: Runs of which two policies say something else that are shown; the others are counted.
_SHOWN: Final = 20
_KEPT, _SPENT = "green", "yellow"


def frontier_tables(curves: Sequence[Curve]) -> Iterator[Table]:
    """Yield a table for each policy: what each limit keeps, and what it spends."""
    for curve in curves:
        judged = curve.points[0][1].resolved
        other = semconv.TOKENS if curve.spent_in == semconv.COST else semconv.COST
        table = _table(curve.name)
        table.add_column(RESOURCES[curve.resource].limit_key, justify="right")
        table.add_column(f"resolved runs kept, of {judged:,}" if judged else "runs not cut")
        table.add_column(f"{RESOURCES[curve.spent_in].noun} spent")
        table.add_column(f"{RESOURCES[other].noun} spent", justify="right")
        table.add_column(f"cut, of {curve.points[0][1].runs:,}", justify="right")
        table.add_column("by")
        for limit, point in curve.points:
            spent = point.spent_shares
            table.add_row(
                amount(curve.resource, limit),
                _bar(point.kept_share if judged else point.uncut_share, _KEPT),
                _bar(spent.get(curve.spent_in), _SPENT),
                percent(spent.get(other)),
                f"{point.cut:,}",
                _by(point),
            )
        yield table


def comparison_tables(
    names: Sequence[str], summaries: Sequence[Summary], pairs: Sequence[Pair]
) -> Iterator[Table | Text]:
    """Yield what two policies did: the sums side by side, then the runs that they part on."""
    table = _table("")
    table.add_column("")
    for name in names:
        table.add_column(Text(name), justify="right")
    points = [summary.point for summary in summaries]
    for words, cells in _sums(points):
        table.add_row(words, *cells)
    yield table
    apart = [pair for pair in pairs if pair.distance]
    if not apart:
        yield Text(f"Both do the same to each of {len(pairs):,} runs.")
        return
    runs = _table(f"{len(apart):,} of {len(pairs):,} runs not alike")
    for title in ("run", "resolved", *names):
        runs.add_column(Text(title))
    for pair in apart[:_SHOWN]:
        runs.add_row(Text(pair.first.session_id), _said_resolved(pair.first), *map(_fate, pair))
    yield runs
    if len(apart) > _SHOWN:
        yield Text(f"... and {len(apart) - _SHOWN:,} more; --json has all of them")


def _sums(points: Sequence[Point]) -> Iterator[tuple[str, list[str]]]:
    yield "runs", [f"{point.runs:,}" for point in points]
    yield "told to stop before their end", [f"{point.cut:,}" for point in points]
    if points[0].resolved:
        kept = [f"{p.resolved_kept:,} of {p.resolved:,}, {percent(p.kept_share)}" for p in points]
        yield "resolved runs kept", kept
    for name in points[0].recorded:
        shares = [percent(point.spent_shares.get(name)) for point in points]
        used = [short_amount(name, point.used[name]) for point in points]
        title = RESOURCES[name].noun
        cells = [f"{one}, {share}" for one, share in zip(used, shares, strict=True)]
        yield f"{title} used, of all", cells


def _table(title: str) -> Table:
    return Table(title=Text(title, style="bold") if title else None, title_justify="left", box=None,
                 pad_edge=False, padding=(0, 2, 0, 0))  # fmt: skip


def _bar(share: float | None, style: str) -> Text:
    """Return a share as a bar with its number; of one that is not known, a dash."""
    if share is None:
        return Text("-")
    full = round(min(share, 1.0) * _BAR)
    bar = Text(_FULL * full, style=style)
    bar.append(_EMPTY * (_BAR - full), style="dim")
    bar.append(f" {percent(share):>5}", style="none")
    return bar


def _by(point: Point) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in point.cut_by.items())


def _said_resolved(outcome: Outcome) -> str:
    return {True: "yes", False: "no", None: "?"}[outcome.resolved]


def _fate(outcome: Outcome) -> Any:
    used = short_amount(semconv.TOKENS, outcome.used.get(semconv.TOKENS, 0))
    stop = outcome.stop
    return Text(
        f"to its end with {used} tokens"
        if stop is None
        else f"stop at {used} tokens: {stop.reason} ({stop.limit_from or 'no limit'})"
    )
