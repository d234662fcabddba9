"""Tables: one row for each run, owner or model, out of several instant queries.

Each query brings the row's labels and one number; Grafana calls the number ``Value #A`` after the
query, and merges rows that agree in the labels all queries share.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from grafana_foundation_sdk.builders import common, table
from grafana_foundation_sdk.models import dashboard as models

from grafana.panels import (
    NEUTRAL,
    Builder,
    Overrides,
    Query,
    Steps,
    mapping,
    override,
    placed,
    threshold,
    with_queries,
)


@dataclass(frozen=True, slots=True)
class Column:
    """One column."""

    source: str
    """A label, or the letter of the query whose number it is."""
    title: str
    unit: str = "none"
    cell: Literal["text", "bar", "colour"] = "text"
    """bar: a gauge from 0 to 1. colour: text in the colour of the value."""
    steps: Steps = NEUTRAL
    mappings: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    decimals: int | None = None
    width: int | None = None
    link: tuple[str, str] | None = None
    """Title and URL, in which ``${__value.text}`` is the cell."""


def share(source: str, title: str, steps: Steps = NEUTRAL) -> Column:
    """Return a column of bars from 0 to 100 %."""
    return Column(source, title, unit="percentunit", cell="bar", steps=steps, decimals=0)


def rows(
    title: str,
    description: str,
    queries: Sequence[Query],
    columns: Sequence[Column],
    *,
    sort: str,
    hidden: Sequence[str] = (),
    span: int = 24,
    height: int = 10,
    no_value: str = "",
) -> Builder:
    """Return a table. sort: title of the column to sort by, largest first.

    hidden: labels that are no columns. The number of a query that is no column is hidden as well.
    """
    single = len(queries) == 1
    panel = with_queries(table.Panel(), title, description, queries)
    if not single:
        panel.with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
    names = {_field(column.source, single=single): column.title for column in columns}
    numbers = [_field(chr(ord("A") + number), single=single) for number in range(len(queries))]
    unused = [number for number in numbers if number not in names]
    panel.with_transformation(
        models.DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": dict.fromkeys(("Time", *hidden, *unused), True),
                "indexByName": {name: index for index, name in enumerate(names)},
                "renameByName": names,
            },
        )
    )
    return finished(panel, columns, sort=sort, span=span, height=height, no_value=no_value)


def finished(
    panel: Builder,
    columns: Sequence[Column],
    *,
    sort: str,
    span: int,
    height: int,
    no_value: str = "",
) -> Builder:
    """Give a table its columns' looks and its order."""
    panel.unit("none").thresholds(threshold(NEUTRAL))
    panel.sort_by([common.TableSortByFieldState().display_name(sort).desc(True)])  # noqa: FBT003 - the SDK's
    if no_value:
        panel.no_value(no_value)
    return placed(panel, span, height, _overrides(columns))


def _field(source: str, *, single: bool) -> str:
    """Return what Grafana calls a column before it is renamed."""
    if len(source) > 1:
        return source
    return "Value" if single else f"Value #{source}"


def _overrides(columns: Sequence[Column]) -> Overrides:
    made = []
    for column in columns:
        properties: dict[str, object] = {}
        if len(column.source) == 1:
            properties["unit"] = column.unit
            properties["thresholds"] = threshold(column.steps).build()
        if column.decimals is not None:
            properties["decimals"] = column.decimals
        if column.cell == "bar":
            cell = {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"}
            properties |= {"custom__cellOptions": cell, "min": 0, "max": 1}
        if column.cell == "colour":
            properties["custom__cellOptions"] = {"type": "color-text"}
        if column.mappings:
            properties["mappings"] = [mapping(column.mappings)]
        if column.width is not None:
            properties["custom__width"] = column.width
        if column.link is not None:
            name, url = column.link
            properties["links"] = [{"title": name, "url": url}]
        if properties:
            made.append(override(column.title, **properties))
    return made
