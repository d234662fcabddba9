"""What stands in the generated dashboards, as the tests ask for it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.support.paths import ROOT

FOLDER = ROOT / "grafana" / "dashboards"
#: What Grafana puts in, for the fleet of the tests: its scrape interval is 200 ms.
FILLED = {
    "$__rate_interval": "2s",
    "$__interval": "1s",
    "$workflow": ".*",
    "$team": ".*",
    "$sidecar": ".*",
    "$budget": ".*",
    "$group": ".*",
}


@dataclass(frozen=True, slots=True)
class Target:
    """One query of one panel."""

    board: str
    panel: dict[str, Any]
    query: dict[str, Any]

    @property
    def name(self) -> str:
        """Where it stands."""
        return f"{self.board} / {self.panel['title']} / {self.query['refId']}"


def boards() -> dict[str, dict[str, Any]]:
    """Return the dashboards by uid, as they are committed."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def panels(board: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the panels that are not headings."""
    for panel in board["panels"]:
        assert not panel.get("panels"), "a collapsed row hides its panels from these tests"
        if panel["type"] != "row":
            yield panel


def targets() -> list[Target]:
    """Return every query of every panel."""
    return [
        Target(uid, panel, query)
        for uid, board in boards().items()
        for panel in panels(board)
        for query in panel["targets"]
    ]


def filled(expr: str, session: str, window: float, **chosen: str) -> str:
    """Put the variables in. window: seconds of the time range. chosen: other values by name."""
    values = {
        **FILLED, "$session": session, "$__range": f"{window:.0f}s",
        **{f"${name}": value for name, value in chosen.items()},
    }  # fmt: skip
    for name in sorted(values, key=len, reverse=True):
        expr = expr.replace(name, values[name])
    assert not re.search(r"[$][a-z_]", expr), expr
    return expr


def legend_labels(query: Mapping[str, Any]) -> list[str]:
    """Return the labels that a legend shows."""
    return re.findall(r"{{\s*(\w+)\s*}}", query.get("legendFormat", ""))


def table_fields(panel: Mapping[str, Any]) -> list[str]:
    """Return the fields that a table of instant queries renames to its columns."""
    for transformation in panel.get("transformations", ()):
        if "indexByName" in transformation["options"]:
            return list(transformation["options"]["renameByName"])
    return []
