"""What the series of one run add up to where some of them may repeat others. Pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_budget import semconv
from otel_budget.core.resources import FURTHER
from otel_budget.core.samples import labels_text
from otel_budget.core.token_kinds import KIND_COUNTERS
from otel_budget.presets import model as roles
from otel_budget.presets.model import first_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from otel_budget.core.quantities import Number
    from otel_budget.presets.model import Preset

_NAME: Final = "__name__"
Labels = tuple[tuple[str, str], ...]


class Series(NamedTuple):
    """One series that may count."""

    rule: int
    """Index of its rule in the preset."""
    name: str
    labels: Mapping[str, str]
    """Without those that name the run."""
    roles: tuple[str, ...]
    value: Number

    def counts_as(self, wanted: Sequence[str]) -> bool:
        """Return whether it is one of these."""
        return any(role in wanted for role in self.roles)


class _Emitter(NamedTuple):
    """One of several that may say the same; in the order in which the first of equals counts."""

    family: int
    """Index of the first rule of the family."""
    scope: Labels


class _Measure(NamedTuple):
    """One of the things that are judged."""

    resource: str
    wholes: tuple[str, ...]
    """The roles that add up to it."""
    shown: tuple[str, ...]
    """Those and what they are broken down into."""


@dataclass(slots=True)
class Deduplicated:
    """What counts, and what repeats it."""

    amounts: dict[str, Number] = field(default_factory=dict)
    counters: dict[tuple[str, str], Number] = field(default_factory=dict)
    repeated: list[tuple[Series, Labels, str]] = field(default_factory=list)
    """With the labels that decided it and the reason."""

    def add(self, role: str, value: Number) -> None:
        """Add to an amount."""
        known = self.amounts.get(role)
        self.amounts[role] = value if known is None else known + value  # type: ignore[operator] # one role is one type


def deduplicate(
    preset: Preset, series: Sequence[Series], *, token_kinds: bool = False
) -> Deduplicated:
    """Return the amounts of one run, and the counters the ledger is to keep.

    token_kinds: whether kinds of tokens are among these counters.
    """
    result = Deduplicated()
    groups: defaultdict[Labels, defaultdict[_Emitter, list[Series]]]
    groups = defaultdict(lambda: defaultdict(list))
    for one in _spelt_once(preset, series, result):
        groups[_group(preset, one)][_emitter(preset, one)].append(one)
    for group, emitters in groups.items():
        for measure in _measures(preset):
            for one in _choose(preset, emitters, measure, result):
                _count_series(preset, result, measure, group, one)
                if token_kinds and measure.resource == semconv.TOKENS:
                    _count_kinds(preset, result, group, one)
    return result


def _spelt_once(preset: Preset, series: Sequence[Series], result: Deduplicated) -> list[Series]:
    """Return the series without those that have another spelling of a metric that says more."""
    spellings: defaultdict[tuple[int, Labels, _Emitter], defaultdict[str, list[Series]]]
    spellings = defaultdict(lambda: defaultdict(list))
    for one in series:
        key = (one.rule, _group(preset, one), _emitter(preset, one))
        spellings[key][one.name].append(one)
    kept: list[Series] = []
    for (rule, _, _), by_name in spellings.items():
        names = preset.metrics[rule].names
        values = {name: sum(one.value for one in by_name.get(name, ())) for name in names}
        best = max((name for name in names if name in by_name), key=values.__getitem__)
        kept += by_name.pop(best)
        result.repeated += [
            (one, (), f"the same as {best}, which counts")
            for many in by_name.values()
            for one in many
        ]
    return kept


def _measures(preset: Preset) -> tuple[_Measure, ...]:
    wholes = preset.token_roles
    return (
        _Measure(semconv.TOKENS, wholes, (*wholes, roles.INPUT, roles.OUTPUT, *roles.PARTS)),
        _Measure(semconv.API_CALLS, (roles.CALLS,), (roles.CALLS,)),
        _Measure(semconv.COST, (roles.COST_USD,), (roles.COST_USD,)),
        *(_Measure(name, (name,), (name,)) for name in FURTHER),
    )


def _choose(
    preset: Preset,
    emitters: Mapping[_Emitter, Sequence[Series]],
    measure: _Measure,
    result: Deduplicated,
) -> list[Series]:
    """Return the series of the emitter that says most; note those of the others as repetitions."""
    saying: dict[_Emitter, list[Series]] = {}
    for emitter, many in emitters.items():
        relevant = [one for one in many if one.counts_as(measure.shown)]
        if relevant:
            saying[emitter] = relevant
    if not saying:
        return []

    def most(emitter: _Emitter) -> Number:
        said = [one.value for one in saying[emitter] if one.counts_as(measure.wholes)]
        return sum(said) if said else -1

    # sorted: of equals, the first counts, in whatever order the page has them.
    best = max(sorted(saying), key=most)
    for emitter in sorted(saying):
        if emitter != best:
            labels, reason = _why(preset, emitter, best)
            result.repeated += [(one, labels, reason) for one in saying[emitter]]
    return saying[best]


def _count_series(
    preset: Preset, result: Deduplicated, measure: _Measure, group: Labels, one: Series
) -> None:
    """Add a series that counts to the amounts, and to the counter it belongs to."""
    for role in one.roles:
        if role in measure.shown:
            result.add(role, one.value)
    if not one.counts_as(measure.wholes):
        return
    if measure.resource == semconv.TOKENS and roles.TOKENS not in one.roles:
        result.add(roles.TOKENS, one.value)
    _add_counter(preset, result, measure.resource, group, one)


def _count_kinds(preset: Preset, result: Deduplicated, group: Labels, one: Series) -> None:
    """Add a series to the counters of the kinds of tokens that it is of, parts in their wholes."""
    for role in one.roles:
        if role in roles.KIND_OF:
            _add_counter(preset, result, KIND_COUNTERS[roles.KIND_OF[role]], group, one)


def _add_counter(
    preset: Preset, result: Deduplicated, counter: str, group: Labels, one: Series
) -> None:
    further = dict(group)
    if not preset.summed:
        further = {**one.labels, _NAME: preset.metrics[one.rule].names[0]}
    key = (counter, labels_text(further))
    known = result.counters.get(key)
    result.counters[key] = one.value if known is None else known + one.value  # type: ignore[operator] # as in add


def _group(preset: Preset, one: Series) -> Labels:
    """Return the labels by which series cannot repeat each other; empty if all may."""
    repeated = preset.repeated
    if repeated is None:
        return ()
    _, value = first_of(repeated.per, one.labels)
    word = repeated.same.get(value.lower(), value.lower())
    per = ((repeated.per[0], word),) if word else ()
    return (*per, *((n, one.labels[n]) for n in repeated.process if one.labels.get(n)))


def _emitter(preset: Preset, one: Series) -> _Emitter:
    family = preset.metrics[one.rule].family
    first = next(i for i, rule in enumerate(preset.metrics) if rule.family == family)
    labels = () if preset.repeated is None else preset.repeated.labels
    return _Emitter(first, tuple((name, one.labels[name]) for name in labels if name in one.labels))


def _why(preset: Preset, emitter: _Emitter, best: _Emitter) -> tuple[Labels, str]:
    """Say why an emitter does not count beside another."""
    if emitter.scope != best.scope:
        named = ", ".join(value for _, value in best.scope) or "the one without a scope"
        return emitter.scope, f"repeats {named}, which says more or as much and counts"
    family = preset.metrics[best.family].family
    return (), f"repeats {family}, which says more or as much and counts"
