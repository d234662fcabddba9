"""Panels with this project's defaults, on the builders of grafana-foundation-sdk.

What every panel has: a description that says what to do, a unit, a legend, the data source of the
dashboard's variable. The colours are those of the statuses, by names that Grafana has in its light
and its dark theme.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat
from grafana_foundation_sdk.builders import statetimeline as timeline_builder
from grafana_foundation_sdk.builders import timeseries as series_builder
from grafana_foundation_sdk.models import common as kinds
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat, QueryEditorMode

DATASOURCE = kinds.DataSourceRef(type_val="prometheus", uid="${datasource}")

GREEN, YELLOW, RED, PURPLE, BLUE, GREY = "green", "yellow", "red", "purple", "blue", "text"
STATUS_COLOURS = {"ok": GREEN, "approaching": YELLOW, "exceeded": RED, "inconclusive": PURPLE}

Steps = Sequence[tuple[float | None, str]]
NEUTRAL: Steps = ((None, BLUE),)
#: Of a share of a limit; where the warning line of a run is another one, its own panels show it.
UTILIZATION: Steps = ((None, GREEN), (0.8, YELLOW), (1.0, RED))
#: Of a count of what should not be there.
NONE_IS_GOOD: Steps = ((None, GREEN), (1.0, RED))
ONE_IS_GOOD: Steps = ((None, RED), (1.0, GREEN))

Builder = Any  # the SDK's builders share no useful type


@dataclass(frozen=True, slots=True)
class Query:
    """One expression and what its series are called."""

    expr: str
    legend: str = ""
    """Grafana's legend format, with ``{{label}}``."""
    instant: bool = False
    table: bool = False
    """True for rows and columns instead of series."""


def threshold(steps: Steps) -> dashboard.ThresholdsConfig:
    """Return absolute thresholds."""
    made = [models.Threshold(value=value, color=colour) for value, colour in steps]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(made)


def mapping(texts: Mapping[str, tuple[str, str]]) -> models.ValueMap:
    """Return a mapping of values to text and colour."""
    results = {
        value: models.ValueMappingResult(text=text, color=colour, index=index)
        for index, (value, (text, colour)) in enumerate(texts.items())
    }
    return models.ValueMap(options=results)


def override(name: str, **properties: object) -> tuple[str, list[models.DynamicConfigValue]]:
    """Return what is to be different for one field. A ``__`` in a key stands for its dot."""
    values = [models.DynamicConfigValue(k.replace("__", "."), v) for k, v in properties.items()]
    return name, values


Overrides = Sequence[tuple[str, list[models.DynamicConfigValue]]]


def with_target(owner: Builder, query: Query, number: int = 0) -> Builder:
    """Give a panel, or an annotation, one query. number: its place among them, from 0."""
    target = (
        prometheus.Dataquery()
        .datasource(DATASOURCE)
        .ref_id(chr(ord("A") + number))
        .expr(query.expr)
        .editor_mode(QueryEditorMode.CODE)
        .legend_format(query.legend)
    )
    target = target.instant() if query.instant or query.table else target.range()
    if query.table:
        target.format(PromQueryFormat.TABLE)
    add = getattr(owner, "with_target", None) or owner.target
    add(target)
    return owner


def with_queries(panel: Builder, title: str, description: str, queries: Sequence[Query]) -> Builder:
    """Give a panel what every one has."""
    panel.title(title).description(description).datasource(DATASOURCE)
    for number, query in enumerate(queries):
        with_target(panel, query, number)
    return panel


def placed(panel: Builder, span: int, height: int, overrides: Overrides = ()) -> Builder:
    """Give a panel its size, and its fields their differences."""
    panel.span(span).height(height)
    for name, properties in overrides:
        panel.override_by_name(name, properties)
    return panel


def figure(
    title: str,
    description: str,
    *queries: Query,
    unit: str,
    steps: Steps = NEUTRAL,
    mappings: Mapping[str, tuple[str, str]] | None = None,
    decimals: int | None = None,
    text: Literal["value", "name", "value_and_name"] = "value",
    span: int = 3,
    height: int = 4,
    time_from: str = "",
    no_value: str = "",
) -> Builder:
    """Return one large number (or the name of its series), coloured by its value; or several."""
    panel = with_queries(stat.Panel(), title, description, queries)
    panel.unit(unit).thresholds(threshold(steps))
    panel.color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))  # noqa: FBT003
    panel.color_mode(kinds.BigValueColorMode.VALUE).justify_mode(kinds.BigValueJustifyMode.AUTO)
    panel.graph_mode(
        kinds.BigValueGraphMode.NONE if queries[0].instant else kinds.BigValueGraphMode.AREA
    )
    panel.text_mode(kinds.BigValueTextMode(text))
    panel.orientation(kinds.VizOrientation.AUTO)
    if mappings:
        panel.mappings([mapping(mappings)])
    if decimals is not None:
        panel.decimals(decimals)
    if time_from:
        panel.time_from(time_from)
    if no_value:
        panel.no_value(no_value)
    return placed(panel, span, height)


def graph(
    title: str,
    description: str,
    queries: Sequence[Query],
    *,
    unit: str,
    stack: bool = False,
    bars: bool = False,
    maximum: float | None = None,
    steps: Steps | None = None,
    overrides: Overrides = (),
    calcs: Sequence[str] = ("lastNotNull",),
    span: int = 12,
    height: int = 8,
    no_value: str = "",
) -> Builder:
    """Return series over time. steps: lines to draw across it."""
    panel = with_queries(series_builder.Panel(), title, description, queries)
    panel.unit(unit).min(0).line_width(2 if not bars else 1)
    panel.draw_style(kinds.GraphDrawStyle.BARS if bars else kinds.GraphDrawStyle.LINE)
    panel.fill_opacity(70 if bars else 35 if stack else 8)
    panel.line_interpolation(kinds.LineInterpolation.LINEAR)
    panel.show_points(kinds.VisibilityMode.NEVER).span_nulls(False)  # noqa: FBT003 - a gap is a gap
    panel.color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
    mode = kinds.StackingMode.NORMAL if stack else kinds.StackingMode.NONE
    panel.stacking(common.StackingConfig().mode(mode).group("A"))
    panel.legend(
        common.VizLegendOptions()
        .show_legend(True)  # noqa: FBT003
        .display_mode(kinds.LegendDisplayMode.TABLE)
        .placement(kinds.LegendPlacement.BOTTOM)
        .calcs(list(calcs))
    )
    panel.tooltip(
        common.VizTooltipOptions()
        .mode(kinds.TooltipDisplayMode.MULTI)
        .sort(kinds.SortOrder.DESCENDING)
    )
    if maximum is not None:
        panel.max(maximum)
    if unit == "none":  # whole things: an axis up to 0.04 of a call says nothing
        panel.axis_soft_max(1)
    if steps is not None:
        panel.thresholds(threshold(steps))
        panel.thresholds_style(
            common.GraphThresholdsStyleConfig().mode(kinds.GraphThresholdsStyleMode.DASHED)
        )
    if no_value:
        panel.no_value(no_value)
    return placed(panel, span, height, overrides)


def dashed(name: str, colour: str) -> tuple[str, list[models.DynamicConfigValue]]:
    """Return how a line that is no use, but a limit, is drawn."""
    return override(
        name,
        color={"mode": "fixed", "fixedColor": colour},
        custom__lineStyle={"fill": "dash", "dash": [10, 10]},
        custom__fillOpacity=0,
        custom__stacking={"mode": "none", "group": "limits"},
    )


def painted(name: str, colour: str) -> tuple[str, list[models.DynamicConfigValue]]:
    """Return a fixed colour for one series."""
    return override(name, color={"mode": "fixed", "fixedColor": colour})


def meters(
    title: str,
    description: str,
    query: Query,
    *,
    unit: str,
    steps: Steps = NEUTRAL,
    maximum: float | None = None,
    span: int = 6,
    height: int = 8,
    no_value: str = "",
) -> Builder:
    """Return horizontal bars, one for each series."""
    panel = with_queries(bargauge.Panel(), title, description, [query])
    panel.unit(unit).min(0).thresholds(threshold(steps))
    panel.color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))  # noqa: FBT003
    panel.orientation(kinds.VizOrientation.HORIZONTAL)
    panel.display_mode(kinds.BarGaugeDisplayMode.BASIC).show_unfilled(True)  # noqa: FBT003
    panel.value_mode(kinds.BarGaugeValueMode.TEXT)
    if maximum is not None:
        panel.max(maximum)
    if no_value:
        panel.no_value(no_value)
    return placed(panel, span, height)


def timeline(
    title: str,
    description: str,
    queries: Sequence[Query],
    *,
    mappings: Mapping[str, tuple[str, str]],
    span: int = 24,
    height: int = 6,
) -> Builder:
    """Return bands of states over time. mappings: of the numbers that stand for them."""
    panel = with_queries(timeline_builder.Panel(), title, description, queries)
    panel.unit("none").mappings([mapping(mappings)]).thresholds(threshold(((None, GREY),)))
    panel.color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
    panel.show_value(kinds.VisibilityMode.AUTO).merge_values(True).row_height(0.85)  # noqa: FBT003
    panel.fill_opacity(80).line_width(0)
    panel.legend(
        common.VizLegendOptions()
        .show_legend(True)  # noqa: FBT003
        .display_mode(kinds.LegendDisplayMode.LIST)
        .placement(kinds.LegendPlacement.BOTTOM)
        .calcs([])
    )
    return placed(panel, span, height)
