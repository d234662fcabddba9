"""The counts of one phase and one model, and how money is added up."""

from __future__ import annotations

from decimal import Context, Decimal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from otel_budget.instrumentation.record import Amounts

#: Returns the sum of two amounts of money: exactly, whatever decimal context the caller has set. No
#: function of our own around it, because that would take as long again.
plus: Final = Context(prec=100, traps=[]).add


class Cell:
    """Counts of one phase and one model. Fields as in ResourceUsage; nothing is counted twice."""

    __slots__ = (
        "api_calls", "aside_calls", "aside_input", "aside_output", "aside_unspecified",
        "cache_read_tokens", "cache_write_tokens", "cost_usd",
        "failed_api_calls", "input_tokens", "output_tokens", "reasoning_tokens",
        "unknown_calls", "unpriced_calls", "unspecified_tokens",
    )  # fmt: skip

    def __init__(self) -> None:
        """Begin at zero."""
        self.unspecified_tokens = 0
        self.input_tokens = 0
        self.output_tokens = 0
        self.cache_read_tokens = 0
        self.cache_write_tokens = 0
        self.reasoning_tokens = 0
        self.api_calls = 0
        self.failed_api_calls = 0
        self.unpriced_calls = 0
        self.unknown_calls = 0
        self.cost_usd = Decimal(0)
        # Of the above, what says nothing about the usual use of a call: failed and unknown calls,
        # estimates, what is no call.
        self.aside_calls = self.aside_input = self.aside_output = self.aside_unspecified = 0

    def set_aside(self, amounts: Amounts) -> None:
        """Keep an operation that was added out of the usual use of a call."""
        self.aside_calls += amounts.api_call
        self.aside_input += amounts.input_tokens
        self.aside_output += amounts.output_tokens
        self.aside_unspecified += amounts.tokens - amounts.input_tokens - amounts.output_tokens

    def usual_tokens(self) -> tuple[int, int, int]:
        """Return input, output and unspecified tokens of the calls that are not aside."""
        return (
            self.input_tokens - self.aside_input,
            self.output_tokens - self.aside_output,
            self.unspecified_tokens - self.aside_unspecified,
        )

    def absorb(self, other: Cell) -> None:
        """Add another cell's counts."""
        self.unspecified_tokens += other.unspecified_tokens
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        self.cache_read_tokens += other.cache_read_tokens
        self.cache_write_tokens += other.cache_write_tokens
        self.reasoning_tokens += other.reasoning_tokens
        self.api_calls += other.api_calls
        self.failed_api_calls += other.failed_api_calls
        self.unpriced_calls += other.unpriced_calls
        self.unknown_calls += other.unknown_calls
        self.cost_usd = plus(self.cost_usd, other.cost_usd)
