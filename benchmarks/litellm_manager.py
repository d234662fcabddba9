"""One model call counted and checked, beside LiteLLM's ``BudgetManager``.

LiteLLM's dependencies do not go with the others', so both run in an environment of its own, the one
that the live tests use; this process says how often, and takes the time.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from typing import TYPE_CHECKING

from benchmarks.report import Goal, Report
from benchmarks.rounds import Contestant, take_turns
from tests.libraries.environments import python_of

if TYPE_CHECKING:
    from collections.abc import Callable

_OURS, _DETAIL = "otel-budget: record + check", "otel-budget: in detail, priced, + check"
_THEIRS = "LiteLLM: update_cost + get_current_cost"
_CHILD = """
import sys, tempfile, pathlib
import litellm
from litellm import BudgetManager, ModelResponse
from otel_budget import ResourceLimits, ResourceMonitor

folder = pathlib.Path(tempfile.mkdtemp())
prices = folder / "prices.yaml"
prices.write_text("prices: {gpt-4o-mini: {input: 0.15, output: 0.6}}")
limits = ResourceLimits(max_tokens=10**15, max_api_calls=10**15, max_cost_usd=10**9)
monitor = ResourceMonitor(limits, "bench", prices=prices)
manager = BudgetManager(project_name="bench")
manager.create_budget(total_budget=1e9, user="bench")
answer = ModelResponse(model="gpt-4o-mini", usage={
    "prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200})

def ours(times):
    for _ in range(times):
        monitor.should_continue(0.4)
        monitor.record_operation(tokens=1200, api_call=True)

def detail(times):
    for _ in range(times):
        monitor.should_continue(0.4)
        monitor.record_operation(api_call=True, input_tokens=1000, output_tokens=200,
                                 model="gpt-4o-mini", provider="openai")

def theirs(times):
    for _ in range(times):
        manager.get_current_cost(user="bench") < manager.get_total_budget("bench")
        manager.update_cost(completion_obj=answer, user="bench")

detail(1), theirs(1)
both = float(monitor.get_usage_report().cost_usd), manager.get_current_cost("bench")
assert abs(both[0] - both[1]) < 1e-9, both
print("ready", flush=True)
for line in sys.stdin:
    name, times = line.split()
    {"ours": ours, "detail": detail, "theirs": theirs}[name](int(times))
    print("done", flush=True)
"""


def run(*, quick: bool) -> Report:
    """Measure both in turns."""
    python = python_of("litellm")
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}  # asks nobody
    with tempfile.TemporaryDirectory() as folder:
        child = subprocess.Popen(
            [str(python), "-c", _CHILD],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, bufsize=1, cwd=folder, env=environment,
        )  # fmt: skip
        try:
            if _line(child) != "ready":
                raise RuntimeError("LiteLLM's environment does not do: see tests/libraries")
            names = {_OURS: "ours", _DETAIL: "detail", _THEIRS: "theirs"}
            contestants = [Contestant(name, _asked(child, key)) for name, key in names.items()]
            rounds = 20 if quick else 100
            timings = take_turns(contestants, rounds=rounds, turn=0.02, label="beside LiteLLM")
        finally:
            child.kill()
            child.communicate()
    rows = tuple(
        (name, timings.seconds(name).text(1e6), timings.ratio(name, _THEIRS).text(digits=4))
        for name in names
    )
    ratio = timings.ratio(_DETAIL, _THEIRS).median
    return Report(
        title="Beside LiteLLM's BudgetManager",
        about=(
            "should_continue and record_operation, beside what a loop with a BudgetManager calls: "
            "the cost so far held against the budget, and update_cost with the answer. Both come "
            f"to the same cost. In an environment of LiteLLM's own. {rounds} rounds."
        ),
        columns=("", "µs", "of LiteLLM's"),
        rows=rows,
        goals=(Goal("in detail, priced, of LiteLLM's", ratio, 0.1, 4),),
    )


def _line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def _asked(child: subprocess.Popen[str], key: str) -> Callable[[int], None]:
    def work(times: int) -> None:
        assert child.stdin is not None
        child.stdin.write(f"{key} {times}\n")
        if _line(child) != "done":
            raise RuntimeError(f"{key} failed in LiteLLM's environment")

    return work
