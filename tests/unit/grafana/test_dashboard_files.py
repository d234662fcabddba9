"""The dashboards as files: what Grafana will want of them, checked without one."""

from __future__ import annotations

import json
import re
from itertools import combinations
from typing import Any

import pytest

from grafana.__main__ import documents
from grafana.board import decode, encode
from grafana.prometheus_rules import recorded
from otel_budget import semconv
from tests.support.dashboards import boards, panels, targets

BOARDS = boards()
#: What Grafana knows (its value formats) and these dashboards use.
UNITS = {"none", "short", "percentunit", "currencyUSD", "s", "dtdurations", "dateTimeAsIso"}
SAMPLES = {metric.name: metric for metric in (
    *semconv.SESSION_METRICS, *semconv.PROCESS_METRICS, *semconv.SIDECAR_METRICS,
)}  # fmt: skip


def texts(value: Any) -> list[str]:
    """Return every text in a JSON value."""
    if isinstance(value, dict):
        return [text for inner in value.values() for text in texts(inner)]
    if isinstance(value, list):
        return [text for inner in value for text in texts(inner)]
    return [value] if isinstance(value, str) else []


def test_the_files_are_what_the_code_makes_of_them() -> None:
    """``make grafana`` was run after the last change."""
    for path, text in documents().items():
        assert path.read_text(encoding="utf-8") == text, path.name


@pytest.mark.parametrize("uid", sorted(BOARDS))
class TestEachDashboard:
    """Each of the five."""

    def test_has_its_uid_in_its_name_and_all_panels_their_own_id(self, uid: str) -> None:
        """Links and alerts rely on the uid."""
        board = BOARDS[uid]
        assert board["uid"] == uid
        ids = [panel["id"] for panel in board["panels"]]
        assert all(ids)
        assert len(ids) == len(set(ids))
        titles = [panel["title"] for panel in panels(board)]
        assert len(titles) == len(set(titles)) or uid == "otel-budget-fleet"

    def test_is_understood_whole(self, uid: str) -> None:
        """Every key is one that the SDK's schema knows; none is lost on the way."""
        text = json.dumps(BOARDS[uid], indent=2, sort_keys=True) + "\n"
        assert encode(decode(text)) == text

    def test_has_no_panels_that_overlap_or_leave_the_grid(self, uid: str) -> None:
        """Grafana would move them about."""
        places = [panel["gridPos"] for panel in BOARDS[uid]["panels"]]
        assert all(place["x"] + place["w"] <= 24 for place in places)
        for one, other in combinations(places, 2):
            apart_x = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
            apart_y = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
            assert apart_x or apart_y, (one, other)

    def test_takes_its_data_source_from_its_variable_everywhere(self, uid: str) -> None:
        """So that it works with any Prometheus."""
        board = BOARDS[uid]
        assert board["templating"]["list"][0]["type"] == "datasource"
        wanted = {"type": "prometheus", "uid": "${datasource}"}
        for panel in panels(board):
            assert panel["datasource"] == wanted
            assert all(query["datasource"] == wanted for query in panel["targets"])
        others = [*board["templating"]["list"][1:], *board["annotations"]["list"]]
        assert all(one["datasource"] == wanted for one in others)

    def test_says_what_each_panel_is_for(self, uid: str) -> None:
        """A description, a unit that Grafana knows, and a name for every series."""
        for panel in panels(BOARDS[uid]):
            where = panel["title"]
            assert len(panel["description"]) > 20, where
            defaults = panel["fieldConfig"]["defaults"]
            assert defaults["unit"] in UNITS, where
            for query in panel["targets"]:
                aggregated = re.match(r"(sum|min|max|count)\s*\(", query["expr"])
                named = query["legendFormat"] or aggregated or panel["type"] in ("table", "stat")
                assert named, (where, query["expr"])
            if panel["type"] in ("timeseries", "state-timeline"):
                assert panel["options"]["legend"]["showLegend"], where

    def test_overrides_are_of_fields_that_are_there(self, uid: str) -> None:
        """A name in an override that no field has is a colour that nobody sees."""
        for panel in panels(BOARDS[uid]):
            names = {query["legendFormat"] for query in panel["targets"]}
            for transformation in panel.get("transformations", ()):
                options = transformation["options"]
                names |= set(options.get("renameByName", {}).values())
                names |= {f"{field} (firstNotNull)" for field in options.get("fields", {})}
            templates = any("{{" in name for name in names)
            for override in panel["fieldConfig"]["overrides"]:
                name = override["matcher"]["options"]
                assert name in names or (templates and panel["type"] == "timeseries"), name
                for one in override["properties"]:
                    assert one["id"] != "unit" or one["value"] in UNITS, name

    def test_can_be_read_for_hours(self, uid: str) -> None:
        """A sensible range, no refresh faster than a scrape, a crosshair over all graphs."""
        board = BOARDS[uid]
        assert board["time"]["to"] == "now"
        assert board["refresh"] in ("10s", "1m")
        assert board["graphTooltip"] == 1
        assert "otel-budget" in board["tags"]
        (link,) = board["links"]
        assert (link["type"], link["tags"], link["keepTime"]) == (
            "dashboards",
            ["otel-budget"],
            True,
        )


def test_only_metrics_that_are_exported_are_asked_for() -> None:
    """In whatever text of a dashboard they stand: expressions, variables, annotations."""
    seen = set()
    for uid, board in BOARDS.items():
        for text in texts(board):
            for name in re.findall(r"\w+:otel_budget_\w+:\w+", text):
                assert name in recorded(), (uid, name)
            for name in re.findall(r"(?<![:\w])otel_budget_[a-z_]+(?![:\w])", text):
                exported = re.sub(r"_(bucket|sum|count)$", "", name)
                assert name in SAMPLES or SAMPLES[exported].kind == "histogram", (uid, name)
                seen.add(name)
    assert len(seen) > 30


def test_only_labels_that_metrics_have_are_asked_for() -> None:
    """``name{label=...}``: the label belongs to the metric, or to every scrape."""
    of_scrapes = {"job", "instance"}
    for target in targets():
        for name, inside in re.findall(r"\b(otel_budget_\w+){([^}]*)}", target.query["expr"]):
            metric = SAMPLES[re.sub(r"_bucket$", "", name)]
            allowed = {*metric.labels, *of_scrapes}
            if metric in semconv.SESSION_METRICS:
                allowed.add(semconv.SESSION_ID)
            # A verdict has no workflow: the overview relies on it, see promql.chosen.
            if metric is semconv.VERDICT:
                allowed |= {semconv.WORKFLOW, "team"}
            asked = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\"", inside))
            assert asked <= allowed, (target.name, name, asked - allowed)


def test_tables_sort_by_a_column_that_they_have() -> None:
    """The worst, or the dearest, first."""
    seen = 0
    for board in BOARDS.values():
        for panel in panels(board):
            if panel["type"] != "table":
                continue
            (sort,) = panel["options"]["sortBy"]
            titles = [
                title
                for transformation in panel["transformations"]
                for title in transformation["options"].get("renameByName", {}).values()
            ]
            titles += [query["legendFormat"] for query in panel["targets"]]
            assert sort["displayName"] in titles
            seen += 1
    assert seen >= 5


def test_a_name_is_that_of_now_and_bars_are_not_added_up() -> None:
    """Over a time, a name would be all names there were; windows that overlap have no sum."""
    named = 0
    for target in targets():
        options = target.panel["options"]
        if options.get("textMode", "value") != "value":
            assert target.query["instant"], target.name
            named += 1
        assert "sum" not in options.get("legend", {}).get("calcs", ()), target.name
    assert named >= 3


def test_a_runs_name_leads_to_its_page() -> None:
    """With the data source and the time that were chosen."""
    links = [text for text in texts(BOARDS["otel-budget-overview"]) if text.startswith("/d/")]
    own = "var-session=${__value.text}&${datasource:queryparam}&${__url_time_range}"
    assert links == [f"/d/otel-budget-session?{own}"]
