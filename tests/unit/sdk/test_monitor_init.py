"""Making a monitor: what it takes, what it refuses, and that nothing happens yet."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from otel_budget import ResourceLimits, ResourceMonitor
from otel_budget.errors import InvalidValueError
from otel_budget.sdk.lifecycle.at_exit import AT_EXIT
from tests.support.monitors import Make
from tests.support.paths import ROOT

TEN_LINES = """
limits = ResourceLimits(max_duration_seconds=3600, max_tokens=1_000_000, max_api_calls=1000, checkpoint_interval=300)
monitor = ResourceMonitor(limits, session_id="my-session", project_root=Path("/project"))
for phase in phases:
    progress = phases.index(phase) / len(phases)
    if not monitor.should_continue(progress):
        print("Stopping due to resource limits")
        break
    result = execute_phase(phase)
    monitor.record_operation(tokens=estimated_tokens, api_call=True)
summary = monitor.get_usage_summary()
print(f"Tokens: {summary['tokens']['percentage']:.1f}%")
"""  # noqa: E501 - as it stands in the design


def test_the_ten_lines_stand_in_the_design_as_they_are_tested_here() -> None:
    """The code every user starts from is the code below."""
    design = ROOT / "docs" / "design.md"
    assert TEN_LINES.strip() in design.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("tokens", "printed"),
    [(50_000, "Tokens: 15.0%\n"), (900_000, "Stopping due to resource limits\nTokens: 90.0%\n")],
)
def test_the_ten_lines_run_unchanged_in_a_project_that_does_not_exist(
    tokens: int,
    printed: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They count, and they stop when a limit is near and the run is not."""
    monkeypatch.delenv("OTEL_BUDGET_SIDECAR_URL", raising=False)
    names: dict[str, Any] = {
        "ResourceLimits": ResourceLimits,
        "ResourceMonitor": ResourceMonitor,
        "Path": lambda path: tmp_path / "not-there" / path.lstrip("/"),
        "phases": ["plan", "write", "review"],
        "execute_phase": lambda phase: phase.upper(),
        "estimated_tokens": tokens,
    }
    exec(TEN_LINES, names)  # noqa: S102 - the text above
    names["monitor"].close(timeout=0)
    assert capsys.readouterr().out == printed


def test_making_a_monitor_opens_writes_and_starts_nothing(
    tmp_path: Path, session_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No thread, file or descriptor: not with a project, a sidecar and an exporter asked for."""
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "prometheus")
    threads, files = set(threading.enumerate()), len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    root = tmp_path / "not" / "there"
    monitor = ResourceMonitor(None, session_id, root, sidecar="http://127.0.0.1:9")
    assert set(threading.enumerate()) <= threads
    assert len(os.listdir("/proc/self/fd")) == files  # noqa: PTH208
    assert list(tmp_path.iterdir()) == []
    monitor.close(timeout=0)
    assert list(tmp_path.iterdir()) == []  # a run that used nothing has nothing to keep
    assert set(threading.enumerate()) <= threads


def test_the_defaults_are_those_of_the_design(make: Make) -> None:
    """No limits are the default limits, and no session id is a made up one."""
    monitor, other = make(), ResourceMonitor()
    assert monitor.limits == ResourceLimits()
    assert other.session_id.startswith("run-")
    assert other.session_id != ResourceMonitor().session_id
    other.close(timeout=0)


@pytest.mark.parametrize("name", ["a", "A1._:@-", "x" * 128, "0"])
def test_a_session_id_of_the_allowed_characters_is_taken(name: str) -> None:
    """1 to 128 of them, the first a letter or a digit."""
    monitor = ResourceMonitor(session_id=name)
    assert monitor.session_id == name
    monitor.close(timeout=0)


@pytest.mark.parametrize(
    ("argument", "value", "allowed"),
    [
        ("session_id", "", "1 to 128 characters"),
        ("session_id", "../up", "starting with a letter or digit"),
        ("session_id", "x" * 129, "1 to 128 characters"),
        ("session_id", "a b", "1 to 128 characters"),
        ("session_id", "a\n", "1 to 128 characters"),
        ("session_id", "é", "A-Z a-z"),
        ("session_id", 7, "1 to 128 characters"),
        ("limits", {"max_tokens": 1}, "a ResourceLimits or None"),
        ("project_root", 5, "a path, or None"),
        ("on_sidecar_loss", "ignore", "'local' or 'stop'"),
        ("on_verdict", "log", "a function"),
        ("sidecar", "localhost:9465", "http:// or https://"),
        ("sidecar", "ftp://host", "http:// or https://"),
        ("sidecar", "http://host:port", "http:// or https://"),
        ("sidecar", "http://[::1", "http:// or https://"),
        ("sidecar", 9465, "http:// or https://"),
        ("workflow", "", "a text that is not empty"),
        ("workflow", 3, "a text that is not empty"),
        ("scope", "team-a", "team, project, user, agent"),
        ("scope", {"my-tenant": "x"}, "team, project, user, agent"),
        ("scope", {"session_id": "x"}, "team, project, user, agent"),
        ("scope", {"exported_team": "x"}, "team, project, user, agent"),
        ("scope", {"__name__": "x"}, "team, project, user, agent"),
        ("scope", {7: "x"}, "team, project, user, agent"),
        ("scope", {"workflow": "x"}, "team, project, user, agent"),
        ("scope", {"team": None}, "a text that is not empty"),
    ],
)
def test_what_is_refused_is_named_with_its_value_and_what_is_allowed(
    argument: str, value: Any, allowed: str
) -> None:
    """A refusal says which argument, what it got, and what to give instead."""
    before = len(AT_EXIT.first)
    with pytest.raises(InvalidValueError, match=argument) as caught:
        ResourceMonitor(**{argument: value})
    assert allowed in str(caught.value)
    shown = value
    if isinstance(value, dict) and argument == "scope":  # the key or the value that was wrong
        (key, inside), *_ = value.items()
        shown = key if allowed.startswith("team") else inside
    assert repr(shown)[:100] in str(caught.value)
    assert len(AT_EXIT.first) == before  # and nothing of it is left


def test_a_taken_sidecar_address_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, session_id: str
) -> None:
    """OTEL_BUDGET_SIDECAR_URL is the default, and is checked like the argument."""
    monkeypatch.setenv("OTEL_BUDGET_SIDECAR_URL", "nonsense")
    with pytest.raises(InvalidValueError, match="nonsense"):
        ResourceMonitor(session_id=session_id)
    monitor = ResourceMonitor(session_id=session_id, sidecar="http://127.0.0.1:9")
    monitor.close(timeout=0)


def test_a_close_names_the_outcomes_there_are(make: Make) -> None:
    """An outcome that is none is refused and ends nothing."""
    monitor = make()
    with pytest.raises(InvalidValueError, match="completed, stopped, failed"):
        monitor.close("done")
    monitor.close("failed", timeout=0)
    monitor.close("completed", timeout=0)  # twice is fine, and the first outcome stays
    assert monitor._record.state == "failed"
