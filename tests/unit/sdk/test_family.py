"""Runs of one process that belong together: one sum, one stop, at once."""

from __future__ import annotations

import asyncio
import gc
import threading
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from otel_budget import ResourceLimits, ResourceMonitor
from otel_budget.core.exceeded import BudgetExceeded
from tests.support.monitors import Make

if TYPE_CHECKING:
    from pathlib import Path

    from otel_budget.core.verdict import Verdict
    from otel_budget.testing import FakeClock


def test_what_a_child_records_counts_at_once_for_all_above_it(make: Make) -> None:
    lead = make(max_tokens=100)
    child = make(parent=lead)
    grandchild = make(parent=child)
    grandchild.record_operation(tokens=60, api_call=True)
    child.record_operation(tokens=30, cost_usd=Decimal("0.5"))
    assert lead.get_tokens_remaining() == 10
    assert lead.get_usage_report().tokens == 0, "its own report is its own"
    assert lead.should_continue()
    grandchild.record_operation(tokens=10)
    assert not lead.should_continue()
    assert not child.should_continue()
    assert not grandchild.should_continue()
    assert lead.verdict.reason == "limit_exceeded"
    assert lead.verdict.message.endswith("; with the use of its descendants")
    assert (child.verdict.reason, child.verdict.limit_from) == (
        "parent_stopped",
        f"parent:{lead.session_id}",
    )


def test_a_child_is_stopped_between_two_of_its_own_questions(make: Make) -> None:
    """Its own counts have not moved, so nothing but the parent's word can change the answer."""
    lead = make(max_tokens=100)
    one, other = make(parent=lead), make(parent=lead)
    assert one.should_continue(0.5)
    other.record_operation(tokens=100)
    assert not one.should_continue(0.5)
    with pytest.raises(BudgetExceeded):
        one.raise_if_stopped(0.99)


def test_the_parents_own_use_counts_together_with_that_of_its_children(make: Make) -> None:
    lead = make(max_tokens=100)
    child = make(parent=lead)
    assert lead.should_continue(0.1)
    child.record_operation(tokens=50)
    lead.record_operation(tokens=50)
    assert not lead.should_continue(0.1)
    assert not child.should_continue()


def test_a_limit_that_is_raised_lets_the_family_go_on(make: Make) -> None:
    lead = make(max_tokens=10)
    child = make(parent=lead)
    child.record_operation(tokens=20)
    assert not child.should_continue()
    lead.update_limits(max_tokens=1000)
    assert child.should_continue()


def test_the_time_of_a_parent_runs_out_for_its_children(make: Make, clock: FakeClock) -> None:
    lead = make(ResourceLimits(max_duration_seconds=60.0))
    child = make(ResourceLimits(max_duration_seconds=None), parent=lead)
    assert child.should_continue(0.1)
    clock.advance(61.0)
    assert not child.should_continue(0.1)
    assert child.verdict.stopped_by == lead.session_id


def test_a_graceful_stop_of_the_parent_gives_way_for_all_when_the_parent_may_finish(
    make: Make,
) -> None:
    lead = make(max_tokens=100)
    child = make(parent=lead)
    child.record_operation(tokens=85)
    assert not lead.should_continue(0.2)
    assert not child.should_continue(1.0), "no progress of its own takes the stop back"
    assert lead.should_continue(0.97)
    assert child.should_continue()


def test_a_child_that_waits_is_woken_and_its_callback_is_called(make: Make) -> None:
    heard: list[Verdict] = []
    told = threading.Event()

    def on_verdict(verdict: Verdict) -> None:
        heard.append(verdict)
        told.set()

    lead = make(max_tokens=100)
    child = make(parent=lead, on_verdict=on_verdict)

    async def wait() -> Verdict | None:
        waiting = asyncio.create_task(child.wait_for_stop_async(timeout=30))
        await asyncio.sleep(0)
        await asyncio.to_thread(lead.record_operation, tokens=100)
        return await waiting

    stop = asyncio.run(wait())
    assert stop is not None
    assert stop.reason == "parent_stopped"
    assert told.wait(30)
    assert heard[-1].reason == "parent_stopped"


def test_the_nearest_run_that_is_stopped_for_its_own_reason_is_named(make: Make) -> None:
    lead = make(max_tokens=10)
    child = make(parent=lead, max_tokens=5)
    below = make(parent=child)
    beside = make(parent=lead)
    child.record_operation(tokens=20)
    assert below.verdict.stopped_by == child.session_id
    assert beside.verdict.stopped_by == lead.session_id
    assert child.verdict.reason == "limit_exceeded"


def test_a_parent_that_is_named_by_its_id_is_found_in_the_process(make: Make) -> None:
    lead = make(max_tokens=10)
    child = make(parent=lead.session_id)
    child.record_operation(tokens=10)
    assert not lead.should_continue()


def test_a_parent_that_is_over_is_said_and_one_that_ends_later_goes_on_to_hold(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    lead = make(max_tokens=10)
    child = make(parent=lead)
    lead.close()
    late = make(parent=lead)
    assert "is over" in caplog.text
    late.record_operation(tokens=50)
    assert child.should_continue()
    child.record_operation(tokens=50)
    assert not child.should_continue()
    assert late.should_continue()


def test_a_run_that_would_be_its_own_descendant_is_said(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    lead = make(max_tokens=10)
    child = make(parent=lead)
    again = make(session_id=lead.session_id, parent=child)
    again.record_operation(tokens=50)
    assert "its own descendant" in caplog.text
    assert child.should_continue()


def test_a_checkpoint_of_a_parent_has_its_own_use_alone_and_names_its_parent(
    make: Make, tmp_path: Path
) -> None:
    lead = make(project_root=tmp_path, max_tokens=100, parent="above")
    child = make(parent=lead)
    lead.record_operation(tokens=1)
    child.record_operation(tokens=90)
    lead.checkpoint()
    lead.close("stopped")
    with ResourceMonitor.resume(lead.session_id, tmp_path) as resumed:
        assert resumed.get_usage_report().tokens == 1
        assert resumed._record.parent == "above"


def test_a_child_that_is_resumed_brings_its_use_along(
    make: Make, clock: FakeClock, tmp_path: Path
) -> None:
    child = make(project_root=tmp_path)
    child.record_operation(tokens=40)
    child.close("stopped")
    lead = make(max_tokens=100)
    options: dict[str, Any] = {"parent": lead, "clock": clock.clock}
    with ResourceMonitor.resume(child.session_id, tmp_path, **options) as again:
        assert lead.get_tokens_remaining() == 60
        again.record_operation(tokens=60)
        assert not again.should_continue()
        assert again.verdict.stopped_by == lead.session_id


def test_many_threads_of_a_family_lose_nothing(make: Make) -> None:
    lead = make(max_tokens=None)
    middle = make(parent=lead)
    children = [make(parent=middle) for _ in range(4)]

    def work(monitor: ResourceMonitor) -> None:
        for _ in range(500):
            monitor.record_operation(tokens=1, api_call=True)

    threads = [threading.Thread(target=work, args=(each,)) for each in (*children, lead, middle)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    used = lead.check_limits().resources
    assert (used["tokens"].used, used["api_calls"].used) == (3000, 3000)
    assert middle.check_limits().resources["tokens"].used == 2500


def test_an_unpriced_call_of_a_child_stops_a_parent_that_asks_for_it(make: Make) -> None:
    lead = make(ResourceLimits(max_cost_usd=5, on_unpriced="stop"))
    child = make(parent=lead)
    child.record_operation(tokens=5, api_call=True)
    assert lead.verdict.reason == "unpriced_calls"
    assert not child.should_continue()


def test_a_progress_of_the_parent_from_before_a_child_crossed_a_line_is_forgotten(
    make: Make,
) -> None:
    lead = make(max_tokens=100)
    child = make(parent=lead)
    assert lead.should_continue(0.2)
    child.record_operation(tokens=85)
    assert lead.verdict.reason == "approaching_limit_progress_unknown"
    assert child.should_continue()
    child.record_operation(tokens=1)
    assert not lead.should_continue(0.3)
    assert lead.verdict.reason == "approaching_limit"


def test_children_whose_monitors_are_gone_are_forgotten_and_their_use_is_not(make: Make) -> None:
    lead = make(max_tokens=100)
    child = ResourceMonitor(session_id=f"{lead.session_id}-gone", parent=lead)
    child.record_operation(tokens=70)
    child.close()
    family = child._run.family
    assert family is not None
    del child, family
    gc.collect()
    assert lead.get_tokens_remaining() == 30


def test_a_run_without_a_family_has_none(make: Make) -> None:
    alone = make()
    alone.record_operation(tokens=1)
    assert alone._run.family is None
    assert alone._record.below is None


def test_a_run_that_is_over_hears_no_stop_and_those_below_it_do(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    lead = make(max_tokens=100)
    child = make(parent=lead)
    below = make(parent=child)
    assert below.should_continue(0.1)
    child.close()
    lead.record_operation(tokens=100)
    assert not below.should_continue(0.1)
    assert below.verdict.stopped_by == lead.session_id
    assert not [one for one in caplog.messages if child.session_id in one and "stop" in one]
