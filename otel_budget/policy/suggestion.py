"""Which limit fits the runs that ended well: quantiles, a proposal with its reason, or a refusal.

The rules:
- A quantile is the smallest amount that at least so many percent of the runs did not exceed: always
  the use of some run, never between two (nearest rank). So twice the same runs propose the same.
- Runs that ended well count with what they used. Of a run that a suggested limit cut it is known
  that it is at least so large: it ranks with that limit. What a suggestion cuts can therefore not
  push it down; up it goes only by runs that ended well.
- A proposal puts the warning line just above the 95th percentile: that divided by the warning
  threshold, rounded up to two digits; to the next such number where it is exactly that, as a use
  that comes to the line is warned.
- Fewer than ten runs that ended well propose nothing, nor do runs that used nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_CEILING, Context, Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget import semconv
from otel_budget.core.quantities import Number
from otel_budget.core.reasons import Reason
from otel_budget.core.resources import RESOURCES, quantity_of
from otel_budget.policy.bounds import bound
from otel_budget.policy.format import amount, percent

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from otel_budget.core.observation import RunAttributes
    from otel_budget.core.verdict import Verdict

#: Runs that ended well below which nothing is proposed.
LEAST_RUNS: Final = 10
#: In percent; the last is the one that a proposal rests on.
QUANTILES: Final = (50, 75, 90, 95)
PROPOSED: Final = QUANTILES[-1]
#: Whose limit it is, in a verdict.
SUGGESTED: Final = "suggested"
_ALL: Final = 100
#: Digits of a proposal that are not 0.
_READABLE: Final = Context(prec=2, rounding=ROUND_CEILING)
_EXACT: Final = Context(prec=100)
_NOTHING: Final[Mapping[str, Number]] = MappingProxyType({})


class EndedRun(NamedTuple):
    """What a run that is over used, and how it ended."""

    used: Mapping[str, Number]
    """Per resource; absent is unknown, or known in part only."""
    ended_well: bool
    """True if it completed, and did what it was for as far as that was judged."""
    cut: Mapping[str, Number] = _NOTHING
    """Per resource, the suggested limit that stopped it; empty of most."""


class Suggestion(NamedTuple):
    """What is proposed as the limit on one resource."""

    resource: str
    runs: int
    """How many that ended well it rests on: their use is known."""
    cut: int
    """How many that a suggested limit cut rank with them, with at least what they used."""
    quantiles: Mapping[int, Number]
    """Percent to use, of the runs that ended well; empty where there are none."""
    largest: Number | None
    """The most that one of them used."""
    proposed: Number | None
    """The limit; None: nothing is proposed."""
    reason: str
    """Why, in words."""


class Suggesting(NamedTuple):
    """Between which bounds limits are suggested. Per resource, in its own type."""

    at_most: Mapping[str, Number]
    """Holds for every run, and where nothing is suggested alone. No other resource gets a limit."""
    at_least: Mapping[str, Number] = _NOTHING
    """No suggestion is stricter than that; absent is 0."""


def workflow_of(attributes: RunAttributes) -> str:
    """Return the workflow that a run names; empty if it names none: those are one, too."""
    labels = attributes.labels
    return "" if labels is None else labels.get(semconv.WORKFLOW, "")


def ended_run(
    verdict: Verdict, *, state: str | None = None, resolved: bool | None = None
) -> EndedRun:
    """Return what the last verdict on a run that is over says of it.

    state: the one in which it ended; None: the verdict's. resolved: whether it did what it was for;
    None: that was not judged.
    """
    cut = _cut_by(verdict)
    completed = (state or verdict.run_state) == semconv.COMPLETED
    well = completed and resolved is not False and not cut
    states = verdict.resources
    used = {name: state.used for name, state in states.items()}
    partly = [name for name, state in states.items() if state.at_least]
    return EndedRun(known_use(used, partly), well, cut)


def known_use(used: Mapping[str, Number], partly: Collection[str]) -> dict[str, Number]:
    """Return what a run used, without that of which only a part is known. partly: that."""
    return {name: amount for name, amount in used.items() if name not in partly}


#: Reasons that are a limit's.
_CUTTING: Final = (Reason.LIMIT_EXCEEDED, Reason.APPROACHING_LIMIT)


def _cut_by(verdict: Verdict) -> Mapping[str, Number]:
    """Return the suggested limits that stopped a run, if no other one did.

    A run that is stopped at its warning line counts with the limit: by its own word it would have
    needed more than that.
    """
    if verdict.reason not in _CUTTING or verdict.limit_from != SUGGESTED:
        return _NOTHING
    return {
        name: state.limit
        for name, state in verdict.resources.items()
        if state.status is verdict.status and state.limit is not None
    }


def quantile(ordered: Sequence[Number], share: int) -> Number:
    """Return the smallest of amounts that so many percent of them do not exceed.

    ordered: at least one, the smallest first. share: in percent, 1 to 100.
    """
    return ordered[_rank(len(ordered), share)]


def _rank(number: int, share: int) -> int:
    return -(-share * number // _ALL) - 1


def suggestion(resource: str, runs: Iterable[EndedRun], threshold: float) -> Suggestion:
    """Return what is proposed as the limit on a resource.

    threshold: the share of the limit where warning begins, above 0 and at most 1.
    """
    known = [run for run in runs if resource in run.used]
    good = sorted(run.used[resource] for run in known if run.ended_well)
    cut = sorted(run.cut.get(resource, run.used[resource]) for run in known if run.cut)
    quantiles = {share: quantile(good, share) for share in QUANTILES if good}
    largest = good[-1] if good else None
    found = Suggestion(resource, len(good), len(cut), quantiles, largest, None, "")
    if len(good) < LEAST_RUNS:
        few = f"{len(good)} runs ended well and say what they used"
        if len(good) == 1:
            few = "1 run ended well and says what it used"
        return found._replace(reason=f"{few}; it takes {LEAST_RUNS}")
    if not largest:
        return found._replace(reason="no run that ended well used any")
    least, lifted = _needed(good, cut)
    if not least:
        return found._replace(reason=f"{PROPOSED}% of the runs that ended well used none")
    limits = [_readable(resource, _decimal(limit)) for limit in lifted]
    proposed = max([_with_line_above(resource, least, threshold), *limits])
    return found._replace(proposed=proposed, reason=_reason(found, least, threshold))


def _needed(good: Sequence[Number], cut: Sequence[Number]) -> tuple[Number, Sequence[Number]]:
    """Return what the run at the 95th percentile used, and the limits of cut ones up to there.

    Where a cut run is at the percentile, the largest that ended well below it stands for it.
    """
    ranked = sorted([*((size, 0) for size in good), *((size, 1) for size in cut)])
    upto = ranked[: _rank(len(ranked), PROPOSED) + 1]
    used = [size for size, was_cut in upto if not was_cut]
    return (used[-1] if used else good[0]), [size for size, was_cut in upto if was_cut]


def _reason(found: Suggestion, least: Number, threshold: float) -> str:
    at, of = amount(found.resource, least), f"{found.runs:,} runs that ended well"
    line = f"the warning line, at {percent(threshold).replace('.0%', '%')} of it, is above that"
    text = f"{PROPOSED}% of {of} used no more than {at}: {line}"
    if found.cut:
        text += f"; {found.cut:,} that a suggested limit cut rank with that limit"
    return text


def within(
    proposed: Number | None, at_least: Number | None, at_most: Number | None
) -> Number | None:
    """Return a proposal within bounds; None where it is none, or no stricter than the upper one."""
    if proposed is None:
        return None
    limit = proposed if at_least is None else max(proposed, at_least)
    return None if at_most is not None and limit >= at_most else limit


def _readable(resource: str, exact: Decimal) -> Number:
    """Return an amount of a resource, not below an exact one, with two digits that are not 0."""
    return quantity_of(resource).as_limit(_READABLE.plus(exact))


def _with_line_above(resource: str, use: Number, threshold: float) -> Number:
    """Return the readable limit next above a use, whose warning line the use does not come to."""
    exact = _EXACT.divide(_decimal(use), _decimal(threshold))
    limit = _readable(resource, exact)
    if bound(resource, limit, threshold, SUGGESTED).warning_at <= use:
        limit = _readable(resource, _READABLE.next_plus(_decimal(limit)))
    return limit


def _decimal(value: Number) -> Decimal:
    return value if isinstance(value, Decimal) else Decimal(repr(value))


def resources_of(runs: Iterable[EndedRun]) -> tuple[str, ...]:
    """Return the resources that any of some runs used, in the order in which they are shown.

    Also those of which it is not known how much their calls used: nothing is left out unsaid.
    """
    used: set[str] = set()
    for run in runs:
        used.update(name for name, value in run.used.items() if value)
        if run.used.get(semconv.API_CALLS):
            used.update(name for name in (semconv.TOKENS, semconv.COST) if name not in run.used)
    return tuple(name for name in RESOURCES if name in used)
