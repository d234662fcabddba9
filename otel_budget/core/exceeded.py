"""The error that ends a run: it carries the verdict, so it is above the other errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_budget.errors import OtelBudgetError

if TYPE_CHECKING:
    from otel_budget.core.verdict import Verdict


class BudgetExceeded(OtelBudgetError):  # noqa: N818 - the name is part of the public contract
    """Say that a run must stop; carries the verdict with all its numbers."""

    finished: Any = None
    """What was finished before, where it was raised: as the adapter's page says; None: it does not
    know."""

    finished_inside: tuple[Any, ...] = ()
    """The same of agents in tools through which it came, the innermost first."""

    def __init__(self, verdict: Verdict) -> None:
        """Keep the verdict; its message is the error's."""
        self.verdict = verdict
        super().__init__(f"run {verdict.session_id!r}: {verdict.message}")
