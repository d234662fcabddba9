"""A replay of 10,000 runs of 100 calls, beside a loop that only adds up and compares."""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.report import Goal, Report

if TYPE_CHECKING:
    from collections.abc import Iterator

_CALLS, _AT_ONCE, _APART = 100, 100, 10.0
_LIMIT = 1_500_000
#: Seconds of one core, and how much larger the process may be at the end than after a quarter.
_SECONDS, _GROWTH = 120.0, 1.05
_NAIVE = """
import collections, json, sys
used, stopped = collections.Counter(), {}
with open(sys.argv[1]) as file:
    for text in file:
        line = json.loads(text)
        use = line.get("use")
        if use is None or line["session_id"] in stopped:
            continue
        used[line["session_id"]] += use["input_tokens"] + use["output_tokens"]
        if used[line["session_id"]] >= int(sys.argv[2]):
            stopped[line["session_id"]] = line["t"]
print(len(stopped))
"""


class _Took(NamedTuple):
    wall: float
    """Seconds."""
    processor: float
    """The same of its own time."""
    sizes: tuple[float, ...]
    """MiB after a quarter, half and all of it."""


def run(*, quick: bool) -> Report:
    """Replay, and add up; each in a process of its own."""
    runs = 200 if quick else 10_000
    with TemporaryDirectory() as folder:
        trace, policy = Path(folder, "runs.jsonl"), Path(folder, "policy.yaml")
        with trace.open("w", encoding="utf-8") as file:
            file.writelines(_lines(runs))
        policy.write_text(f"resource_limits: {{max_tokens: {_LIMIT}}}\n", encoding="utf-8")
        command = [sys.executable, "-m", "otel_budget", "replay", "--config", str(policy),
                   "--traces", str(trace), "--json"]  # fmt: skip
        rows = {
            "replay": _timed(command),
            "replay, runs kept going": _timed([*command, "--keep-going"]),
            "replay, forecasts at 50 and 80 %": _timed([*command, "--forecast-at", "0.5,0.8"]),
            "a loop that adds up tokens": _timed(
                [sys.executable, "-c", _NAIVE, str(trace), str(_LIMIT)]
            ),
        }
    naive = rows["a loop that adds up tokens"].processor
    slowest = max(rows["replay"].processor, rows["replay, runs kept going"].processor)
    first, _, last = rows["replay, runs kept going"].sizes
    return Report(
        title="A replay",
        about=(
            f"{runs:,} runs of {_CALLS} calls, {_AT_ONCE} of them at once, each with limits of its "
            "own on tokens and time and a progress on each line; a ceiling on tokens cuts most of "
            "them. Memory is the largest the process was by then. The loop beside it reads the "
            "same lines and compares one sum with one number."
        ),
        columns=("", "s", "µs of its own a line", "of the loop's", "MiB at 1/4", "1/2", "the end"),
        rows=tuple(
            (
                name, f"{took.wall:.1f}", f"{took.processor / (runs * (_CALLS + 2)) * 1e6:.1f}",
                f"{took.processor / naive:.1f}", *(f"{size:.0f}" for size in took.sizes),
            )
            for name, took in rows.items()
        ),
        goals=(
            Goal("10,000 runs, in s of one core", slowest * 10_000 / runs, _SECONDS, 1),
            Goal("its size at the end, of that after a quarter", last / first, _GROWTH),
        ),
    )  # fmt: skip


def _timed(command: list[str]) -> _Took:
    """Run a program; watch its size."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        seen: list[tuple[float, float]] = []
        while process.poll() is None:
            with suppress(OSError, StopIteration, ProcessLookupError):
                seen.append((time.perf_counter() - began, _mebibytes(process.pid)))
            time.sleep(0.05)
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    parts = (0.25, 0.5, 1.0)
    sizes = [max((mib for at, mib in seen if at <= part * wall), default=0.0) for part in parts]
    return _Took(wall, spent, tuple(sizes))


def _mebibytes(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def _lines(runs: int) -> Iterator[str]:
    """Yield a trace: each run re-sends a context that grows."""
    import heapq

    each = (_of_run(number, number * _CALLS * _APART / _AT_ONCE) for number in range(runs))
    waiting: list[tuple[float, int, str, Iterator[tuple[float, str]]]] = []
    following = next(each, None)
    number = 0
    while waiting or following is not None:
        while following is not None and (not waiting or _begin(number) <= waiting[0][0]):
            at, text = next(following)
            heapq.heappush(waiting, (at, number, text, following))
            following, number = next(each, None), number + 1
        _, place, text, rest = heapq.heappop(waiting)
        yield text
        more = next(rest, None)
        if more is not None:
            heapq.heappush(waiting, (more[0], place, more[1], rest))


def _begin(number: int) -> float:
    return number * _CALLS * _APART / _AT_ONCE


def _of_run(number: int, begin: float) -> Iterator[tuple[float, str]]:
    chance = random.Random(number)  # noqa: S311 - the same trace each time
    named = {"session_id": f"run-{number}"}
    limits = {"max_tokens": 2_500_000, "max_duration_seconds": 7200}
    yield begin, _text(begin, **named, start=True, limits=limits)
    at = begin
    for call in range(1, _CALLS + 1):
        at += chance.uniform(0.5, 1.5) * _APART
        use = {
            "input_tokens": 2000 + 400 * call, "cache_read_tokens": 1500 + 390 * call,
            "output_tokens": chance.randrange(50, 900), "api_calls": 1, "cost_usd": "0.0123",
        }  # fmt: skip
        yield at, _text(at, **named, use=use, progress=call / _CALLS)
    yield at, _text(at, **named, end="completed", resolved=number % 3 > 0)


def _text(at: float, **keys: object) -> str:
    return json.dumps({"t": round(1.7e9 + at, 3), **keys}) + "\n"
