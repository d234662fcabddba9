"""What Grafana makes of a panel's results before it draws: names, merged rows, joined rows.

Nothing here draws, asks or imports matplotlib, so that it can be tested where that is missing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

Panel = Mapping[str, Any]
#: A name, times and values.
Series = tuple[str, Sequence[float], Sequence[float]]
#: Names of columns, and rows of numbers, texts or None.
Rows = tuple[list[str], list[list[object]]]


def named(query: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    """Return the name of a series, by its query's legend."""
    legend = str(query["legendFormat"])
    return re.sub(r"{{(\w+)}}", lambda label: labels.get(label[1], ""), legend)


def transformations(panel: Panel) -> dict[str, dict[str, Any]]:
    """Return the options of a table's transformations by their kind."""
    return {step["id"]: step["options"] for step in panel["transformations"]}


def merged_rows(
    panel: Panel, results: Sequence[Sequence[tuple[Mapping[str, str], float]]]
) -> Rows:  # fmt: skip
    """Merge what instant queries returned: rows that agree in the labels all share are one.

    results: for each query of the panel, labels and values. A label is one of a query's if any of
    its rows has it: Prometheus leaves out those that are empty.
    """
    steps = transformations(panel)["organize"]
    order, renamed = steps["indexByName"], steps["renameByName"]
    names = {field: renamed[field] for field in sorted(order, key=order.__getitem__)}
    every = [{label for labels, _ in found for label in labels} for found in results if found]
    shared = sorted(set.intersection(*every) - {"__name__"}) if every else []
    merged: dict[tuple[str, ...], dict[str, object]] = {}
    for query, found in zip(panel["targets"], results, strict=True):
        for labels, value in found:
            row = merged.setdefault(tuple(labels.get(name, "") for name in shared), {})
            row |= labels
            row["Value" if len(results) == 1 else f"Value #{query['refId']}"] = value
    rows = [[row.get(field) for field in names] for row in merged.values()]
    return list(names.values()), _sorted(panel, list(names.values()), rows)


def _sorted(panel: Panel, names: Sequence[str], rows: list[list[object]]) -> list[list[object]]:
    """Return rows in the table's order; those without a value last."""
    by = panel["options"]["sortBy"][0]
    place = names.index(by["displayName"])
    full: list[Any] = [row for row in rows if row[place] is not None]
    full.sort(key=lambda row: row[place], reverse=bool(by["desc"]))
    return [*full, *(row for row in rows if row[place] is None)]


def checkpoint_rows(panel: Panel, series: Sequence[Series]) -> Rows:
    """Join series by time, and group by the first query's value: the first of each other counts.

    The first column says when the value was first seen, not the value: a date would tell nothing
    in a picture of seconds.
    """
    names = [query["legendFormat"] for query in panel["targets"]]
    by_name = {name: dict(zip(times, values, strict=True)) for name, times, values in series}
    grouped, *others = [by_name.get(name, {}) for name in names]
    rows: dict[float, list[object]] = {}
    for at in sorted(grouped):
        row = rows.setdefault(grouped[at], [f"after {at:.0f} s", *(None for _ in others)])
        for place, other in enumerate(others, start=1):
            if row[place] is None:
                row[place] = other.get(at)
    return names, list(rows.values())
