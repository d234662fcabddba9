"""How adapters report how far a run is."""

import pytest

from otel_budget.adapters import progress
from otel_budget.errors import InvalidValueError
from tests.support.monitors import Make


def test_the_progress_an_adapter_reports_is_the_runs(make: Make) -> None:
    with make() as monitor:
        progress.report(monitor.usage_sink, 0.25)
        assert monitor._guard.progress == 0.25
        progress.report(monitor.usage_sink, None)
        assert monitor._guard.progress == 0.25
    progress.report(None, 0.5)


def test_what_is_no_progress_is_refused(make: Make) -> None:
    with make() as monitor, pytest.raises(InvalidValueError, match="progress"):
        progress.report(monitor.usage_sink, 1.5)
