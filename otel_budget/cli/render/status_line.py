"""A verdict on one line of a program's screen, a second or so apart: short, and never empty."""

from __future__ import annotations

from decimal import ROUND_DOWN, Context, Decimal
from typing import TYPE_CHECKING, Final

from otel_budget import semconv
from otel_budget.core.budget import Mode
from otel_budget.core.verdict import LimitStatus
from otel_budget.logs.text import one_line
from otel_budget.policy.format import amount, first_to_end

if TYPE_CHECKING:
    from otel_budget.core.verdict import BudgetResource, ResourceState, Verdict

#: Resources shown, those nearest to their limits.
_SHOWN: Final = 3
_LONGEST: Final = 160
_BETWEEN: Final = " · "
_CUT: Final = Context(prec=40, rounding=ROUND_DOWN)
_CENTS, _FINE, _SMALL = Decimal("0.01"), Decimal("0.0001"), Decimal("0.1")
_COLOURS: Final = {
    LimitStatus.OK: "32", LimitStatus.APPROACHING: "33", LimitStatus.EXCEEDED: "31",
    LimitStatus.INCONCLUSIVE: "35",
}  # fmt: skip
_STOP: Final = "1;31"
#: Without a limit: what most people ask for.
_USUAL: Final = (semconv.TOKENS, semconv.COST)


def plain(problem: str) -> str:
    """Return what to show in place of a budget."""
    return one_line(f"budget: {problem}", _LONGEST)


NOTHING_YET: Final = plain("nothing counted yet")


def one_line_of(verdict: Verdict, *, colour: bool) -> str:
    """Return a verdict as one line. colour: with the terminal's sequences in it."""
    limited = [
        (s.ratio, _of(name, s), s.status)
        for name, s in verdict.resources.items()
        if s.ratio is not None
    ]
    limited += [
        (one.ratio, f"{one_line(budget.name)}: {_of(name, one)}", one.status)
        for budget in verdict.budgets
        if budget.mode is Mode.ENFORCE
        for name, one in budget.resources.items()
    ]
    limited.sort(key=lambda one: -one[0])
    parts = [_coloured(text, _COLOURS[status], colour) for _, text, status in limited[:_SHOWN]]
    if not limited:
        used = [(n, verdict.resources[n]) for n in _USUAL if n in verdict.resources]
        parts = ["no limit", *(_used(name, state) for name, state in used)]
    parts += [f"{name} not judged" for name in verdict.unjudged]
    if verdict.should_continue and (left := first_to_end(verdict)):
        parts.append(left)
    said = str(verdict.action)
    if verdict.status is LimitStatus.INCONCLUSIVE or not verdict.should_continue:
        said += f" ({verdict.reason})"
    sign = _COLOURS[verdict.status] if verdict.should_continue else _STOP
    return f"budget: {_BETWEEN.join((*parts, _coloured(one_line(said), sign, colour)))}"


def _of(name: str, state: ResourceState | BudgetResource) -> str:
    used, limit = _short(name, state.used), _short(name, state.limit)
    at_least = "at least " if state.at_least else ""
    if isinstance(state.used, Decimal):
        return f"{at_least}{used} of {limit}"
    share = int((state.ratio or 0.0) * 100)  # cut: 99.9 % is not the limit
    return f"{one_line(name)} {at_least}{share}% ({used} of {limit})"


def _used(name: str, state: ResourceState) -> str:
    at_least = "at least " if state.at_least else ""
    unit = "" if isinstance(state.used, Decimal) else f" {name}"
    return f"{at_least}{_short(name, state.used)}{unit}"


def _short(name: str, value: object) -> str:
    """Return an amount with no more digits than a line has room for; what is cut is not used."""
    if not isinstance(value, Decimal):
        return amount(name, value)  # type: ignore[arg-type] # what is limited has a limit
    step = _CENTS if value >= _SMALL or not value else _FINE
    text = f"{value.quantize(step, context=_CUT):,f}"
    return f"${text.removesuffix('.00')}"


def _coloured(text: str, code: str, colour: bool) -> str:  # noqa: FBT001 - passed on
    return f"\x1b[{code}m{text}\x1b[0m" if colour else text
