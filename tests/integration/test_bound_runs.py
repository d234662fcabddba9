"""Runs that are bound to a target, before a real sidecar, and through a real Prometheus.

What a stranger can state is that of test_strangers.py, where it tightens; here it does nothing.
"""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from otel_budget import semconv
from tests.integration.test_strangers import STRANGERS, shown
from tests.support.exposition import line, serve
from tests.support.figures import note
from tests.support.ports import free_port
from tests.support.processes import sidecar, until
from tests.support.prometheus_process import prometheus

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.exposition import Exposition
    from tests.support.processes import SidecarProcess

#: Whatever another target can say to charge a run, or to have it stopped.
CHARGES: dict[str, Callable[[str, float], str]] = {
    **STRANGERS,
    "charged": lambda run, begun: shown(run, 10**6, begun, process=begun + 1, limit=1),
    "charged-by-the-same": lambda run, begun: shown(run, 10**6, begun, limit=1, duration=10**6),
    "charged-by-another": lambda run, begun: shown(run, 10**6, begun - 1, progress=0),
}


#: They match all of them.
PATTERNS = ["charged*", "newer*", "year-9999", "older", "same-*", "next-*"]


def configured(folder: Path, source: dict[str, Any]) -> Path:
    """Write a configuration, and return its file."""
    file = folder / "sidecar.yaml"
    config = {
        "source": source,
        "listen": {"address": f"127.0.0.1:{free_port()}"},
        "storage": {"path": str(folder / "sidecar.db")},
    }
    file.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    return file


def dropped(side: SidecarProcess, reason: str) -> float:
    """Return the samples that were refused for a reason."""
    series = f'{semconv.DROPPED_SAMPLES.name}{{reason="{reason}"}} '
    (found,) = [row for row in side.metrics().splitlines() if row.startswith(series)]
    return float(found.removeprefix(series))


def wait_for_refusals(side: SidecarProcess, reason: str) -> None:
    """Wait until samples were refused for a reason."""
    until(lambda: dropped(side, reason) > 0)


def wait_for_use(side: SidecarProcess, run: str, tokens: int) -> None:
    """Wait until a run is judged with so many tokens."""
    until(lambda: used(side, run) == tokens)


def check_untouched(side: SidecarProcess, begun: float, tokens: int) -> None:
    """Check that each run is judged by what its own target says, and nothing else."""
    for run in CHARGES:
        verdict = side.verdict(run)
        assert verdict is not None
        assert (verdict["action"], verdict["status"]) == ("continue", "ok"), verdict
        assert (verdict["run_started_at"], verdict["run_state"]) == (begun, "running"), verdict
        assert "also_started_at" not in verdict
        assert verdict["resources"]["tokens"]["used"] == tokens, verdict
        assert verdict["resources"]["tokens"]["limit"] == 1000, verdict
        assert 99 < verdict["resources"]["duration"]["used"] < 10_000, verdict


def test_strangers_do_nothing_to_runs_that_are_bound_to_another_target(tmp_path: Path) -> None:
    """Though they come first, and after a restart; one line says so, and it is all counted."""
    begun = round(time.time() - 100, 3)
    with serve() as own, serve() as other:
        bound = {"url": own.url, "sessions": PATTERNS}
        other.show("".join(claimed(run, begun) for run, claimed in CHARGES.items()))
        scrape = {"targets": [other.url, bound], "interval": "100ms", "timeout": "100ms"}
        file = configured(tmp_path, {"scrape": scrape})
        for tokens in (10, 20):
            with sidecar(tmp_path, config=file) as side:
                wait_for_refusals(side, semconv.BOUND_ELSEWHERE)
                show(own, begun, tokens)
                for run in CHARGES:
                    wait_for_use(side, run, tokens)
                own.wait_until_asked(3)
                check_untouched(side, begun, tokens)
                told = [row for row in side.said().splitlines() if "is bound to" in row]
                assert 0 < len(told) <= len(PATTERNS)
                assert all(own.url in row and other.url in row for row in told)
                side.kill()
    note(
        "One costs one",
        f"a target that states of {len(CHARGES)} runs bound to another one all that can be stated, "
        "first at the start and after a SIGKILL",
        f"use, limits, state and start as their own target shows them; {len(told)} lines of log",
    )


def test_a_binding_comes_with_a_reload_and_frees_the_run(tmp_path: Path) -> None:
    """The stranger's limit does not hold any more; what was counted stays so."""
    begun = round(time.time() - 100, 3)
    with serve() as own, serve() as other:
        own.show(shown("run", 10, begun, limit=1000, progress=0.1))
        other.show(shown("run", 30, begun, process=begun + 9, limit=20))
        scrape: dict[str, Any] = {
            "targets": [own.url, other.url],
            "interval": "100ms",
            "timeout": "100ms",
        }
        file = configured(tmp_path, {"scrape": scrape})
        with sidecar(tmp_path, config=file) as side:
            until(lambda: (side.verdict("run") or {}).get("action") == "stop")
            port = side.url.rpartition(":")[2]
            scrape["targets"] = [{"url": own.url, "sessions": ["run"]}, other.url]
            text = configured(tmp_path, {"scrape": scrape}).read_text(encoding="utf-8")
            config = json.loads(text)
            config["listen"]["address"] = f"127.0.0.1:{port}"
            file.write_text(json.dumps(config), encoding="utf-8")
            side.process.send_signal(signal.SIGHUP)
            verdict = until(lambda: freed(side))
            assert verdict["resources"]["tokens"]["limit"] == 1000
            assert verdict["resources"]["tokens"]["used"] == 40


def test_a_second_target_is_refused_where_the_configuration_says_so(tmp_path: Path) -> None:
    """Until the first one has ended."""
    begun = round(time.time() - 100, 3)
    with serve() as own, serve() as other:
        own.show(shown("run", 10, begun, limit=1000))
        scrape = {"targets": [own.url, other.url], "interval": "100ms", "timeout": "100ms",
                  "on_second_target": "refuse"}  # fmt: skip
        file = configured(tmp_path, {"scrape": scrape})
        with sidecar(tmp_path, config=file) as side:
            wait_for_use(side, "run", 10)
            other.show(shown("run", 5000, begun + 50))
            wait_for_refusals(side, semconv.CARRIED_ELSEWHERE)
            other.wait_until_asked(3)
            assert used(side, "run") == 10
            assert "on_second_target" in side.said()
            own.show(shown("run", 10, begun, limit=1000, state="completed"))
            wait_for_use(side, "run", 5000)


@pytest.mark.real("prometheus")
def test_labels_of_a_target_bind_runs_behind_a_prometheus(tmp_path: Path) -> None:
    """By matchers, and by a session_id of its own; a page that makes up the label gains nothing."""
    begun = round(time.time() - 100, 3)
    with serve() as own, serve() as named, serve() as other:
        labels = {"team": "a"}
        jobs = [
            {"job_name": "a", "static_configs": [{"targets": [own.address], "labels": labels}]},
            {"job_name": "n", "static_configs": [
                {"targets": [named.address], "labels": {"session_id": "labelled"}}]},
        ]  # fmt: skip
        show(own, begun, 10)
        named.show(shown("whatever", 10, begun, limit=1000))
        forged = 'up{team="a"} 1\nup{session_id="labelled"} 1\n'
        claims = [claimed(run, begun) for run, claimed in CHARGES.items()]
        text = "".join(claims).replace('session_id="', 'team="a",session_id="')
        other.show(text + forged + line(semconv.SESSION_TOKENS, 7, "free") + "\n")
        with prometheus(tmp_path, [other.address], jobs) as url:
            binding = {"sessions": PATTERNS, "matchers": ['team="a"']}
            source = {"url": url, "interval": "200ms", "bindings": [binding]}
            with sidecar(tmp_path, config=configured(tmp_path, {"prometheus": source})) as side:
                for run in (*CHARGES, "labelled"):
                    wait_for_use(side, run, 10)
                wait_for_use(side, "free", 7)
                wait_for_refusals(side, semconv.BOUND_ELSEWHERE)
                check_untouched(side, begun, 10)
                # A label binds from when its target is seen.
                other.show(CHARGES["charged"]("labelled", begun) + forged)
                told = until(
                    lambda: [r for r in side.said().splitlines() if "run 'labelled': agents" in r]
                )
                assert "is bound to n/" in told[0]
                assert used(side, "labelled") == 10


def show(own: Exposition, begun: float, tokens: int) -> None:
    """Have the runs' own target show all of them."""
    said = {"limit": 1000, "progress": 0.1, "duration": time.time() - begun}
    own.show("".join(shown(run, tokens, begun, **said) for run in CHARGES))


def used(side: SidecarProcess, run: str) -> int | None:
    """Return the tokens of a run; None if there is no verdict."""
    verdict = side.verdict(run)
    return None if verdict is None else verdict["resources"]["tokens"]["used"]


def freed(side: SidecarProcess) -> dict[str, Any] | None:
    """Return the verdict once it says continue."""
    verdict = side.verdict("run") or {}
    return verdict if verdict.get("action") == "continue" else None
