"""Keep autonomous agent runs inside their budget of tokens, API calls, time and money."""

import logging

from otel_budget._version import __version__
from otel_budget.core.exceeded import BudgetExceeded
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
from otel_budget.logs.line_limit import LineFilter
from otel_budget.sdk.instrument import instrument, unattributed_usage
from otel_budget.sdk.metrics.endpoint import serve_metrics, use_registry
from otel_budget.sdk.monitor import ResourceMonitor
from otel_budget.sdk.orchestrator import Orchestrator, PhaseFailedError, PhaseResult, RunResult
from otel_budget.sdk.pricing.prices import Prices

# A call that fails again and again must not fill the log of the program it is made in.
logging.getLogger("otel_budget").addFilter(LineFilter())

__all__ = [
    "Action",
    "BudgetExceeded",
    "CheckpointError",
    "InvalidValueError",
    "LimitCheckResult",
    "LimitStatus",
    "NoCheckpointError",
    "Orchestrator",
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
    "instrument",
    "serve_metrics",
    "unattributed_usage",
    "usage_of",
    "use_registry",
]
