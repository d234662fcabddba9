"""The recorded runs as a trace (docs/replay.md): ``python -m evaluation.traces > FILE``.

Each run begins some time after the one before it, so that several are on their way at once; their
lines stand in the order of time. When a run began before its first answer is not recorded: it is
taken to be a second. Costs are in US dollars, by ``runs.MODEL``'s price.
"""

from __future__ import annotations

import argparse
import heapq
import json
import sys
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeAlias

from evaluation.runs import Run, mini_swe_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

_FIRST_CALL_AFTER = 1.0
Line: TypeAlias = dict[str, Any]


def silent(_run: Run, _calls: int) -> None:
    """Tell no progress, as most agents do."""


def share_of_calls(run: Run, calls: int) -> float:
    """Tell the share of the run's calls that are made: better than an agent can know."""
    return calls / len(run.calls)


def trace(
    runs: Iterable[Run],
    limits: Mapping[str, object] | None = None,
    *,
    progress: Callable[[Run, int], float | None] = silent,
    apart: float = 60.0,
) -> Iterator[Line]:
    """Yield the lines of all runs in the order of time.

    limits: of every run, by the names of ResourceLimits; None: it has none. apart: seconds from the
    start of a run to that of the next.
    """
    each = (
        _of_run(run, number * apart, dict(limits or {}), progress)
        for number, run in enumerate(runs)
    )
    yield from heapq.merge(*each, key=itemgetter("t"))


def _of_run(
    run: Run, start: float, limits: Line, progress: Callable[[Run, int], float | None]
) -> Iterator[Line]:
    named = {"session_id": run.session_id}
    yield {"t": start, **named, "start": True, **({"limits": limits} if limits else {})}
    at = start
    for number, call in enumerate(run.calls, 1):
        at = round(start + _FIRST_CALL_AFTER + call.at, 3)
        use = {
            "input_tokens": call.input_tokens,
            "cache_read_tokens": call.cache_read_tokens,
            "output_tokens": call.output_tokens,
            "api_calls": 1,
            "cost_usd": f"{call.cost:f}",
        }
        told = progress(run, number)
        yield {"t": at, **named, "use": use, **({} if told is None else {"progress": told})}
    judged = {} if run.resolved is None else {"resolved": run.resolved}
    yield {"t": at, **named, "end": "completed", **judged}


def main(arguments: list[str] | None = None) -> int:
    """Write the trace of all recorded runs of mini-swe-agent to standard output."""
    argparse.ArgumentParser(prog="python -m evaluation.traces", description=__doc__).parse_args(
        arguments
    )
    for line in trace(mini_swe_runs()):
        sys.stdout.write(json.dumps(line) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
