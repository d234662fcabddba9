"""The doctor names the link that is broken: each is broken for real, one after the other."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from otel_budget import semconv
from otel_budget.doctor.sidecar import Figures, source
from otel_budget.doctor.trial_run import environment
from tests.support.exposition import Exposition, line, page, serve
from tests.support.figures import note
from tests.support.ports import free_port
from tests.support.processes import SidecarProcess, sidecar, until
from tests.support.prometheus_process import prometheus
from tests.support.query import Prometheus
from tests.support.scripted_sidecar import Request, scripted

RUN = "run-1"


def doctor(*argv: str, **environ: str) -> tuple[int, dict[str, list[dict[str, str]]]]:
    """Run it; return its exit status and what it found, by link."""
    done = subprocess.run(
        [sys.executable, "-m", "otel_budget", "doctor", "--json", *argv],
        capture_output=True, text=True, check=False, timeout=90, env={**os.environ, **environ},
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    found: dict[str, list[dict[str, str]]] = {}
    for text in done.stdout.splitlines():
        finding = json.loads(text)
        found.setdefault(finding["link"], []).append(finding)
    return done.returncode, found


def said(found: dict[str, list[dict[str, str]]], link: str, state: str) -> str:
    """Return what was said of a link in a state; fail if it was not."""
    return " ".join(f["said"] for f in found.get(link, []) if f["state"] == state) or pytest.fail(
        f"{link} is not {state}: {found}"
    )


@contextmanager
def running(folder: Path, *flags: str, **config: Any) -> Iterator[SidecarProcess]:
    """Run a sidecar that reads a folder of targets; config: sections of its file."""
    (folder / "sd").mkdir(exist_ok=True)
    file = folder / "sidecar.yaml"
    settings = {
        "source": {"scrape": {"file_sd": [f"{folder}/sd/*.json"], "interval": "200ms"}},
        "verdicts": {"lease": "3s"},
        "listen": {"address": "127.0.0.1:0"},
        "storage": {"path": str(folder / "ledger.db")},
        **config,
    }
    file.write_text(json.dumps(settings))
    with sidecar(folder, config=file) as process:
        yield process


@pytest.fixture
def shown() -> Iterator[Exposition]:
    """The page of a run that is there."""
    with serve() as endpoint:
        endpoint.show(page(line(semconv.SESSION_TOKENS, 5, RUN)))
        yield endpoint


def test_all_links_hold(tmp_path: Path) -> None:
    with running(tmp_path) as process:
        status, found = doctor("--sidecar", process.url, "--register", str(tmp_path / "sd"))
        assert status == 0, found
        links = ["sidecar", "clock", "token", "source", "exporter", "verdict", "latency", "lease"]
        assert list(found) == links
        assert {f["state"] for each in found.values() for f in each} == {"ok"}
        assert "1,000 tokens are in the verdict" in said(found, "verdict", "ok")
        until(lambda: "ended: completed" in process.said())  # it leaves no run behind
    note("Never silently open", "otel-budget doctor on a chain in order",
         f"{len(links)} links hold: {', '.join(links)}")  # fmt: skip


def named(link: str, words: str) -> None:
    """Write down that a broken link was named."""
    note("Never silently open", f"otel-budget doctor on a broken chain: {words}", f"named: {link}")


def test_nobody_there() -> None:
    status, found = doctor("--sidecar", "http://127.0.0.1:9")
    assert status == 1
    assert "Connection refused" in said(found, "sidecar", "broken")
    named("sidecar", "sidecar unreachable")


def test_another_server_there(shown: Exposition) -> None:
    status, found = doctor("--sidecar", f"http://{shown.address}")
    assert status == 1
    assert "is no sidecar" in said(found, "sidecar", "broken")


@pytest.mark.parametrize("token", [None, "w" * 32])
def test_token_wrong(tmp_path: Path, token: str | None) -> None:
    for name, text in (("right", "r" * 32), ("wrong", token or "")):
        (tmp_path / name).write_text(text)
    listen = {"address": "127.0.0.1:0", "read_token_file": str(tmp_path / "right")}
    environ = {} if token is None else {"OTEL_BUDGET_SIDECAR_TOKEN_FILE": str(tmp_path / "wrong")}
    with running(tmp_path, listen=listen) as process:
        status, found = doctor("--sidecar", process.url, **environ)
    assert status == 1
    expected = "a token is needed" if token is None else "this token is not known here"
    assert expected in said(found, "token", "broken")
    named("token", "token wrong")


def test_exporter_off(tmp_path: Path) -> None:
    with running(tmp_path) as process:
        status, found = doctor(
            "--sidecar", process.url, "--register", str(tmp_path / "sd"),
            OTEL_METRICS_EXPORTER="none", OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE="delta",
        )  # fmt: skip
    assert status == 1
    assert "exporter off: OTEL_METRICS_EXPORTER is none" in said(found, "exporter", "broken")
    assert "delta temporality" in said(found, "exporter", "warning")
    named("exporter", "exporter off")


@pytest.mark.parametrize("exporters", ["otlp", "console, OTLP"])
def test_metrics_that_go_out_by_otlp_alone(tmp_path: Path, exporters: str) -> None:
    """The page is the trial run's own: a run in this environment has none."""
    with running(tmp_path) as process:
        given = ("--sidecar", process.url, "--register", str(tmp_path / "sd"), "--timeout", "1")
        _, found = doctor(*given, OTEL_METRICS_EXPORTER=exporters)
        off = {"OTEL_METRICS_EXPORTER": exporters, "OTEL_BUDGET_EXPORT_OTLP": "off"}
        status, without = doctor(*given, **off)
    told = said(found, "exporter", "warning")
    assert f"OTEL_METRICS_EXPORTER is {exporters.lower()}" in told
    assert "is pushed by OTLP, which is not tried here" in told
    assert status == 1
    assert "carries the process's sums, not runs" in said(without, "exporter", "broken")
    assert all(finding["state"] != "ok" for finding in found["exporter"])


def test_nobody_scrapes(tmp_path: Path) -> None:
    with running(tmp_path) as process:
        status, found = doctor(
            "--sidecar", process.url, "--serve", "127.0.0.1:0", "--timeout", "1.5"
        )
    assert status == 1
    assert "series missing: nothing scraped" in said(found, "scrape", "broken")
    named("scrape", "series missing, for nobody scrapes the run")


def test_scraped_by_somebody_else(tmp_path: Path) -> None:
    """Who scrapes it is not who the sidecar asks."""
    other = tmp_path / "other"
    other.mkdir()
    with running(tmp_path) as process, running(other):
        status, found = doctor(
            "--sidecar", process.url, "--register", str(other / "sd"), "--timeout", "2"
        )
    assert status == 1
    assert "and no verdict came within 2 s" in said(found, "verdict", "broken")
    named("verdict", "scraped, but not by whom the sidecar asks")


def test_scrape_failing(tmp_path: Path, shown: Exposition) -> None:
    """The target of a run that lives does not answer, and nobody reads the trial run."""
    source = {"scrape": {"targets": [shown.url], "interval": "100ms"}}
    with running(tmp_path, source=source) as process:
        until(lambda: process.verdict(RUN))
        shown.show(None)
        until(lambda: "gives nothing" in process.said())
        status, found = doctor("--sidecar", process.url, "--serve", "127.0.0.1:0", "--timeout", "1")
    assert status == 1
    assert "scrape failing: the source scrape gives nothing" in said(found, "source", "broken")
    named("source", "scrape failing")


def test_a_fresh_install_is_in_order_before_its_first_run(tmp_path: Path) -> None:
    """Nobody is at the target until the trial run is; how late a stop would be is told."""
    port = free_port()
    source = {"scrape": {"targets": [f"http://127.0.0.1:{port}/metrics"], "interval": "200ms"}}
    with running(tmp_path, source=source, verdicts={"lease": "9s"}) as process:
        until(lambda: "gives nothing" in process.said())
        with urllib.request.urlopen(f"{process.url}/-/ready", timeout=5) as answer:
            assert answer.status == HTTPStatus.OK
        status, found = doctor("--sidecar", process.url, "--serve", f"127.0.0.1:{port}")
    assert status == 0, found
    assert {f["state"] for each in found.values() for f in each} == {"ok"}
    assert "1 target does not answer, and no live run is on it" in said(found, "source", "ok")
    took = re.search(r"after ([0-9.]+) s; a stop takes no longer", said(found, "latency", "ok"))
    assert took is not None
    assert float(took[1]) < 2.0, "not a third of the lease"


def test_what_a_killed_run_left_behind_breaks_no_link(tmp_path: Path, shown: Exposition) -> None:
    """Its target is dead, and it is said; but the trial run goes all the way."""
    folder = tmp_path / "sd"
    folder.mkdir()
    (folder / "dead.json").write_text(json.dumps([{"targets": [shown.address]}]))
    with running(tmp_path) as process:
        until(lambda: process.verdict(RUN))
        shown.show(None)
        until(lambda: "gives nothing" in process.said())
        status, found = doctor("--sidecar", process.url, "--register", str(folder))
    assert status == 0, found
    assert "gives nothing, but it read the trial run" in said(found, "source", "warning")


def test_stale(tmp_path: Path, shown: Exposition) -> None:
    """The sidecar scrapes so seldom that its verdicts are behind."""
    source = {"scrape": {"targets": [shown.url], "interval": "60s"}}
    with running(tmp_path, source=source) as process:
        until(lambda: process.verdict(RUN))
        shown.show(page(line(semconv.SESSION_TOKENS, 9, RUN)))
        status, found = doctor("--sidecar", process.url, "--metrics", shown.url, "--timeout", "1.5")
    assert status == 1
    words = "1 of 1 runs: run-1 is stale: tokens are 9 on the page, 5 in the verdict"
    assert words in said(found, "verdict", "broken")
    named("verdict", "stale: a run's page is ahead of its verdict")


def test_a_run_that_is_there_and_in_order(tmp_path: Path, shown: Exposition) -> None:
    source = {"scrape": {"targets": [shown.url], "interval": "100ms"}}
    with running(tmp_path, source=source) as process:
        status, found = doctor("--sidecar", process.url, "--metrics", shown.url)
    assert status == 0, found
    assert "shows 1 run" in said(found, "page", "ok")


def test_a_run_that_has_the_place_of_the_test_session_is_looked_at(
    tmp_path: Path, shown: Exposition
) -> None:
    """Someone starts a run as the README says, and then asks whether the chain is whole."""
    host, _, port = shown.url.removeprefix("http://").removesuffix("/metrics").rpartition(":")
    place = {"OTEL_EXPORTER_PROMETHEUS_HOST": host, "OTEL_EXPORTER_PROMETHEUS_PORT": port}
    source = {"scrape": {"targets": [shown.url], "interval": "100ms"}}
    with running(tmp_path, source=source) as process:
        status, found = doctor("--sidecar", process.url, **place)
    assert status == 0, found
    assert f"{shown.url} shows 1 run" in said(found, "page", "ok")
    assert "exporter" not in found


def test_duplicated_series_and_delta_temporality_on_a_page(
    tmp_path: Path, shown: Exposition
) -> None:
    """Its counter begins anew at every look."""
    once = line(semconv.SESSION_TOKENS, 5, RUN)
    over = threading.Event()

    def fall() -> None:
        value = 1_000_000
        while not over.wait(0.05):
            value -= 1
            shown.show(page(line(semconv.SESSION_TOKENS, value, RUN), once, once))

    source = {"scrape": {"targets": [shown.url], "interval": "100ms"}}
    with running(tmp_path, source=source) as process:
        thread = threading.Thread(target=fall)
        thread.start()
        try:
            status, found = doctor("--sidecar", process.url, "--metrics", shown.url)
        finally:
            over.set()
            thread.join()
    assert status == 1
    assert "delta temporality: counters went down" in said(found, "page", "broken")
    assert "duplicated series" in said(found, "page", "warning")
    assert "duplicated series" in said(found, "series", "warning")
    assert "is there delta temporality?" in said(found, "series", "warning")
    named("page", "delta temporality; duplicated series")


def test_no_run_on_a_page(tmp_path: Path, shown: Exposition) -> None:
    shown.show("# TYPE up gauge\nup 1\n")
    with running(tmp_path) as process:
        status, found = doctor("--sidecar", process.url, "--metrics", shown.url)
        assert status == 1
        assert "series missing" in said(found, "page", "broken")
        shown.show(None)
        status, found = doctor("--sidecar", process.url, "--metrics", shown.url)
        assert status == 1
        assert "scrape failing" in said(found, "page", "broken")


def test_clock_skew() -> None:
    def script(asked: Request) -> None:
        healthy = asked.path == "/-/healthy"
        asked.say(200 if healthy else 404, "healthy\n" if healthy else "{}")

    class Behind(Request):
        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string(784111777.0)

    with scripted(script) as server:
        server.RequestHandlerClass = Behind
        status, found = doctor("--sidecar", server.url)
    assert status == 1  # the rest of it is no sidecar
    assert "clock skew" in said(found, "clock", "warning")
    assert "s behind" in said(found, "clock", "warning")
    named("clock", "clock skew")


def test_lease_expired(tmp_path: Path) -> None:
    """A verdict comes, and no other one within its lease: a sidecar that hangs."""
    argv = ["doctor", "--json", "--register", str(tmp_path / "sd")]
    with running(tmp_path) as process:
        running_doctor = subprocess.Popen(
            [sys.executable, "-m", "otel_budget", *argv, "--sidecar", process.url],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert running_doctor.stdout is not None
        for text in running_doctor.stdout:
            if json.loads(text)["link"] == "latency":
                process.process.send_signal(signal.SIGSTOP)
                break
        rest = json.loads(running_doctor.stdout.readline())
        process.process.send_signal(signal.SIGCONT)
        running_doctor.communicate(timeout=30)
    assert running_doctor.returncode == 1
    assert (rest["link"], rest["state"]) == ("lease", "broken")
    assert rest["said"] == "lease expired: no verdict came within the lease of 3 s"
    named("lease", "lease expired")


@pytest.mark.real("prometheus")
def test_a_prometheus_between(tmp_path: Path, shown: Exposition) -> None:
    """A target is down; then a run is at two of them, and its counter drops; then it is gone."""
    with serve() as twin:
        with prometheus(tmp_path, [shown.address, twin.address, "127.0.0.1:9"]) as url:
            server = Prometheus(url)
            flags = ("--prometheus", url, "--sidecar", "http://127.0.0.1:9")
            until(lambda: server.vector(semconv.SESSION_TOKENS.name))
            _, found = doctor(*flags)
            assert "has 1 series" in said(found, "prometheus", "ok")
            assert "scrape failing: 1 of 3 targets down" in said(found, "prometheus", "warning")
            for value in (9, 4, 8, 3, 7, 2, 6, 1):
                text = page(
                    line(semconv.SESSION_TOKENS, value, RUN),
                    line(semconv.INCARNATION_START, 5, RUN),
                )
                for endpoint in (shown, twin):
                    endpoint.show(text)
                    endpoint.wait_until_asked(2)
            status, found = doctor(*flags)
            assert status == 1
            assert "delta temporality" in said(found, "prometheus", "broken")
            assert "duplicated series: 1 run at" in said(found, "prometheus", "warning")
            for endpoint in (shown, twin):
                endpoint.show("")
                endpoint.wait_until_asked(2)
            _, found = doctor(*flags)
            assert "series missing" in said(found, "prometheus", "broken")
        _, found = doctor(*flags)
        assert "nothing answers" in said(found, "prometheus", "broken")
    named("prometheus", "scrape failing, duplicated series, delta temporality, series missing")


def test_limits_that_nothing_can_be_held_against() -> None:
    """By the sidecar's own metrics: each is named, as far as there is room."""
    figures: Figures = {("otel_budget_sidecar_source_up", "scrape"): 1.0}
    figures |= {("otel_budget_limit_unjudged", f"run-{n}", "cost"): 1.0 for n in range(5)}
    (found,) = [one for one in source(figures) if one.link == "limits"]
    assert found.state == "warning"
    assert found.message.startswith(
        "5 limits are not judged: nothing exports cost of run-0, cost of"
    )


def test_parents_that_do_not_hold_for_the_runs_that_name_them() -> None:
    name = "otel_budget_sidecar_ignored_parents_total"
    figures: Figures = {("otel_budget_sidecar_source_up", "scrape"): 1.0}
    figures |= {(name, "own_descendant"): 2.0, (name, "parent_over"): 0.0}
    (found,) = [one for one in source(figures) if one.link == "families"]
    assert found.message.endswith("do not hold for them: own_descendant 2")


def test_a_page_of_several_processes_that_holds_no_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What prometheus_client makes of its files is not where runs are."""
    assert not list(environment())
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/nowhere")
    (found,) = environment()
    assert "holds no runs" in found.message
    assert "in each worker" in found.advice


def test_a_source_with_nothing_to_count_and_one_that_is_late() -> None:
    """By the sidecar's own metrics; the source answers all the same."""
    figures: Figures = {
        ("otel_budget_sidecar_source_up", "prometheus"): 1.0,
        ("otel_budget_sidecar_unmatched_targets", "prometheus"): 1.0,
        ("otel_budget_sidecar_source_delay_seconds", "prometheus"): 34.2,
    }
    said = [one.message for one in source(figures) if one.state == "warning"]
    assert said == [
        "nothing to count on 1 target of prometheus, which answers",
        "samples of prometheus are always 34 s late, so limits act that much later",
    ]
    figures = {**figures, ("otel_budget_sidecar_unmatched_targets", "prometheus"): 0.0}
    figures[("otel_budget_sidecar_source_delay_seconds", "prometheus")] = 0.0
    assert [one.state for one in source(figures)] == ["ok"]
