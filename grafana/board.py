"""What every dashboard has: the data source as a variable, links to the others, stable ids."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models import dashboard as models

from grafana.panels import DATASOURCE, Builder, Query, with_target
from otel_budget import semconv

OVERVIEW, SESSION, FLEET, SIDECAR, BUDGETS = (
    "otel-budget-overview", "otel-budget-session", "otel-budget-fleet", "otel-budget-sidecar",
    "otel-budget-budgets",
)  # fmt: skip
TAG = "otel-budget"
_VARIABLES = "${datasource:queryparam}&${__url_time_range}"


def session_link(session: str) -> str:
    """Return the address of a run's dashboard. session: its id, or a variable that holds it."""
    return f"/d/{SESSION}?var-session={session}&{_VARIABLES}"


@dataclass(frozen=True, slots=True)
class Row:
    """A heading and the panels below it."""

    title: str
    panels: Sequence[Builder]


def datasource_variable() -> Builder:
    """Return the choice of a Prometheus."""
    return dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")


def label_variable(name: str, title: str, query: str, *, several: bool = True) -> Builder:
    """Return a choice among the values of a label. several: any number of them, by default all."""
    variable = (
        dashboard.QueryVariable(name)
        .label(title)
        .datasource(DATASOURCE)
        .query(
            {"qryType": 1, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"}
        )
        .definition(query)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(several)
        .include_all(several)
    )
    if several:
        # Matches runs without the label as well.
        variable.all_value(".*").current(
            models.VariableOption(selected=True, text=["All"], value=["$__all"])
        )
    return variable


def owner_variables() -> list[Builder]:
    """Return the choice of workflow and of team."""
    info = semconv.SESSION_INFO.name
    teams = f'label_values({info}{{workflow=~"$workflow"}},team)'
    return [
        label_variable("workflow", "Workflow", f"label_values({info},workflow)"),
        label_variable("team", "Team", teams),
    ]


def annotation(
    name: str, query: Query, *, colour: str, title: str, value_is_time: bool = False
) -> Builder:
    """Return marks on every graph. value_is_time: the value is when it was, in milliseconds."""
    marks = (
        dashboard.AnnotationQuery()
        .name(name)
        .datasource(DATASOURCE)
        .enable(True)  # noqa: FBT003 - the SDK's
        .hide(False)  # noqa: FBT003 - its switch is shown
        .icon_color(colour)
        .expr(query.expr)
        .title_format(title)
        .text_format(query.legend)
        .use_value_for_time(value_is_time)
        .step("")
        .tag_keys("")
    )
    return with_target(marks, query)


def build(
    uid: str,
    title: str,
    description: str,
    *,
    variables: Sequence[Builder],
    rows: Sequence[Row],
    annotations: Sequence[Builder] = (),
    time: tuple[str, str] = ("now-1h", "now"),
    refresh: str = "10s",
) -> models.Dashboard:
    """Return a whole dashboard."""
    made = (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .timezone("browser")
        .editable()
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .time(*time)
        .refresh(refresh)
        .variables([datasource_variable(), *variables])
        .annotations(list(annotations))
        .link(
            dashboard.DashboardLink("otel-budget")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(False)  # noqa: FBT003 - the SDK's
            .include_vars(True)  # noqa: FBT003
            .keep_time(True)  # noqa: FBT003
        )
    )
    for row in rows:
        made.with_row(dashboard.Row(row.title))
        for panel in row.panels:
            made.with_panel(panel)
    finished = made.build()
    for number, panel in enumerate(finished.panels or (), start=1):
        panel.id_val = number
    return finished


def encode(value: models.Dashboard) -> str:
    """Return a dashboard as the JSON that Grafana reads, one key a line."""
    return json.dumps(value, cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def decode(text: str) -> models.Dashboard:
    """Return the dashboard in a JSON text. Keys the SDK does not know are lost on the way."""
    register_default_plugins()
    data: dict[str, Any] = json.loads(text)
    return models.Dashboard.from_json(data)
