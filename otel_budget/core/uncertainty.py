"""What is unknown of a run's use: calls without a price, without a token count, or estimated."""

from __future__ import annotations

from dataclasses import dataclass

from otel_budget import semconv


@dataclass(frozen=True, slots=True)
class UsageUncertainty:
    """Numbers of such calls, over all processes of the run."""

    unpriced_calls: int = 0
    """Calls without a known price."""
    unknown_usage_calls: int = 0
    """Calls without known tokens."""
    estimated_calls: int = 0
    """Calls whose tokens, and with them their price, are the mean of others'."""

    alternating: frozenset[str] = frozenset()
    """Resources of which several processes write one series: what they come to is about right."""

    @property
    def at_least(self) -> frozenset[str]:
        """The resources of whose use a part is not counted: it is at least what is counted."""
        if not (self.unpriced_calls or self.unknown_usage_calls):
            return _NONE
        rows = (semconv.COST, self.unpriced_calls), (semconv.TOKENS, self.unknown_usage_calls)
        return frozenset(resource for resource, calls in rows if calls)

    @property
    def estimated(self) -> frozenset[str]:
        """The resources of whose use a part is an estimate."""
        if not self.alternating:
            return _ESTIMATED if self.estimated_calls else _NONE
        return self.alternating | (_ESTIMATED if self.estimated_calls else _NONE)


_NONE: frozenset[str] = frozenset()
_ESTIMATED = frozenset({semconv.TOKENS, semconv.COST})
NO_UNCERTAINTY = UsageUncertainty()
