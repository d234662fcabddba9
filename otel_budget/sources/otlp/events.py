"""What log records add up to: each counts as one, with the amounts that it holds, by a preset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_budget import semconv
from otel_budget.core.resources import quantity_of
from otel_budget.core.samples import labels_text, plausible
from otel_budget.core.token_kinds import KIND_COUNTERS
from otel_budget.presets import model as roles
from otel_budget.sources.otlp.own_limits import number
from otel_budget.sources.otlp.series import PROCESS

_TOKENS: Final = (roles.TOKENS, roles.INPUT, roles.OUTPUT)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_budget.core.quantities import Number
    from otel_budget.presets.model import EventRule
    from otel_budget.sources.otlp.messages import Scalar


class EventUsage:
    """What the records of one program in one run add up to, as long as this receiver lives."""

    def __init__(self, process: str) -> None:
        """process: names this stretch of counting in the ledger's keys."""
        self._labels = labels_text({PROCESS: process})
        self.amounts: dict[str, Number] = {}
        """Role to amount."""
        self.counters: dict[tuple[str, str], Number] = {}
        """As in RunObservation."""
        self.unknown = 0
        """Records of calls whose tokens could not be read."""
        self.unpriced = 0
        """The same of their cost."""

    def add(self, rule: EventRule, attributes: Mapping[str, Scalar]) -> int:
        """Take in a record; return how many of its amounts could not be read."""
        for role in rule.counts:
            self._count(role, 1)
        bad, tokens_bad, tokens_known = 0, False, False
        for attribute, counts in rule.amounts.items():
            is_cost = roles.COST_USD in counts
            value = number(attributes.get(attribute))
            good = value is not None and plausible(value)
            if good and value is not None:
                self._add(rule, counts, value)
            else:
                bad += attribute in attributes
                self.unpriced += is_cost
            if not is_cost:
                tokens_known = tokens_known or good
                tokens_bad = tokens_bad or (not good and attribute in attributes)
        says_tokens = any(roles.COST_USD not in counts for counts in rule.amounts.values())
        self.unknown += says_tokens and (tokens_bad or not tokens_known)
        return bad

    def add_tokens(self, tokens: int, calls: int) -> None:
        """Take in what somebody else than the records tells of a call."""
        self._count(roles.TOKENS, tokens)
        if calls:
            self._count(roles.CALLS, calls)

    def kinds(self) -> dict[tuple[str, str], Number]:
        """Return the counters of kinds of tokens, parts in their wholes."""
        kinds = ((KIND_COUNTERS[kind], self.amounts.get(r)) for r, kind in roles.KIND_OF.items())
        return {(name, self._labels): n for name, n in kinds if n is not None}

    def _add(self, rule: EventRule, counts: tuple[str, ...], value: float) -> None:
        """Add an amount that counts as these roles."""
        whole = next((role for role in counts if role in roles.WHOLES), None)
        quantity = quantity_of(roles.RESOURCE_OF.get(whole or "", semconv.TOKENS))
        amount = quantity.from_float_sum(float(value))
        for role in counts:
            if role == whole and (role not in _TOKENS or role in rule.token_roles):
                self._count(role, amount)
            else:
                self.amounts[role] = _plus(self.amounts.get(role), amount)

    def _count(self, role: str, amount: Number) -> None:
        """Add an amount that is judged."""
        resource = roles.RESOURCE_OF.get(role)
        if resource is None:
            return  # it repeats what others tell
        self.amounts[role] = _plus(self.amounts.get(role), amount)
        if resource == semconv.TOKENS and role != roles.TOKENS:
            self.amounts[roles.TOKENS] = _plus(self.amounts.get(roles.TOKENS), amount)
        key = (resource, self._labels)
        self.counters[key] = _plus(self.counters.get(key), amount)


def _plus(known: Number | None, amount: Number) -> Number:
    return amount if known is None else known + amount  # type: ignore[operator] # one role is one type
