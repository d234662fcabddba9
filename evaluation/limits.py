"""What limits do to the recorded runs, with and without progress: ``python -m evaluation.limits``.

Each limit is tried by ``otel-budget replay``'s own engine: the ledger and the policy that judge
live runs. Keeps the results in docs/limits.json, and writes docs/choosing-limits.md and its picture
from them.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from evaluation.runs import MODEL, Run, mini_swe_runs
from evaluation.traces import share_of_calls, silent, trace
from otel_budget import semconv
from otel_budget.core.reasons import Reason
from otel_budget.policy.bounds import bound
from otel_budget.policy.suggestion import QUANTILES, EndedRun, quantile, suggestion
from otel_budget.policy.verdicts import Rules
from otel_budget.replay.engine import Replay
from otel_budget.replay.limit_range import limit_range
from otel_budget.replay.trace_json import read_line
from otel_budget.sdk.pricing.prices import prices_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from otel_budget.core.quantities import Number
    from otel_budget.replay.frontier import Point
    from otel_budget.replay.trace import TraceLine

Record = dict[str, Any]
#: Of the random numbers by which runs misjudge their length.
SEED: Final = 7
#: Standard deviation of the logarithm of the factor by which they do: of three runs two are off by
#: less than a third.
NOISE: Final = 0.3
SWEPT: Final = "max_tokens=200k..10M/12"


def misjudged(run: Run, calls: int) -> float:
    """Tell the share of the calls that the run takes for all: it misjudges them by one factor."""
    factor = random.Random(f"{SEED}:{run.session_id}").lognormvariate(0, NOISE)  # noqa: S311 - no secret
    return min(1.0, share_of_calls(run, calls) / factor)


def share_of_tokens(run: Run, calls: int) -> float:
    """Tell the share of the run's tokens that are used: what a limit on tokens is about."""
    return sum(call.tokens for call in run.calls[:calls]) / run.tokens


class Thresholds(NamedTuple):
    """From where a run is approaching, and from what progress it may finish then."""

    warning: float
    completion: float


#: How runs tell their progress, by the name in the results.
NONE, CALLS, MISJUDGED, TOKENS = "none", "calls", "misjudged", "tokens"
PROGRESS: Final[dict[str, Callable[[Run, int], float | None]]] = {
    NONE: silent,
    CALLS: share_of_calls,
    MISJUDGED: misjudged,
    TOKENS: share_of_tokens,
}
#: The project's own, and those that are tried beside it.
USUAL: Final = Thresholds(0.8, 0.8)
THRESHOLDS: Final = (USUAL, Thresholds(0.9, 0.8), Thresholds(0.8, 0.9))
#: The limit that ``otel-budget suggest limits`` proposes for the same runs.
SUGGESTED: Final = "suggested"


def measured(runs: Sequence[Run]) -> Record:
    """Return all that the page says."""
    limits = limits_of(runs)
    tried = []
    for name, progress in PROGRESS.items():
        rules = {
            (of, each): rules_with(limit, each)
            for of, limit in limits.items()
            for each in (THRESHOLDS if name != NONE else (USUAL,))
        }
        points = replayed(lines_of(runs, progress), rules.values())
        tried += [
            {"progress": name, "of": of, "limit": limits[of], **each._asdict(), **record(point)}
            for (of, each), point in zip(rules, points, strict=True)
        ]
    return {
        "made": {"model": MODEL, "runs": len(runs), "seed": SEED, "noise": NOISE},
        "sizes": sizes(runs),
        "tried": tried,
        "frontier": frontier(runs),
    }


def limits_of(runs: Sequence[Run]) -> dict[str, Number]:
    """Return the limits that are tried, by what they are: quantiles of all runs, a proposal."""
    totals = sorted(run.tokens for run in runs)
    limits = {f"p{share}": quantile(totals, share) for share in QUANTILES}
    ended = [EndedRun({semconv.TOKENS: run.tokens}, run.resolved is not False) for run in runs]
    proposed = suggestion(semconv.TOKENS, ended, USUAL.warning).proposed
    return limits if proposed is None else {**limits, SUGGESTED: proposed}


def rules_with(limit: Number, thresholds: Thresholds) -> Rules:
    """Return the rules of a sidecar whose only ceiling is this one on tokens."""
    ceiling = bound(semconv.TOKENS, limit, thresholds.warning, "sidecar")
    return Rules({semconv.TOKENS: ceiling}, completion_threshold=thresholds.completion)


def lines_of(
    runs: Sequence[Run], progress: Callable[[Run, int], float | None]
) -> Iterator[TraceLine]:
    """Yield the runs as lines of a trace, read as those of a file are."""
    prices = prices_of(None)
    for number, line in enumerate(trace(runs, progress=progress), 1):
        yield read_line(json.dumps(line), f"{number}", prices)


def replayed(lines: Iterator[TraceLine], policies: Iterable[Rules]) -> list[Point]:
    """Return what each policy does to the runs."""
    replays = [Replay(rules) for rules in policies]
    for line in lines:
        for each in replays:
            each.take(line)
    return [each.finish().point for each in replays]


def record(point: Point) -> Record:
    """Return a point as it is kept."""
    spent = point.spent_shares
    return {
        "runs": point.runs,
        "resolved": point.resolved,
        "kept": point.resolved_kept,
        "tokens": round(spent[semconv.TOKENS], 4),
        "cost": round(spent[semconv.COST], 4),
        "graceful": point.cut_by.get(str(Reason.APPROACHING_LIMIT), 0),
        "at_limit": point.cut_by.get(str(Reason.LIMIT_EXCEEDED), 0),
    }


def frontier(runs: Sequence[Run]) -> Record:
    """Return the same for a range of limits, without progress and with that of calls."""
    limits = limit_range(SWEPT).limits
    found = {
        name: [
            {"limit": limit, **record(point)}
            for limit, point in zip(
                limits,
                replayed(lines_of(runs, PROGRESS[name]), [rules_with(n, USUAL) for n in limits]),
                strict=True,
            )
        ]
        for name in (NONE, CALLS)
    }
    return {"swept": SWEPT, "curves": found}


def sizes(runs: Sequence[Run]) -> list[Record]:
    """Return quantiles of what runs used: all of them, those resolved, those not."""
    found = []
    for name, some in (
        ("all", runs),
        ("resolved", [run for run in runs if run.resolved]),
        ("not resolved", [run for run in runs if run.resolved is False]),
    ):
        totals = sorted(run.tokens for run in some)
        at = {str(share): quantile(totals, share) for share in (*QUANTILES, 100)}
        found.append({"of": name, "runs": len(some), "at": at})
    return found


def main() -> int:
    """Measure, keep, write and draw."""
    from evaluation import limits_page

    results = measured(mini_swe_runs())
    limits_page.write(results)
    limits_page.draw(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
