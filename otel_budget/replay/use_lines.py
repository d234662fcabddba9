"""Each run's use over its time, against its nearest limit, as a picture shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_budget.replay.plot import Panel, RunLine

if TYPE_CHECKING:
    from otel_budget.core.verdict import Verdict
    from otel_budget.replay.engine import Replay
    from otel_budget.replay.summary import Summary
    from otel_budget.replay.trace import TraceLine

#: So many runs are drawn at most, the first ones, each with so many points at most.
MOST_RUNS: Final = 300
MOST_POINTS: Final = 400
_MINUTE: Final = 60.0


class UseLines:
    """Collects them, for some runs."""

    def __init__(self) -> None:
        """Begin before the first line."""
        self._open: dict[str, _Collected] = {}
        self._all: list[_Collected] = []

    def take(self, line: TraceLine, replay: Replay) -> None:
        """Take a line, after the replay took it."""
        if line.start and len(self._all) < MOST_RUNS:
            self._open[line.session_id] = collected = _Collected(line.at)
            self._all.append(collected)
        run = self._open.get(line.session_id)
        if run is None:
            return
        verdict = replay.verdict_on(line.session_id, line.at)
        if verdict is not None:
            run.take(line.at, verdict)
        if line.end is not None:
            del self._open[line.session_id]

    def panel(self, name: str, summary: Summary) -> Panel:
        """Return what is drawn of one policy."""
        lines = [run.line() for run in self._all]
        return Panel(name, lines, summary.point.runs, summary.stopped)


class _Collected:
    """One run; where it has too many points, every other one is left out."""

    def __init__(self, began_at: float) -> None:
        self._began_at = began_at
        self._points: list[tuple[float, float]] = []
        self._every, self._skipped = 1, 0
        self._stopped = False

    def take(self, at: float, verdict: Verdict) -> None:
        """Take the use as of a time."""
        stopped = not verdict.should_continue
        if stopped and self._stopped:
            return  # nothing more counts
        self._stopped = stopped
        ratios = [state.ratio for state in verdict.resources.values() if state.ratio is not None]
        self._skipped += 1
        if self._skipped < self._every and not stopped:
            return
        self._skipped = 0
        self._points.append(((at - self._began_at) / _MINUTE, max(ratios, default=0.0)))
        if len(self._points) > MOST_POINTS:
            self._points = self._points[::2]
            self._every *= 2

    def line(self) -> RunLine:
        """Return what is drawn of it."""
        minutes, shares = zip(*self._points, strict=True) if self._points else ((), ())
        return RunLine(minutes, shares, stopped=self._stopped)
