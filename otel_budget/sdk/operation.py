"""One operation as a span: usually a model call. It is counted once, when it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_budget.core.resources import FURTHER
from otel_budget.errors import InvalidValueError
from otel_budget.sdk.usage_arguments import further_of, named, operation_usage

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from otel_budget.sdk.usage_arguments import OperationUsage

_AMOUNTS = (
    "tokens", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens",
    "reasoning_tokens", "cost_usd",
)  # fmt: skip
_OTHERS = ("extras", "service_tier")
_FURTHER = tuple(row.usage_key for row in FURTHER.values())
#: What ``Operation.record`` takes.
FIELDS = (*_AMOUNTS, *_OTHERS, *_FURTHER, "model", "provider")


class Operation:
    """Collects what an operation used. Call ``record`` before the block ends."""

    def __init__(self, span: Span, **known: Any) -> None:
        """Begin with what is known before the call. span: the operation's own."""
        self.span = span
        self.used: dict[str, Any] = {}
        self.record(**{key: value for key, value in known.items() if value is not None})

    def record(self, **used: Any) -> None:
        """Say what was used, with the arguments of ``record_operation``; a later call replaces.

        Without it a call that succeeded has unknown usage, and is counted as such; what is not a
        call used nothing. Raises InvalidValueError for an argument or a value that is not allowed.
        """
        for key, value in used.items():
            if key not in FIELDS:
                raise InvalidValueError(key, value, "the arguments " + ", ".join(FIELDS))
        merged = {**self.used, **used}
        for key in ("model", "provider"):
            named(key, merged.get(key))
        _usage(merged, api_call=False, outcome="ok")  # refused here, where the caller sees it
        self.used = merged

    def counted_inside(self, tool_calls: int) -> None:
        """Leave out calls of tools that were counted where they were made, inside the operation."""
        said = self.used.get("tool_calls")
        if said and tool_calls:
            self.used = {**self.used, "tool_calls": max(0, said - tool_calls)}

    def usage(self, *, api_call: bool, outcome: str) -> OperationUsage:
        """Return what is to be counted. Only a call that succeeded used what it did not say."""
        unsaid = not any(key in self.used for key in _AMOUNTS)
        nothing = unsaid and (outcome != "ok" or not api_call)
        used = {**self.used, "tokens": 0} if nothing else self.used
        return _usage(used, api_call=api_call, outcome=outcome)


def _usage(used: dict[str, Any], *, api_call: bool, outcome: str) -> OperationUsage:
    said = {key: used.get(key) for key in (*_AMOUNTS, *_OTHERS) if key != "tokens"}
    further = further_of(**{key: used[key] for key in _FURTHER if key in used})
    return operation_usage(used.get("tokens"), api_call, outcome=outcome, **said, further=further)
