"""What is pushed by OTLP is read back as the same series, and the same verdict, as the page gives.

By a Prometheus 3, through an OpenTelemetry Collector, and by the sidecar's own receiver.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from otel_budget import ResourceLimits, ResourceMonitor, export_otlp, semconv
from otel_budget.sdk.metrics.collector import RUNS
from otel_budget.sdk.metrics.families import session_families
from tests.support.otlp_receivers import collector, prometheus_3
from tests.support.ports import free_port
from tests.support.processes import sidecar, until
from tests.support.query import Prometheus

Series = dict[tuple[str, frozenset[tuple[str, str]]], float]
#: Labels that are put there on the way.
ADDED = ("__name__", "job", "instance")


def a_run(session_id: str) -> ResourceMonitor:
    """Return a run that ended, so that its numbers stand still."""
    limits = ResourceLimits(max_tokens=1000, max_cost_usd=Decimal("1.5"), max_tool_calls=7)
    owner = {"team": "search", "user": 'a "quoted" \\ name'}
    run = ResourceMonitor(limits, session_id, workflow="nightly", scope=owner)
    for name in ("search", "write up"):
        with run.phase(name):
            run.record_operation(
                input_tokens=300, output_tokens=100, cache_read_tokens=7, api_call=True,
                model=f"model-{name[0]}", cost_usd=Decimal("0.123456789"), tool_calls=2,
            )  # fmt: skip
    run.record_operation(5, api_call=True, outcome="error", model="x")
    run.should_continue(0.5)
    run.close("stopped")
    return run


def shown(run: ResourceMonitor) -> Series:
    """Return the series that its page shows of a run."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in session_families([[run._record]])
        for sample in family.samples
        if sample.labels.get(semconv.SESSION_ID) == run.session_id
    }


def key(labels: Mapping[str, str], name: str) -> tuple[str, frozenset[tuple[str, str]]]:
    """Return a series without the labels that are put there on the way."""
    kept = {item for item in labels.items() if item[0] not in ADDED and "otel_scope" not in item[0]}
    return name, frozenset(kept)


def asked(url: str, session_id: str) -> Series:
    """Return the series that a Prometheus has of a run."""
    rows = Prometheus(url).vector(f'{{session_id="{session_id}"}}')
    return {key(row["metric"], row["metric"]["__name__"]): float(row["value"][1]) for row in rows}


def on_page(url: str, session_id: str) -> Series:
    """Return the series that a page shows of a run."""
    with urllib.request.urlopen(url, timeout=60) as got:
        text = got.read().decode()
    return {
        key(sample.labels, sample.name): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get(semconv.SESSION_ID) == session_id
    }


@pytest.mark.backends
def test_a_prometheus_3_and_a_collector_have_the_same_series_as_the_page(tmp_path: Path) -> None:
    """Name for name, label for label, number for number."""
    with prometheus_3(tmp_path) as store, collector(tmp_path) as (receives, page):
        run = a_run("read-back")
        for endpoint in (f"{store}/api/v1/otlp", receives):
            with export_otlp(endpoint, interval=60) as export:
                assert export.push(10)
            dict(RUNS.groups())[run.session_id].scraped = False  # for the other one, too
        expected = shown(run)
        assert len(expected) > 40
        until(lambda: asked(store, run.session_id) or None)
        assert asked(store, run.session_id) == expected
        until(lambda: on_page(page, run.session_id) or None)
        assert on_page(page, run.session_id) == expected


@pytest.mark.backends
def test_a_sidecar_judges_a_pushed_run_through_a_prometheus_3(tmp_path: Path) -> None:
    """As it judges one that is scraped: to it these are the same series."""
    with prometheus_3(tmp_path) as store:
        run = a_run("through-a-store")
        with export_otlp(f"{store}/api/v1/otlp", interval=60) as export:
            assert export.push(10)
        with sidecar(tmp_path, "--prometheus", store, "--interval", "0.3") as process:
            assert_known(until(lambda: process.verdict(run.session_id)))


def test_the_sidecars_own_receiver_has_the_same_numbers(tmp_path: Path) -> None:
    """Limits, state and money included; a second push of the same changes nothing."""
    address = f"127.0.0.1:{free_port()}"
    config = tmp_path / "sidecar.yaml"
    config.write_text(yaml.safe_dump({
        "source": {"otlp": {"address": address}},
        "listen": {"address": f"127.0.0.1:{free_port()}"},
        "storage": {"path": str(tmp_path / "sidecar.db")},
    }))  # fmt: skip
    with sidecar(tmp_path, config=config) as process:
        run = a_run("to-a-receiver")
        for _ in range(2):
            with export_otlp(f"http://{address}", interval=60) as export:
                assert export.push(10)
            verdict = process.verdict(run.session_id)
            assert verdict is not None, "a push is answered once it is judged"
            assert_known(verdict)


def assert_known(verdict: dict[str, Any]) -> None:
    """Fail unless a verdict has all of the run that ``a_run`` makes."""
    used = {name: row["used"] for name, row in verdict["resources"].items()}
    assert (used["tokens"], used["api_calls"], used["tool_calls"]) == (805, 3, 4)
    assert Decimal(used["cost"]) == Decimal("0.246913578")
    assert verdict["run_state"] == "stopped"
    limits = {name: row["limit"] for name, row in verdict["resources"].items()}
    assert (limits["tokens"], limits["tool_calls"]) == (1000, 7)
    assert Decimal(limits["cost"]) == Decimal("1.5")
    assert verdict["progress"] == 0.5
