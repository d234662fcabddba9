"""Keep autonomous agent runs inside their budget of tokens, API calls, time and money."""

from otel_budget.agent.monitor import ResourceMonitor
from otel_budget.errors import BudgetExceeded
from otel_budget.instrumentation.endpoint import serve_metrics
from otel_budget.model.limits import ResourceLimits
from otel_budget.model.usage import ResourceUsage
from otel_budget.model.verdict import LimitCheckResult, LimitStatus, Verdict

__version__ = "0.1.0"

__all__ = [
    "BudgetExceeded",
    "LimitCheckResult",
    "LimitStatus",
    "ResourceLimits",
    "ResourceMonitor",
    "ResourceUsage",
    "Verdict",
    "serve_metrics",
]
