"""What a run takes in the sidecar's memory between two ticks, and where."""

from __future__ import annotations

import gc
import tracemalloc
from collections import Counter
from pathlib import Path

import otel_budget
from benchmarks.pages import Fleet
from benchmarks.report import Report
from benchmarks.tick_prometheus import Answers
from benchmarks.ticking import opened, timed

_ROOT = Path(otel_budget.__file__).parent
#: Frames to look through for the code of ours that something was made for.
_DEPTH = 12
_PARTS = {
    "sources/incremental/prometheus_answer.py": "the answer's rows, to be compared with, and their "
    "numbers",
    "sources/sample_dates.py": "when it was sampled",
    "sources/prometheus.py": "when it was sampled",
    "sources": "series and runs as they are now",
    "ledger": "the ledger's run totals",
    "policy": "the verdict",
    "core": "the verdict",
    "sidecar": "what of it is stored, and how long it is valid",
    "sidecar/api": "what is published",
}


def run(*, quick: bool) -> Report:
    """Measure by tracemalloc, which counts what is alive, without what lies between it."""
    runs = 500 if quick else 5000
    source = Answers()
    fleet = Fleet(runs, 1.0)
    gc.collect()
    tracemalloc.start(_DEPTH)
    with opened(source) as (loop, _):
        for number in range(4):
            source.now += 1
            source.prepare([fleet.page(number)])
            timed(loop)
        answer = source.size
        source.forget()
        gc.collect()
        snapshot = tracemalloc.take_snapshot()
    tracemalloc.stop()
    bytes_, objects = Counter[str](), Counter[str]()
    for trace in snapshot.traces:
        part = _part([frame.filename for frame in trace.traceback])
        bytes_[part] += trace.size
        objects[part] += 1
    rows = [
        (part, f"{size / 1024 / runs:.1f}", f"{objects[part] / runs:.0f}")
        for part, size in bytes_.most_common()
        if part
    ]
    total = sum(size for part, size in bytes_.items() if part)
    return Report(
        title="The sidecar's memory",
        about=(
            f"Of {runs:,} runs through a Prometheus, all of them changing, between two ticks, by "
            f"tracemalloc. Beside it the answer itself: {answer / 1024 / runs:.1f} KiB a run."
        ),
        columns=("", "KiB a run", "objects a run"),
        rows=(*rows, ("all of it", f"{total / 1024 / runs:.1f}", "")),
    )


def _part(files: list[str]) -> str:
    """Return for what a trace's memory was taken: by the innermost frame of ours."""
    for file in reversed(files):
        path = Path(file)
        if path.is_relative_to(_ROOT):
            name = path.relative_to(_ROOT)
            names = [each.as_posix() for each in (name, *name.parents)]
            return next((_PARTS[each] for each in names if each in _PARTS), "")
    return ""
