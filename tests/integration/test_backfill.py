"""A new budget that is filled from the history of a real Prometheus."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from otel_budget import semconv
from otel_budget.config.load import load
from otel_budget.config.schema import SidecarConfig
from otel_budget.replay.backfill import fill
from otel_budget.sidecar.evaluator import Evaluator
from otel_budget.sidecar.factory import open_storage, rules_of
from otel_budget.sidecar.storage.base import Restored
from tests.support.exposition import line, page, serve
from tests.support.prometheus_process import JOB, prometheus

pytestmark = pytest.mark.real("prometheus")


def run_page(session: str, tokens: int) -> str:
    """Return what a process shows of a run."""
    return page(
        line(semconv.SESSION_TOKENS, tokens, session),
        line(semconv.SESSION_INFO, 1, session, team="core"),
    )


def configured(folder: Path, url: str, *names: str) -> SidecarConfig:
    """Return a configuration with budgets that are filled from history."""
    budgets = [
        {
            "name": name, "match": {"team": "core"}, "window": {"rolling": "10m"},
            "limits": {"max_tokens": 1000}, "backfill": True,
        }
        for name in names
    ]  # fmt: skip
    source = {"prometheus": {"url": url, "interval": "200ms", "matchers": [f'job="{JOB}"']}}
    file = folder / "sidecar.yaml"
    file.write_text(
        yaml.safe_dump(
            {"source": source, "storage": {"path": str(folder / "db")}, "budgets": budgets}
        )
    )
    return load(file)


def used(config: SidecarConfig, restored: Restored, *names: str) -> list[object]:
    """Return what a sidecar that begins with what is stored knows of budgets."""
    now = time.time()
    evaluator = Evaluator(_Nowhere(), restored, now)  # type: ignore[arg-type] # nothing is written
    evaluator._shared.begin(rules_of(config), evaluator._ledger, now)
    books = evaluator._ledger.books
    return [books.use_of(name, ()).used.get(semconv.TOKENS) for name in names]


class _Nowhere:
    """Stands for a storage that nothing asks."""


def test_a_new_budget_has_what_its_window_had(tmp_path: Path) -> None:
    """With a ledger that begins, and with one that is there; and it is filled once."""
    with serve() as here, prometheus(tmp_path, [here.address]) as url:
        here.show(run_page("a", 100))
        here.wait_until_asked(3)
        here.show(run_page("a", 250))
        here.wait_until_asked(3)
        config = configured(tmp_path, url, "first")
        storage, restored = open_storage(config.storage)
        assert fill(config, storage, restored, least_step=0.5)
        storage.close()
        storage, restored = open_storage(config.storage)
        assert used(config, restored, "first") == [250]
        assert [run.totals()[semconv.TOKENS] for run in restored.runs] == [250]
        assert not fill(config, storage, restored, least_step=0.5)
        more = configured(tmp_path, url, "first", "second")
        assert fill(more, storage, restored, least_step=0.5)
        storage.close()
        storage, restored = open_storage(more.storage)
        storage.close()
        assert used(more, restored, "first", "second") == [250, 250]


def test_a_history_that_cannot_be_read_fills_nothing_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The budget counts from now on."""
    config = configured(tmp_path, "http://127.0.0.1:9", "first")
    storage, restored = open_storage(config.storage)
    assert not fill(config, storage, restored)
    storage.close()
    assert "are not filled from history" in caplog.text
    assert used(config, restored, "first") == [None]
