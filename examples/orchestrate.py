"""The small orchestrator: named phases, limits before each, partial results, resume."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from otel_budget import Orchestrator, PhaseResult, ResourceMonitor

CONFIG = Path(__file__).with_suffix(".yaml")


def phase(text: str, tokens: int) -> Callable[[ResourceMonitor], PhaseResult]:
    """Make a phase that uses some tokens. A real one would call a model here."""
    return lambda _monitor: PhaseResult(text, {"tokens": tokens, "api_call": True})


phases = {
    "outline": phase("three chapters", 3_000),
    "draft": phase("a draft", 5_500),
    "review": phase("two remarks", 1_000),
    "publish": phase("published", 400),
}

root = Path(tempfile.mkdtemp())
orchestrator = Orchestrator(CONFIG, session_id="report", project_root=root)
result = orchestrator.run(phases)
print(f"{result.outcome}: {result.verdict.reason}: {result.verdict.message}")
print(f"have {list(result.results)}, not done {list(result.remaining)}")

# Somebody raises the limit; the run goes on where it was, and nothing is done or counted twice.
more = {"resource_limits": {"max_tokens": 20_000}}
result = Orchestrator.resume("report", root, more).run(phases)
print(f"{result.outcome}: {result.summary['tokens']['used']:,} tokens in all")
