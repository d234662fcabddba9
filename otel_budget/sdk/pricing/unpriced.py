"""Calls without a price under a limit on cost: the limit cannot hold for them, and that is said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_budget.logs.logger import logger
from otel_budget.logs.once import Once

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_budget.sdk.pricing.prices import Prices
    from otel_budget.sdk.run_record import RunRecord
    from otel_budget.sdk.usage_arguments import OperationUsage

_LONGEST_NAME: Final = 120


class UnpricedNotices:
    """Says each cause once in the life of a process: a model, or that there is no list at all."""

    def __init__(self, say: Callable[..., None] = logger.warning) -> None:
        """Begin with nothing said. say: takes a text and what to put into it."""
        self._say = say
        self._once = Once()

    def tell(
        self,
        record: RunRecord,
        prices: Prices,
        model: str | None,
        provider: str | None,
        usage: OperationUsage,
    ) -> None:
        """Say of a call without a price that the run's limit does not hold for it."""
        cause, advice = _cause(prices, model, provider, usage)
        key = cause if prices.how_to_install else (cause, model, provider)
        if not self._once.first(key):
            return
        self._say(
            "run %r: a call of %s (provider %s) has no price: %s. The limit on cost, $%s, "
            "does not apply to such calls: the cost is 'at least' that of the others (said once). "
            "%s, or have such calls stop the run: on_unpriced='stop'",
            record.session_id, _name(model, "no named model"), _name(provider, "not named"), cause,
            record.limits.max_cost_usd, advice,
        )  # fmt: skip


def _cause(
    prices: Prices, model: str | None, provider: str | None, usage: OperationUsage
) -> tuple[str, str]:
    """Return why an operation has no price, and what to do about it."""
    if model is None:
        return "it names no model", "Name its model and provider, or say its cost_usd"
    if not prices.knows(model, provider):
        if prices.how_to_install:
            return "the price list is not installed", f"Install it ({prices.how_to_install})"
        advice = "Give it a price of your own (prices=, OTEL_BUDGET_PRICES; docs/money.md)"
        return "it is in no price list", advice
    if usage.tokens != usage.input_tokens + usage.output_tokens:
        return "input and output are not told apart", "Give input_tokens and output_tokens"
    advice = "Give them prices of your own (docs/money.md)"
    if usage.extras is None:
        return "the list has none for such tokens", advice
    counts, tier = usage.extras
    what = [f"the service tier {tier!r}"] if tier is not None else sorted(counts)
    return f"the list has none for {' or '.join(what)}", advice


def _name(value: str | None, otherwise: str) -> str:
    return otherwise if value is None else repr(value[:_LONGEST_NAME])


#: Of this process.
UNPRICED_NOTICES: Final = UnpricedNotices()
