"""Keep autonomous agent runs inside their budget of tokens, API calls, time and money."""

from otel_budget._version import __version__
from otel_budget.agent.monitor import ResourceMonitor
from otel_budget.agent.orchestrator import Orchestrator
from otel_budget.errors import BudgetExceeded
from otel_budget.instrumentation.endpoint import serve_metrics
from otel_budget.model.limits import ResourceLimits
from otel_budget.model.usage import ResourceUsage
from otel_budget.model.verdict import LimitCheckResult, LimitStatus, Verdict

__all__ = [
    "BudgetExceeded",
    "LimitCheckResult",
    "LimitStatus",
    "Orchestrator",
    "ResourceLimits",
    "ResourceMonitor",
    "ResourceUsage",
    "Verdict",
    "__version__",
    "serve_metrics",
]
