"""Which phase and model an operation belongs to: contexts, threads, tasks, caps."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable

import pytest

from otel_budget import ResourceMonitor, semconv
from otel_budget.errors import InvalidValueError
from otel_budget.sdk.metrics.label_cap import MAX_LENGTH, MAX_VALUES
from otel_budget.sdk.run_counters import FOLDED
from tests.support.monitors import Make


def tokens_by_phase(monitor: ResourceMonitor) -> dict[str, int]:
    """Return tokens by phase, without those that have none."""
    found: dict[str, int] = {}
    for (phase, _), counters in monitor._record.counters_by_phase.items():
        tokens = (
            counters.read().unspecified_tokens
            + counters.read().input_tokens
            + counters.read().output_tokens
        )
        if tokens:
            found[phase] = found.get(phase, 0) + tokens
    return found


def in_a_thread(work: Callable[[], None]) -> None:
    """Run it in a thread that was handed no context."""
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_a_phase_counts_what_is_recorded_inside_it(make: Make) -> None:
    """Phases nest; what is recorded outside any is unspecified."""
    monitor = make()
    monitor.record_operation(1)
    with monitor.phase("plan"):
        monitor.record_operation(2)
        with monitor.phase("look up"):
            monitor.record_operation(4)
            monitor.record_operation(8, model="m")
        monitor.record_operation(16)
    monitor.record_operation(32)
    assert tokens_by_phase(monitor) == {"unspecified": 33, "plan": 18, "look up": 12}
    assert monitor._record.counters_by_phase["look up", "m"].read().unspecified_tokens == 8


def test_a_thread_without_a_context_counts_into_the_phase_entered_last(make: Make) -> None:
    """A pool's workers know nothing of the context that handed them their work."""
    monitor = make()
    with monitor.phase("outer"), monitor.phase("inner"):
        in_a_thread(lambda: monitor.record_operation(2))
    in_a_thread(lambda: monitor.record_operation(4))
    assert tokens_by_phase(monitor) == {"inner": 2, "unspecified": 4}


def test_a_thread_with_the_context_of_its_maker_counts_into_its_makers_phase(make: Make) -> None:
    """Also when another phase was entered elsewhere since."""
    monitor = make()
    with monitor.phase("mine"):
        context = contextvars.copy_context()
    with monitor.phase("other"):
        in_a_thread(lambda: context.run(monitor.record_operation, 2))
    assert tokens_by_phase(monitor) == {"mine": 2}


def test_tasks_count_into_their_own_phases_however_they_interleave(make: Make) -> None:
    """Each task has its phase, and hands it on to the tasks it starts."""
    monitor = make()

    async def work(name: str, tokens: int) -> None:
        with monitor.phase(name):
            await asyncio.sleep(0)
            monitor.record_operation(tokens)
            await asyncio.gather(*(child(tokens) for _ in range(2)))
            monitor.record_operation(tokens)

    async def child(tokens: int) -> None:
        await asyncio.sleep(0)
        monitor.record_operation(tokens)

    async def everybody() -> None:
        await asyncio.gather(work("a", 1), work("b", 10), work("c", 100))

    asyncio.run(everybody())
    assert tokens_by_phase(monitor) == {"a": 4, "b": 40, "c": 400}


def test_two_runs_in_one_context_keep_their_phases_apart(make: Make) -> None:
    """A run inside another run's phase is not in that phase."""
    one, other = make(), make()
    with one.phase("a"), other.phase("b"):
        one.record_operation(1)
        other.record_operation(2)
        with one.phase("c"):
            one.record_operation(4)
            other.record_operation(8)
    assert tokens_by_phase(one) == {"a": 1, "c": 4}
    assert tokens_by_phase(other) == {"b": 10}


def test_a_phase_that_is_left_in_another_context_ends_no_run(make: Make) -> None:
    """An async generator may be closed anywhere; the phase is over all the same."""
    monitor = make()

    async def steps() -> AsyncIterator[int]:
        with monitor.phase("generated"):
            monitor.record_operation(1)
            yield 1

    async def leave() -> None:
        generator = steps()
        await anext(generator)
        await asyncio.create_task(generator.aclose())  # type: ignore[attr-defined]

    asyncio.run(leave())
    in_a_thread(lambda: monitor.record_operation(2))
    assert tokens_by_phase(monitor) == {"generated": 1, "unspecified": 2}


@pytest.mark.parametrize("name", ["", None, 3])
def test_a_phase_without_a_name_is_refused(name: object, make: Make) -> None:
    """With the value it got."""
    with pytest.raises(InvalidValueError, match="phase"), make().phase(name):  # type: ignore[arg-type]
        pass


def test_rare_phases_and_models_fold_into_other_and_nothing_is_lost(make: Make) -> None:
    """Past the cap a new value is counted as other, and that it was folded is counted too."""
    monitor = make(max_tokens=None)
    phases, models = FOLDED[semconv.PHASE], FOLDED[semconv.MODEL]
    for number in range(MAX_VALUES + 20):
        with monitor.phase(f"phase-{number}"):
            monitor.record_operation(1)
            monitor.record_operation(1)
    for number in range(MAX_VALUES + 30):
        monitor.record_operation(1, model=f"model-{number}")
    found = tokens_by_phase(monitor)
    assert len(found) <= MAX_VALUES + 2  # "unspecified", which is always told apart, and "other"
    assert found[semconv.OTHER] == 2 * 20
    assert sum(found.values()) == monitor.get_usage_report().tokens == 2 * 120 + 130
    assert FOLDED[semconv.PHASE] - phases == 20
    assert FOLDED[semconv.MODEL] - models == 30


def test_a_long_name_is_cut_and_half_a_surrogate_pair_replaced(make: Make) -> None:
    """One name must not fail the scrape of all runs."""
    monitor = make(workflow="w\ud800", scope={"team": "t" * 999})
    monitor.record_operation(1, model="m" * 999)
    monitor.record_operation(1, model="\ud800x")
    monitor.record_operation(1, model="\ud800x")
    models = {model for _, model in monitor._record.counters_by_phase}
    assert models == {"unspecified", "m" * MAX_LENGTH, "?x"}
    assert monitor._record.labels == {"workflow": "w?", "team": "t" * MAX_LENGTH}


def test_labels_of_ones_own_are_shown_with_the_run(make: Make) -> None:
    """A sidecar reads those that its scope_labels name."""
    monitor = make(workflow="w", scope={"tenant": "acme", "team": "a"})
    assert monitor._record.labels == {"workflow": "w", "tenant": "acme", "team": "a"}


def test_a_process_may_be_given_a_scope_for_its_runs(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever starts it knows whose it is; what the program itself says counts before it."""
    monkeypatch.setenv("OTEL_BUDGET_SCOPE", " team=a, tenant=Acme%2C%20Inc,user=ann")
    assert make()._record.labels == {"team": "a", "tenant": "Acme, Inc", "user": "ann"}
    assert make(scope={"user": "bob"})._record.labels == {
        "team": "a", "tenant": "Acme, Inc", "user": "bob",
    }  # fmt: skip


@pytest.mark.parametrize("text", ["team", "team=", "=x", "session_id=x", "my-label=x"])
def test_a_scope_that_cannot_be_is_refused_with_what_is_wrong(
    make: Make, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("OTEL_BUDGET_SCOPE", text)
    with pytest.raises(InvalidValueError, match=r"scope|OTEL_BUDGET_SCOPE"):
        make()


def test_more_labels_than_a_scope_may_have_are_refused(make: Make) -> None:
    with pytest.raises(InvalidValueError, match="at most 16"):
        make(scope={f"label_{number}": "x" for number in range(17)})
