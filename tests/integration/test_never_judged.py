"""A real sidecar that never sees a run which was told to follow it."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest

from otel_budget import Reason, ResourceLimits, ResourceMonitor
from tests.support.figures import note
from tests.support.processes import sidecar

TIMEOUT = 1.5


@pytest.fixture
def elsewhere(tmp_path: Path) -> tuple[str, ...]:
    """Flags of a sidecar that looks for runs where there are none."""
    (tmp_path / "targets").mkdir()
    return ("--file-sd", str(tmp_path / "targets" / "*.json"), "--interval", "0.1s",
            "--lease", "0.5s", "--max-tokens", "5000")  # fmt: skip


def test_a_run_that_nobody_scrapes_warns_and_stops_if_it_was_told_to(
    tmp_path: Path, elsewhere: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """The sidecar answers all the time; that alone guards nothing."""
    with (
        sidecar(tmp_path, *elsewhere) as side,
        ResourceMonitor(
            ResourceLimits(max_tokens=10**9), "never-seen", sidecar=side.url,
            on_sidecar_loss="stop", first_verdict_timeout=TIMEOUT,
        ) as monitor,
    ):  # fmt: skip
        verdict = monitor.wait_for_stop(20)
        assert verdict is not None
        assert verdict.reason == Reason.SIDECAR_LOST
        assert f"within {TIMEOUT:g} s" in verdict.message
        assert monitor._record.sidecar_reachable is True
    said = [r.getMessage() for r in caplog.records if "has not seen this run" in r.getMessage()]
    assert len(said) == 1
    note(
        "Never silently open",
        "a run with a sidecar that answers and whose targets do not show it, on_sidecar_loss: stop",
        f"one warning with the likely cause, then stopped, within {TIMEOUT:g} s as it was told",
    )


def test_a_run_without_that_order_goes_on_and_has_said_so_once(
    tmp_path: Path, elsewhere: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """Under its own limits, which is what it was told."""
    caplog.set_level(logging.WARNING, "otel_budget")
    with (
        sidecar(tmp_path, *elsewhere) as side,
        ResourceMonitor(
            ResourceLimits(max_tokens=10**9), "never-seen-local", sidecar=side.url,
            first_verdict_timeout=TIMEOUT,
        ) as monitor,
    ):  # fmt: skip
        until = time.monotonic() + 20
        while "does not judge this run" not in monitor.verdict.message:
            assert time.monotonic() < until
            monitor.record_operation(1000, api_call=True)
            time.sleep(0.05)
        assert monitor.wait_for_stop(TIMEOUT) is None
    said = [r.getMessage() for r in caplog.records if r.name == "otel_budget"]
    assert len([text for text in said if "has not seen this run" in text]) == 1
