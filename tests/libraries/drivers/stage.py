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
from functools import partial
from typing import TYPE_CHECKING, Any

from otel_budget import BudgetExceeded, ResourceLimits, ResourceMonitor
from tests.libraries.provider.script import total

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from otel_budget.core.usage import ResourceUsage
    from tests.libraries.drivers.scenario import Family, OneCall, OneCallAsync, Scenario
    from tests.libraries.provider import Answer, Entry, Provider

    Outcome = dict[str, Any]

RUNS = 4
CALLS = 16
#: How the tools begin by which one of OpenAI's agents hands over to another: none is called.
HANDOFF = "transfer_to_"


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
    counts_tools: bool
    """An adapter counts the calls of tools that are made."""

    def play(self, scenario: Scenario) -> Outcome:
        """Play one scenario as one run."""
        return self._play(scenario, _monitor(scenario.name))

    def play_stopping(self, scenario: Scenario) -> Outcome:
        """Play a scenario as a run of three calls; fail if there is a fourth."""
        limits = ResourceLimits(max_api_calls=3)
        outcome = self._play(scenario, ResourceMonitor(limits, session_id=scenario.name))
        return self._with_three_requests(outcome)

    def _play(self, scenario: Scenario, monitor: ResourceMonitor) -> Outcome:

        def run() -> None:
            with monitor:
                scenario.play(self.clients)
                gc.collect()  # abandoned streams end here, if ever
                time.sleep(self.settle)

        async def run_async() -> None:
            async with monitor:
                done = scenario.play(self.clients)
                assert done is not None
                await done
                gc.collect()
                await asyncio.sleep(self.settle)

        is_async = inspect.iscoroutinefunction(scenario.play)
        play = partial(self._await, run_async) if is_async else run
        outcome = self._outcome(
            scenario.name, [monitor], play, answers=scenario.answers, failed=scenario.failed
        )
        return self._with_tools(outcome, scenario, monitor) if self.counts_tools else outcome

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

        return self._outcome("four_runs_of_sixteen_tasks", monitors, partial(self._await, all_runs))

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

        def all_runs() -> None:
            with ThreadPoolExecutor(RUNS) as pool:
                for future in [pool.submit(run, monitor) for monitor in monitors]:
                    future.result()

        return self._outcome("four_runs_of_sixteen_threads", monitors, all_runs)

    def run_inside_a_run(self, call: OneCallAsync, model: str) -> Outcome:
        """Play a run of two calls with a run of one call between them."""
        outer, inner = monitors = [_monitor("outer"), _monitor("inner")]

        async def both() -> None:
            async with outer:
                await call(self.clients, f"{model}-outer")
                async with inner:
                    await call(self.clients, f"{model}-inner")
                    await asyncio.sleep(self.settle)
                await call(self.clients, f"{model}-outer")
                await asyncio.sleep(self.settle)

        return self._outcome("run_inside_a_run", monitors, partial(self._await, both))

    def stop_before_the_fourth_call(self, call: OneCallAsync, model: str) -> Outcome:
        """Play a run that may make three calls and tries six; fail unless it stops in time."""
        monitor = ResourceMonitor(ResourceLimits(max_api_calls=3), session_id="limited")

        async def run() -> None:
            async with monitor:
                for _ in range(6):
                    await call(self.clients, model)
                    await asyncio.sleep(self.settle)

        def stopped() -> None:
            try:
                self._await(run)
            except BudgetExceeded:
                return
            raise AssertionError("no call was refused")

        outcome = self._outcome("stop_before_the_fourth_call", [monitor], stopped)
        return self._with_three_requests(outcome)

    def _with_three_requests(self, outcome: Outcome) -> Outcome:
        asked = len(self.provider.log())
        if asked != 3 and outcome["error"] is None:
            outcome["error"] = f"the provider was asked {asked} times, not 3"
        return outcome

    def _with_tools(
        self, outcome: Outcome, scenario: Scenario, monitor: ResourceMonitor
    ) -> Outcome:
        """Fail if not each tool that the provider asked for was counted as one call."""
        served = zip(self.provider.log(), scenario.answers, strict=False)
        tools = [each.name for entry, said in served if entry.status == 200 for each in said.tools]
        called = sum(not name.startswith(HANDOFF) for name in tools)
        counted = monitor.get_usage_report().tool_calls
        if counted != called and outcome["error"] is None:
            outcome["error"] = f"{called} tools were called, {counted} were counted"
        return outcome

    def call_outside_of_every_run(self, call: OneCallAsync, model: str) -> Outcome:
        """Make a call in no run; what the process's own account has is what counts."""

        async def outside() -> None:
            await call(self.clients, model)
            await asyncio.sleep(self.settle)

        outcome = self._outcome("call_outside_of_every_run", [], partial(self._await, outside))
        counted = dict.fromkeys(_counted(self.outside()), 0) | outcome["outside"]
        run = {"served": _served(self.provider.log(), 0), "counted": counted}
        return outcome | {"runs": [run], "outside": {}}

    def _outcome(
        self,
        name: str,
        monitors: list[ResourceMonitor],
        play: Callable[[], None],
        *,
        answers: tuple[Answer, ...] = (),
        failed: int = 0,
    ) -> Outcome:
        """Play, and hold what each run was served against what its monitor counted."""
        self.provider.follow(answers)
        before, error = self.outside(), None
        try:
            play()
        except Exception:  # noqa: BLE001 - it is the scenario's outcome, and fails the test
            error = traceback.format_exc()
        log = self.provider.log()
        runs = []
        for monitor in monitors:
            # Runs of one scenario ask for models of their own names, so that the log can be split.
            own = [each for each in log if each.model.endswith(f"-{monitor.session_id}")]
            served = _served(own if len(monitors) > 1 else log, failed)
            runs.append({"served": served, "counted": _counted(monitor.get_usage_report())})
        return {"scenario": name, "error": error, "runs": runs,
                "outside": _difference(before, self.outside())}  # fmt: skip

    def _await(self, what: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.loop.run(what(), context=contextvars.copy_context())


def play_all(family: Family, stage: Stage, *, asks: bool) -> list[Outcome]:
    """Play every scenario of a family, and several runs with whatever it can call.

    asks: before each call the run is asked whether it may go on.
    """
    outcomes = [stage.play(scenario) for scenario in family]
    if asks:
        outcomes += [stage.play_stopping(scenario) for scenario in family.stopping]
    model, call, call_async = family.model, family.one_call, family.one_call_async
    if call is not None:
        outcomes.append(stage.four_runs_of_sixteen_threads(call, model))
    if call_async is not None:
        outcomes.append(stage.four_runs_of_sixteen_tasks(call_async, model))
        outcomes.append(stage.run_inside_a_run(call_async, model))
        outcomes.append(stage.call_outside_of_every_run(call_async, model))
        if asks:
            outcomes.append(stage.stop_before_the_fourth_call(call_async, model))
    return outcomes


def _monitor(session_id: str) -> ResourceMonitor:
    return ResourceMonitor(ResourceLimits(), session_id=session_id)


def _served(log: list[Entry], failed: int) -> dict[str, int]:
    """Return what the provider did. failed: operations that failed for the application."""
    served = [entry for entry in log if entry.status == 200]
    return {
        "calls": len(served), "usage_sent": sum(entry.usage_sent for entry in served),
        "requests_failed": len(log) - len(served), "failed": failed, **total(served),
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
