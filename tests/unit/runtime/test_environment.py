"""A variable of ours has a second name, for what is started where every OTEL_* is taken away."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from otel_budget import ResourceLimits, ResourceMonitor
from otel_budget.cli import options
from otel_budget.cli.main import parser
from otel_budget.runtime.environment import setting, short_name
from otel_budget.sdk.engagement import first_verdict_seconds
from otel_budget.sdk.lifecycle.at_exit import ExitOrder
from otel_budget.sdk.metrics.collector import RUNS
from otel_budget.sdk.metrics.endpoint import serve_metrics
from otel_budget.sdk.metrics.last_scrape import ENV_SCRAPE_WAIT, LastScrape
from otel_budget.sdk.pricing.prices import prices_of
from otel_budget.sdk.sidecar_client.address import Credentials
from tests.support.paths import ROOT


def test_the_name_with_otel_wins() -> None:
    """Also where it is set to nothing: it is set."""
    assert setting("OTEL_BUDGET_X", {}) is None
    assert setting("OTEL_BUDGET_X", {"BUDGET_X": "b"}) == "b"
    assert setting("OTEL_BUDGET_X", {"BUDGET_X": "b", "OTEL_BUDGET_X": "a"}) == "a"
    assert setting("OTEL_BUDGET_X", {"BUDGET_X": "b", "OTEL_BUDGET_X": ""}) == ""


def test_every_variable_of_ours_is_read_in_the_one_place() -> None:
    """No module asks os.environ for one: the second name would be forgotten."""
    reads = re.compile(r'environ(?:\.get\(|\[)\s*(?:"(\w+)"|(_?ENV_\w+))')
    found = set()
    for path in (ROOT / "otel_budget").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for literal, name in reads.findall(text):
            named = re.search(rf'^{name}\b[^=]*= "(\w+)"', text, re.MULTILINE) if name else None
            found.add((path.name, named.group(1) if named else literal or name))
    assert not [one for one in found if "BUDGET_" in one[1]]


def test_each_is_taken_by_its_second_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever reads it: the command line, a run, its prices, its page, its credentials."""

    def give(name: str, value: object) -> None:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(short_name(name), str(value))

    give(options.ENV_SIDECAR, "http://127.0.0.1:7")
    assert options.sidecar_url() == "http://127.0.0.1:7"
    with ResourceMonitor(ResourceLimits(), "run-1") as monitor:
        assert monitor._run.engagement is not None
    give(options.ENV_ADMIN_TOKEN_FILE, tmp_path / "admin")
    words = ["session", "stop", "run-1", "--reason", "r"]
    assert parser().parse_args(words).token_file == str(tmp_path / "admin")
    give("OTEL_BUDGET_FIRST_VERDICT_TIMEOUT", 7)
    assert first_verdict_seconds(None) == 7
    give(ENV_SCRAPE_WAIT, 8)
    last = LastScrape(RUNS, ExitOrder())
    last.ask(None)
    assert last.wait_for == 8
    give("OTEL_BUDGET_REGISTER", tmp_path / "targets")
    with serve_metrics(port=0):
        assert list((tmp_path / "targets").iterdir())
    prices = tmp_path / "prices.yaml"
    prices.write_text("prices: {m: {input: 1, output: 2}}\n")
    give("OTEL_BUDGET_PRICES", prices)
    assert prices_of(None) is prices_of(str(prices))


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("OTEL_BUDGET_SIDECAR_TOKEN_FILE", "token_file"),
        ("OTEL_BUDGET_SIDECAR_CERTIFICATE", "ca_file"),
        ("OTEL_BUDGET_SIDECAR_CLIENT_CERTIFICATE", "certificate_file"),
        ("OTEL_BUDGET_SIDECAR_CLIENT_KEY", "key_file"),
    ],
)
def test_so_are_the_files_that_a_sidecar_asks_for(name: str, field: str) -> None:
    """Of the client, whichever runs it."""
    found = Credentials.from_environment({short_name(name): "/a/file"})
    assert getattr(found, field) == Path("/a/file")
