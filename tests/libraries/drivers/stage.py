"""Plays a scenario as a run under a budget; writes down what was served and what was counted."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from otel_budget import ResourceLimits, ResourceMonitor
from tests.libraries.provider.script import total

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from otel_budget.model.usage import ResourceUsage
    from tests.libraries.drivers.scenario import Family, OneCall, OneCallAsync, Scenario
    from tests.libraries.provider import Entry, Provider

    Outcome = dict[str, Any]

RUNS = 4
CALLS = 16


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the scenarios of one family are played."""

    provider: Provider
    clients: Any
    outside: Callable[[], ResourceUsage]
    """What was counted outside of every run, so far."""
    settle: float
    """Seconds in which telemetry may still come from other threads."""
    loop: asyncio.Runner
    """One loop for all: some libraries keep clients that belong to their first."""

    def play(self, scenario: Scenario) -> Outcome:
        """Play one scenario as one run."""
        self.provider.follow(scenario.answers)
        before, error = self.outside(), None
        monitor = _monitor(scenario.name)
        try:
            if inspect.iscoroutinefunction(scenario.play):
                self._await(self._asynchronously(scenario, monitor))
            else:
                self._synchronously(scenario, monitor)
        except Exception:  # noqa: BLE001 - it is the scenario's outcome, and fails the test
            error = traceback.format_exc()
        run = _run(self.provider.log(), monitor, scenario.failed)
        return {"scenario": scenario.name, "error": error, "runs": [run],
                "outside": _difference(before, self.outside())}  # fmt: skip

    def four_runs_of_sixteen_tasks(self, call: OneCallAsync, model: str) -> Outcome:
        """Play four runs at once, each of which makes sixteen calls at once, in one event loop."""
        monitors = [_monitor(f"tasks-{number}") for number in range(RUNS)]

        async def run(monitor: ResourceMonitor) -> None:
            async with monitor:
                name = f"{model}-{monitor.session_id}"
                await asyncio.gather(*(call(self.clients, name) for _ in range(CALLS)))
                await asyncio.sleep(self.settle)

        async def all_runs() -> None:
            await asyncio.gather(*map(run, monitors))

        return self._concurrently("four_runs_of_sixteen_tasks", monitors, self._await, all_runs())

    def four_runs_of_sixteen_threads(self, call: OneCall, model: str) -> Outcome:
        """Play four runs at once, each of which makes sixteen calls at once, in threads."""
        monitors = [_monitor(f"threads-{number}") for number in range(RUNS)]

        def run(monitor: ResourceMonitor) -> None:
            with monitor, ThreadPoolExecutor(CALLS) as pool:
                name = f"{model}-{monitor.session_id}"
                done = [
                    # A context can be entered once at a time: each call has its copy of the run's.
                    pool.submit(contextvars.copy_context().run, call, self.clients, name)
                    for _ in range(CALLS)
                ]
                for future in done:
                    future.result()
                time.sleep(self.settle)

        def all_runs(_: object) -> None:
            with ThreadPoolExecutor(RUNS) as pool:
                for future in [pool.submit(run, monitor) for monitor in monitors]:
                    future.result()

        return self._concurrently("four_runs_of_sixteen_threads", monitors, all_runs, None)

    def _concurrently(
        self, name: str, monitors: list[ResourceMonitor], play: Callable[[Any], None], what: Any
    ) -> Outcome:
        self.provider.follow(())
        before, error = self.outside(), None
        try:
            play(what)
        except Exception:  # noqa: BLE001 - it is the scenario's outcome, and fails the test
            error = traceback.format_exc()
        log = self.provider.log()
        runs = [
            _run((each for each in log if each.model.endswith(monitor.session_id)), monitor, 0)
            for monitor in monitors
        ]
        return {"scenario": name, "error": error, "runs": runs,
                "outside": _difference(before, self.outside())}  # fmt: skip

    def _await(self, what: Coroutine[Any, Any, None]) -> None:
        self.loop.run(what, context=contextvars.copy_context())

    def _synchronously(self, scenario: Scenario, monitor: ResourceMonitor) -> None:
        with monitor:
            scenario.play(self.clients)
            gc.collect()  # abandoned streams end here, if ever
            time.sleep(self.settle)

    async def _asynchronously(self, scenario: Scenario, monitor: ResourceMonitor) -> None:
        async with monitor:
            done = scenario.play(self.clients)
            assert done is not None
            await done
            gc.collect()
            await asyncio.sleep(self.settle)


def play_all(family: Family, stage: Stage) -> list[Outcome]:
    """Play every scenario of a family, and four runs at once with whatever it can call."""
    outcomes = [stage.play(scenario) for scenario in family]
    if family.one_call_async is not None:
        outcomes.append(stage.four_runs_of_sixteen_tasks(family.one_call_async, family.model))
    if family.one_call is not None:
        outcomes.append(stage.four_runs_of_sixteen_threads(family.one_call, family.model))
    return outcomes


def _monitor(session_id: str) -> ResourceMonitor:
    return ResourceMonitor(ResourceLimits(), session_id=session_id)


def _run(log: Iterable[Entry], monitor: ResourceMonitor, failed: int) -> dict[str, Any]:
    """Return what the provider did for a run, and what its monitor counted."""
    entries = list(log)
    served = [entry for entry in entries if entry.status == 200]
    return {
        "served": {
            "calls": len(served), "usage_sent": sum(entry.usage_sent for entry in served),
            "requests_failed": len(entries) - len(served), "failed": failed, **total(served),
        },
        "counted": _counted(monitor.get_usage_report()),
    }  # fmt: skip


def _counted(usage: ResourceUsage) -> dict[str, int]:
    return {
        "calls": usage.api_calls - usage.failed_api_calls, "unknown": usage.unknown_usage_calls,
        "failed": usage.failed_api_calls, "input": usage.input_tokens,
        "output": usage.output_tokens, "cached": usage.cache_read_tokens,
        "cache_write": usage.cache_write_tokens, "reasoning": usage.reasoning_tokens,
    }  # fmt: skip


def _difference(before: ResourceUsage, after: ResourceUsage) -> dict[str, int]:
    """Return what was counted in between, without what is 0."""
    earlier = _counted(before)
    now = _counted(after)
    return {name: now[name] - earlier[name] for name in now if now[name] != earlier[name]}
