"""Keep autonomous agent runs inside their budget of tokens, API calls, time and money.

What is public is imported when it is first asked for: a hook, which an agent waits for at every
step, must not load the OpenTelemetry SDK (docs/adr/0037-fast-commands.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otel_budget._version import __version__

if TYPE_CHECKING:
    from otel_budget.adapters.sdk_clients.door import guard_client
    from otel_budget.core.exceeded import BudgetExceeded
    from otel_budget.core.forecast import Estimate, Forecast
    from otel_budget.core.limits import ResourceLimits
    from otel_budget.core.reasons import Action, Reason
    from otel_budget.core.usage import ResourceUsage
    from otel_budget.core.verdict import LimitCheckResult, LimitStatus, Verdict
    from otel_budget.errors import (
        CheckpointError,
        InvalidValueError,
        NoCheckpointError,
        RunCompletedError,
    )
    from otel_budget.genai.sampling import RecordingSampler
    from otel_budget.genai.usage_of import usage_of
    from otel_budget.sdk.async_orchestrator import AsyncOrchestrator
    from otel_budget.sdk.instrument import instrument, unattributed_usage
    from otel_budget.sdk.metrics.endpoint import serve_metrics, use_registry
    from otel_budget.sdk.metrics.otlp_export import export_otlp
    from otel_budget.sdk.monitor import ResourceMonitor
    from otel_budget.sdk.orchestrator import Orchestrator
    from otel_budget.sdk.outcome import Outcome
    from otel_budget.sdk.phased_run import PhaseFailedError, PhaseResult, RunResult
    from otel_budget.sdk.pricing.prices import Prices

__all__ = [
    "Action",
    "AsyncOrchestrator",
    "BudgetExceeded",
    "CheckpointError",
    "Estimate",
    "Forecast",
    "InvalidValueError",
    "LimitCheckResult",
    "LimitStatus",
    "NoCheckpointError",
    "Orchestrator",
    "Outcome",
    "PhaseFailedError",
    "PhaseResult",
    "Prices",
    "Reason",
    "RecordingSampler",
    "ResourceLimits",
    "ResourceMonitor",
    "ResourceUsage",
    "RunCompletedError",
    "RunResult",
    "Verdict",
    "__version__",
    "export_otlp",
    "guard_client",
    "instrument",
    "serve_metrics",
    "unattributed_usage",
    "usage_of",
    "use_registry",
]

#: Which module has what is public.
_HOMES = {
    "Action": "core.reasons",
    "AsyncOrchestrator": "sdk.async_orchestrator",
    "BudgetExceeded": "core.exceeded",
    "CheckpointError": "errors",
    "Estimate": "core.forecast",
    "Forecast": "core.forecast",
    "InvalidValueError": "errors",
    "LimitCheckResult": "core.verdict",
    "LimitStatus": "core.verdict",
    "NoCheckpointError": "errors",
    "Orchestrator": "sdk.orchestrator",
    "Outcome": "sdk.outcome",
    "PhaseFailedError": "sdk.phased_run",
    "PhaseResult": "sdk.phased_run",
    "Prices": "sdk.pricing.prices",
    "Reason": "core.reasons",
    "RecordingSampler": "genai.sampling",
    "ResourceLimits": "core.limits",
    "ResourceMonitor": "sdk.monitor",
    "ResourceUsage": "core.usage",
    "RunCompletedError": "errors",
    "RunResult": "sdk.phased_run",
    "Verdict": "core.verdict",
    "export_otlp": "sdk.metrics.otlp_export",
    "guard_client": "adapters.sdk_clients.door",
    "instrument": "sdk.instrument",
    "serve_metrics": "sdk.metrics.endpoint",
    "unattributed_usage": "sdk.instrument",
    "usage_of": "genai.usage_of",
    "use_registry": "sdk.metrics.endpoint",
}
#: What one may also reach without importing it by name.
_PARTS = frozenset(
    ("core", "errors", "files", "genai", "logs", "net", "policy", "runtime", "sdk", "semconv")
)


def __getattr__(name: str) -> object:
    """Import what is public when it is first asked for. Raises AttributeError."""
    from importlib import import_module

    if name in _PARTS:
        return import_module(f"{__name__}.{name}")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = found  # asked for once; from now on it is as fast as any other name
    return found


def __dir__() -> list[str]:
    """Return what is there, and what comes when it is asked for."""
    return sorted({*globals(), *_HOMES, *_PARTS})
