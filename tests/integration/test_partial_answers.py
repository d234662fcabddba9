"""A store that lost the series of a run's limit, in front of a real sidecar process."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from otel_budget import semconv
from otel_budget.sources.prometheus_vector import SAMPLED
from tests.support.figures import note
from tests.support.http_server import serving
from tests.support.processes import sidecar, until

RUN = {"job": "agents", "instance": "a:9464", semconv.SESSION_ID: "run-a"}
#: Ways to say that not all is there; the last says nothing of it.
WAYS: dict[str, tuple[int, dict[str, Any]]] = {
    "warnings": (200, {"warnings": ["a store is away"]}),
    "isPartial": (200, {"isPartial": True}),
    "HTTP 206": (206, {}),
    "not a word": (200, {}),
}


def test_a_run_over_its_own_limit_stays_stopped_however_the_limit_is_lost(tmp_path: Path) -> None:
    """By each way to say so; and it goes on once the run itself lifts the limit."""
    began = time.time()
    state: dict[str, Any] = {"way": None, "limited": True}

    def answer(_path: str, _form: bytes) -> tuple[int, bytes]:
        now = time.time()
        status, more = WAYS.get(state["way"], (200, {}))
        shown: list[tuple[semconv.Metric, float, dict[str, str]]] = [
            (semconv.SESSION_TOKENS, 1200, {}),
            (semconv.SESSION_START, began, {}),
            (semconv.INCARNATION_START, began, {}),
            (semconv.SESSION_STATE, 1, {"state": "running"}),
            (semconv.OPTIONAL_SERIES, state["limited"], {}),
        ]
        if state["limited"] and state["way"] is None:
            shown.append((semconv.LIMIT, 1000, {"resource": "tokens", "unit": "tokens"}))
        series = [({"__name__": m.name, **RUN, **labels}, value) for m, value, labels in shown]
        series.append(({**RUN, SAMPLED: "1"}, now))
        rows = [{"metric": labels, "value": [now, str(float(v))]} for labels, v in series]
        data = {"resultType": "vector", "result": rows}
        return status, json.dumps({"status": "success", **more, "data": data}).encode()

    def told() -> tuple[str, str] | None:
        verdict = process.verdict("run-a")
        return None if verdict is None else (verdict["action"], verdict["reason"])

    with serving(answer) as url:
        config = {
            "source": {"prometheus": {"url": url, "interval": "100ms"}},
            "resource_limits": {"max_tokens": 20_000_000},
            "listen": {"address": "127.0.0.1:0"},
            "storage": {"path": "ledger.db"},
        }
        (tmp_path / "sidecar.yaml").write_text(json.dumps(config), encoding="utf-8")
        with sidecar(tmp_path, config=tmp_path / "sidecar.yaml") as process:
            stopped = ("stop", "limit_exceeded")
            until(lambda: told() == stopped, process.process)
            for way in WAYS:
                state["way"] = way
                end = time.monotonic() + 0.6
                while time.monotonic() < end:
                    assert told() == stopped, way
            state.update(way=None, limited=False)
            until(lambda: told() == ("continue", "within_limits"), process.process)
            assert "its answer is partial: a store is away" in process.said()
    note(
        "Never silently open",
        f"a run at 120 % of its own limit; a store's answer leaves the series of that limit out, "
        f"in {len(WAYS)} ways to say so and in none ({', '.join(WAYS)})",
        "stopped all the time; it goes on once the run itself lifts the limit",
    )


def test_a_store_that_is_away_costs_the_runs_that_only_it_had(tmp_path: Path) -> None:
    """Not those that another replica shows whole, however long; nor those that are new."""
    began = time.time()
    state: dict[str, Any] = {"away": False}

    def rows_of(run: str, replica: str, now: float) -> list[dict[str, Any]]:
        labels = {**RUN, semconv.SESSION_ID: run, "replica": replica}
        shown = [
            ({"__name__": semconv.SESSION_TOKENS.name, **labels}, 1000 + 10 * (now - began)),
            ({"__name__": semconv.SESSION_START.name, **labels}, began),
            ({"__name__": semconv.INCARNATION_START.name, **labels}, began),
            ({"__name__": semconv.OPTIONAL_SERIES.name, **labels}, 0),
            ({**labels, SAMPLED: "1"}, now),
        ]
        return [{"metric": metric, "value": [now, str(value)]} for metric, value in shown]

    def answer(_path: str, _form: bytes) -> tuple[int, bytes]:
        now = time.time()
        found = [*rows_of("both", "b", now)]
        if state["away"]:
            found += rows_of("new", "b", now)
        else:
            found += [*rows_of("both", "a", now), *rows_of("one", "a", now)]
        warned = ["store a is away"] if state["away"] else []
        data = {"resultType": "vector", "result": found}
        return 200, json.dumps({"status": "success", "warnings": warned, "data": data}).encode()

    def told(run: str) -> tuple[str, str] | None:
        verdict = process.verdict(run)
        return None if verdict is None else (verdict["action"], verdict["reason"])

    with serving(answer) as url:
        config = {
            "source": {"prometheus": {"url": url, "interval": "100ms"}},
            "resource_limits": {"max_tokens": 20_000_000},
            "verdicts": {"stale_after": "500ms", "hold": "500ms"},
            "listen": {"address": "127.0.0.1:0"},
            "storage": {"path": "ledger.db"},
        }
        (tmp_path / "sidecar.yaml").write_text(json.dumps(config), encoding="utf-8")
        with sidecar(tmp_path, config=tmp_path / "sidecar.yaml") as process:
            well = ("continue", "within_limits")
            until(lambda: told("both") == told("one") == well, process.process)
            state["away"] = True
            until(lambda: told("new") == well, process.process)
            until(lambda: told("one") == ("stop", "partial_data"), process.process)
            end = time.monotonic() + 1.0
            while time.monotonic() < end:
                assert (told("both"), told("new")) == (well, well)
                time.sleep(0.05)
            assert process.said().count("its answer is partial: store a is away") == 1
