"""``on_verdict``: the caller's own code, which may do what it likes."""

import asyncio
import sys
import threading
import time
from queue import Queue

import pytest

from otel_budget import Verdict
from otel_budget.sdk.verdict_callback import MOST, SOON, VerdictCallback
from otel_budget.testing import stop_verdict
from tests.support.monitors import Make
from tests.unit.sdk.test_sidecar_verdicts import hear

_PATIENCE = 20.0


def said(number: int) -> Verdict:
    """Return a verdict that can be told from others."""
    return stop_verdict("mine", message=f"{number}", sequence=number)


@pytest.mark.parametrize(
    "error",
    [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit(), OSError()],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_whatever_it_raises_is_logged_and_the_next_verdict_is_told(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []

    def fail(verdict: Verdict) -> None:
        heard.append(verdict.message)
        raise error

    telling = VerdictCallback("mine", fail)
    for number in (1, 2):
        telling.notify(said(number), wait=True)
    assert heard == ["1", "2"]
    assert caplog.text.count(f"on_verdict raised {type(error).__name__}; the run goes on") == 2


def test_a_run_whose_callback_exits_goes_on_and_is_stopped_by_the_sidecar(make: Make) -> None:
    monitor = make(sidecar="http://127.0.0.1:1", on_verdict=lambda _: sys.exit(3))
    hear(monitor)
    assert not monitor.should_continue()
    assert monitor.verdict.lease_seconds is not None


def test_who_hears_the_sidecar_does_not_wait_for_it_nor_does_another_run() -> None:
    """In order, and of many that come meanwhile the newest."""
    release, told = threading.Event(), Queue[str]()

    def slow(verdict: Verdict) -> None:
        told.put(verdict.message)
        release.wait(_PATIENCE)

    blocked, free = (
        VerdictCallback("slow", slow),
        VerdictCallback("mine", lambda v: told.put(f"free {v.message}")),
    )
    blocked.notify(said(0), wait=False)
    assert told.get(timeout=_PATIENCE) == "0"
    for number in range(1, 100):
        blocked.notify(said(number), wait=False)
    free.notify(said(1), wait=True)
    assert told.get(timeout=_PATIENCE) == "free 1"
    release.set()
    rest = [told.get(timeout=_PATIENCE) for _ in range(MOST)]
    assert rest == [f"{number}" for number in range(100 - MOST, 100)]


def test_a_question_waits_for_it_but_not_for_long() -> None:
    release = threading.Event()
    telling = VerdictCallback("mine", lambda _: release.wait(_PATIENCE))
    before = time.monotonic()
    telling.notify(said(1), wait=True)
    assert SOON <= time.monotonic() - before < _PATIENCE / 2
    release.set()
