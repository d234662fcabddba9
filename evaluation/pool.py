"""What one budget for all the recorded runs does to them: ``python -m evaluation.pool``.

All runs share a pool of tokens that is smaller than what they used. Who finishes depends on what
happens when it is low: each way is tried by ``otel-budget replay``'s own engine, the ledger, books
and policy that judge live runs. Keeps the results in docs/pool.json, from which docs/generate.py
makes the tables of docs/budgets.md.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from evaluation.limits import CALLS, MISJUDGED, PROGRESS, SEED, Record
from evaluation.runs import MODEL, Run, mini_swe_runs
from evaluation.traces import trace
from otel_budget import semconv
from otel_budget.core.budget import Budget, WhenLow, Window, WindowKind
from otel_budget.policy.verdicts import Rules
from otel_budget.replay.engine import Replay
from otel_budget.replay.trace_json import read_line
from otel_budget.sdk.pricing.prices import prices_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_budget.replay.frontier import Point
    from otel_budget.replay.trace import TraceLine

RESULTS: Final = Path(__file__).parent.parent / "docs" / "pool.json"
#: Percent of what all runs used.
SHARES: Final = (50, 70, 90)
#: How runs come, by the seconds from the start of one to that of the next.
AT_ONCE, ONE_BY_ONE = "at_once", "one_by_one"
APART: Final = {AT_ONCE: 0.0, ONE_BY_ONE: 60.0}
#: What happens when the pool is low: with a warning line at the limit, nothing does before it.
FIRST_COME, STOP, FINISH_MOST = "first_come", "stop", "finish_most"
WARNING, EARLY, LATE = 0.8, 0.5, 0.95
POLICIES: Final = (
    (FIRST_COME, WhenLow.STOP, 1.0),
    (STOP, WhenLow.STOP, WARNING),
    (FINISH_MOST, WhenLow.FINISH_MOST, EARLY),
    (FINISH_MOST, WhenLow.FINISH_MOST, WARNING),
    (FINISH_MOST, WhenLow.FINISH_MOST, LATE),
)


def measured(runs: Sequence[Run]) -> Record:
    """Return all that the tables say."""
    total = sum(run.tokens for run in runs)
    tried: list[Record] = []
    for progress in (CALLS, MISJUDGED):
        for coming, apart in APART.items():
            lines = lines_of(runs, progress, apart)
            tried += [
                {
                    "progress": progress, "coming": coming, "share": share, "policy": policy,
                    "warning": warning,
                    **record(played(lines, pool_of(total * share // 100, when_low, warning))),
                }
                for share in SHARES
                for policy, when_low, warning in POLICIES
            ]  # fmt: skip
    return {
        "made": {"model": MODEL, "runs": len(runs), "tokens": total, "seed": SEED},
        "tried": tried,
    }


def lines_of(runs: Sequence[Run], progress: str, apart: float) -> list[TraceLine]:
    """Return the runs as lines of a trace, read as those of a file are."""
    prices = prices_of(None)
    lines = trace(runs, progress=PROGRESS[progress], apart=apart)
    return [read_line(json.dumps(line), f"{n}", prices) for n, line in enumerate(lines, 1)]


def pool_of(tokens: int, when_low: WhenLow, warning: float) -> Rules:
    """Return the rules of a sidecar whose only limit is one budget for all runs."""
    pool = Budget(
        "pool", Window(WindowKind.TOTAL), {semconv.TOKENS: tokens},
        warning_threshold=warning, when_low=when_low,
    )  # fmt: skip
    return Rules(budgets=(pool,))


def played(lines: Sequence[TraceLine], rules: Rules) -> Point:
    """Return what a policy does to the runs."""
    replay = Replay(rules)
    for line in lines:
        replay.take(line)
    return replay.finish().point


def record(point: Point) -> Record:
    """Return a point as it is kept."""
    return {
        "runs": point.runs,
        "finished": point.runs - point.cut,
        "resolved": point.resolved,
        "kept": point.resolved_kept,
        "tokens": round(point.spent_shares[semconv.TOKENS], 4),
    }


def main() -> int:
    """Measure and keep."""
    text = json.dumps(measured(mini_swe_runs()), indent=1)
    RESULTS.write_text(f"{text}\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
