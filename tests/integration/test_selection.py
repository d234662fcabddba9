"""A Prometheus that answers and has no run: why, said once, and only where something is wrong."""

from __future__ import annotations

import asyncio
import json
import re
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from otel_budget import semconv
from otel_budget.presets.loader import shipped
from otel_budget.presets.model import Preset
from otel_budget.sources.prometheus import PrometheusSettings, PrometheusSource
from otel_budget.sources.prometheus_vector import SAMPLED
from otel_budget.sources.unmatched import probe
from tests.support.exposition import Exposition, line, page, serve
from tests.support.http_server import serving
from tests.support.processes import sidecar, until
from tests.support.prometheus_process import JOB, prometheus

NOW = 1_767_225_600.0
GEN_AI = shipped()["gen_ai"]
Rows = list[tuple[Mapping[str, str], float]]


class Server:
    """Answers the query for the runs, the probe, and the question what was there of late."""

    def __init__(self) -> None:
        """Have nothing."""
        self.runs: Rows = []
        self.there: Rows = []
        self.lately: Rows = []
        self.moved: Rows = []
        """What is at the addresses of those of late."""
        self.asked: list[str] = []

    def answer(self, _path: str, form: bytes) -> tuple[int, bytes]:
        """Answer by what is asked for."""
        query = dict(urllib.parse.parse_qsl(form.decode()))["query"]
        self.asked.append(query)
        rows = self.lately if "last_over_time" in query else self.there
        rows = self.moved if "instance=~" in query else rows
        rows = self.runs if SAMPLED in query else rows
        result = [{"metric": labels, "value": [NOW, str(value)]} for labels, value in rows]
        data = {"resultType": "vector", "result": result}
        return 200, json.dumps({"status": "success", "data": data}).encode()


@pytest.fixture
def server() -> Server:
    """A server that has nothing."""
    return Server()


Look = Callable[..., list[str]]


@pytest.fixture
def look(server: Server) -> Iterator[Look]:
    """Read so often, a second apart, by one source; return what the last reading found wrong."""
    with serving(server.answer) as url, asyncio.Runner() as runner:
        sources: dict[object, PrometheusSource] = {}
        now = [1000.0]

        def looked(
            times: int = 3, matchers: tuple[str, ...] = (), preset: Preset | None = None
        ) -> list[str]:
            settings = PrometheusSettings(url, matchers=matchers, preset=preset)
            source = sources.setdefault(
                (matchers, preset and preset.name), PrometheusSource(settings, lambda: now[0])
            )
            for _ in range(times):
                now[0] += 1
                found = runner.run(source.read())
            return [why.partition(" answers, but ")[2] for why in found.unmatched.values()]

        yield looked
        for source in sources.values():
            runner.run(source.close())


RUN: Rows = [
    ({"job": "agents", semconv.SESSION_ID: "r", "__name__": "otel_budget_tokens_total"}, 5),
    ({"job": "agents", semconv.SESSION_ID: "r", SAMPLED: "1"}, NOW),
]


def test_a_server_that_never_had_anything_is_said_once(
    server: Server, look: Look, caplog: pytest.LogCaptureFixture
) -> None:
    """After a few readings; the runs may just begin."""
    assert look(times=2) == []
    (why,) = look(times=5)
    assert why.startswith("it has no series of otel-budget: is this the server that scrapes")
    assert "tenant" in why
    assert sum("it has no series of otel-budget" in said for said in caplog.messages) == 1


def test_matchers_that_exclude_everything_are_named_with_the_jobs_that_are_there(
    server: Server, look: Look
) -> None:
    """Also when runs matched before: relabelling changed."""
    server.runs = RUN
    matchers = ('job="agents"',)
    assert look(matchers=matchers) == []
    server.runs = []
    name = {"__name__": "otel_budget_tokens_total"}
    server.there = [({**name, "job": "agents-v2"}, 3)]
    (why,) = look(matchers=matchers)
    assert why.startswith('3 series of otel-budget are there, and the matchers job="agents" match')
    assert "'agents-v2'" in why
    server.runs = RUN
    assert look(times=1, matchers=matchers) == []


def test_the_runs_of_others_are_no_matter_while_ones_own_fleet_is_at_rest(
    server: Server, look: Look, caplog: pytest.LogCaptureFixture
) -> None:
    """Unless they come from the addresses of those that matched: then relabelling changed."""
    matchers = ('job="agents"',)
    server.lately = [({"instance": "10.0.0.7:9464"}, NOW)]
    server.there = [({"__name__": "otel_budget_tokens_total", "job": "of-others"}, 3)]
    assert look(matchers=matchers) == []
    server.moved = [({"instance": "10.0.0.7:9464"}, 1)]
    (why,) = look(times=60, matchers=matchers)
    assert "the matchers" in why
    assert 'instance=~"10.0.0.7:9464"' in server.asked[-1]
    server.there = [({"__name__": "otel_budget_tokens_total", "job": "of-others"}, 1234)]
    look(times=60, matchers=matchers)
    assert sum("match none of them" in said for said in caplog.messages) == 1


@pytest.mark.parametrize("name", ["gen_ai_client_token_usage", "gen_ai.client.token.usage"])
def test_histograms_that_became_native_ones_are_said(server: Server, look: Look, name: str) -> None:
    """They have no sum and no count that a preset could read."""
    server.there = [({"__name__": name, "job": "otlp"}, 2)]
    (why,) = look(preset=shipped()["gen_ai"])
    assert name in why
    assert ("convert_histograms_to_nhcb" in why) == ("." not in name)


def test_names_with_dots_are_said_and_what_to_do(server: Server, look: Look) -> None:
    """As Prometheus 3 stores what OpenTelemetry writes."""
    server.there = [({"__name__": "gen_ai.client.token.usage_sum", "job": "gw"}, 2)]
    (why,) = look(preset=GEN_AI)
    assert "preset gen_ai is there under names with dots (gen_ai.client.token.usage_sum)" in why
    assert "metric_name_escaping_scheme: underscores" in why


def test_names_that_were_changed_on_the_way_are_said(server: Server, look: Look) -> None:
    """A Collector put its namespace before them, and left the suffix out."""
    server.there = [({"__name__": "acme_otel_budget_tokens", "job": "gw"}, 2)]
    (why,) = look()
    assert "what is there has other names than otel-budget (acme_otel_budget_tokens)" in why


@pytest.mark.parametrize(
    "name",
    [
        "otel_budget_tokens_total",
        "otel_budget.tokens_total",
        "a_otel_budget_tokens",
        "x:otel_budget.tokens",
    ],
)
def test_the_second_question_finds_what_is_named_alike(name: str) -> None:
    """And nothing else of otel-budget."""
    (expression,) = re.findall(r'=~"([^"]+)"', probe((), None))
    assert re.fullmatch(expression, name)
    assert not re.fullmatch(expression, "otel_budget_phase_tokens_total")
    assert not re.fullmatch(expression, "otel_budget_usage_tokens_total")


def test_agents_without_a_run_are_in_order(server: Server, look: Look) -> None:
    """They are there, and nothing runs."""
    server.there = [({"otel_budget_idle": "1"}, 2)]
    assert look(times=9) == []


def test_a_fleet_at_rest_is_in_order(server: Server, look: Look) -> None:
    """Nothing is there; something was, before the sidecar began or since."""
    server.lately = [({}, 7)]
    assert look(times=9) == []


def test_series_of_no_run_are_said(server: Server, look: Look) -> None:
    """Somebody dropped their label."""
    server.runs = [({"job": "agents", "__name__": "otel_budget_tokens_total"}, 5),
                   ({"job": "agents", SAMPLED: "1"}, NOW)]  # fmt: skip
    (why,) = look()
    assert why == "1 series of otel-budget are there, but none names a run"


def test_the_second_question_is_asked_once_a_minute(server: Server, look: Look) -> None:
    """However often the first one is."""
    server.there = [({"otel_budget_idle": "1"}, 2)]
    look(times=65)
    assert sum("count by" in query for query in server.asked) == 2


@pytest.fixture
def endpoint() -> Iterator[Exposition]:
    """A page with one run."""
    with serve() as exposition:
        exposition.show(page(line(semconv.SESSION_TOKENS, 5, "run-1")))
        yield exposition


@pytest.mark.real("prometheus")
def test_a_real_server_tells_why_nothing_matches(endpoint: Exposition, tmp_path: Path) -> None:
    """In the log and in a metric, and it is ready all the same."""
    with prometheus(tmp_path, [endpoint.address]) as url:
        endpoint.wait_until_asked(2)
        config: dict[str, Any] = {
            "source": {"prometheus": {"url": url, "interval": "100ms", "matchers": ['job="x"']}},
            "listen": {"address": "127.0.0.1:0"},
            "storage": {"path": "ledger.db"},
        }
        (tmp_path / "sidecar.yaml").write_text(json.dumps(config), encoding="utf-8")
        with sidecar(tmp_path, config=tmp_path / "sidecar.yaml") as process:
            said = 'and the matchers job="x" match none of them: compare'
            until(lambda: said in process.said(), process.process)
            assert f"they are of job '{JOB}'" in process.said()
            ready = "ready\nnothing to count at 1 of its targets: see the log\n"
            until(lambda: process.get("/-/ready") == ready, process.process)
            metric = 'otel_budget_sidecar_unmatched_targets{source="prometheus"} 1.0'
            assert metric in process.metrics()
