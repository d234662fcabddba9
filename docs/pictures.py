"""Draw the dashboards, from their own queries over real runs: ``python docs/pictures.py [FOLDER]``.

Recorded runs are replayed for a minute and a half by real processes, judged by a real sidecar and
scraped by a real Prometheus; each panel's queries are asked, and drawn with matplotlib. It is not
Grafana that draws, and the pictures say so.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import drawing
from picture_panels import Rows, checkpoint_rows, merged_rows, named, transformations

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.support.dashboards import boards, filled, panels
from tests.support.fleet import Fleet, Worker, scrape_jobs, short_rules
from tests.support.processes import sidecar, until
from tests.support.prometheus_process import prometheus
from tests.support.query import Prometheus

HERE = Path(__file__).parent
NAMES = {
    "overview": "overview", "session": "run", "fleet": "fleet", "budgets": "budgets",
    "sidecar": "sidecar",
}  # fmt: skip
REMARK = "drawn with matplotlib from this dashboard's queries, over recorded runs replayed in 80 s"
#: The run whose page is drawn.
SHOWN = "fix-bug-107"
SECONDS = 80.0
CEILING = 450_000
#: What Grafana would put in for so short a time; longer than in the tests, against noise.
RATE = {"__rate_interval": "8s"}
_LIMITS = {
    "max_tokens": 1_000_000,
    "max_api_calls": 20,
    "max_cost_usd": 2,
    "max_duration_seconds": 150,
    "checkpoint_interval": 8,
}
_TARGETS = 3
#: What the runs share: a budget that is low in the end, one that begins again meanwhile, and one in
#: shadow that is used up.
_BUDGETS: list[dict[str, Any]] = [
    {"name": "team-day", "title": "Each team, each day", "per": ["team"],
     "window": {"every": "day"}, "limits": {"max_tokens": 760_000, "max_cost_usd": 4}},
    {"name": "user-sprint", "title": "Each user, 30 s from the first use", "per": ["user"],
     "window": {"every": "30s", "from": "first_use"}, "limits": {"max_tokens": 300_000},
     "carry_over": 0.5},
    {"name": "all-month", "title": "To be tried", "mode": "shadow", "window": {"every": "month"},
     "limits": {"max_tokens": 1_200_000}},
]  # fmt: skip


def runs(folder: Path) -> list[dict[str, Any]]:
    """Return the runs of the picture: one ends well, others in each of the ways there are."""
    root = str(folder / "runs")
    billing = {"team": "billing", "project": "ledger", "user": "ann"}
    search = {"team": "search", "project": "index", "user": "bo"}
    return [
        {"session_id": "review-041", "recording": "codex", "workflow": "review", "scope": search,
         "limits": {**_LIMITS, "max_tokens": 100_000}, "seconds": 60, "obeys": True, "root": root},
        {"session_id": SHOWN, "workflow": "fix-bug", "scope": billing, "seconds": 90,
         "limits": {**_LIMITS, "max_tokens": 300_000}, "obeys": True, "root": root},
        {"session_id": "refactor-012", "workflow": "refactor", "scope": billing, "seconds": 70,
         "limits": _LIMITS, "delay": 10, "root": root},
        {"session_id": "migrate-003", "workflow": "migrate", "scope": search, "progress": False,
         "limits": {**_LIMITS, "max_tokens": 320_000}, "seconds": 72, "delay": 4},
        {"session_id": "triage-205", "recording": "codex", "workflow": "triage", "scope": search,
         "limits": {**_LIMITS, "max_tokens": 400_000}, "seconds": 40, "delay": 25,
         "doubtful": True},
    ]  # fmt: skip


def replay(folder: Path, stack: ExitStack) -> Fleet:
    """Replay the runs until the time of the picture; what is in the stack goes on."""
    targets = folder / "targets"
    targets.mkdir()
    file = folder / "sidecar.yaml"
    settings = {
        "source": {"scrape": {"file_sd": [f"{targets}/*.json"], "interval": "0.5s"}},
        "resource_limits": {"max_tokens": CEILING},
        "budgets": _BUDGETS,
        "listen": {"address": "127.0.0.1:0"},
        "storage": {"path": str(folder / "sidecar.db")},
    }
    file.write_text(json.dumps(settings), encoding="utf-8")
    side = stack.enter_context(sidecar(folder, config=file))
    main, lost = Worker(targets, side.url), Worker(targets, side.url)
    stack.callback(main.kill)
    stack.callback(lost.kill)
    jobs, rules = scrape_jobs(side.url, targets), {"rule_files": [str(short_rules(folder))]}
    server = Prometheus(stack.enter_context(prometheus(folder, jobs=jobs, more=rules)))
    until(lambda: len(server.vector("up == 1")) == _TARGETS)
    began = time.time()
    main.begin(*runs(folder))
    docs = {"team": "docs", "project": "site", "user": "cy"}
    lost.begin({"session_id": "docs-088", "workflow": "docs", "scope": docs, "limits": _LIMITS,
                "seconds": 120})  # fmt: skip
    for second in range(int(SECONDS)):
        time.sleep(1)
        sys.stderr.write(f"\rreplaying: {second + 1} of {SECONDS:.0f} s")
        if second == int(SECONDS * 0.7):
            lost.kill()
    sys.stderr.write("\n")
    # A scrape that came too late leaves no number: the picture is of a moment that has them all.
    until(lambda: len(server.vector("up == 1")) == _TARGETS - 1)
    return Fleet(server, began, time.time(), began, side.url)


class Asked:
    """What the queries of one dashboard return."""

    def __init__(self, fleet: Fleet) -> None:
        """Take where to ask."""
        self._fleet = fleet
        self._window = fleet.troubled_at - fleet.began_at

    def expr(self, query: dict[str, Any]) -> str:
        """Return an expression with its variables filled in."""
        return filled(query["expr"], SHOWN, self._window, **RATE)

    def series(self, panel: dict[str, Any]) -> list[tuple[str, list[float], list[float]]]:
        """Return the series of a panel with their names; times in seconds since the begin."""
        found = []
        fleet = self._fleet
        for query in panel["targets"]:
            rows = fleet.prometheus.matrix(
                self.expr(query), fleet.began_at, fleet.troubled_at, self._window / 240
            )
            for row in rows:
                times = [float(at) - fleet.began_at for at, _ in row["values"]]
                values = [float(value) for _, value in row["values"]]
                found.append((named(query, row["metric"]), times, values))
        return found

    def now(self, panel: dict[str, Any]) -> list[list[tuple[dict[str, str], float]]]:
        """Return for each query of a panel the labels and the values of now."""
        at = self._fleet.troubled_at
        return [
            [(row["metric"], float(row["value"][1]))
             for row in self._fleet.prometheus.vector(self.expr(query), at)]
            for query in panel["targets"]
        ]  # fmt: skip

    def marks(self, board: dict[str, Any]) -> list[tuple[float, str]]:
        """Return moments and colours of a dashboard's annotations."""
        fleet, found = self._fleet, set()
        for mark in board["annotations"]["list"]:
            rows = fleet.prometheus.matrix(
                self.expr(mark), fleet.began_at, fleet.troubled_at, self._window / 240
            )
            for row in rows:
                values = row["values"]
                times = [float(v) / 1000 for _, v in values] if mark["useValueForTime"] else [
                    float(values[0][0])
                ]  # fmt: skip
                found |= {
                    (round(at - fleet.began_at, 1), mark["iconColor"])
                    for at in times
                    if fleet.began_at <= at <= fleet.troubled_at  # a window may begin long before
                }
        return sorted(found)


def rows_of(panel: dict[str, Any], asked: Asked) -> Rows:
    """Return names and rows of a table, as its transformations make them."""
    if "groupBy" in transformations(panel):
        return checkpoint_rows(panel, asked.series(panel))
    return merged_rows(panel, asked.now(panel))


def draw(board: dict[str, Any], asked: Asked, path: Path) -> None:
    """Draw one dashboard."""
    height = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in board["panels"])
    sheet = drawing.Sheet(board["title"], REMARK, height)
    marks = asked.marks(board)
    for panel in board["panels"]:
        if panel["type"] == "row":
            sheet.row(panel)
    for panel in panels(board):
        if panel["type"] == "timeseries":
            series = asked.series(panel)
            axes = sheet.panel(panel, 62, drawing.room_for(panel, len(series)))
            drawing.graph(axes, panel, series, marks)
        elif panel["type"] == "state-timeline":
            drawing.bands(sheet.panel(panel, 62, 26), panel, asked.series(panel))
        elif panel["type"] == "table":
            drawing.table(sheet.panel(panel), panel, *rows_of(panel, asked))
        else:
            single(sheet.panel(panel), panel, asked)
    sheet.save(str(path))


def single(axes: Any, panel: dict[str, Any], asked: Asked) -> None:
    """Draw a panel of numbers of now."""
    pairs: Sequence[tuple[str, float]] = [
        (named(query, labels), value)
        for query, found in zip(panel["targets"], asked.now(panel), strict=True)
        for labels, value in found
    ]
    if panel["type"] == "bargauge":
        drawing.meters(axes, panel, pairs)
    else:
        name, value = pairs[0] if pairs else ("", None)
        drawing.figure(axes, panel, name, value)


def main() -> None:
    """Draw all of them."""
    into = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "pictures"
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        asked = Asked(replay(Path(folder), stack))
        for uid, board in boards().items():
            name = NAMES[uid.removeprefix("otel-budget-")]
            draw(board, asked, into / f"{name}.png")
            sys.stderr.write(f"{into / f'{name}.png'}\n")


if __name__ == "__main__":
    main()
